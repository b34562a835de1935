//! One stored event: a head, which says where the frame stands, and the frame, the bytes that are sent. The heads of a
//! batch stand together before its frames, so that frames lie in memory as they lie on disk.
//!
//! ```text
//! crc32c u32 (salted, of the rest of the head and then of the frame) | flags u32 | offset u64 | stored_at u64 µs |
//! meta_len u32 | frame_at u32 (bytes from the head's first to the frame's) | frame_len u32 |
//! [key 16 | fingerprint 16]  if flag 1 | meta
//! ```
//!
//! A record is verified alone: an index leads to its head.

use std::ops::Range;

use newswire_protocol::UnixMicros;

use super::format::{Fields, MAX_BATCH_BYTES, MAX_RECORD_BYTES, Salt, crc32c};
use crate::dedup::Dedup;
use crate::event_log::NewEvent;

/// Bytes before the optional dedup keys.
pub(crate) const RECORD_HEAD_BYTES: usize = 36;

const FLAG_DEDUP: u32 = 1;
const DEDUP_BYTES: usize = 32;

/// A record as it lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) offset: u64,
    pub(crate) stored_at: UnixMicros,
    /// All of the head.
    head: &'a [u8],
    /// The event's head, packed by the core; the end of `head`.
    pub(crate) meta: &'a [u8],
    /// WebSocket header and JSON.
    pub(crate) frame: &'a [u8],
}

/// The fixed part of a head; its lengths are possible, but nothing is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    offset: u64,
    stored_at: UnixMicros,
    has_id: bool,
    meta_len: usize,
    frame_at: usize,
    frame_len: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` if no record can have it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.first_chunk::<RECORD_HEAD_BYTES>()?);
        let (_checksum, flags) = (fields.u32()?, fields.u32()?);
        let head = Self {
            offset: fields.u64()?,
            stored_at: UnixMicros(fields.u64()?),
            has_id: flags == FLAG_DEDUP,
            meta_len: fields.u32()? as usize,
            frame_at: fields.u32()? as usize,
            frame_len: fields.u32()? as usize,
        };
        let is_possible = flags <= FLAG_DEDUP
            && head.meta_len <= MAX_RECORD_BYTES
            && head.frame_len <= MAX_RECORD_BYTES
            && (head.len()..=MAX_BATCH_BYTES).contains(&head.frame_at);
        is_possible.then_some(head)
    }

    /// Bytes of the whole head.
    pub(crate) fn len(&self) -> usize {
        RECORD_HEAD_BYTES + if self.has_id { DEDUP_BYTES } else { 0 } + self.meta_len
    }

    /// Where the frame stands, from the head's first byte on.
    pub(crate) fn frame(&self) -> Range<usize> {
        self.frame_at..self.frame_at + self.frame_len
    }

    /// The record of this head, which is the whole of `head`.
    pub(crate) fn with<'a>(&self, head: &'a [u8], frame: &'a [u8]) -> Option<Record<'a>> {
        let meta = head.get(head.len().checked_sub(self.meta_len)?..)?;
        let is_whole = head.len() == self.len() && frame.len() == self.frame_len;
        is_whole.then_some(Record { offset: self.offset, stored_at: self.stored_at, head, meta, frame })
    }
}

impl Record<'_> {
    /// Whether the checksum fits the record.
    pub(crate) fn is_sound(&self, salt: Salt) -> bool {
        self.head[..4] == checksum(salt, self.head, self.frame).to_le_bytes()
    }

    pub(crate) fn dedup(&self) -> Option<Dedup> {
        let keys = &self.head[RECORD_HEAD_BYTES..self.head.len() - self.meta.len()];
        let mut fields = Fields(keys);
        Some(Dedup { key: fields.array()?, fingerprint: fields.array()? })
    }

    /// Bytes of head and frame.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.frame.len()
    }

    /// Bytes of the head before `meta`.
    pub(crate) fn meta_at(&self) -> usize {
        self.head.len() - self.meta.len()
    }
}

fn checksum(salt: Salt, head: &[u8], frame: &[u8]) -> u32 {
    crc32c(salt.checksum(&head[4..]), frame)
}

/// Bytes of an event's head.
pub(crate) fn head_len(event: &NewEvent<'_>) -> usize {
    RECORD_HEAD_BYTES + if event.dedup.is_some() { DEDUP_BYTES } else { 0 } + event.meta.len()
}

/// Fills `out`, which is as long as [`head_len`] says, but for the checksum. `frame`: where the frame stands, from the
/// head's first byte on.
pub(crate) fn write_head(
    out: &mut [u8],
    offset: u64,
    stored_at: UnixMicros,
    event: &NewEvent<'_>,
    frame: Range<usize>,
) {
    let NewEvent { meta, dedup, .. } = event;
    let (fixed, rest) = out.split_at_mut(RECORD_HEAD_BYTES);
    fixed[4..8].copy_from_slice(&u32::from(dedup.is_some()).to_le_bytes());
    fixed[8..16].copy_from_slice(&offset.to_le_bytes());
    fixed[16..24].copy_from_slice(&stored_at.0.to_le_bytes());
    fixed[24..28].copy_from_slice(&(meta.len() as u32).to_le_bytes());
    fixed[28..32].copy_from_slice(&(frame.start as u32).to_le_bytes());
    fixed[32..36].copy_from_slice(&(frame.len() as u32).to_le_bytes());
    let (keys, packed) = rest.split_at_mut(rest.len() - meta.len());
    if let Some(dedup) = dedup {
        keys[..16].copy_from_slice(&dedup.key);
        keys[16..].copy_from_slice(&dedup.fingerprint);
    }
    packed.copy_from_slice(meta);
}

/// Gives the record whose head stands at the start of `bytes` its checksum.
///
/// # Panics
/// If [`write_head`] did not make it.
pub(crate) fn seal(bytes: &mut [u8], salt: Salt) {
    let head = Head::read(bytes).expect("a head that was just made");
    let checksum = checksum(salt, &bytes[..head.len()], &bytes[head.frame()]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a record whose head and frame were read one behind the other; `None` if it is not whole and undamaged.
pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Option<Record<'_>> {
    let head = Head::read(bytes)?;
    let (head_bytes, frame) = bytes.split_at_checked(head.len())?;
    head.with(head_bytes, frame).filter(|record| record.is_sound(salt))
}
