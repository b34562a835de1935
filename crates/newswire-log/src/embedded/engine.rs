//! The writing half: one write and one sync a batch, marks, segment rolls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use newswire_protocol::UnixMicros;

use super::batch::{self, BatchFacts, Position};
use super::disk::replace_file;
use super::index::{ActiveIndex, Indexed};
use super::keeper::KeeperHandle;
use super::options::SyncMode;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment_file::Segment;
use super::store::{ChannelState, Store};
use crate::writer::{Engine, PersistError, Prepared, Stored, Written};

pub(crate) struct FileEngine {
    store: Arc<Store>,
    keeper: Arc<KeeperHandle>,
    active: Arc<Segment>,
    /// Where the next batch goes.
    position: u64,
    /// Everything before was synced.
    durable: Position,
    /// Up to here the file is known to hold zeros behind `position`.
    zeroed_to: u64,
    /// Up to here space was reserved, or could not be.
    reserved_to: u64,
    next_offset: u64,
    last_time: UnixMicros,
    /// Bytes of the batch at the position, once it is written.
    written: usize,
    /// What that batch adds to each channel.
    staged: Vec<ChannelRun>,
    /// Something was written since the last mark.
    mark_due: bool,
    last_sync: Instant,
    /// The keeper found the active segment fully trimmed.
    roll_wanted: Arc<AtomicBool>,
}

/// Where writing goes on after opening.
pub(crate) struct Start {
    pub(crate) position: u64,
    pub(crate) next_offset: u64,
    pub(crate) last_time: UnixMicros,
    /// No batch testifies yet for the last ones.
    pub(crate) mark_due: bool,
}

impl FileEngine {
    pub(crate) fn new(
        store: Arc<Store>,
        keeper: Arc<KeeperHandle>,
        active: Arc<Segment>,
        start: &Start,
        roll_wanted: Arc<AtomicBool>,
    ) -> Self {
        let durable = Position { sequence: active.header.sequence, byte: start.position };
        Self {
            store,
            keeper,
            active,
            position: start.position,
            durable,
            zeroed_to: start.position,
            reserved_to: start.position,
            next_offset: start.next_offset,
            last_time: start.last_time,
            written: 0,
            staged: Vec::new(),
            mark_due: start.mark_due,
            last_sync: Instant::now(),
            roll_wanted,
        }
    }

    fn mode(&self) -> SyncMode {
        self.store.options.sync
    }

    fn is_synced(&self) -> bool {
        self.durable == Position { sequence: self.active.header.sequence, byte: self.position }
    }

    fn broken(&self, doing: &str, error: &io::Error) -> PersistError {
        PersistError::Broken(format!("{doing} {}: {error}", self.active.name()))
    }

    fn seal(&self, prepared: &mut Prepared) {
        let facts = BatchFacts {
            first_offset: prepared.buffer.first_offset(),
            appended_at: prepared.now,
            durable: self.durable,
        };
        prepared.buffer.seal(self.active.salt(), &facts);
    }

    /// Writes a batch at the position, which stays where it is.
    fn write_here(&mut self, bytes: &[u8]) -> Result<(), PersistError> {
        self.make_room(bytes.len());
        let written = self.active.file.write_at(bytes, self.position);
        written.map_err(|error| self.undo("writing", &error))
    }

    /// Takes back what a failed write or sync may have left behind. The bytes of a refused batch can then not come back
    /// to life: not all of them were written, or they are cut off, or the next batch overwrites their header.
    fn undo(&mut self, doing: &str, error: &io::Error) -> PersistError {
        self.forget_room();
        let cut = self.active.file.set_len(self.position);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if doing == "writing" => {
                if let Err(error) = cut {
                    tracing::warn!(%error, segment = %self.active.name(), "cutting off a refused batch");
                }
                PersistError::Full
            }
            _ => self.broken(doing, error),
        }
    }

    /// Nothing is known of what stands behind the position.
    fn forget_room(&mut self) {
        (self.zeroed_to, self.reserved_to) = (self.position, self.position);
    }

    /// Makes room ahead, so that syncs of batches need not change the file's length: of zeros for small batches, for large
    /// ones of space that is merely reserved. Where there is no space for that there may be for the batch.
    fn make_room(&mut self, batch: usize) {
        let options = &self.store.options;
        let is_small = batch <= options.zero_ahead_batch_bytes;
        let piece = if is_small { options.zero_ahead_bytes } else { options.reserve_ahead_bytes };
        let end = self.position + batch as u64;
        let limit = options.effective_segment_bytes();
        let room_to = if is_small { self.zeroed_to } else { self.reserved_to };
        if piece == 0 || end >= limit || end <= room_to {
            return;
        }
        let from = room_to.max(self.position);
        let to = (end + piece).min(limit);
        if is_small {
            let zeros = vec![0; (to - from) as usize];
            if self.active.file.write_at(&zeros, from).is_ok() {
                self.zeroed_to = to;
            }
        } else {
            // Tried once a piece: a file system that cannot do it is not asked for every batch.
            let _ = self.active.file.reserve(from, to);
            self.reserved_to = to;
        }
    }

    fn sync_file(&mut self) -> Result<Duration, PersistError> {
        let began = Instant::now();
        self.active.file.sync_data().map_err(|error| self.undo("syncing", &error))?;
        self.last_sync = Instant::now();
        Ok(began.elapsed())
    }

    fn is_sync_due(&self) -> bool {
        match self.mode() {
            SyncMode::Always => true,
            SyncMode::Interval(interval) => self.last_sync.elapsed() >= interval,
            SyncMode::Os => false,
        }
    }

    fn advance(&mut self, bytes: usize, synced: bool) {
        self.position += bytes as u64;
        if synced {
            self.durable = Position { sequence: self.active.header.sequence, byte: self.position };
        }
    }

    /// Closes the active segment durably and begins the next.
    fn roll(&mut self) -> Result<(), PersistError> {
        let file = &self.active.file;
        // Also where nothing is known to be zeroed: zeroing may have failed half-way.
        file.set_len(self.position).map_err(|error| self.broken("cutting", &error))?;
        file.sync_all().map_err(|error| self.broken("syncing", &error))?;
        self.forget_room();
        self.durable = Position { sequence: self.active.header.sequence, byte: self.position };
        let header = SegmentHeader {
            epoch: self.store.epoch,
            sequence: self.active.header.sequence + 1,
            base_offset: self.next_offset,
            created_at: self.last_time,
            previous_len: self.position,
        };
        let next = create_segment(&self.store, header).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PersistError::Full,
            _ => self.broken("creating the segment behind", &error),
        })?;
        let sequence = header.sequence;
        let noted = self.store.change_manifest(|manifest| manifest.last_sequence = sequence);
        match noted {
            // The manifest's last sequence is a lower bound; the next change of it catches up.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            other => other.map_err(|error| self.broken("writing the manifest beside", &error))?,
        }
        let full = std::mem::replace(&mut self.active, next.clone());
        self.store.push_segment(next);
        self.keeper.seal(full);
        self.position = SEGMENT_HEADER_BYTES;
        self.forget_room();
        self.durable = Position { sequence, byte: SEGMENT_HEADER_BYTES };
        Ok(())
    }

    /// How long until a mark is to be written; `None` if none is.
    fn until_mark(&self) -> Option<Duration> {
        match self.mode() {
            _ if !self.mark_due => None,
            SyncMode::Always => Some(self.store.options.mark_after.saturating_sub(self.last_sync.elapsed())),
            SyncMode::Interval(interval) => Some(interval.saturating_sub(self.last_sync.elapsed())),
            SyncMode::Os => None,
        }
    }

    fn has_events(&self) -> bool {
        self.active.summary(|summary| summary.events > 0)
    }

    /// Writes a durable mark: an empty batch that testifies for all before it.
    fn mark(&mut self) -> Result<(), PersistError> {
        self.mark_due = false;
        if !self.is_synced() {
            self.sync_file()?;
            self.advance(0, true);
        }
        let facts =
            BatchFacts { first_offset: self.next_offset, appended_at: self.last_time, durable: self.durable };
        let mark = batch::mark(self.active.salt(), &facts);
        match self.write_here(&mark) {
            Ok(()) => {}
            // A mark proves; without it nothing is lost.
            Err(PersistError::Full) => return Ok(()),
            Err(broken) => return Err(broken),
        }
        self.sync_file()?;
        self.advance(mark.len(), true);
        self.active.commit(self.position);
        Ok(())
    }
}

/// Neighbouring events of one channel.
struct ChannelRun {
    /// The index of one of them in the batch.
    event: usize,
    adds: ChannelState,
}

/// Gathers [`ChannelRun`]s from events in their order.
#[derive(Default)]
struct ChannelRuns<'a> {
    runs: Vec<ChannelRun>,
    /// Of the last run.
    channel: &'a str,
}

impl<'a> ChannelRuns<'a> {
    fn add(&mut self, event: usize, channel: &'a str, offset: u64, bytes: u64) {
        match self.runs.last_mut() {
            Some(run) if self.channel == channel => {
                run.adds.last = offset;
                run.adds.events += 1;
                run.adds.bytes += bytes;
            }
            _ => {
                let adds = ChannelState { first: offset, last: offset, events: 1, bytes };
                self.runs.push(ChannelRun { event, adds });
                self.channel = channel;
            }
        }
    }
}

/// Creates a segment file durably: it is there whole, or not at all.
pub(crate) fn create_segment(store: &Store, header: SegmentHeader) -> io::Result<Arc<Segment>> {
    let path = store.segment_path(header.base_offset);
    let file = replace_file(store.disk.as_ref(), &path, &header.encode())?;
    let (end, index) = (SEGMENT_HEADER_BYTES, ActiveIndex::new());
    Ok(Arc::new(Segment::in_memory(header, path, file, end, index, store.tables.clone())))
}

impl Engine for FileEngine {
    fn write(&mut self, prepared: &mut Prepared) -> Result<Written, PersistError> {
        let end = self.position + prepared.buffer.bytes().len() as u64;
        let is_full = end > self.store.options.effective_segment_bytes();
        if (is_full || self.roll_wanted.swap(false, Ordering::Relaxed)) && self.has_events() {
            self.roll()?;
        }
        self.seal(prepared);
        let bytes = prepared.buffer.bytes();
        let began = Instant::now();
        self.write_here(bytes)?;
        let took = began.elapsed();
        self.written = bytes.len();
        self.last_time = prepared.now;
        if self.is_sync_due() && bytes.len() > self.store.options.zero_ahead_batch_bytes {
            // The sync then finds a large batch on its way, and waits for less.
            let end = self.position + bytes.len() as u64;
            self.active.file.begin_writeback(self.position, end);
        }
        Ok(Written { bytes: self.written, took })
    }

    fn stage(&mut self, stored: &Stored) {
        let Stored { batch, records, .. } = stored;
        let mut channels = ChannelRuns::default();
        let indexed = records.iter().enumerate().map(|(index, record)| {
            let (offset, meta, bytes) = (batch.offset(index), batch.meta(index), record.bytes);
            channels.add(index, meta.channel(), offset, bytes as u64);
            let position = self.position + record.head_at as u64;
            let (stored_at, has_id) = (batch.stored_at(index), record.has_id);
            Indexed { offset, stored_at, batch: self.position, position, bytes, has_id, meta }
        });
        self.active.stage(indexed);
        self.staged = channels.runs;
    }

    fn sync(&mut self) -> Result<Duration, PersistError> {
        let is_synced = self.is_sync_due();
        let took = if is_synced { self.sync_file()? } else { Duration::ZERO };
        self.advance(self.written, is_synced);
        self.mark_due = true;
        Ok(took)
    }

    fn publish(&mut self, stored: &Stored) {
        let batch = &stored.batch;
        self.active.commit(self.position);
        self.next_offset = batch.last() + 1;
        self.store.change_catalog(|catalog| {
            self.staged.iter().for_each(|run| catalog.add(batch.meta(run.event).channel(), run.adds));
        });
    }

    fn idle_after(&self) -> Option<Duration> {
        let retention = self.store.retention().interval;
        Some(self.until_mark().map_or(retention, |mark| mark.min(retention)))
    }

    fn idle(&mut self) -> Result<(), PersistError> {
        if self.roll_wanted.swap(false, Ordering::Relaxed) && self.has_events() {
            self.roll()?;
        }
        if self.until_mark().is_some_and(|left| left.is_zero()) { self.mark() } else { Ok(()) }
    }

    fn close(&mut self, healthy: bool) -> Result<(), PersistError> {
        self.keeper.stop();
        if !healthy {
            return Ok(());
        }
        self.mark()?;
        let file = &self.active.file;
        file.set_len(self.position).map_err(|error| self.broken("cutting", &error))?;
        file.sync_all().map_err(|error| self.broken("syncing", &error))?;
        let end = Position { sequence: self.active.header.sequence, byte: self.position };
        let next_offset = self.next_offset;
        let closed = self.store.change_manifest(|manifest| {
            manifest.clean_end = Some(end);
            manifest.next_offset = next_offset;
        });
        closed.map_err(|error| self.broken("writing the manifest beside", &error))
    }
}
