//! Reads pages, forward and backward.

use std::sync::Arc;

use newswire_core::{Batch, BatchBuilder, Direction, Page, ReadRequest};
use newswire_protocol::UnixMicros;

use super::ids;
use super::planner::Plan;
use super::segment_file::{Chunk, Segment};
use super::store::Store;
use crate::event_log::ReadError;
use crate::page::{Bounds, PageBuilder};

/// A chunk with at least so many candidates is read whole, and shared; with fewer, record by record.
const WHOLE_CHUNK_FROM: usize = 24;
/// Single records are examined in groups of at most this many.
const GROUP: usize = 32;

pub(crate) fn read(store: &Store, tail: u64, request: &ReadRequest) -> Result<Page, ReadError> {
    // In this order: a trim in between only hides more, and a segment it removes stays readable through its handle.
    let segments = store.segments();
    let (floors, head) = store.floors_and_head();
    let lost = floors.lost_to(request);
    let mut bounds = Bounds::of(request, head.unwrap_or(tail), tail);
    if let Some(since) = request.since {
        bounds.first = bounds.first.max(first_since(&segments, since, tail)?);
    }
    let mut page = PageBuilder::new(request, &floors, bounds);
    if !bounds.is_empty() {
        let meant = segments.iter().filter(|segment| overlaps(segment, bounds));
        let mut reader = Reader { store, request, bounds, page: &mut page };
        match request.direction {
            Direction::Forward => reader.read_segments(meant)?,
            Direction::Backward => reader.read_segments(meant.rev())?,
        }
    }
    Ok(page.finish(store.epoch, lost))
}

fn overlaps(segment: &Segment, bounds: Bounds) -> bool {
    segment
        .summary(|summary| summary.events > 0 && summary.first <= bounds.last && summary.last >= bounds.first)
}

/// An offset at or before the first event stored at or after `since`, and not far before.
fn first_since(segments: &[Arc<Segment>], since: UnixMicros, tail: u64) -> Result<u64, ReadError> {
    for segment in segments {
        if !segment.summary(|summary| summary.events > 0 && summary.last_at >= since) {
            continue;
        }
        return segment.sparse(|sparse| {
            let behind = sparse.partition_point(|entry| entry.stored_at < since);
            sparse[..behind].last().or(sparse.first()).map_or(tail, |entry| entry.offset)
        });
    }
    Ok(tail)
}

struct Reader<'r, 'p> {
    store: &'r Store,
    request: &'r ReadRequest,
    bounds: Bounds,
    page: &'p mut PageBuilder<'r>,
}

impl Reader<'_, '_> {
    fn read_segments<'s>(
        &mut self,
        segments: impl Iterator<Item = &'s Arc<Segment>>,
    ) -> Result<(), ReadError> {
        for segment in segments {
            if !self.read_segment(segment)? {
                break;
            }
        }
        Ok(())
    }

    /// `false` once the page is full.
    fn read_segment(&mut self, segment: &Segment) -> Result<bool, ReadError> {
        let (plan, index_bytes) = self.store.plans.plan(segment, &self.request.selector)?;
        self.page.scan(index_bytes);
        let candidates = match &plan {
            Plan::All => None,
            Plan::Positions(positions) if positions.is_empty() => return Ok(true),
            Plan::Positions(positions) => Some(positions.as_slice()),
        };
        let mut chunks = segment.chunks(self.bounds.first, self.bounds.last)?;
        if self.request.direction == Direction::Backward {
            chunks.reverse();
        }
        for chunk in chunks {
            let goes_on = match candidates {
                None => self.read_chunk(segment, chunk)?,
                Some(all) => self.read_candidates(segment, chunk, within(all, chunk))?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_chunk(&mut self, segment: &Segment, chunk: Chunk) -> Result<bool, ReadError> {
        let batches = self.store.chunks.get(segment, chunk)?;
        let goes_on = match self.request.direction {
            Direction::Forward => batches.iter().all(|batch| self.page.examine(batch)),
            Direction::Backward => batches.iter().rev().all(|batch| self.page.examine(batch)),
        };
        Ok(goes_on && self.page.scan(chunk.end - chunk.start))
    }

    fn read_candidates(
        &mut self,
        segment: &Segment,
        chunk: Chunk,
        candidates: &[u64],
    ) -> Result<bool, ReadError> {
        if candidates.len() >= WHOLE_CHUNK_FROM {
            return self.read_chunk(segment, chunk);
        }
        match self.request.direction {
            Direction::Forward => {
                let mut groups = candidates.chunks(GROUP);
                groups.try_fold(true, |goes_on, group| Ok(goes_on && self.read_group(segment, group)?))
            }
            Direction::Backward => {
                let mut groups = candidates.rchunks(GROUP);
                groups.try_fold(true, |goes_on, group| Ok(goes_on && self.read_group(segment, group)?))
            }
        }
    }

    fn read_group(&mut self, segment: &Segment, positions: &[u64]) -> Result<bool, ReadError> {
        let mut bytes = 0;
        let batch = read_records(segment, positions, &mut bytes)?;
        Ok(self.page.examine(&Arc::new(batch)) && self.page.scan(bytes))
    }
}

/// The candidates that lie in a chunk.
fn within(positions: &[u64], chunk: Chunk) -> &[u64] {
    let from = positions.partition_point(|position| *position < chunk.start);
    let to = positions.partition_point(|position| *position < chunk.end);
    &positions[from..to]
}

/// The records at these ascending positions as a batch of their own.
fn read_records(segment: &Segment, positions: &[u64], read: &mut u64) -> Result<Batch, ReadError> {
    let mut builder = BatchBuilder::new();
    for position in positions {
        let bytes = segment.read_record(*position)?;
        *read += bytes.read;
        let record = segment.decode_record(&bytes)?;
        let pushed = builder.push_stored(record.offset, record.stored_at, record.meta, record.frame);
        pushed.map_err(|_| segment.damaged(*position))?;
    }
    Ok(builder.finish())
}

/// Offset and frame of the event that was stored last.
pub(crate) fn last_event(store: &Store) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
    for segment in store.segments().iter().rev() {
        let Some(start) = segment.sparse(|sparse| sparse.last().map(|entry| entry.position))? else {
            continue;
        };
        let mut last = None;
        ids::walk_records(segment, start, segment.end(), &mut |record| {
            last = Some((record.offset, record.frame.to_vec()));
        })?;
        return Ok(last);
    }
    Ok(None)
}
