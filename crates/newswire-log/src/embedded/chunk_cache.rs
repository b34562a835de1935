//! Decoded pieces of the log, shared by all who read near each other: a thousand subscribers that resume together
//! decode the log once.

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
    slots: Mutex<Lru<Chunk, Slot>>,
    buffers: Arc<BufferPool>,
}

/// A batch with at least so many bytes of frames is shared as it was read; smaller ones that follow each other are
/// copied together, because a batch costs as much as copying some events.
const SHARED_FROM: usize = 8 << 10;

impl ChunkCache {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { slots: Mutex::new(Lru::new(capacity_bytes)), buffers: Arc::default() }
    }

    /// The events of a chunk.
    pub(crate) fn get(&self, segment: &Segment, chunk: Chunk) -> Result<Batches, ReadError> {
        let slot = {
            let mut slots = self.slots.lock();
            slots.get(&chunk).unwrap_or_else(|| {
                let slot = Slot::default();
                slots.insert(chunk, slot.clone(), (chunk.end - chunk.start) as usize);
                slot
            })
        };
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
