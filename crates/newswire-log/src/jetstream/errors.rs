//! What the answers of a stream mean.

use async_nats::jetstream::{Error, ErrorCode};

use crate::remote::SequenceError;

/// As people know it.
pub(super) const ENGINE: &str = "jetstream";
/// Words of errors that say there is no room: their codes also stand for other failures.
const FULL: [&str; 5] = [
    "maximum bytes exceeded",
    "maximum messages exceeded",
    "insufficient",
    "resources exceeded",
    "no space left",
];

/// Why one attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Something else stands there than was expected; nothing was stored.
    Moved,
    /// Nothing was stored, and it may be tried again.
    Unsent(String),
    /// Nobody knows.
    Unanswered(String),
    /// It is pointless to try again.
    Final(SequenceError),
}

/// What an error means that the stream answered.
pub(super) fn refused(error: &Error) -> Failed {
    let reason = error.to_string();
    let is_full = FULL.iter().any(|words| reason.to_lowercase().contains(words));
    match (error.error_code(), error.code()) {
        (ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT, _) => {
            Failed::Moved
        }
        _ if is_full => Failed::Final(SequenceError::Full { engine: ENGINE, reason: reason.into() }),
        // The piece lost a part, or its server: it is gone as a whole.
        (ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH, _) => Failed::Unsent(reason),
        // The same message is on its way already; or what one server could not store has gone to others.
        (ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT | ErrorCode::STREAM_STORE_FAILED, _) | (_, 500) => {
            Failed::Unanswered(reason)
        }
        // No leader at the moment, or too much to do: nothing was taken in hand.
        (_, 503 | 429) => Failed::Unsent(reason),
        _ => Failed::Final(refusal(reason)),
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

/// An error with what lies beneath it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, err_code: u64, text: &str) -> Failed {
        let json = format!(r#"{{"code":{code},"err_code":{err_code},"description":"{text}"}}"#);
        refused(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn errors_are_told_apart_by_what_was_stored() {
        let full = [
            (503, 10077, "maximum bytes exceeded"),
            (500, 10047, "insufficient storage resources available"),
        ];
        for (code, err_code, text) in full {
            let failed = answered(code, err_code, text);
            assert!(matches!(failed, Failed::Final(SequenceError::Full { .. })), "{failed:?}");
        }
        assert_eq!(answered(400, 10071, "wrong last sequence: 7"), Failed::Moved);
        assert_eq!(answered(400, 10164, "wrong last sequence"), Failed::Moved);
        assert!(matches!(
            answered(503, 10008, "JetStream system temporarily unavailable"),
            Failed::Unsent(_)
        ));
        assert!(matches!(answered(429, 10210, "too many in flight"), Failed::Unsent(_)));
        assert!(matches!(answered(409, 10158, "duplicate message id is in process"), Failed::Unanswered(_)));
        assert!(matches!(answered(503, 10077, "some disk trouble"), Failed::Unanswered(_)));
        let large = answered(400, 10054, "message size exceeds maximum allowed");
        assert!(matches!(large, Failed::Final(SequenceError::Refused { .. })), "{large:?}");
    }
}
