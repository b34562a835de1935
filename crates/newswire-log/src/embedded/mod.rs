//! The log on disk: segments of batches, written by one thread, synced before anything is acknowledged or shown.
//!
//! The files are described in `docs/decisions/log-format.md`. `disk` is the only way to files; `record`, `batch`,
//! `segment`, `manifest`, `ids` and `index_file` are the shapes; `scan` and `recovery` open what is there; `engine`
//! writes; `planner`, `chunk_cache` and `reader` read; `trim` and `keeper` let old events go; `snapshot` reads
//! beside a server.

pub(crate) mod batch;
pub(crate) mod batch_buffer;
mod chunk_cache;
pub mod disk;
mod engine;
pub(crate) mod format;
mod ids;
mod index;
mod index_file;
pub(crate) mod inspect;
mod keeper;
pub(crate) mod manifest;
pub(crate) mod options;
mod planner;
mod postings;
mod reader;
pub(crate) mod record;
mod recovery;
mod scan;
mod segment;
mod segment_file;
pub mod snapshot;
mod store;
mod trim;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::BoxFuture;
use newswire_core::{LogView, Lost, Page, ReadRequest, Selector};
use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;

use self::disk::{Disk, LockGuard};
use self::engine::FileEngine;
use self::format::LOCK_FILE;
use self::keeper::KeeperHandle;
pub use self::manifest::EpochStart;
pub use self::options::{EmbeddedOptions, OpenError, SyncMode};
use self::store::Store;
use crate::event_log::{
    AppendError, Appended, ChannelStats, EventLog, LogHealth, LogStats, NewEvents, Place, ReadError, Trim,
    TrimError,
};
use crate::follow::CommitReceiver;
use crate::retention::RetentionOptions;
use crate::shared::Shared;
use crate::writer::WriterHandle;

/// The log in a directory of its own.
///
/// Beyond the promises of [`EventLog`]: with [`SyncMode::Always`] an acknowledged event survives a power failure, and
/// nothing is shown that does not. Damage to what is proven durable refuses to open; what follows the last proven place
/// and is not whole was never acknowledged, and is cut off with a warning. Any failed sync stops publishing until the
/// log is opened again; reads go on. A full disk refuses publishes, and heals by itself.
pub struct EmbeddedLog {
    store: Arc<Store>,
    shared: Arc<Shared>,
    writer: WriterHandle,
    /// Given back when the log is closed.
    lock: Mutex<Option<LockGuard>>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, creating both where there is none. Verifies all of it, or, without
    /// [`EmbeddedOptions::verify_on_open`], reads only the segment written last and what is inside the dedup window.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where somebody else has the directory open, [`OpenError::Damaged`] where something durable
    /// is missing or wrong (nothing was changed then), [`OpenError::Version`], [`OpenError::Io`].
    pub fn open(dir: &Path, options: EmbeddedOptions, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        disk.create_dir_all(dir).map_err(OpenError::io("creating", dir))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = disk.lock(&lock_path).map_err(OpenError::io("locking", &lock_path))?;
        let Some(lock) = lock else { return Err(OpenError::Locked { dir: dir.to_owned() }) };
        let batch = options.batch;
        let shared_parts = (options.dedup, options.clock.clone(), options.observer.clone());
        let is_copy = options.copy_of.is_some();
        let epoch = options.copy_of.unwrap_or_else(|| Epoch(uuid::Uuid::new_v4()));
        let recovery::Recovered { store, start, saved_ids } = recovery::open(dir, options, disk, epoch)?;
        let (dedup, clock, observer) = shared_parts;
        let shared = Shared::new(store.epoch, start.next_offset, dedup, clock, observer);
        let shared = Arc::new(if is_copy { shared.of_copy(start.last_time) } else { shared });
        let now = shared.ids_now().max(start.last_time);
        ids::rebuild(&store, &mut shared.dedup.lock(), &saved_ids, now)
            .map_err(|error| recovery::unreadable(&store, &error))?;
        let store = Arc::new(store);
        let (roll_wanted, io) =
            (Arc::new(AtomicBool::new(false)), OpenError::io("starting a thread for", dir));
        let keeper = KeeperHandle::spawn(store.clone(), shared.clone(), roll_wanted.clone());
        let keeper = Arc::new(keeper.map_err(io)?);
        let segments = store.segments();
        let active = segments.last().expect("recovery makes sure of a segment to write to").clone();
        let engine = FileEngine::new(store.clone(), keeper, active, &start, roll_wanted);
        let writer = WriterHandle::spawn(engine, shared.clone(), start.last_time, batch)
            .map_err(OpenError::io("starting a thread for", dir))?;
        Ok(Self { store, shared, writer, lock: Mutex::new(Some(lock)) })
    }

    /// Appends events that somebody else has stored, at the places they gave: offsets ascending and at or beyond the tail,
    /// with holes where there are any. Otherwise as [`EventLog::append`].
    ///
    /// Which events are repeats depends on the events and their places alone, not on how they are grouped into appends nor
    /// on the time at which they are copied: every copy of a log leaves the same holes. For that to hold across trims and
    /// restarts too, the log must know that it is a copy: [`EmbeddedOptions::copy_of`].
    ///
    /// # Panics
    /// If there are not as many places as events.
    pub fn append_at(
        &self,
        places: Vec<Place>,
        events: NewEvents,
    ) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        assert_eq!(places.len(), events.len(), "a place for each event");
        self.writer.append(events, Some(places))
    }

    /// Notes in a copy, which is still empty, that everything before this place is gone where it is kept and is never
    /// copied: whoever asks for it is told that it is lost, by the names that were asked for where no others are known.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`TrimError::Io`]; then nothing is noted.
    ///
    /// # Panics
    /// If there are events.
    pub fn begin_at(&self, place: Place) -> Result<(), TrimError> {
        assert_eq!(self.head(), self.tail(), "only an empty copy begins somewhere");
        trim::begin_at(&self.store, &self.shared, place)
    }

    /// Notes in a copy that channels lost their events up to these places, before they could be copied. Blocks on the disk.
    ///
    /// # Errors
    /// [`TrimError::Io`]; then nothing is noted.
    pub(crate) fn note_gone(&self, gone: &[(Arc<str>, Place)]) -> Result<(), TrimError> {
        trim::note_gone(&self.store, gone)
    }

    /// Offset and frame of the event that was stored last, whether it is retained or not; `None` if no segment is left that
    /// had one. Blocks on the disk.
    pub(crate) fn last_event(&self) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
        reader::last_event(&self.store)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.store.dir
    }
}

impl LogView for EmbeddedLog {
    fn epoch(&self) -> Epoch {
        self.store.epoch
    }

    fn head(&self) -> u64 {
        let tail = self.tail();
        self.store.read_catalog(|catalog| catalog.head).unwrap_or(tail)
    }

    fn tail(&self) -> u64 {
        self.shared.tail()
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.store.read_catalog(|catalog| catalog.channels.keys().cloned().collect())
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.store.floors_and_head().0.lost(selector, after)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.store.floors_and_head().0.lost_since(selector, since)
    }
}

impl EventLog for EmbeddedLog {
    fn engine(&self) -> &'static str {
        "embedded"
    }

    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        self.writer.append(events, None)
    }

    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError> {
        reader::read(&self.store, self.tail(), request)
    }

    fn follow(&self) -> CommitReceiver {
        self.shared.followers.join(|| self.shared.tail())
    }

    fn trim(&self, trim: &Trim) -> Result<u64, TrimError> {
        trim::trim(&self.store, &self.shared, trim.channel.as_deref(), trim.up_to)
    }

    fn retain(&self) -> Result<u64, TrimError> {
        trim::retain(&self.store, &self.shared)
    }

    fn set_retention(&self, retention: RetentionOptions) -> bool {
        self.store.set_retention(retention);
        true
    }

    fn stats(&self) -> LogStats {
        let (head, tail) = (self.head(), self.tail());
        self.shared.stats(self.store.epoch, head, tail, self.store.kept())
    }

    fn channel_stats(&self) -> Vec<ChannelStats> {
        self.store.read_catalog(|catalog| {
            let channels = catalog.channels.iter();
            let stats = channels.map(|(name, state)| {
                let store::ChannelState { first, last, events, bytes } = *state;
                ChannelStats { name: name.clone(), first, last, events, bytes }
            });
            stats.collect()
        })
    }

    fn health(&self) -> LogHealth {
        self.shared.health.lock().clone()
    }

    fn close(&self) {
        self.writer.close();
        self.lock.lock().take();
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}
