//! What has no place in a tree that strangers clone: hosts of package registries (a clone builds from whatever
//! registry its machine is set up for) and paths of the machine where something was written.

use crate::{assert_found, assert_none, tree};

/// In two halves, so that this file does not contain them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("proxy.golang", ".org"),
    ("../sha", "red/"),
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/tmp/ba", "sh_jobs"),
];

/// Written by cargo, which names the registry in every line; and texts that are not ours.
const NOT_OURS: &[&str] =
    &["Cargo.lock", "fuzz/Cargo.lock", "bench/peers/socketioxide/Cargo.lock", "LICENSE-APACHE"];

fn forbidden(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (first, second) in FORBIDDEN {
            if line.contains(&format!("{first}{second}")) {
                findings.push(format!("{path}:{number}: names {first}{second}"));
            }
        }
    }
    findings
}

#[test]
fn no_registry_host_and_no_local_path_is_named() {
    let mut findings = Vec::new();
    for path in tree::files("").iter().filter(|path| !NOT_OURS.contains(&path.as_str())) {
        // What is not text (a compressed sample, a fuzzing input) names nothing that a reader meets.
        if let Ok(text) = std::fs::read_to_string(tree::root().join(path)) {
            findings.extend(forbidden(path, &text));
        }
    }
    assert_none(&findings);
    assert_found(&forbidden("x.md", &["see ../sha", "red/data"].concat()), "x.md:1");
    assert_found(&forbidden("x.md", &["\nfrom crates", ".io"].concat()), "x.md:2");
}
