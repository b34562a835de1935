//! The architecture and the documents, as tests. Each check is a function that lists what is wrong, run over the
//! tree (must be empty) and over a planted mistake (must not be), so that none of them can rot into always passing.

mod attacks;
mod dependencies;
mod documents;
mod examples;
mod layout;
mod markdown;
mod purity;
mod rust;
mod sizes;
mod tree;
mod wire;
mod words;

/// Fails with every finding on a line of its own.
#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

/// Fails where a planted mistake was not found.
#[track_caller]
fn assert_found(findings: &[String], expected: &str) {
    assert!(findings.iter().any(|one| one.contains(expected)), "no finding names {expected:?}: {findings:?}");
}
