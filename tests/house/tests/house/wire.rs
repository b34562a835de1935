//! Only `newswire-protocol` knows the wire's JSON.
//!
//! Two checks, both over code without tests. No other crate names serde, but for the files listed with
//! their reason (none of their shapes is a message of the protocol). And no other crate spells the wire: a string that
//! contains `"action"` builds or takes apart a message by hand.

use crate::rust::{Source, sources};
use crate::{assert_found, assert_none};

const OTHER_ROOMS: &[&str] = &[
    "crates/newswire-core",
    "crates/newswire-log",
    "crates/newswire",
    "crates/newswire-client",
    "crates/newswire-load",
    "crates/newswire-server",
];

/// Files that may use serde, with what they shape; a path ending in `/` stands for a directory.
const SHAPES: &[(&str, &str)] = &[
    ("crates/newswire-server/src/config/", "the configuration file"),
    ("crates/newswire-server/src/auth/", "claims of tokens, sets of keys, and what is kept of identities"),
    ("crates/newswire-log/src/jetstream/", "what NATS answers"),
    (
        "crates/newswire-log/src/remote/agreement.rs",
        "the record of the log's epoch, which nodes keep for each other",
    ),
    ("crates/newswire/src/event.rs", "payloads into values of the application, of whatever shape"),
    ("crates/newswire/src/new_event.rs", "values of the application into payloads, of whatever shape"),
    ("crates/newswire/src/health.rs", "the body of GET /health, which is HTTP's and no message of the feed"),
];

/// Files that may spell a message, and why.
const SPELLERS: &[(&str, &str)] = &[
    ("crates/newswire/src/http/describe/asyncapi.rs", "operations of AsyncAPI have a field of that name"),
    ("crates/newswire/src/http/describe/docs/live.rs", "reads that field of AsyncAPI's operations"),
    (
        "crates/newswire-client/src/interest.rs",
        "writes the client's subscribe; the protocol writes what a server says",
    ),
    ("crates/newswire-client/src/subscription.rs", "writes the client's ping"),
];

fn derives(source: &Source) -> Vec<String> {
    // Whoever derives has to name `serde` somewhere: in the `use`, the derive or the attribute.
    let names = source.lines.iter().enumerate().filter(|(_, line)| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "serde")
    });
    names.map(|(number, line)| format!("{}: {}", source.at(number + 1), line.trim())).collect()
}

fn spells(source: &Source) -> Vec<String> {
    let wire = source.strings.iter().filter(|(_, string)| {
        string.contains(r#"\"action\""#) || string.contains(r#""action":"#) || string == r#""action""#
    });
    wire.map(|(line, string)| format!("{}: {string}", source.at(*line))).collect()
}

fn listed(path: &str) -> bool {
    SHAPES.iter().any(|(file, _)| path == *file || (file.ends_with('/') && path.starts_with(file)))
}

#[test]
fn only_the_protocol_derives_serde_for_the_wire() {
    let others = OTHER_ROOMS.iter().flat_map(|room| sources(room));
    let findings: Vec<String> =
        others.filter(|source| !listed(&source.path)).flat_map(|source| derives(&source)).collect();
    assert_none(&findings);
    assert_found(&derives(&Source::parse("x.rs", "use serde::{Deserialize, Serialize};")), "x.rs:1");
    assert_found(
        &derives(&Source::parse("x.rs", "#[derive(Debug,\n    serde::Serialize)]\nstruct A;")),
        "x.rs:2",
    );
    assert_found(&derives(&Source::parse("x.rs", "\n#[serde(rename = \"a\")]")), "x.rs:2");
    assert_none(&derives(&Source::parse("x.rs", "fn f() { serde_json::from_str(a) } // serde")));
}

#[test]
fn only_the_protocol_spells_the_wire() {
    let others = OTHER_ROOMS.iter().flat_map(|room| sources(room));
    let findings: Vec<String> = others
        .filter(|source| !SPELLERS.iter().any(|(path, _)| source.path == *path))
        .flat_map(|source| spells(&source))
        .collect();
    assert_none(&findings);
    for (path, why) in SPELLERS {
        let source = Source::parse(path, &crate::tree::read(path));
        assert!(
            !why.is_empty() && !spells(&source).is_empty(),
            "{path} spells nothing; take it off the list"
        );
    }
    assert_found(&spells(&Source::parse("x.rs", r#"fn f() { g("{\"action\":\"pong\"}") }"#)), "x.rs:1");
    assert_found(&spells(&Source::parse("x.rs", r##"fn f() { g(r#"{"action":"pong"}"#) }"##)), "x.rs:1");
    assert_found(&spells(&Source::parse("x.rs", r#"fn f() { json!({"action": "pong"}) }"#)), "x.rs:1");
}

#[test]
fn the_list_of_shapes_is_current() {
    for (path, why) in SHAPES {
        assert!(!why.is_empty(), "{path} needs a reason");
        let rooms = OTHER_ROOMS.iter().filter(|room| path.starts_with(&format!("{room}/")));
        let found: Vec<Source> = rooms
            .flat_map(|room| sources(room))
            .filter(|source| source.path == *path || (path.ends_with('/') && source.path.starts_with(path)))
            .collect();
        assert!(
            found.iter().any(|source| !derives(source).is_empty()),
            "{path} derives nothing; take it off the list"
        );
    }
}
