//! `newswire-core` computes: time, randomness and bytes are handed to it, and it hands back what is to be done.

use crate::rust::{Source, sources};
use crate::{assert_found, assert_none};

/// Paths that reach outside, wherever they stand in the core's code, and what to do instead.
const OUTSIDE: &[(&str, &str)] = &[
    ("std::fs", "the log reads and writes files"),
    ("std::net", "the shell owns sockets"),
    ("std::io", "the shell moves bytes"),
    ("std::thread", "the shell owns threads"),
    ("std::process", "the server owns processes"),
    ("std::env", "the server reads the environment"),
    ("std::os", "the core runs anywhere"),
    ("std::time::SystemTime", "wall time is passed in as UnixMicros"),
    ("std::hash::RandomState", "its order differs from run to run; use rustc-hash"),
    ("std::collections::hash_map::RandomState", "its order differs from run to run; use rustc-hash"),
    ("std::collections::HashMap", "its order differs from run to run; use rustc-hash"),
    ("std::collections::HashSet", "its order differs from run to run; use rustc-hash"),
];

/// Last parts of a path that read a clock or a random source, whatever stands before them.
const CALLS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "Zoned::now",
    "Timestamp::now",
    "Utc::now",
    "Uuid::new_v4",
    "Uuid::now_v7",
];

/// First parts of a path: crates that the core does not even name.
const CRATES: &[&str] = &["tokio", "rand", "fastrand", "getrandom", "tracing", "log", "jiff"];

fn impure(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, path) in source.paths() {
        // A glob or a module taken whole (`use std::fs` then `fs::read`) is caught at its `use`.
        let outside =
            OUTSIDE.iter().find(|(outside, _)| path == *outside || path.starts_with(&format!("{outside}::")));
        if let Some((outside, instead)) = outside {
            findings.push(format!("{}: {outside}: {instead}", source.at(line)));
        }
        if CALLS.iter().any(|call| path == *call || path.ends_with(&format!("::{call}"))) {
            findings.push(format!("{}: {path}: clocks and randomness are passed in", source.at(line)));
        }
        if let Some((first, _)) = path.split_once("::")
            && CRATES.contains(&first)
        {
            findings.push(format!("{}: {path}: the core does not know {first}", source.at(line)));
        }
    }
    findings
}

#[test]
fn the_core_has_no_clock_no_randomness_and_no_io() {
    let sources = sources("crates/newswire-core");
    assert!(!sources.is_empty(), "the core has sources");
    let findings: Vec<String> = sources.iter().flat_map(impure).collect();
    assert_none(&findings);
}

#[test]
fn each_way_out_of_the_core_is_seen() {
    for (planted, expected) in [
        ("use std::{fs::File, sync::Arc};", "std::fs"),
        ("pub(crate) use std::collections::{BTreeMap, HashMap};", "HashMap"),
        ("fn f() { let now = std::time::Instant::now(); }", "Instant::now"),
        ("fn f() { if true { Instant::now() } }", "Instant::now"),
        ("fn f() { let id = uuid::Uuid::new_v4(); }", "new_v4"),
        ("fn f() { std::thread::sleep(d); }", "std::thread"),
        ("use tokio::sync::mpsc;", "tokio"),
    ] {
        assert_found(&impure(&Source::parse("planted.rs", planted)), expected);
    }
    assert_none(&impure(&Source::parse(
        "fine.rs",
        "use std::time::Duration; fn f(now: std::time::Instant) {}",
    )));
}
