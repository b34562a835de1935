//! What the writer, readers and the keeper share: the segments, what each channel has, and what has been trimmed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::{Mutex, RwLock};

use super::chunk_cache::ChunkCache;
use super::disk::{Disk, replace_file};
use super::format::{MANIFEST_FILE, segment_path};
use super::manifest::Manifest;
use super::options::EmbeddedOptions;
use super::planner::PlanCache;
use super::segment_file::{Segment, TableCache};
use crate::floors::Floors;
use crate::retention::RetentionOptions;

pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: EmbeddedOptions,
    pub(crate) epoch: Epoch,
    pub(crate) chunks: ChunkCache,
    pub(crate) plans: PlanCache,
    pub(crate) tables: Arc<TableCache>,
    /// Ascending; the last one is written to.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    catalog: RwLock<Catalog>,
    /// As it is now; what the log was opened with stands in the options.
    retention: RwLock<Arc<RetentionOptions>>,
    /// As it is on disk.
    manifest: Mutex<Manifest>,
    /// One trim at a time.
    pub(crate) trimming: Mutex<()>,
    /// Files with ids of removed segments, and when the newest of them was stored.
    pub(crate) id_files: Mutex<Vec<(PathBuf, UnixMicros)>>,
}

/// What is retained, by channel.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) channels: BTreeMap<Arc<str>, ChannelState>,
    pub(crate) floors: Arc<Floors>,
    /// Oldest retained offset.
    pub(crate) head: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelState {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Catalog {
    /// Adds committed events of one channel, which follow all that it has.
    pub(crate) fn add(&mut self, channel: &str, new: ChannelState) {
        self.head.get_or_insert(new.first);
        if let Some(state) = self.channels.get_mut(channel) {
            state.last = new.last;
            state.events += new.events;
            state.bytes += new.bytes;
        } else {
            let name: Arc<str> = channel.into();
            if let Some(floor) = self.floors.of_all() {
                Arc::make_mut(&mut self.floors).raise(&name, floor);
            }
            self.channels.insert(name, new);
        }
    }

    pub(crate) fn find_head(&mut self) {
        self.head = self.channels.values().map(|state| state.first).min();
    }
}

impl Store {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: EmbeddedOptions,
        manifest: Manifest,
        segments: Vec<Arc<Segment>>,
        tables: Arc<TableCache>,
    ) -> Self {
        Self {
            chunks: ChunkCache::new(options.chunk_cache_bytes),
            plans: PlanCache::new(),
            retention: RwLock::new(Arc::new(options.retention.clone())),
            tables,
            disk,
            dir,
            options,
            epoch: manifest.epoch(),
            segments: RwLock::new(Arc::new(segments)),
            catalog: RwLock::default(),
            manifest: Mutex::new(manifest),
            trimming: Mutex::new(()),
            id_files: Mutex::default(),
        }
    }

    pub(crate) fn retention(&self) -> Arc<RetentionOptions> {
        self.retention.read().clone()
    }

    pub(crate) fn set_retention(&self, retention: RetentionOptions) {
        *self.retention.write() = Arc::new(retention);
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().clone()
    }

    pub(crate) fn push_segment(&self, segment: Arc<Segment>) {
        Arc::make_mut(&mut *self.segments.write()).push(segment);
    }

    pub(crate) fn drop_segments(&self, is_gone: impl Fn(u64) -> bool) {
        Arc::make_mut(&mut *self.segments.write()).retain(|segment| !is_gone(segment.header.sequence));
        self.chunks.forget(&is_gone);
        self.tables.lock().retain(|sequence| !is_gone(*sequence));
    }

    pub(crate) fn segment_path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
    }

    pub(crate) fn read_catalog<R>(&self, see: impl FnOnce(&Catalog) -> R) -> R {
        see(&self.catalog.read())
    }

    pub(crate) fn change_catalog<R>(&self, change: impl FnOnce(&mut Catalog) -> R) -> R {
        change(&mut self.catalog.write())
    }

    pub(crate) fn floors_and_head(&self) -> (Arc<Floors>, Option<u64>) {
        self.read_catalog(|catalog| (catalog.floors.clone(), catalog.head))
    }

    /// Changes the manifest durably, or not at all.
    pub(crate) fn change_manifest(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        change(&mut changed);
        if changed != *manifest {
            replace_file(self.disk.as_ref(), &self.dir.join(MANIFEST_FILE), &changed.encode())?;
            *manifest = changed;
        }
        Ok(())
    }

    /// Events, bytes of files, and segments.
    pub(crate) fn kept(&self) -> (u64, u64, usize) {
        let segments = self.segments();
        let events = self.read_catalog(|catalog| catalog.channels.values().map(|state| state.events).sum());
        (events, segments.iter().map(|segment| segment.bytes()).sum(), segments.len())
    }
}
