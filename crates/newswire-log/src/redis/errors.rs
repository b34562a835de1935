//! What errors mean: whether anything was stored, and whether to try again.

use ::redis::{ErrorKind, RedisError};

use crate::remote::SequenceError;

/// As people know it.
pub(super) const ENGINE: &str = "redis";
/// There is no room, in memory or on the disk; nothing was stored.
const FULL: [&str; 2] = ["OOM", "MISCONF"];
/// Not now, and nothing was stored: the server begins, follows another one, or is busy.
const NOT_NOW: [&str; 7] =
    ["LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY"];

/// Why one attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing was stored, and it may be tried again.
    Unsent(String),
    /// Nobody knows.
    Unanswered(String),
    /// It is pointless to try again.
    Final(SequenceError),
}

/// What became of a command that failed with this.
pub(super) fn failed(error: &RedisError) -> Failed {
    let reason = error.to_string();
    let Some(code) = error.code() else {
        return match error.kind() {
            ErrorKind::InvalidClientConfig => Failed::Final(refusal(reason)),
            _ => Failed::Unanswered(reason),
        };
    };
    // Before version 7, what stopped a script stands within its error.
    let says = |word: &str| code == word || reason.contains(&format!("-{word} "));
    if FULL.iter().any(|word| says(word)) {
        Failed::Final(SequenceError::Full { engine: ENGINE, reason: reason.into() })
    } else if NOT_NOW.iter().any(|word| says(word)) {
        Failed::Unsent(reason)
    } else {
        Failed::Final(refusal(reason))
    }
}

pub(super) fn refusal(reason: impl Into<String>) -> SequenceError {
    SequenceError::Refused { engine: ENGINE, reason: reason.into().into() }
}

/// The answer where no attempt succeeded in time.
pub(super) fn given_up(may_be_stored: bool, reason: impl Into<String>) -> SequenceError {
    let reason = reason.into().into();
    if may_be_stored {
        SequenceError::Unanswered { engine: ENGINE, reason }
    } else {
        SequenceError::Unreachable { engine: ENGINE, reason }
    }
}
