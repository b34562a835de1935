//! What the documents say is tried is tried: each named test exists.

use std::collections::BTreeSet;

use crate::markdown::Document;
use crate::{assert_none, tree};

/// The page with the tables of attacks and of limits, and the headings of these.
const PAGE: &str = "docs/security.md";
const HEADING: &str = "| attack | test |";
const LIMITS: &str = "| limit | key | counted by | answer | test |";

/// Names of tests in a source: functions with an attribute that ends in `test`.
fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.trim_end_matches(']').ends_with("test") || line.contains("tokio::test(");
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|(before, _)| !before.contains('/')) {
            names.extend(rest.split('(').next().filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    names
}

/// Rows of the table below this heading whose last cell names no test, or one that is not there.
fn untried(document: &Document, heading: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let table = document.prose.iter().skip_while(|(_, line)| line != heading).skip(2);
    let mut findings = Vec::new();
    for (number, row) in table.take_while(|(_, line)| line.starts_with('|')) {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            findings.push(format!("{}:{number}: no test is named", document.path));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        findings.extend(missing.map(|name| format!("{}:{number}: there is no test {name}", document.path)));
    }
    findings
}

#[test]
fn every_attack_in_the_table_is_tried_by_a_test() {
    let sources = tree::files_ending("", ".rs").into_iter().map(|path| tree::read(&path));
    let tests: BTreeSet<String> = sources.flat_map(|source| tests_in(&source)).collect();
    let page = Document::parse(PAGE, &tree::read(PAGE));
    assert!(page.prose.iter().filter(|(_, line)| line.starts_with("| ")).count() > 15, "the table is there");
    for heading in [HEADING, LIMITS] {
        assert!(page.prose.iter().any(|(_, line)| line == heading), "{heading}");
        assert_none(&untried(&page, heading, &tests));
    }
    let planted = format!(
        "{HEADING}\n| --- | --- |\n| a | `one` |\n| b | `two`, `one` |\n| c | none |\n\n| d | `x` |\n"
    );
    let known = tests_in("#[tokio::test]\nasync fn one() {}\nfn two() {}\n").into_iter().collect();
    assert_eq!(
        untried(&Document::parse("x.md", &planted), HEADING, &known),
        ["x.md:4: there is no test two", "x.md:5: no test is named"]
    );
}
