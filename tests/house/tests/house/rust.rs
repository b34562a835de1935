//! Just enough of Rust's grammar to look at what code does and not at what comments, strings and tests say.

use crate::tree;

/// One source file, taken apart.
pub(crate) struct Source {
    pub(crate) path: String,
    /// The code, line by line: comments and the contents of strings are blank, test modules are gone.
    pub(crate) lines: Vec<String>,
    /// The string literals outside of tests, as written, with their line (from 1).
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let (code, mut strings) = blank(text);
        let mut lines: Vec<String> = code.lines().map(str::to_owned).collect();
        for (first, last) in test_items(&lines) {
            lines[first..=last].fill(String::new());
            strings.retain(|(line, _)| !(first + 1..=last + 1).contains(line));
        }
        Self { path: path.to_owned(), lines, strings }
    }

    /// `path:line` for a message.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }

    /// Paths like `std::fs::File` named in the code, with their line; trees of `use` are spelled out.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (start, statement) in statements(&self.lines) {
            let compact: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            match compact
                .split_once("use ")
                .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
            {
                Some((_, tree)) => {
                    let mut spelled = Vec::new();
                    spell_out("", &tree.replace(' ', ""), &mut spelled);
                    found.extend(spelled.into_iter().map(|path| (start, path)));
                }
                None => found.extend(inline_paths(&compact).into_iter().map(|path| (start, path))),
            }
        }
        found
    }
}

/// The sources of a crate that end up in its library or binary: no test modules, examples or benches.
pub(crate) fn sources(krate: &str) -> Vec<Source> {
    let files = tree::files_ending(&format!("{krate}/src"), ".rs");
    let test_modules: Vec<String> = files.iter().flat_map(|path| test_module_files(path)).collect();
    files
        .iter()
        .filter(|path| !test_modules.iter().any(|prefix| path.starts_with(prefix.as_str())))
        .map(|path| Source::parse(path, &tree::read(path)))
        .collect()
}

/// Where the modules lie that a file declares as `#[cfg(test)] mod name;`: prefixes of paths.
fn test_module_files(path: &str) -> Vec<String> {
    let (dir, file) = path.rsplit_once('/').expect("a source lies in a directory");
    let stem = file.trim_end_matches(".rs");
    let home = match stem {
        "lib" | "main" | "mod" => dir.to_owned(),
        _ => format!("{dir}/{stem}"),
    };
    let (code, _) = blank(&tree::read(path));
    let lines: Vec<String> = code.lines().map(str::to_owned).collect();
    let mut found = Vec::new();
    for (first, last) in test_items(&lines) {
        let item = lines[first..=last].join(" ");
        if let Some(name) = item.split("mod ").nth(1).and_then(|rest| rest.split_once(';')) {
            found.push(format!("{home}/{}.rs", name.0.trim()));
            found.push(format!("{home}/{}/", name.0.trim()));
        }
    }
    found
}

/// Line ranges (from 0, inclusive) of the items under `#[cfg(test)]`.
fn test_items(lines: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut line = 0;
    while line < lines.len() {
        if lines[line].trim_start().starts_with("#[cfg(test)]") {
            let last = end_of_item(lines, line);
            found.push((line, last));
            line = last;
        }
        line += 1;
    }
    found
}

/// The line on which the item that begins at `first` ends: its closing brace, or the semicolon before any brace.
fn end_of_item(lines: &[String], first: usize) -> usize {
    let mut depth = 0_usize;
    for (number, line) in lines.iter().enumerate().skip(first) {
        let line = if number == first { line.replacen("#[cfg(test)]", "", 1) } else { line.clone() };
        for character in line.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth <= 1 => return number,
                '}' => depth -= 1,
                ';' if depth == 0 => return number,
                _ => {}
            }
        }
    }
    lines.len() - 1
}

/// Code cut at `;`, `{` and `}` outside of `use` trees, each piece with the line (from 1) it begins on.
fn statements(lines: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut piece = String::new();
    let mut start = 1;
    for (number, line) in lines.iter().enumerate() {
        for character in line.chars() {
            if piece.trim().is_empty() {
                start = number + 1;
            }
            let words = piece.trim_start();
            let in_use = words.starts_with("use ") || (words.starts_with("pub") && words.contains(" use "));
            if character == ';' || (!in_use && matches!(character, '{' | '}')) {
                found.push((start, std::mem::take(&mut piece)));
            } else {
                piece.push(character);
            }
        }
        piece.push(' ');
    }
    found.push((start, piece));
    found
}

/// `a::{b, c::{d, e}}` → `a::b`, `a::c::d`, `a::c::e`.
fn spell_out(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        return found.push(format!("{prefix}{tree}"));
    };
    let prefix = format!("{prefix}{head}");
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from) = (0_usize, 0);
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                spell_out(&prefix, &inner[from..at], found);
                from = at + 1;
            }
            _ => {}
        }
    }
    spell_out(&prefix, &inner[from..], found);
}

/// Runs of identifiers joined by `::`, and lone identifiers.
fn inline_paths(code: &str) -> Vec<String> {
    let joined = code.replace(" ::", "::").replace(":: ", "::");
    joined
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|piece| piece.trim_matches(':'))
        .filter(|piece| !piece.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Blanks comments and string contents, keeping every line where it was; returns the strings too.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let skipped = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars[at..]),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars[at..]),
            '"' => string(&chars[at..], 0),
            'r' if !ends_in_word(&code, 'r') => raw_string(&chars[at..]),
            '\'' => character_literal(&chars[at..]),
            _ => 0,
        };
        if skipped == 0 {
            code.push(chars[at]);
            line += usize::from(chars[at] == '\n');
            at += 1;
            continue;
        }
        let taken: String = chars[at..at + skipped].iter().collect();
        if taken.starts_with(['"', 'r']) {
            strings.push((line, taken.clone()));
            code.push_str("\"\"");
        }
        let breaks = taken.matches('\n').count();
        code.push_str(&"\n".repeat(breaks));
        line += breaks;
        at += skipped;
    }
    (code, strings)
}

/// Whether the code so far ends in an identifier that a following letter would only continue (`for`, but not `br`).
fn ends_in_word(code: &str, _next: char) -> bool {
    let word: String = code.chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    !word.is_empty() && word != "b" && word != "c"
}

fn line_comment(rest: &[char]) -> usize {
    rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A string that ends at a quote with `hashes` hashes behind it; escapes count only without hashes.
fn string(rest: &[char], hashes: usize) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1 + hashes,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = hashes + 2;
    while at < rest.len() {
        if rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    rest.len()
}

/// `'x'` or `'\n'`; 0 for a lifetime.
fn character_literal(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => rest.iter().skip(3).position(|c| *c == '\'').map_or(0, |at| at + 4),
        (Some(_), Some('\'')) => 3,
        _ => 0,
    }
}

#[test]
fn comments_strings_and_tests_are_set_aside() {
    let text = r##"
use std::{collections::BTreeMap, io::{self, Read}};
// std::fs in a comment
/* std::net /* nested */ std::net */
fn f<'a>(x: &'a str) -> char { let y = "std::env \" in a string"; let z = r#"raw "std::process" "#; '"' }
fn g() { std::thread::spawn(|| '\''); }
#[cfg(test)]
mod tests {
    fn h() { std::time::Instant::now(); let s = "in a test"; }
}
fn after() { Marker::here() }
"##;
    let source = Source::parse("x.rs", text);
    let paths: Vec<String> = source.paths().into_iter().map(|(_, path)| path).collect();
    for expected in
        ["std::collections::BTreeMap", "std::io::self", "std::io::Read", "std::thread::spawn", "Marker::here"]
    {
        assert!(paths.iter().any(|path| path == expected), "{expected} is missing in {paths:?}");
    }
    for hidden in ["fs", "net", "env", "process", "time"] {
        assert!(!paths.iter().any(|path| path.starts_with(&format!("std::{hidden}"))), "{hidden}: {paths:?}");
    }
    assert_eq!(source.strings.len(), 2, "{:?}", source.strings);
    assert_eq!(source.strings[0].0, 5);
    let marker = source.paths().into_iter().find(|(_, path)| path == "Marker::here").expect("seen above");
    assert_eq!(marker.0, 11);
}
