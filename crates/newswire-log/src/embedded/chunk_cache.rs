//! Decoded pieces of the log, shared by all who read near each other: a thousand subscribers that resume together
//! decode the log once or twice.
//!
//! The cache resists scans (it is a 2Q): what is read for the first time stays for a moment only, in a part that fits a
//! processor's cache; what is read again after it left that part is kept. So one reader of everything goes round in few
//! buffers, which stay where memory is fast, and throws out nothing that others share.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use newswire_core::{Batch, BatchBuilder, PlacedBatch};
use parking_lot::Mutex;

use super::batch::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::record::RECORD_HEAD_BYTES;
use super::segment_file::{Chunk, Segment};
use crate::buffers::BufferPool;
use crate::event_log::ReadError;
use crate::lru::Lru;

/// Filled by the first reader; the others wait for it.
type Slot = Arc<OnceLock<Result<Batches, ReadError>>>;

/// In the order of their offsets.
pub(crate) type Batches = Arc<[Arc<Batch>]>;

pub(crate) struct ChunkCache {
    slots: Mutex<Slots>,
    buffers: Arc<BufferPool>,
}

struct Slots {
    /// Read once, lately.
    recent: Lru<Chunk, Slot>,
    /// Left `recent` not long ago: keys without chunks, as heavy as the chunks were.
    left: Lru<Chunk, ()>,
    /// Read again after they had left.
    kept: Lru<Chunk, Slot>,
}

/// Bytes of chunks that were read once.
const RECENT_BYTES: usize = 512 << 10;
/// So many times the cache's bytes lie between two reads of a chunk at most, if the second one is to count.
const REMEMBERED: usize = 8;

/// A batch with at least so many bytes of frames is shared as it was read; smaller ones that follow each other are
/// copied together, because a batch costs as much as copying some events.
const SHARED_FROM: usize = 8 << 10;

impl ChunkCache {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        let recent = RECENT_BYTES.min(capacity_bytes / 2);
        let slots = Slots {
            recent: Lru::new(recent),
            left: Lru::new(capacity_bytes * REMEMBERED),
            kept: Lru::new(capacity_bytes - recent),
        };
        Self { slots: Mutex::new(slots), buffers: Arc::default() }
    }

    /// The events of a chunk.
    pub(crate) fn get(&self, segment: &Segment, chunk: Chunk) -> Result<Batches, ReadError> {
        let slot = self.slots.lock().get(chunk);
        let batch = slot.get_or_init(|| self.read(segment, chunk)).clone();
        if batch.is_err() {
            self.slots.lock().remove(&chunk);
        }
        batch
    }

    fn read(&self, segment: &Segment, chunk: Chunk) -> Result<Batches, ReadError> {
        let len = (chunk.end - chunk.start) as usize;
        let mut buffer = self.buffers.take();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let got =
            segment.file.read_at(&mut buffer[..len], chunk.start).map_err(|error| segment.io(&error))?;
        if got < len {
            return Err(segment.damaged(chunk.start + got as u64));
        }
        let bytes = self.buffers.share(buffer).slice(..len);
        decode_chunk(segment, chunk.start, &bytes)
    }

    /// Forgets the chunks of segments that are gone.
    pub(crate) fn forget(&self, is_gone: impl Fn(u64) -> bool) {
        self.slots.lock().retain(|chunk| !is_gone(chunk.sequence));
    }
}

impl Slots {
    /// The slot of a chunk, filled or to be filled.
    fn get(&mut self, chunk: Chunk) -> Slot {
        if let Some(slot) = self.kept.get(&chunk).or_else(|| self.recent.get(&chunk)) {
            return slot;
        }
        let (slot, weight) = (Slot::default(), (chunk.end - chunk.start) as usize);
        if self.left.remove(&chunk).is_some() {
            self.kept.insert(chunk, slot.clone(), weight);
        } else {
            for (chunk, weight) in self.recent.insert(chunk, slot.clone(), weight) {
                self.left.insert(chunk, (), weight);
            }
        }
        slot
    }

    fn remove(&mut self, chunk: &Chunk) {
        self.recent.remove(chunk);
        self.kept.remove(chunk);
    }

    fn retain(&mut self, keep: impl Fn(&Chunk) -> bool) {
        self.recent.retain(&keep);
        self.left.retain(&keep);
        self.kept.retain(&keep);
    }
}

/// Verifies and decodes whole batches, the first of which stands at `start`.
fn decode_chunk(segment: &Segment, start: u64, bytes: &Bytes) -> Result<Batches, ReadError> {
    let mut decoded = Decoded::default();
    let mut at = 0;
    while at < bytes.len() {
        let damaged = || segment.damaged(start + at as u64);
        let header = batch::decode_header(&bytes[at..], segment.salt()).ok_or_else(damaged)?;
        let body = at + BATCH_HEADER_BYTES..at + BATCH_HEADER_BYTES + header.body_len();
        if body.end > bytes.len() {
            return Err(damaged());
        }
        let body = bytes.slice(body);
        let whole = if header.frames_len >= SHARED_FROM {
            decoded.share(segment, &header, &body)
        } else {
            decoded.copy(segment, &header, &body)
        };
        if !whole {
            return Err(damaged());
        }
        at += BATCH_HEADER_BYTES + header.body_len();
    }
    decoded.end_small();
    Ok(decoded.batches.into())
}

#[derive(Default)]
struct Decoded {
    batches: Vec<Arc<Batch>>,
    /// Events of small batches.
    small: BatchBuilder,
}

impl Decoded {
    /// Adds a batch that looks into `body`; `false` if that is damaged.
    fn share(&mut self, segment: &Segment, header: &BatchHeader, body: &Bytes) -> bool {
        self.end_small();
        // A count is believed only as far as there is room for heads.
        let events = (header.count as usize).min(header.heads_len / RECORD_HEAD_BYTES);
        let mut batch = PlacedBatch::with_capacity(events);
        let mut sound = true;
        let whole = batch::verify_body(header, body, segment.salt(), |at, record| {
            let meta_at = at + record.meta_at();
            let meta = meta_at..meta_at + record.meta.len();
            sound &= batch.push(record.offset, record.stored_at, meta, record.frame).is_ok();
        });
        let is_good = whole && sound;
        if is_good {
            let (heads, frames) = (body.slice(..header.heads_len), body.slice(header.heads_len..));
            self.batches.push(Arc::new(batch.finish(frames, heads)));
        }
        is_good
    }

    /// Copies the events of a batch; `false` if it is damaged.
    fn copy(&mut self, segment: &Segment, header: &BatchHeader, body: &[u8]) -> bool {
        let mut sound = true;
        let whole = batch::verify_body(header, body, segment.salt(), |_, record| {
            let pushed = self.small.push_stored(record.offset, record.stored_at, record.meta, record.frame);
            sound &= pushed.is_ok();
        });
        whole && sound
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.batches.push(Arc::new(std::mem::take(&mut self.small).finish()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(nth: u64) -> Chunk {
        Chunk { sequence: 1, start: nth * 100, end: nth * 100 + 100 }
    }

    /// Whether the slot was there.
    fn ask(slots: &mut Slots, nth: u64) -> bool {
        let slot = slots.get(chunk(nth));
        slot.set(Ok(Arc::default())).is_err()
    }

    #[test]
    fn what_is_read_again_is_kept_and_a_scan_drives_it_not_out() {
        let cache = ChunkCache::new(1000);
        let mut slots = cache.slots.lock();
        assert!(!ask(&mut slots, 0), "the first time");
        assert!(ask(&mut slots, 0), "a moment later");
        for other in 1..10 {
            assert!(!ask(&mut slots, other));
        }
        assert!(!ask(&mut slots, 0), "after it left");
        for other in 100..200 {
            assert!(!ask(&mut slots, other), "a scan of everything");
        }
        assert!(ask(&mut slots, 0), "kept from its second read on");
    }

    #[test]
    fn what_was_read_long_ago_counts_as_new() {
        let cache = ChunkCache::new(1000);
        let mut slots = cache.slots.lock();
        for nth in 0..200 {
            assert!(!ask(&mut slots, nth));
        }
        assert!(!ask(&mut slots, 0));
        for other in 300..310 {
            assert!(!ask(&mut slots, other));
        }
        assert!(!ask(&mut slots, 0) && slots.kept.get(&chunk(0)).is_some());
    }
}
