//! One line of a file: an event ready to send, or the reason why it is none.

use newswire_protocol::time::Rfc3339;
use newswire_protocol::{Draft, Limits, UnixMicros, json};

use super::source::{Line, MAX_LINE_BYTES};

/// The server has the last word on sizes; here everything passes that a server could be configured to take.
const LIMITS: Limits = Limits { event_bytes: MAX_LINE_BYTES, command_bytes: MAX_LINE_BYTES };

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// Nothing on it.
    Blank,
    /// An event with an id.
    Event {
        /// Its text, complete.
        text: String,
        /// When it happened.
        timestamp: Option<UnixMicros>,
    },
    /// No event.
    Rejected(String),
}

/// Reads a line; an event without an id is given `event_id`, and is otherwise sent as it stands.
pub(crate) fn prepare(line: Line, event_id: impl FnOnce() -> String) -> Prepared {
    let text = match line {
        Line::Text(text) => text,
        Line::TooLong => return Prepared::Rejected(format!("longer than {} MiB", MAX_LINE_BYTES >> 20)),
        Line::NotUtf8 => return Prepared::Rejected("not UTF-8".to_owned()),
    };
    if text.trim().is_empty() {
        return Prepared::Blank;
    }
    let draft = match Draft::parse(&text, &LIMITS) {
        Ok(draft) => draft,
        Err(refusal) => return Prepared::Rejected(refusal.to_string()),
    };
    let timestamp = draft.timestamp.as_deref().and_then(Rfc3339::parse).map(|time| time.micros_ceil());
    let text = if draft.event_id.is_some() { text } else { with_id(&text, &event_id()) };
    Prepared::Event { text, timestamp }
}

/// The object with an `event_id` in front and every other member as it was.
fn with_id(object: &str, event_id: &str) -> String {
    let mut out = String::with_capacity(object.len() + event_id.len() + 16);
    let mut id = Vec::new();
    json::write_string(&mut id, event_id);
    out.push_str("{\"event_id\":");
    out.push_str(&String::from_utf8_lossy(&id));
    let mut is_null_there = false;
    // The line was read as an object before: this cannot fail, and what it cannot read is left out.
    let _read = json::members(object, |key, _value| is_null_there |= key.is("event_id"));
    if is_null_there {
        let _read = json::members(object, |key, value| {
            if !key.is("event_id") {
                let name = key.unescape().unwrap_or_default();
                let mut quoted = Vec::new();
                json::write_string(&mut quoted, &name);
                out.push(',');
                out.push_str(&String::from_utf8_lossy(&quoted));
                out.push(':');
                out.push_str(value);
            }
        });
        out.push('}');
    } else {
        // An event has members, so something follows the brace.
        out.push(',');
        out.push_str(object.trim_start().strip_prefix('{').unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Prepared {
        prepare(Line::Text(text.into()), || "id-1".into())
    }

    #[test]
    fn an_event_without_an_id_is_given_one_and_kept_to_the_letter() {
        let line = r#" { "channel":"tasks","event_type":"t","payload":{"n":1.00,"s":"{"}} "#;
        let Prepared::Event { text, timestamp } = prepared(line) else { panic!() };
        assert_eq!(
            text,
            r#"{"event_id":"id-1", "channel":"tasks","event_type":"t","payload":{"n":1.00,"s":"{"}} "#
        );
        assert_eq!(timestamp, None);
        let draft = Draft::parse(&text, &LIMITS).unwrap();
        assert_eq!((draft.event_id.as_deref(), &*draft.payload), (Some("id-1"), r#"{"n":1.00,"s":"{"}"#));
    }

    #[test]
    fn an_event_with_an_id_is_not_touched() {
        let line =
            r#"{"channel":"tasks","event_type":"t","event_id":"mine","timestamp":"1970-01-01T00:00:02Z"}"#;
        let expected = Prepared::Event { text: line.into(), timestamp: Some(UnixMicros(2_000_000)) };
        assert_eq!(prepared(line), expected);
    }

    #[test]
    fn null_is_no_id() {
        let line = r#"{"channel":"tasks","event_id":null,"event_type":"t","payload":{"a":[1, 2]}}"#;
        let Prepared::Event { text, .. } = prepared(line) else { panic!() };
        assert_eq!(text, r#"{"event_id":"id-1","channel":"tasks","event_type":"t","payload":{"a":[1, 2]}}"#);
    }

    #[test]
    fn what_is_no_event_is_rejected_with_a_reason() {
        assert_eq!(prepared("  "), Prepared::Blank);
        for bad in [
            "{",
            "[]",
            "{}",
            r#"{"channel":"a b","event_type":"t"}"#,
            r#"{"channel":"a","event_type":"t","payload":7}"#,
        ] {
            assert!(matches!(prepared(bad), Prepared::Rejected(reason) if !reason.is_empty()), "{bad}");
        }
        assert_eq!(prepare(Line::NotUtf8, String::new), Prepared::Rejected("not UTF-8".into()));
        assert!(matches!(prepare(Line::TooLong, String::new), Prepared::Rejected(_)));
    }
}
