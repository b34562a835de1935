//! What one write puts on disk: a header and its records.
//!
//! ```text
//! magic u32 | body length u32 | first offset u64 | count u32 | flags u32 | appended_at u64 µs |
//! durable sequence u64 | durable position u64 | crc32c u32 of the records' checksums | crc32c u32 of the header | records…
//! ```
//!
//! Both checksums are salted. The header has one of its own, so that it can testify for everything before it even where
//! its own records are torn. An empty batch is a durable mark: it carries nothing but that testimony.

use newswire_protocol::UnixMicros;

use super::format::{BATCH_MAGIC, Fields, Salt};
use super::record::{self, Record};

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
    pub(crate) body_len: usize,
    /// Of the first event; in a mark the next offset to be written.
    pub(crate) first_offset: u64,
    pub(crate) count: u32,
    pub(crate) appended_at: UnixMicros,
    /// All before this place was known to be synced when the batch was written.
    pub(crate) durable: Position,
    records_checksum: u32,
}

/// What a new batch says about itself.
pub(crate) struct BatchFacts {
    pub(crate) first_offset: u64,
    pub(crate) appended_at: UnixMicros,
    pub(crate) durable: Position,
}

/// Appends a batch; `fill` appends its records and hands each record's checksum to the given function.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    salt: Salt,
    facts: &BatchFacts,
    fill: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(u32)),
) {
    let start = out.len();
    out.resize(start + BATCH_HEADER_BYTES, 0);
    let mut count = 0_u32;
    let mut records_checksum = salt.start();
    fill(out, &mut |checksum| {
        count += 1;
        records_checksum = crc32c::crc32c_append(records_checksum, &checksum.to_le_bytes());
    });
    let body_len = (out.len() - start - BATCH_HEADER_BYTES) as u32;
    let mut header = Vec::with_capacity(BATCH_HEADER_BYTES);
    header.extend_from_slice(&BATCH_MAGIC.to_le_bytes());
    header.extend_from_slice(&body_len.to_le_bytes());
    header.extend_from_slice(&facts.first_offset.to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    header.extend_from_slice(&0_u32.to_le_bytes());
    header.extend_from_slice(&facts.appended_at.0.to_le_bytes());
    header.extend_from_slice(&facts.durable.sequence.to_le_bytes());
    header.extend_from_slice(&facts.durable.byte.to_le_bytes());
    header.extend_from_slice(&records_checksum.to_le_bytes());
    header.extend_from_slice(&salt.checksum(&header).to_le_bytes());
    out[start..start + BATCH_HEADER_BYTES].copy_from_slice(&header);
}

/// Reads the header at the start of `bytes`; `None` if it is not there whole and undamaged.
pub(crate) fn decode_header(bytes: &[u8], salt: Salt) -> Option<BatchHeader> {
    let (body, checksum) = bytes.get(..BATCH_HEADER_BYTES)?.split_at(BATCH_HEADER_BYTES - 4);
    let mut fields = Fields(body);
    if fields.u32()? != BATCH_MAGIC || salt.checksum(body).to_le_bytes() != checksum {
        return None;
    }
    let body_len = fields.u32()? as usize;
    let first_offset = fields.u64()?;
    let count = fields.u32()?;
    let _flags = fields.u32()?;
    let appended_at = UnixMicros(fields.u64()?);
    let durable = Position { sequence: fields.u64()?, byte: fields.u64()? };
    Some(BatchHeader { body_len, first_offset, count, appended_at, durable, records_checksum: fields.u32()? })
}

/// Verifies the records of a batch and hands each, with its position in `body`, to `visit`. `false` if any is missing
/// or damaged, or if offsets do not ascend; `visit` may then have seen some of them.
pub(crate) fn verify_body<'a>(
    header: &BatchHeader,
    body: &'a [u8],
    salt: Salt,
    mut visit: impl FnMut(usize, Record<'a>),
) -> bool {
    let mut at = 0;
    let mut records_checksum = salt.start();
    let mut next_offset = header.first_offset;
    for _ in 0..header.count {
        let Some(record) = record::decode(&body[at..], salt) else { return false };
        if record.offset < next_offset {
            return false;
        }
        next_offset = record.offset + 1;
        records_checksum = crc32c::crc32c_append(records_checksum, &record.checksum.to_le_bytes());
        visit(at, record);
        at += record.len;
    }
    at == body.len() && records_checksum == header.records_checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::Dedup;
    use newswire_protocol::Epoch;
    use proptest::prelude::*;

    fn salt() -> Salt {
        Salt::new(Epoch::from_bytes([3; 16]), 7)
    }

    fn sample() -> Vec<u8> {
        let facts = BatchFacts {
            first_offset: 5,
            appended_at: UnixMicros(9),
            durable: Position { sequence: 7, byte: 128 },
        };
        let dedup = Dedup { key: [1; 16], fingerprint: [2; 16] };
        let mut out = Vec::new();
        encode(&mut out, salt(), &facts, |out, note| {
            note(record::encode(out, salt(), 5, UnixMicros(9), Some(&dedup), b"meta", b"frame"));
            note(record::encode(out, salt(), 8, UnixMicros(9), None, b"", b"second frame"));
        });
        out
    }

    fn read(bytes: &[u8], salt: Salt) -> Option<Vec<(u64, Vec<u8>)>> {
        let header = decode_header(bytes, salt)?;
        let body = bytes.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + header.body_len)?;
        let mut found = Vec::new();
        verify_body(&header, body, salt, |_, record| found.push((record.offset, record.frame.to_vec())))
            .then_some(found)
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
    fn a_record_moved_to_another_batch_does_not_pass() {
        let bytes = sample();
        let facts = BatchFacts { first_offset: 5, appended_at: UnixMicros(9), durable: Position::default() };
        let mut other = Vec::new();
        encode(&mut other, salt(), &facts, |out, note| {
            note(record::encode(out, salt(), 5, UnixMicros(9), None, b"metas", &[b'f'; 36]));
            note(record::encode(out, salt(), 8, UnixMicros(9), None, b"", b"second frame"));
        });
        assert_eq!(other.len(), bytes.len());
        let first = BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + 73;
        let mut mixed = bytes;
        mixed[first.clone()].copy_from_slice(&other[first]);
        assert_eq!(read(&mixed, salt()), None);
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
