//! What one write puts on disk: a header, the heads of its records, and their frames.
//!
//! ```text
//! magic u32 | heads length u32 | frames length u32 | count u32 | first offset u64 | appended_at u64 µs |
//! durable sequence u64 | durable position u64 | crc32c u32 of the body | crc32c u32 of the header |
//! body: heads… | frames…
//! ```
//!
//! Both checksums are salted. The header has one of its own, so that it can testify for everything before it even where
//! its own body is torn; the body's covers every byte of it in one go, which is how replays verify what they send. An
//! empty batch is a durable mark: it carries nothing but that testimony.
//!
//! Frames stand in the order of their heads with nothing between them, as they are sent: the buffer that was written and
//! the buffer that was read are what subscribers share.

use newswire_protocol::UnixMicros;

use super::format::{BATCH_MAGIC, Fields, MAX_BATCH_BYTES, Salt};
use super::record::{Head, Record};

pub(crate) const BATCH_HEADER_BYTES: usize = 56;

/// A place in the log's files: everything before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The segment's sequence number.
    pub(crate) sequence: u64,
    /// Bytes from the segment's start.
    pub(crate) byte: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) heads_len: usize,
    pub(crate) frames_len: usize,
    pub(crate) count: u32,
    /// Of the first event; in a mark the next offset to be written.
    pub(crate) first_offset: u64,
    pub(crate) appended_at: UnixMicros,
    /// All before this place was known to be synced when the batch was written.
    pub(crate) durable: Position,
    body_checksum: u32,
}

impl BatchHeader {
    /// Bytes behind the header.
    pub(crate) fn body_len(&self) -> usize {
        self.heads_len + self.frames_len
    }
}

/// What a new batch says about itself.
pub(crate) struct BatchFacts {
    pub(crate) first_offset: u64,
    pub(crate) appended_at: UnixMicros,
    pub(crate) durable: Position,
}

/// Writes the header of a batch, whose body is complete, into the room left for it at the start of `bytes`.
pub(crate) fn seal(bytes: &mut [u8], salt: Salt, facts: &BatchFacts, count: u32, heads_len: usize) {
    let (header, body) = bytes.split_at_mut(BATCH_HEADER_BYTES);
    let mut fields = Vec::with_capacity(BATCH_HEADER_BYTES);
    fields.extend_from_slice(&BATCH_MAGIC.to_le_bytes());
    fields.extend_from_slice(&(heads_len as u32).to_le_bytes());
    fields.extend_from_slice(&((body.len() - heads_len) as u32).to_le_bytes());
    fields.extend_from_slice(&count.to_le_bytes());
    fields.extend_from_slice(&facts.first_offset.to_le_bytes());
    fields.extend_from_slice(&facts.appended_at.0.to_le_bytes());
    fields.extend_from_slice(&facts.durable.sequence.to_le_bytes());
    fields.extend_from_slice(&facts.durable.byte.to_le_bytes());
    fields.extend_from_slice(&salt.checksum(body).to_le_bytes());
    fields.extend_from_slice(&salt.checksum(&fields).to_le_bytes());
    header.copy_from_slice(&fields);
}

/// A durable mark.
pub(crate) fn mark(salt: Salt, facts: &BatchFacts) -> [u8; BATCH_HEADER_BYTES] {
    let mut bytes = [0; BATCH_HEADER_BYTES];
    seal(&mut bytes, salt, facts, 0, 0);
    bytes
}

/// Reads the header at the start of `bytes`; `None` if it is not there whole and undamaged.
pub(crate) fn decode_header(bytes: &[u8], salt: Salt) -> Option<BatchHeader> {
    let (body, checksum) = bytes.get(..BATCH_HEADER_BYTES)?.split_at(BATCH_HEADER_BYTES - 4);
    let mut fields = Fields(body);
    if fields.u32()? != BATCH_MAGIC || salt.checksum(body).to_le_bytes() != checksum {
        return None;
    }
    let (heads_len, frames_len) = (fields.u32()? as usize, fields.u32()? as usize);
    let count = fields.u32()?;
    let first_offset = fields.u64()?;
    let appended_at = UnixMicros(fields.u64()?);
    let durable = Position { sequence: fields.u64()?, byte: fields.u64()? };
    let body_checksum = fields.u32()?;
    let is_possible = heads_len.checked_add(frames_len)? <= MAX_BATCH_BYTES;
    let header =
        BatchHeader { heads_len, frames_len, count, first_offset, appended_at, durable, body_checksum };
    is_possible.then_some(header)
}

/// Verifies the body of a batch and hands each record, with the position of its head in `body`, to `visit`. `false` if
/// it is not whole and undamaged, or if offsets do not ascend; `visit` may then have seen some of the records.
pub(crate) fn verify_body<'a>(
    header: &BatchHeader,
    body: &'a [u8],
    salt: Salt,
    mut visit: impl FnMut(usize, Record<'a>),
) -> bool {
    if body.len() != header.body_len() || salt.checksum(body) != header.body_checksum {
        return false;
    }
    let (mut heads, mut frames) = body.split_at(header.heads_len);
    let mut next_offset = header.first_offset;
    for _ in 0..header.count {
        let at = header.heads_len - heads.len();
        let Some((record, frame_at)) = take_record(&mut heads, &mut frames) else { return false };
        let is_placed = at + frame_at == body.len() - frames.len() - record.frame.len();
        if record.offset < next_offset || !is_placed {
            return false;
        }
        next_offset = record.offset + 1;
        visit(at, record);
    }
    heads.is_empty() && frames.is_empty()
}

/// Takes the next head and the next frame; also tells where the head says that its frame stands.
fn take_record<'a>(heads: &mut &'a [u8], frames: &mut &'a [u8]) -> Option<(Record<'a>, usize)> {
    let head = Head::read(heads)?;
    let (head_bytes, other_heads) = heads.split_at_checked(head.len())?;
    let (frame, other_frames) = frames.split_at_checked(head.frame().len())?;
    (*heads, *frames) = (other_heads, other_frames);
    Some((head.with(head_bytes, frame)?, head.frame().start))
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use crate::dedup::Dedup;
    use crate::event_log::NewEvent;
    use newswire_protocol::Epoch;
    use proptest::prelude::*;

    fn salt() -> Salt {
        Salt::new(Epoch::from_bytes([3; 16]), 7)
    }

    type Sample<'a> = (u64, Option<Dedup>, &'a [u8], &'a [u8]);

    const DEDUP: Dedup = Dedup { key: [1; 16], fingerprint: [2; 16] };
    const EVENTS: [Sample<'_>; 2] = [(5, Some(DEDUP), b"meta", b"frame"), (8, None, b"", b"second frame")];

    fn build(events: &[Sample<'_>]) -> Vec<u8> {
        let facts = BatchFacts {
            first_offset: 5,
            appended_at: UnixMicros(9),
            durable: Position { sequence: 7, byte: 128 },
        };
        let events: Vec<_> = events
            .iter()
            .map(|(offset, dedup, meta, frame)| {
                (*offset, NewEvent { meta, before: b"", behind: b"", dedup: dedup.as_ref() }, *frame)
            })
            .collect();
        let heads_len = events.iter().map(|(_, event, _)| record::head_len(event)).sum();
        let mut out = vec![0; BATCH_HEADER_BYTES + heads_len];
        let mut head_at = BATCH_HEADER_BYTES;
        for (offset, event, frame) in &events {
            let place = out.len() - head_at..out.len() - head_at + frame.len();
            out.extend_from_slice(frame);
            let len = record::head_len(event);
            record::write_head(&mut out[head_at..head_at + len], *offset, UnixMicros(9), event, place);
            record::seal(&mut out[head_at..], salt());
            head_at += len;
        }
        seal(&mut out, salt(), &facts, events.len() as u32, heads_len);
        out
    }

    fn sample() -> Vec<u8> {
        build(&EVENTS)
    }

    fn read(bytes: &[u8], salt: Salt) -> Option<Vec<(u64, Vec<u8>)>> {
        let header = decode_header(bytes, salt)?;
        let body = bytes.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + header.body_len())?;
        let mut found = Vec::new();
        let mut sound = true;
        let whole = verify_body(&header, body, salt, |_, record| {
            sound &= record.is_sound(salt);
            found.push((record.offset, record.frame.to_vec()));
        });
        (whole && sound).then_some(found)
    }

    #[test]
    fn a_batch_reads_back_and_no_damaged_one_does() {
        let bytes = sample();
        assert_eq!(read(&bytes, salt()), Some(vec![(5, b"frame".to_vec()), (8, b"second frame".to_vec())]));
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len], salt()), None, "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped, salt()), None, "flipped bit {bit}");
        }
    }

    #[test]
    fn a_batch_of_another_segment_or_epoch_does_not_pass() {
        assert_eq!(read(&sample(), Salt::new(Epoch::from_bytes([3; 16]), 8)), None);
        assert_eq!(read(&sample(), Salt::new(Epoch::from_bytes([4; 16]), 7)), None);
    }

    #[test]
    fn a_record_of_another_batch_does_not_pass() {
        let bytes = sample();
        let other = build(&[(5, Some(DEDUP), b"atem", b"other"), EVENTS[1]]);
        assert_eq!(other.len(), bytes.len());
        for piece in [BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + 72, bytes.len() - 17..bytes.len() - 12] {
            let mut mixed = bytes.clone();
            mixed[piece.clone()].copy_from_slice(&other[piece]);
            assert_ne!(mixed, bytes);
            assert_eq!(read(&mixed, salt()), None);
        }
    }

    #[test]
    fn a_record_is_found_and_verified_alone() {
        let bytes = sample();
        let head = Head::read(&bytes[BATCH_HEADER_BYTES..]).unwrap();
        let head_bytes = &bytes[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + head.len()];
        let frame = &bytes[BATCH_HEADER_BYTES..][head.frame()];
        let alone = [head_bytes, frame].concat();
        let record = record::decode(&alone, salt()).unwrap();
        assert_eq!((record.offset, record.dedup(), record.meta), (5, Some(DEDUP), &b"meta"[..]));
        assert_eq!(record.frame, b"frame");
        for bit in 0..alone.len() * 8 {
            let mut flipped = alone.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(record::decode(&flipped, salt()), None, "flipped bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), fix in any::<bool>()) {
            if fix && bytes.len() >= BATCH_HEADER_BYTES {
                // A header that verifies, over whatever lengths and counts.
                bytes[..4].copy_from_slice(&super::super::format::BATCH_MAGIC.to_le_bytes());
                let checksum = salt().checksum(&bytes[..BATCH_HEADER_BYTES - 4]);
                bytes[BATCH_HEADER_BYTES - 4..BATCH_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
            }
            prop_assert_eq!(read(&bytes, salt()), None);
            crate::testing::read_log_bytes(&bytes);
        }
    }
}
