//! How an event is written as a message of an engine.
//!
//! ```text
//! | bytes | what                                                          |
//! | 1     | version of this shape: 1, or 2 with the time that comes next  |
//! | 8     | in version 2: when it was stored elsewhere, in µs since 1970  |
//! | 16    | the message's id                                              |
//! | 1     | 1 if its publisher gave it an id of its own, else 0           |
//! | 32    | if so: key and fingerprint of that id                         |
//! | 4     | length of the head                                            |
//! | …     | the head, as the log packs it                                 |
//! | 4     | length of the JSON before the digits of the offset            |
//! | …     | the JSON without those digits, to its end                     |
//! | 4     | CRC-32C of all before                                         |
//! ```
//!
//! Numbers are little-endian. The offset is not in it: the engine gives it, and it is put between the two pieces of JSON.
//!
//! A log that was moved here has events of version 2. Where the newest event stood that a channel had lost before, there is a
//! message of version 3: version, time in µs, the channel's name, CRC.

use std::sync::Arc;

use bytes::Bytes;
use newswire_core::{MetaView, encode_frame};
use newswire_protocol::UnixMicros;

use super::sequencer::{Message, MessageId};
use crate::dedup::Dedup;
use crate::embedded::format::{Fields, put_checksum, verified};
use crate::event_log::{NewEvent, NewEvents};

const VERSION: u8 = 1;
/// Of an event that was moved here and keeps its time.
const MOVED: u8 = 2;
/// Of a place whose event was gone when the log was moved.
const GONE: u8 = 3;
/// What stands around head and JSON.
const FRAME_BYTES: usize = 1 + 8 + 16 + 1 + 32 + 4 + 4 + 4;

/// An event that came out of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(super) id: MessageId,
    /// When it was stored where it was moved from.
    pub(crate) stored_at: Option<UnixMicros>,
    pub(crate) dedup: Option<Dedup>,
    pub(crate) head: &'a [u8],
    before: &'a [u8],
    behind: &'a [u8],
}

/// The events as messages, in their order.
pub(super) fn encode(events: &NewEvents) -> Vec<Message> {
    let message = |event: NewEvent<'_>| {
        let id = id_of(event.dedup);
        Message { channel: channel_of(event.meta), id, body: body(id, &event, None) }
    };
    events.iter().map(message).collect()
}

fn channel_of(head: &[u8]) -> Arc<str> {
    MetaView::decode(head).map_or_else(|_| "".into(), |head| head.channel().into())
}

/// An event that was stored elsewhere, and keeps its time; the same bytes whenever it is written.
pub(crate) fn encode_moved(event: &NewEvent<'_>, stored_at: UnixMicros) -> Message {
    let mut id = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(event.meta).update(event.before).update(event.behind).update(&stored_at.0.to_le_bytes());
    hasher.finalize_xof().fill(&mut id);
    let id = event.dedup.map_or(MessageId(id), |dedup| id_of(Some(dedup)));
    Message { channel: channel_of(event.meta), id, body: body(id, event, Some(stored_at)) }
}

/// Stands where a channel had its newest event of those that are gone.
pub(crate) fn encode_gone(channel: &Arc<str>, stored_at: UnixMicros) -> Message {
    let mut body = vec![GONE];
    body.extend_from_slice(&stored_at.0.to_le_bytes());
    body.extend_from_slice(channel.as_bytes());
    put_checksum(&mut body, 0);
    Message { channel: Arc::clone(channel), id: id_of(None), body: body.into() }
}

/// Reads what [`encode_gone`] wrote: the channel, and when its lost event had been stored.
pub(crate) fn decode_gone(body: &[u8]) -> Option<(&str, UnixMicros)> {
    let mut fields = Fields(verified(body)?);
    if fields.u8()? != GONE {
        return None;
    }
    let stored_at = UnixMicros(fields.u64()?);
    Some((std::str::from_utf8(fields.0).ok()?, stored_at))
}

/// The same for the same event of the same publisher, so that an engine which knows ids stores a repeat once.
fn id_of(dedup: Option<&Dedup>) -> MessageId {
    let Some(Dedup { key, fingerprint }) = dedup else { return MessageId(uuid::Uuid::new_v4().into_bytes()) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(fingerprint);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    MessageId(id)
}

fn body(id: MessageId, event: &NewEvent<'_>, moved: Option<UnixMicros>) -> Bytes {
    let json = event.before.len() + event.behind.len();
    let mut out = Vec::with_capacity(FRAME_BYTES + event.meta.len() + json);
    out.push(if moved.is_some() { MOVED } else { VERSION });
    if let Some(stored_at) = moved {
        out.extend_from_slice(&stored_at.0.to_le_bytes());
    }
    out.extend_from_slice(&id.0);
    out.push(u8::from(event.dedup.is_some()));
    if let Some(Dedup { key, fingerprint }) = event.dedup {
        out.extend_from_slice(key);
        out.extend_from_slice(fingerprint);
    }
    for piece in [event.meta, event.before] {
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(event.behind);
    put_checksum(&mut out, 0);
    out.into()
}

/// Reads a message; `None` if nobody of us wrote it.
pub(crate) fn decode(body: &[u8]) -> Option<Incoming<'_>> {
    let mut fields = Fields(verified(body)?);
    let stored_at = match fields.u8()? {
        VERSION => None,
        MOVED => Some(UnixMicros(fields.u64()?)),
        _ => return None,
    };
    let id = MessageId(fields.array()?);
    let dedup = match fields.u8()? {
        0 => None,
        _ => Some(Dedup { key: fields.array()?, fingerprint: fields.array()? }),
    };
    let head_len = fields.u32()? as usize;
    let head = fields.bytes(head_len)?;
    MetaView::decode(head).ok()?;
    let before_len = fields.u32()? as usize;
    let before = fields.bytes(before_len)?;
    Some(Incoming { id, stored_at, dedup, head, before, behind: fields.0 })
}

impl Incoming<'_> {
    /// Adds the event to those that are to be copied.
    pub(super) fn push_to(&self, events: &mut NewEvents) {
        let Self { head: meta, before, behind, dedup, .. } = *self;
        events.push_packed(NewEvent { meta, before, behind, dedup: dedup.as_ref() });
    }

    /// The event at this offset, as it is sent to subscribers.
    pub(crate) fn frame_at(&self, offset: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_frame(&mut frame, offset, self.before, self.behind);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::events::{event, numbered};

    fn sample() -> NewEvents {
        let given = r#"{"channel":"tasks","event_type":"task.created","event_id":"a","agent":"x","payload":{"n":"é"}}"#;
        [numbered("agents", 7), event(given)].into_iter().collect()
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let events = sample();
        let mut read = NewEvents::default();
        let messages = encode(&events);
        messages.iter().for_each(|message| decode(&message.body).unwrap().push_to(&mut read));
        let flat = |events: &NewEvents| -> Vec<_> {
            let owned = |event: NewEvent<'_>| {
                (event.meta.to_vec(), event.before.to_vec(), event.behind.to_vec(), event.dedup.copied())
            };
            events.iter().map(owned).collect()
        };
        assert_eq!(flat(&read), flat(&events));
        assert_eq!(messages.iter().map(|message| &*message.channel).collect::<Vec<_>>(), ["agents", "tasks"]);
        let frame = decode(&messages[1].body).unwrap().frame_at(4711);
        let json = frame.iter().position(|byte| *byte == b'{').unwrap();
        let json: serde_json::Value = serde_json::from_slice(&frame[json..]).unwrap();
        assert_eq!((&json["offset"], &json["payload"]["n"]), (&4711.into(), &"é".into()));
    }

    #[test]
    fn a_moved_event_brings_its_time_and_is_the_same_bytes_each_time() {
        let events = sample();
        for event in events.iter() {
            let message = encode_moved(&event, UnixMicros(4711));
            assert_eq!(message, encode_moved(&event, UnixMicros(4711)));
            let read = decode(&message.body).unwrap();
            assert_eq!(
                (read.stored_at, read.head, read.dedup),
                (Some(UnixMicros(4711)), event.meta, event.dedup.copied())
            );
            assert_eq!(decode_gone(&message.body), None);
            for bit in 0..message.body.len() * 8 {
                let mut flipped = message.body.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&flipped).is_none(), "bit {bit}");
            }
        }
        let gone = encode_gone(&"tasks".into(), UnixMicros(7));
        assert_eq!(decode_gone(&gone.body), Some(("tasks", UnixMicros(7))));
        assert!(decode(&gone.body).is_none());
    }

    #[test]
    fn the_same_event_has_the_same_id_and_one_without_an_id_has_its_own() {
        let (first, second) = (encode(&sample()), encode(&sample()));
        assert_eq!(first[1], second[1]);
        assert_ne!(first[0].id, second[0].id);
        let other = event(r#"{"channel":"tasks","event_type":"task.created","event_id":"a","payload":{}}"#);
        assert_ne!(encode(&other)[0].id, first[1].id, "other content is another message");
    }

    #[test]
    fn nothing_but_a_whole_message_is_read() {
        let body = &encode(&sample())[1].body;
        for len in 0..body.len() {
            assert!(decode(&body[..len]).is_none());
        }
        for bit in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
        assert!(decode(br#"{"channel":"tasks"}"#).is_none());
    }
}
