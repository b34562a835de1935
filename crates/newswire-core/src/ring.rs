//! The most recent batches, shared by all who are a little behind.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Batch;

/// Batches in offset order, bounded in bytes; the oldest leave first.
#[derive(Debug)]
pub(crate) struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    max_bytes: usize,
    /// Every event beyond this offset that was dispatched is in the ring.
    floor: u64,
}

/// A piece of the ring, taken without looking at the events.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) batches: Vec<Arc<Batch>>,
    /// Together the batches hold every event up to here.
    pub(crate) reached: u64,
}

impl Ring {
    /// An empty ring at this offset.
    pub(crate) fn new(max_bytes: usize, floor: u64) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, max_bytes, floor }
    }

    pub(crate) fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.footprint();
        self.batches.push_back(batch);
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            if let Some(oldest) = self.batches.pop_front() {
                self.bytes -= oldest.footprint();
                self.floor = oldest.last();
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batches that hold events beyond `from` and up to `until`: as many as `max_bytes` of frames, at least one.
    /// `None` if some of those events have left the ring. `until` must not lie beyond what was dispatched.
    pub(crate) fn slice(&self, from: u64, until: u64, max_bytes: usize) -> Option<Slice> {
        if from < self.floor {
            return None;
        }
        let start = self.batches.partition_point(|batch| batch.last() <= from);
        let mut slice = Slice { batches: Vec::new(), reached: until.max(from) };
        let mut bytes = 0;
        for batch in self.batches.range(start..).take_while(|batch| batch.first() <= until) {
            if bytes >= max_bytes {
                slice.reached = slice.batches.last().map_or(from, |batch| batch.last());
                break;
            }
            bytes += batch.frames().len();
            slice.batches.push(Arc::clone(batch));
        }
        Some(slice)
    }
}
