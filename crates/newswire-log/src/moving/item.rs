//! One thing that is moved.

use std::sync::Arc;

use newswire_protocol::UnixMicros;

use super::MoveError;
use crate::dedup::Dedup;
use crate::embedded::record::Record;
use crate::event_log::NewEvent;
use crate::remote::{Message, Sequenced, message};

/// An event, or the place of one that a channel has lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) offset: u64,
    pub(super) stored_at: UnixMicros,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Event {
        /// The head, as the log packs it.
        head: Vec<u8>,
        /// As subscribers get it.
        frame: Vec<u8>,
        /// Its id, if a repeat of it would still be recognised.
        dedup: Option<Dedup>,
    },
    /// The newest event that is gone of this channel.
    Gone(Arc<str>),
}

impl Item {
    /// An event as it stands in files.
    pub(super) fn of(record: &Record<'_>, keeps_id: bool) -> Self {
        let dedup = record.dedup().filter(|_| keeps_id);
        let what = What::Event { head: record.meta.to_vec(), frame: record.frame.to_vec(), dedup };
        Self { offset: record.offset, stored_at: record.stored_at, what }
    }

    /// What an engine has at an offset; `None` if that was not moved there.
    pub(super) fn read(Sequenced { place, body }: &Sequenced) -> Option<Self> {
        if let Some((channel, stored_at)) = message::decode_gone(body) {
            return Some(Self { offset: place.offset, stored_at, what: What::Gone(channel.into()) });
        }
        let incoming = message::decode(body)?;
        let frame = incoming.frame_at(place.offset);
        let what = What::Event { head: incoming.head.to_vec(), frame, dedup: incoming.dedup };
        Some(Self { offset: place.offset, stored_at: incoming.stored_at?, what })
    }

    /// As it is stored by an engine, and at which offset.
    pub(super) fn message(&self) -> Result<(u64, Message), MoveError> {
        let message = match &self.what {
            What::Gone(channel) => message::encode_gone(channel, self.stored_at),
            What::Event { head, frame, dedup } => {
                let (before, behind) = cut(frame, self.offset).ok_or(MoveError::Foreign(self.offset))?;
                let event = NewEvent { meta: head, before, behind, dedup: dedup.as_ref() };
                message::encode_moved(&event, self.stored_at)
            }
        };
        Ok((self.offset, message))
    }

    /// What is not the same; `None` if all is. Both have the same offset.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differs = match (&self.what, &other.what) {
            (What::Event { head, frame, dedup }, What::Event { head: h, frame: f, dedup: d }) => [
                (frame != f, "has another event"),
                (head != h, "has an event with another head"),
                (self.stored_at != other.stored_at, "has an event with another time"),
                (dedup != d, "has an event with another id"),
            ],
            (mine, theirs) => {
                [(mine != theirs || self.stored_at != other.stored_at, "has something else"); 4]
            }
        };
        differs.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

/// The JSON of a frame before and behind the digits of its offset. Payloads may have such digits too, but nothing behind the
/// payload can: there are strings only, in which quotation marks are escaped.
fn cut(frame: &[u8], offset: u64) -> Option<(&[u8], &[u8])> {
    let digits = offset.to_string();
    let mark = format!(r#","offset":{digits},"version":1"#);
    let json = frame.get(newswire_core::frame_header_len(frame)?..)?;
    let at = json.windows(mark.len()).rposition(|window| window == mark.as_bytes())?;
    let digits_at = at + r#","offset":"#.len();
    Some((&json[..digits_at], &json[digits_at + digits.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::events::event;

    #[test]
    fn whatever_is_not_the_same_is_found() {
        let dedup = Some(Dedup { key: [1; 16], fingerprint: [2; 16] });
        let of = |time, head: &[u8], frame: &[u8], dedup| Item {
            offset: 7,
            stored_at: UnixMicros(time),
            what: What::Event { head: head.to_vec(), frame: frame.to_vec(), dedup },
        };
        let item = of(1, b"head", b"frame", dedup);
        assert_eq!(item.difference(&of(1, b"head", b"frame", dedup)), None);
        let others = [
            (of(2, b"head", b"frame", dedup), "time"),
            (of(1, b"daeh", b"frame", dedup), "head"),
            (of(1, b"head", b"fraem", dedup), "another event"),
            (of(1, b"head", b"frame", None), "id"),
            (
                Item { offset: 7, stored_at: UnixMicros(1), what: What::Gone("tasks".into()) },
                "something else",
            ),
        ];
        for (other, what) in &others {
            assert!(item.difference(other).is_some_and(|found| found.contains(what)), "{what}");
            assert!(other.difference(&item).is_some_and(|found| found.contains(what)), "{what}");
        }
        let gone =
            |channel: &str| Item { offset: 7, stored_at: UnixMicros(1), what: What::Gone(channel.into()) };
        assert!(gone("tasks").difference(&gone("tasks")).is_none());
        assert!(gone("tasks").difference(&gone("agents")).is_some());
    }

    #[test]
    fn a_frame_is_cut_at_its_own_offset_whatever_is_in_the_payload() {
        let payload = r#"{"x":{"n":1,"offset":7,"version":1},"y":",\"offset\":7,\"version\":1"}"#;
        for source in ["", r#","source":"a \",\"offset\":7,\"version\":1""#] {
            let text = format!(
                r#"{{"channel":"tasks","event_type":"test.cut","event_id":"a","payload":{payload}{source}}}"#
            );
            let events = event(&text);
            let given = events.iter().next().unwrap();
            let mut frame = Vec::new();
            newswire_core::encode_frame(&mut frame, 7, given.before, given.behind);
            assert_eq!(cut(&frame, 7), Some((given.before, given.behind)));
            assert_eq!(cut(&frame, 8), None);
        }
    }
}
