//! Which strings are channel names, event types and event ids.

use crate::limits::{MAX_EVENT_ID_BYTES, MAX_NAME_BYTES};

/// Whether this is a channel name: 1–128 characters of `A-Z a-z 0-9 _ . : # @ -`.
pub fn is_channel_name(name: &str) -> bool {
    is_made_of(name, |b| matches!(b, b'_' | b'.' | b':' | b'#' | b'@' | b'-'))
}

/// Whether this is an event type: 1–128 characters of `A-Z a-z 0-9 _ . : / -`.
pub fn is_event_type(name: &str) -> bool {
    is_made_of(name, |b| matches!(b, b'_' | b'.' | b':' | b'/' | b'-'))
}

/// Whether this is an event id: 1–128 printable ASCII characters, the space among them.
pub fn is_event_id(id: &str) -> bool {
    (1..=MAX_EVENT_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn is_made_of(name: &str, sign: impl Fn(u8) -> bool) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || sign(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names() {
        assert!(is_channel_name("tasks") && is_channel_name("A.b:c#d@e-f_9"));
        assert!(is_channel_name(&"x".repeat(128)) && !is_channel_name(&"x".repeat(129)));
        for bad in ["", "a b", "a/b", "a*", "é", "a\n"] {
            assert!(!is_channel_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn event_types() {
        assert!(is_event_type("task.status_changed") && is_event_type("a/b:c-d"));
        assert!(is_event_type(&"x".repeat(128)) && !is_event_type(&"x".repeat(129)));
        for bad in ["", "a b", "a#b", "a@b", "a*", "é"] {
            assert!(!is_event_type(bad), "{bad:?}");
        }
    }

    #[test]
    fn event_ids() {
        assert!(is_event_id(" ~\"\\") && is_event_id(&"x".repeat(128)));
        for bad in ["", "\u{7f}", "é", "a\tb"] {
            assert!(!is_event_id(bad), "{bad:?}");
        }
        assert!(!is_event_id(&"x".repeat(129)));
    }
}
