//! Files stay small enough to be read top-down.

use crate::{assert_found, assert_none, tree};

/// A second look at this many lines: split the file, or enter it below with the reason.
const SECOND_LOOK: usize = 600;

/// Files that are better whole, and why.
const LONGER: &[(&str, &str)] = &[
    (
        "crates/newswire-core/tests/seam/model.rs",
        "the naive model is one argument, to be read beside the protocol page",
    ),
    (
        "crates/newswire-server/src/config/keys.rs",
        "a table: one entry a key, in the order of the documents, each with its help",
    ),
    (
        "tests/street/tests/session.rs",
        "one short story after another of the same conversation; nothing is shared to split by",
    ),
];

fn too_long(files: impl Iterator<Item = (String, usize)>, allowed: &[(&str, &str)]) -> Vec<String> {
    files
        .filter(|(path, lines)| *lines > SECOND_LOOK && !allowed.iter().any(|(long, _)| long == path))
        .map(|(path, lines)| format!("{path} has {lines} lines; split it, or say in sizes.rs why not"))
        .collect()
}

#[test]
fn no_source_file_is_longer_than_a_second_look() {
    let files = tree::files_ending("", ".rs").into_iter().map(|path| {
        let lines = tree::read(&path).lines().count();
        (path, lines)
    });
    assert_none(&too_long(files, LONGER));
    assert_found(&too_long([("a.rs".to_owned(), 601)].into_iter(), LONGER), "a.rs");
}

#[test]
fn the_list_of_longer_files_is_current() {
    for (path, why) in LONGER {
        assert!(!why.is_empty(), "{path} needs a reason");
        assert!(tree::read(path).lines().count() > SECOND_LOOK, "{path} is short now; take it off the list");
    }
}
