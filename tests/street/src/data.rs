//! What the tests publish: small made-up events, and recorded companies where a recording is at hand.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::binary::workspace_root;

/// An event with a payload.
#[allow(clippy::needless_pass_by_value, reason = "callers write json!() in place")]
pub fn event(channel: &str, event_type: &str, payload: Value) -> Value {
    json!({"channel": channel, "event_type": event_type, "payload": payload})
}

/// A task event that carries a number.
pub fn task(number: u64) -> Value {
    event("tasks", "task.updated", json!({"id": format!("task-{number}"), "n": number}))
}

/// An event's text of exactly `bytes` bytes, padded inside the payload.
pub fn sized(channel: &str, bytes: usize) -> String {
    let empty = event(channel, "task.updated", json!({"pad": ""})).to_string();
    assert!(bytes >= empty.len(), "an event is at least {} bytes long", empty.len());
    event(channel, "task.updated", json!({"pad": "x".repeat(bytes - empty.len())})).to_string()
}

/// Every line of the recording, oldest first; `None`, said on standard error, where there is no recording.
///
/// `NEWSWIRE_RECORDED` names it (JSON Lines, gzip); without it, the nearest `shared/data/chatdev-runs.jsonl.gz` beside
/// the workspace or a directory above it.
pub fn recorded() -> Option<Vec<String>> {
    let path = std::env::var_os("NEWSWIRE_RECORDED").map(PathBuf::from).or_else(|| {
        let root = workspace_root().canonicalize().ok()?;
        root.ancestors().map(|dir| dir.join("shared/data/chatdev-runs.jsonl.gz")).find(|path| path.exists())
    });
    let Some(path) = path else {
        eprintln!("skipped: recorded data absent (name it with NEWSWIRE_RECORDED)");
        return None;
    };
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    Some(lines.collect::<Result<_, _>>().expect("the recording is gzip of UTF-8"))
}
