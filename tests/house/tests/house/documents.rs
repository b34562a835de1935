//! Documents lead somewhere: links, indexes, JSON examples, named tasks.

use crate::markdown::{Block, Document};
use crate::{assert_found, assert_none, tree};

/// The table of contents of the book.
const CONTENTS: &str = "docs/SUMMARY.md";

pub(crate) fn documents() -> Vec<Document> {
    tree::files_ending("", ".md").iter().map(|path| Document::parse(path, &tree::read(path))).collect()
}

/// `a/b.md` and `../c.md` → `c.md`.
fn resolve(from: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => _ = parts.pop(),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn dead_links(document: &Document, anchors: impl Fn(&str) -> Option<Vec<String>>) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, link) in document.links() {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) =
            link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
        let target = if path.is_empty() { document.path.clone() } else { resolve(&document.path, path) };
        let dead = match (anchors(&target), anchor) {
            (None, _) => true,
            (Some(known), Some(anchor)) => !known.iter().any(|one| one == anchor),
            (Some(_), None) => false,
        };
        if dead {
            findings.push(format!("{}:{line}: {link} leads nowhere", document.path));
        }
    }
    findings
}

/// The anchors of a document, nothing for another file, `None` where there is no such file.
fn anchors_in_tree(path: &str) -> Option<Vec<String>> {
    let document = || Document::parse(path, &tree::read(path)).anchors();
    tree::exists(path).then(|| if path.ends_with(".md") { document() } else { Vec::new() })
}

/// Blocks in this language, whatever else their fence says of them.
fn blocks_in<'a>(document: &'a Document, language: &'a str) -> impl Iterator<Item = &'a Block> {
    document.blocks.iter().filter(move |block| block.info.split(' ').next() == Some(language))
}

fn broken_json(document: &Document) -> Vec<String> {
    let blocks = blocks_in(document, "json")
        .map(|block| (block, serde_json::from_str::<serde_json::Value>(&block.text)));
    blocks
        .filter_map(|(block, parsed)| Some(format!("{}:{}: {}", document.path, block.line, parsed.err()?)))
        .collect()
}

/// Which of `files` the index (a document) does not link to.
fn not_in_index(index: &Document, files: &[String]) -> Vec<String> {
    let linked: Vec<String> =
        index.links().into_iter().map(|(_, link)| resolve(&index.path, &link)).collect();
    let missing = files.iter().filter(|file| **file != index.path && !linked.contains(file));
    missing.map(|file| format!("{} does not link to {file}", index.path)).collect()
}

fn unknown_tasks(document: &Document, makefile: &str) -> Vec<String> {
    let known: Vec<&str> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let mut findings = Vec::new();
    let prose = document
        .prose
        .iter()
        .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(|code| (*line, code)));
    let blocks =
        blocks_in(document, "sh").flat_map(|block| block.text.lines().map(|line| (block.line, line)));
    for (line, command) in prose.chain(blocks) {
        let Some(rest) = command.strip_prefix("make ") else { continue };
        let task = rest.split_whitespace().next().unwrap_or_default();
        if !known.contains(&task) {
            findings.push(format!("{}:{line}: the Makefile has no task {task}", document.path));
        }
    }
    findings
}

/// Files and directories named in code spans, for example `crates/newswire/src/feed.rs`, that do not exist. A span counts as a
/// path when it begins with a directory of the tree and holds nothing that stands for something else.
fn missing_files(document: &Document) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, text) in &document.prose {
        for span in text.split('`').skip(1).step_by(2) {
            let Some((first, rest)) = span.split_once('/') else { continue };
            let is_path = !matches!(first, "" | ".")
                && tree::exists(first)
                && !rest.contains(['*', '<', '{', ' ', '…']);
            if is_path && !tree::exists(span) && !BUILT.iter().any(|built| span.starts_with(built)) {
                findings.push(format!("{}:{line}: {span} does not exist", document.path));
            }
        }
    }
    findings
}

/// Configuration keys in code spans (`heartbeat.interval`) that the page of keys does not know. A span counts as a key
/// when its first word is that of a key there.
fn unknown_keys(document: &Document, keys: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, text) in &document.prose {
        for span in text.split('`').skip(1).step_by(2) {
            let key = span.split([' ', '=']).next().unwrap_or_default();
            let Some((section, _)) = key.split_once('.') else { continue };
            let plain = key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
            let is_key = plain && keys.iter().any(|known| known.starts_with(&format!("{section}.")));
            if is_key && !keys.iter().any(|known| known == key) {
                findings.push(format!("{}:{line}: {key} is no configuration key", document.path));
            }
        }
    }
    findings
}

/// Constants named as `NAME` in `path.rs` that the file does not define.
fn missing_constants(document: &Document, read: impl Fn(&str) -> String) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, text) in &document.prose {
        let spans: Vec<&str> = text.split('`').collect();
        for window in spans.windows(3).skip(1).step_by(2) {
            let [name, " in ", path] = window else { continue };
            let constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if constant && path.ends_with(".rs") && !read(path).contains(&format!("const {name}:")) {
                findings.push(format!("{}:{line}: {path} defines no {name}", document.path));
            }
        }
    }
    findings
}

/// Directories whose content appears by building.
const BUILT: &[&str] = &["target/", "newswire-data/", "bench/results/", "fuzz/artifacts/"];

#[test]
fn every_named_file_exists() {
    let findings: Vec<String> = documents().iter().flat_map(missing_files).collect();
    assert_none(&findings);
    let planted = Document::parse(
        "x.md",
        "`docs/protocol.md`, `docs/none.md`, `crates/*/src`, `a/b`, `docs/<topic>.md`\n",
    );
    assert_eq!(missing_files(&planted), ["x.md:1: docs/none.md does not exist"]);
}

/// Documents that the sources refer to and that do not exist.
fn missing_documents(path: &str, source: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        for rest in line.split("docs/").skip(1) {
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "/_.-".contains(*c)).collect();
            let document = format!("docs/{}", name.trim_end_matches('.'));
            if document.ends_with(".md") && !tree::exists(&document) {
                findings.push(format!("{path}:{number}: {document} does not exist"));
            }
        }
    }
    findings
}

#[test]
fn every_document_that_the_sources_refer_to_exists() {
    let sources = tree::files_ending("", ".rs").into_iter().filter(|path| !path.starts_with("tests/house/"));
    let findings: Vec<String> =
        sources.flat_map(|path| missing_documents(&path, &tree::read(&path))).collect();
    assert_none(&findings);
    let planted = "//! See `docs/protocol.md`, and docs/none.md.";
    assert_eq!(missing_documents("x.rs", planted), ["x.rs:1: docs/none.md does not exist"]);
}

#[test]
fn every_named_configuration_key_exists() {
    let page = Document::parse("docs/configuration.md", &tree::read("docs/configuration.md"));
    let headings = page.prose.iter().filter_map(|(_, line)| line.strip_prefix("### `")?.strip_suffix('`'));
    let keys: Vec<String> = headings.map(str::to_owned).collect();
    assert!(
        keys.iter().any(|key| key == "log.sync"),
        "the page of keys has headings like ### `log.sync`: {keys:?}"
    );
    let findings: Vec<String> =
        documents().iter().flat_map(|document| unknown_keys(document, &keys)).collect();
    assert_none(&findings);
    let planted =
        Document::parse("x.md", "`log.sync = \"os\"`, `log.sink`, `newswire.toml`, `task.created`\n");
    assert_eq!(unknown_keys(&planted, &keys), ["x.md:1: log.sink is no configuration key"]);
}

#[test]
fn every_named_constant_exists() {
    let documents = documents();
    let there = |path: &str| if tree::exists(path) { tree::read(path) } else { String::new() };
    let findings: Vec<String> =
        documents.iter().flat_map(|document| missing_constants(document, there)).collect();
    assert_none(&findings);
    let planted = Document::parse("x.md", "a `b` c (`MIN` in `a.rs`), (`MAX` in `a.rs`)\n");
    let file = |_: &str| "pub const MIN: usize = 1;".to_owned();
    assert_eq!(missing_constants(&planted, file), ["x.md:1: a.rs defines no MAX"]);
}

#[test]
fn the_build_machine_runs_what_everybody_runs() {
    let script = tree::read(".ci/run");
    let commands: Vec<&str> =
        script.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(commands.last(), Some(&"exec make test"), "{script}");
    assert_eq!(commands.len(), 3, "set -e, cd, make test: {script}");
}

#[test]
fn every_relative_link_resolves() {
    let findings: Vec<String> =
        documents().iter().flat_map(|document| dead_links(document, anchors_in_tree)).collect();
    assert_none(&findings);
    let planted =
        Document::parse("docs/a.md", "# One\n[b](b.md) [one](#one) [two](#two) [web](https://example.com)\n");
    let there = |path: &str| (path == "docs/a.md").then(|| vec!["one".to_owned()]);
    assert_eq!(
        dead_links(&planted, there),
        ["docs/a.md:2: b.md leads nowhere", "docs/a.md:2: #two leads nowhere"]
    );
}

#[test]
fn every_json_block_parses() {
    let documents = documents();
    assert!(
        documents.iter().any(|document| blocks_in(document, "json").next().is_some()),
        "there are JSON blocks"
    );
    let findings: Vec<String> = documents.iter().flat_map(broken_json).collect();
    assert_none(&findings);
    assert_found(&broken_json(&Document::parse("x.md", "```json\n{\"a\":}\n```\n")), "x.md:1");
}

#[test]
fn every_decision_vector_and_document_is_in_its_index() {
    let mut findings = Vec::new();
    for (index, dir, ending) in [
        ("docs/decisions/README.md", "docs/decisions", ".md"),
        ("conformance/README.md", "conformance", ".json"),
        ("docs/README.md", "docs", ".md"),
    ] {
        let depth = dir.matches('/').count() + 1;
        let files: Vec<String> = tree::files_ending(dir, ending)
            .into_iter()
            .filter(|path| path.matches('/').count() == depth || path.ends_with("/README.md"))
            .filter(|path| path != CONTENTS)
            .collect();
        findings.extend(not_in_index(&Document::parse(index, &tree::read(index)), &files));
    }
    assert_none(&findings);
    let index = Document::parse("docs/README.md", "[a](a.md)\n");
    let files = ["docs/README.md", "docs/a.md", "docs/b.md"].map(str::to_owned);
    assert_eq!(not_in_index(&index, &files), ["docs/README.md does not link to docs/b.md"]);
}

#[test]
fn the_book_has_every_document() {
    let contents = Document::parse(CONTENTS, &tree::read(CONTENTS));
    assert_none(&not_in_index(&contents, &tree::files_ending("docs", ".md")));
}

#[test]
fn every_named_task_exists() {
    let makefile = tree::read("Makefile");
    let findings: Vec<String> =
        documents().iter().flat_map(|document| unknown_tasks(document, &makefile)).collect();
    assert_none(&findings);
    let planted = Document::parse("x.md", "`make test` and `make coffee`\n");
    assert_eq!(unknown_tasks(&planted, &makefile), ["x.md:1: the Makefile has no task coffee"]);
}
