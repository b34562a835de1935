//! A batch being put together in the buffer that is written to disk and then shared with subscribers: each event's frame
//! is encoded once, in the place where it stays.

use std::sync::Arc;

use newswire_core::{Batch, PlacedBatch, encode_frame};

use super::batch::{self, BATCH_HEADER_BYTES, BatchFacts};
use super::format::Salt;
use super::record;
use crate::buffers::BufferPool;
use crate::event_log::{NewEvent, Place};

/// The header of a frame and the digits of an offset, at most.
const ROOM_AROUND_JSON: usize = 30;

/// Header, heads and frames of a batch.
pub(crate) struct BatchBuffer {
    bytes: Vec<u8>,
    /// Where the frames begin.
    frames_at: usize,
    records: Vec<StoredRecord>,
    placed: PlacedBatch,
    first_offset: u64,
}

/// Where a record stands in its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredRecord {
    /// From the batch's first byte to its head.
    pub(crate) head_at: usize,
    /// Of head and frame.
    pub(crate) bytes: usize,
    pub(crate) has_id: bool,
}

impl BatchBuffer {
    /// Encodes events at these ascending places into `bytes`, whose content goes.
    pub(crate) fn build(mut bytes: Vec<u8>, events: &[(Place, NewEvent<'_>)]) -> Self {
        let heads_len: usize = events.iter().map(|(_, event)| record::head_len(event)).sum();
        let frames_at = BATCH_HEADER_BYTES + heads_len;
        let json_len: usize = events.iter().map(|(_, event)| event.before.len() + event.behind.len()).sum();
        bytes.clear();
        bytes.reserve(frames_at + json_len + events.len() * ROOM_AROUND_JSON);
        bytes.resize(frames_at, 0);
        let mut records = Vec::with_capacity(events.len());
        let mut placed = PlacedBatch::with_capacity(events.len());
        let mut head_at = BATCH_HEADER_BYTES;
        for (Place { offset, stored_at }, event) in events {
            let frame_at = bytes.len();
            encode_frame(&mut bytes, *offset, event.before, event.behind);
            let head_end = head_at + record::head_len(event);
            let (heads, frames) = bytes.split_at_mut(frames_at);
            let frame = &frames[frame_at - frames_at..];
            let place = frame_at - head_at..frame_at - head_at + frame.len();
            record::write_head(&mut heads[head_at..head_end], *offset, *stored_at, event, place);
            let meta = head_end - event.meta.len() - BATCH_HEADER_BYTES..head_end - BATCH_HEADER_BYTES;
            let pushed = placed.push(*offset, *stored_at, meta, frame);
            pushed.expect("the frame was encoded a moment ago");
            let (bytes, has_id) = (head_end - head_at + frame.len(), event.dedup.is_some());
            records.push(StoredRecord { head_at, bytes, has_id });
            head_at = head_end;
        }
        let first_offset = events.first().map_or(0, |(place, _)| place.offset);
        Self { bytes, frames_at, records, placed, first_offset }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn frames_len(&self) -> usize {
        self.bytes.len() - self.frames_at
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Gives batch and records their checksums; before, they are not ready to be written. Can be repeated, for another
    /// segment.
    pub(crate) fn seal(&mut self, salt: Salt, facts: &BatchFacts) {
        for stored in &self.records {
            record::seal(&mut self.bytes[stored.head_at..], salt);
        }
        let heads_len = self.frames_at - BATCH_HEADER_BYTES;
        batch::seal(&mut self.bytes, salt, facts, self.records.len() as u32, heads_len);
    }

    /// What is written to disk.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The batch for subscribers, and where its records stand. The buffer goes back to `pool` once nobody looks at it.
    pub(crate) fn finish(self, pool: &Arc<BufferPool>) -> (Arc<Batch>, Vec<StoredRecord>) {
        let bytes = pool.share(self.bytes);
        let (heads, frames) =
            (bytes.slice(BATCH_HEADER_BYTES..self.frames_at), bytes.slice(self.frames_at..));
        (Arc::new(self.placed.finish(frames, heads)), self.records)
    }
}
