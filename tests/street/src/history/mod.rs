//! A recorded run: what publishers asked and were answered, and what subscribers were told, as JSON lines.
//!
//! One [`Record`] a line, in the order in which it happened to whoever recorded it: an ask stands before it was sent, an
//! answer after it was received. Nothing in it comes from a server but by its answers and frames, so that it can be
//! judged (by `check-history`) without knowing who wrote it.

pub mod plant;
pub mod writer;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use writer::Writer;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The first line: how the run was made, and what it was allowed to lose.
    Run {
        /// What its choices were drawn from.
        seed: u64,
        /// Whether the log may begin new epochs: its engine is not asked to keep everything.
        new_epochs: bool,
        /// What ran, for people.
        about: String,
    },
    /// A publisher is about to ask for one event; several of one request have the same `ask`.
    Asked {
        /// Number of the request.
        ask: u64,
        /// Who asks.
        publisher: u64,
        /// Which node is asked.
        node: usize,
        /// The event: `event_id`, `channel`, `event_type`, `payload`.
        event: Value,
    },
    /// What became of one event of a request.
    Answered {
        /// Number of the request.
        ask: u64,
        /// Which of its events.
        event_id: String,
        /// The answer.
        answer: Answer,
    },
    /// A subscriber sends a `subscribe`, on a new connection.
    Asks {
        /// Who.
        subscriber: u64,
        /// Which node.
        node: usize,
        /// Names and patterns.
        channels: Vec<String>,
        /// As the protocol has them; null for none.
        filters: Value,
        /// The position resumed from, and none for live events only.
        after: Option<u64>,
        /// The epoch that the position belongs to.
        epoch: Option<String>,
    },
    /// `subscribed`.
    Joined {
        /// Who.
        subscriber: u64,
        /// The log's end in the answer.
        offset: u64,
        /// The log's epoch.
        epoch: String,
        /// Whether everything after the position is there; none without a position.
        recovered: Option<bool>,
    },
    /// An event was received.
    Event {
        /// Who.
        subscriber: u64,
        /// Where it stands.
        offset: u64,
        /// The epoch that the subscriber was told last.
        epoch: String,
        /// Its id.
        event_id: String,
        /// [`content`] of it.
        content: String,
    },
    /// A `caught_up` or `checkpoint`: everything up to this offset was sent.
    Position {
        /// Who.
        subscriber: u64,
        /// Up to where.
        offset: u64,
    },
    /// A `gap`.
    Gap {
        /// Who.
        subscriber: u64,
        /// First offset that may be missing.
        from: u64,
        /// Last offset that may be missing.
        to: u64,
        /// Why.
        reason: String,
        /// The new epoch, where that is the reason.
        epoch: Option<String>,
    },
    /// The connection is over.
    Left {
        /// Who.
        subscriber: u64,
        /// Who ended it, and how.
        why: String,
    },
    /// The subscriber has come to the end of the log, after all publishers had stopped.
    Done {
        /// Who.
        subscriber: u64,
        /// The position reached.
        offset: u64,
    },
    /// Something was broken on purpose, or mended. For whoever reads; nothing is judged by it.
    Fault {
        /// What.
        what: String,
    },
}

/// What a publisher learned about one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// It is stored.
    Stored {
        /// Where.
        offset: u64,
        /// Whether by an earlier ask.
        duplicate: bool,
    },
    /// It was refused, or the whole request was: the code.
    Error(String),
    /// No answer came, or none that says anything: it may be stored or not.
    Unknown(String),
}

/// What must not change of an event on its way: a hash of channel, type and payload, as 16 hexadecimal digits.
pub fn content(event: &Value) -> String {
    let parts = [&event["channel"], &event["event_type"], &event["payload"]];
    let text = parts.map(Value::to_string).join("\n");
    // FNV-1a: the same in every build, which the standard library's hasher does not promise.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Reads a history.
///
/// # Errors
/// With the line that is none, or why the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Record>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = (1..).zip(text.lines());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| format!("{}:{number}: {error}", path.display()))
        })
        .collect()
}
