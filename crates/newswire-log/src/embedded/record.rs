//! One stored event: a head with its own checksum, the keys by which it is found, and the bytes that are sent.
//!
//! ```text
//! length u32 (of the whole record) | crc32c u32 (salted, of all that follows) | offset u64 | stored_at u64 µs |
//! meta_len u32 | flags u32 | [key 16 | fingerprint 16]  if flag 1 | meta | frame
//! ```

use newswire_protocol::UnixMicros;

use super::format::{Fields, MAX_RECORD_BYTES, Salt};
use crate::dedup::Dedup;

/// Bytes before the optional dedup keys.
pub(crate) const RECORD_HEAD_BYTES: usize = 32;

const FLAG_DEDUP: u32 = 1;

/// A record as it lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) offset: u64,
    pub(crate) stored_at: UnixMicros,
    pub(crate) dedup: Option<Dedup>,
    /// The event's head, packed by the core.
    pub(crate) meta: &'a [u8],
    /// WebSocket header and JSON.
    pub(crate) frame: &'a [u8],
    /// Bytes of the whole record.
    pub(crate) len: usize,
    pub(crate) checksum: u32,
}

/// Appends a record; returns its checksum.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    salt: Salt,
    offset: u64,
    stored_at: UnixMicros,
    dedup: Option<&Dedup>,
    meta: &[u8],
    frame: &[u8],
) -> u32 {
    let start = out.len();
    let len = encoded_len(dedup, meta, frame);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&stored_at.0.to_le_bytes());
    out.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    out.extend_from_slice(&u32::from(dedup.is_some()).to_le_bytes());
    if let Some(dedup) = dedup {
        out.extend_from_slice(&dedup.key);
        out.extend_from_slice(&dedup.fingerprint);
    }
    out.extend_from_slice(meta);
    out.extend_from_slice(frame);
    let checksum = salt.checksum(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// Bytes that [`encode`] appends.
pub(crate) fn encoded_len(dedup: Option<&Dedup>, meta: &[u8], frame: &[u8]) -> usize {
    RECORD_HEAD_BYTES + if dedup.is_some() { 32 } else { 0 } + meta.len() + frame.len()
}

/// The length a record's first four bytes claim, if a record can have it.
pub(crate) fn claimed_len(first: u32) -> Option<usize> {
    let len = first as usize;
    (RECORD_HEAD_BYTES..=MAX_RECORD_BYTES).contains(&len).then_some(len)
}

/// Reads the record at the start of `bytes`; `None` if it is not there whole and undamaged.
pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Option<Record<'_>> {
    let len = claimed_len(Fields(bytes).u32()?)?;
    let whole = bytes.get(..len)?;
    let mut fields = Fields(&whole[4..]);
    let checksum = fields.u32()?;
    if salt.checksum(fields.0) != checksum {
        return None;
    }
    let offset = fields.u64()?;
    let stored_at = UnixMicros(fields.u64()?);
    let meta_len = fields.u32()? as usize;
    let dedup = if fields.u32()? & FLAG_DEDUP != 0 {
        Some(Dedup { key: fields.array()?, fingerprint: fields.array()? })
    } else {
        None
    };
    let meta = fields.bytes(meta_len)?;
    Some(Record { offset, stored_at, dedup, meta, frame: fields.0, len, checksum })
}
