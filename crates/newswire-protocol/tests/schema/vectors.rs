//! Every vector of `conformance/` and every example of the protocol page, judged by the schemas.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::Value;

use crate::{faults, root, validator};

fn vectors(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("conformance").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A text, or pieces of text that are each repeated so many times.
fn build(text: &Value) -> String {
    match text.as_array() {
        None => text.as_str().unwrap().to_owned(),
        Some(pieces) => pieces
            .iter()
            .map(|piece| piece[0].as_str().unwrap().repeat(piece[1].as_u64().unwrap() as usize))
            .collect(),
    }
}

/// JSON text as a value; a number beyond a double, which this reader cannot hold, as a smaller one.
fn read(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("out of range") => {
            serde_json::from_str(&text.replace("1e999999", "1e99")).ok()
        }
        Err(_) => None,
    }
}

/// Judges all vectors; `beyond` names exactly those that are refused for what JSON Schema cannot say.
fn judge<'v>(
    validator: &Validator,
    vectors: impl Iterator<Item = (&'v Value, &'v Value, bool)>,
    beyond: &[&str],
) {
    let mut findings = Vec::new();
    let mut met = BTreeSet::new();
    for (name, text, accepted) in vectors {
        let name = name.as_str().unwrap();
        let value = read(&build(text));
        let taken = value.as_ref().is_some_and(|value| validator.is_valid(value));
        let expected = accepted || beyond.contains(&name);
        if expected && !accepted {
            met.insert(name);
        }
        if taken != expected {
            let fault = value.map(|value| faults(validator, &value)).unwrap_or_default();
            findings.push(format!("{name}: taken {taken}, accepted {accepted} {fault}"));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert_eq!(met, beyond.iter().copied().collect(), "names that no vector has");
}

#[test]
fn commands() {
    let vectors = vectors("commands.json");
    let judged =
        vectors.iter().map(|vector| (&vector["name"], &vector["frame"], vector.get("means").is_some()));
    let beyond = [
        // How a number is written, and how long it is.
        "an id with an exponent",
        "after -0",
        "after 1.0",
        "after 1e3",
        "a number of 257 digits",
        // A key given twice.
        "an id given twice",
        "an action given twice",
        "channels given twice",
        "filters: a key given twice",
        "publish: a field given twice",
        "publish: a field given twice, escaped",
        "publish: the action given twice",
        // Bytes.
        "a command of 4,097 bytes",
        "a publish of 65,537 bytes is over both limits, and not read",
        "a smaller limit for events: a publish between the two",
    ];
    judge(&validator("command"), judged, &beyond);
}

#[test]
fn events_as_published() {
    let (accepted, refused) = (vectors("events.json"), vectors("refused-events.json"));
    let judged = accepted
        .iter()
        .map(|vector| (&vector["name"], &vector["published"], true))
        .chain(refused.iter().map(|vector| (&vector["name"], &vector["published"], false)));
    let beyond = [
        "65,537 bytes",
        // The calendar.
        "timestamp 2026-02-29T00:00:00Z",
        "timestamp 2026-11-31T00:00:00Z",
        "timestamp 2026-11-22T15:24:60Z",
        "timestamp 0000-01-01T00:00:00+00:01",
        // How deep a payload is nested.
        "payload 65 levels",
        // A key given twice.
        "payload a key twice",
        "payload a key twice, once escaped",
        "payload a key twice further in",
        "payload a key twice among many",
        "payload an empty key twice",
        "channel given twice",
        "event_type given twice",
        "payload given twice",
        "timestamp given twice",
        "event_id given twice",
        "source given twice",
        "traceparent given twice",
        "correlation_id given twice",
        "causation_id given twice",
    ];
    judge(&validator("event-draft"), judged, &beyond);
}

#[test]
fn events_as_received() {
    let (event, message) = (validator("event"), validator("server-message"));
    for vector in vectors("events.json") {
        let stored: Value = read(&build(&vector["stored"])).unwrap();
        assert_eq!(faults(&event, &stored), "", "{}", vector["name"]);
        assert!(message.is_valid(&stored), "{}", vector["name"]);
    }
}

/// What the server writes is taken, and so is what a reader must understand and this version could have written; of
/// a later version are the actions, codes and reasons that this one does not know.
#[test]
fn messages() {
    let vectors = vectors("messages.json");
    let judged = vectors.iter().map(|vector| {
        let name = vector["name"].as_str().unwrap();
        let of_later = name.contains("later version") || name.contains("unknown action");
        (&vector["name"], &vector["message"], !vector["means"].is_null() && !of_later)
    });
    judge(&validator("server-message"), judged, &[]);
}

#[test]
fn the_examples_of_the_protocol_page() {
    let page = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let by_kind = [
        ("```json command\n", "command"),
        ("```json reply\n", "server-message"),
        ("```json event\n", "event"),
        ("```json draft\n", "event-draft"),
        ("```json problem\n", "http/problem"),
        ("```json publish-answer\n", "http/publish-answer"),
        ("```json history-page\n", "http/history-page"),
        ("```json cloudevent\n", "http/cloudevent"),
        ("```json cloudevent-out\n", "http/cloudevent"),
        ("```json connections-answer\n", "http/connections-answer"),
        ("```json trim-body\n", "http/trim-body"),
        ("```json trim-answer\n", "http/trim-answer"),
        ("```json ticket-answer\n", "http/ticket-answer"),
        ("```json sign-out-answer\n", "http/sign-out-answer"),
        ("```json revoke-body\n", "http/revoke-body"),
        ("```json revoke-answer\n", "http/revoke-answer"),
        ("```json channels-answer\n", "http/channels-answer"),
        ("```json health-answer\n", "http/health-answer"),
    ];
    let mut judged = 0;
    for (fence, path) in by_kind {
        let validator = validator(path);
        let examples: Vec<&str> =
            page.split(fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
        assert!(!examples.is_empty(), "the page has no example under {fence}");
        for example in &examples {
            let value: Value = serde_json::from_str(example).unwrap();
            assert_eq!(faults(&validator, &value), "", "{path}: {example}");
        }
        judged += examples.len();
    }
    assert_eq!(
        page.matches("\n```json").count(),
        judged,
        "an example under another name is judged by nothing"
    );
}
