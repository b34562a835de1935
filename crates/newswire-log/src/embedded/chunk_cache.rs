//! Decoded pieces of the log, shared by all who read near each other: a thousand subscribers that resume together
//! decode the log once.

use std::sync::{Arc, OnceLock};

use newswire_core::{Batch, BatchBuilder};
use parking_lot::Mutex;

use super::batch::{self, BATCH_HEADER_BYTES};
use super::format::{BATCH_MAGIC, Fields};
use super::record;
use super::segment_file::{Chunk, Segment};
use crate::event_log::ReadError;
use crate::lru::Lru;

/// Filled by the first reader; the others wait for it.
type Slot = Arc<OnceLock<Result<Arc<Batch>, ReadError>>>;

pub(crate) struct ChunkCache {
    slots: Mutex<Lru<Chunk, Slot>>,
    /// Used again, because a fresh buffer's page faults cost as much as decoding it.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Buffers kept for the next readers.
const SPARE_BUFFERS: usize = 4;
/// A buffer beyond this is not kept.
const SPARE_BUFFER_BYTES: usize = 1 << 20;

impl ChunkCache {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { slots: Mutex::new(Lru::new(capacity_bytes)), buffers: Mutex::default() }
    }

    /// The events of a chunk.
    pub(crate) fn get(&self, segment: &Segment, chunk: Chunk) -> Result<Arc<Batch>, ReadError> {
        let slot = {
            let mut slots = self.slots.lock();
            slots.get(&chunk).unwrap_or_else(|| {
                let slot = Slot::default();
                slots.insert(chunk, slot.clone(), (chunk.end - chunk.start) as usize);
                slot
            })
        };
        let batch = slot.get_or_init(|| self.read(segment, chunk).map(Arc::new)).clone();
        if batch.is_err() {
            self.slots.lock().remove(&chunk);
        }
        batch
    }

    fn read(&self, segment: &Segment, chunk: Chunk) -> Result<Batch, ReadError> {
        let len = (chunk.end - chunk.start) as usize;
        let mut buffer = self.buffers.lock().pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let got =
            segment.file.read_at(&mut buffer[..len], chunk.start).map_err(|error| segment.io(&error))?;
        if got < len {
            return Err(segment.damaged(chunk.start + got as u64));
        }
        let batch = decode_chunk(segment, chunk.start, &buffer[..len]);
        let mut buffers = self.buffers.lock();
        if buffers.len() < SPARE_BUFFERS && buffer.len() <= SPARE_BUFFER_BYTES {
            buffers.push(buffer);
        }
        batch
    }

    /// Forgets the chunks of segments that are gone.
    pub(crate) fn forget(&self, is_gone: impl Fn(u64) -> bool) {
        self.slots.lock().retain(|chunk| !is_gone(chunk.sequence));
    }
}

/// Decodes records that begin at a record's start and end behind one, with batch headers between them.
fn decode_chunk(segment: &Segment, start: u64, bytes: &[u8]) -> Result<Batch, ReadError> {
    let mut builder = BatchBuilder::with_capacity(bytes.len() / 256, bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let damaged = || segment.damaged(start + at as u64);
        let rest = &bytes[at..];
        if Fields(rest).u32() == Some(BATCH_MAGIC) {
            batch::decode_header(rest, segment.salt()).ok_or_else(damaged)?;
            at += BATCH_HEADER_BYTES;
            continue;
        }
        let record = record::decode(rest, segment.salt()).ok_or_else(damaged)?;
        let pushed = builder.push_stored(record.offset, record.stored_at, record.meta, record.frame);
        pushed.map_err(|_| damaged())?;
        at += record.len;
    }
    Ok(builder.finish())
}
