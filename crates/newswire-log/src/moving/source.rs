//! A log in files, read from its first event to its end.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use newswire_core::DamagedMeta;
use newswire_protocol::{Epoch, UnixMicros};
use tokio::sync::mpsc;

use super::item::{Item, What};
use super::{MoveError, blocking};
use crate::dedup::{DedupOptions, DedupWindow, Seen, StoredId};
use crate::embedded::OpenError;
use crate::embedded::disk::{Disk, LockGuard, OsDisk};
use crate::embedded::format::LOCK_FILE;
use crate::embedded::snapshot::Snapshot;
use crate::event_log::ReadError;

/// Events of a page, and about how many bytes.
const PAGE_EVENTS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// Pages that wait for whoever takes them. Overflow: reading waits.
const PAGES_AHEAD: usize = 2;

/// A log in files that nobody uses: nothing else opens it meanwhile, and nothing of it is changed.
pub struct Source {
    dir: PathBuf,
    snapshot: Arc<Snapshot>,
    _lock: LockGuard,
}

/// What is known of a log once it was read.
pub(super) struct Facts {
    /// Events whose ids still count.
    ids: Arc<HashSet<u64>>,
    /// What channels have lost behind the first event: where, when, whose.
    gone: Arc<BTreeMap<u64, (UnixMicros, Arc<str>)>>,
    /// The last thing that is moved.
    pub(super) last: Option<u64>,
}

/// Pages as they come; none behind the first error.
pub(super) type Pages = mpsc::Receiver<Result<Vec<Item>, ReadError>>;

impl Source {
    /// Takes the directory, which a server must have left in order. Blocks on the disk.
    ///
    /// # Errors
    /// [`MoveError::NoLog`], [`MoveError::InUse`], [`MoveError::Unclean`], [`MoveError::Open`].
    pub fn open(dir: &Path) -> Result<Self, MoveError> {
        let nothing = || MoveError::NoLog(dir.display().to_string());
        if !dir.is_dir() {
            return Err(nothing());
        }
        // Before the lock makes a file in a directory of something else.
        Snapshot::open(&OsDisk, dir)?.ok_or_else(nothing)?;
        let path = dir.join(LOCK_FILE);
        let lock = OsDisk.lock(&path).map_err(OpenError::io("locking", &path))?;
        let lock = lock.ok_or_else(|| MoveError::InUse(dir.to_owned()))?;
        let snapshot = Snapshot::open(&OsDisk, dir)?.ok_or_else(nothing)?;
        if snapshot.manifest.clean_end.is_none() {
            return Err(MoveError::Unclean(dir.to_owned()));
        }
        Ok(Self { dir: dir.to_owned(), snapshot: Arc::new(snapshot), _lock: lock })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.snapshot.epoch()
    }

    /// One beyond the last offset that it gave.
    pub fn tail(&self) -> u64 {
        self.snapshot.tail()
    }

    /// Reads all of it once, for what has to be known before the first event is moved.
    ///
    /// An id is moved with its event where a repeat of it would be recognised at the log's end, and only with the newest of
    /// several events that have it: whoever reads them with a longer window than they were written with would take the others
    /// for repeats.
    pub(super) async fn look(&self, dedup: DedupOptions) -> Result<Facts, MoveError> {
        let snapshot = Arc::clone(&self.snapshot);
        Ok(blocking(move || look(&snapshot, dedup)).await??)
    }

    /// Everything beyond `after`, by offset.
    pub(super) fn items(&self, after: u64, facts: &Facts) -> Pages {
        let (ids, gone) = (Arc::clone(&facts.ids), Arc::clone(&facts.gone));
        let (pages, taken) = mpsc::channel(PAGES_AHEAD);
        let snapshot = Arc::clone(&self.snapshot);
        tokio::task::spawn_blocking(move || {
            let mut reading = Reading { pages, page: Vec::new(), bytes: 0 };
            let mut gone = gone.range(after + 1..).peekable();
            let read = snapshot.visit_records(after, &mut |record| {
                while let Some((offset, lost)) = gone.next_if(|(offset, _)| **offset < record.offset) {
                    reading.push(lost_at(*offset, lost));
                }
                Ok(reading.push(Item::of(record, ids.contains(&record.offset))))
            });
            for (offset, lost) in gone {
                reading.push(lost_at(*offset, lost));
            }
            match read {
                Ok(()) => reading.flush(),
                // Refused where nobody takes it any more.
                Err(error) => reading.pages.blocking_send(Err(error)).is_ok(),
            }
        });
        taken
    }
}

fn lost_at(offset: u64, (stored_at, channel): &(UnixMicros, Arc<str>)) -> Item {
    Item { offset, stored_at: *stored_at, what: What::Gone(Arc::clone(channel)) }
}

fn look(snapshot: &Snapshot, dedup: DedupOptions) -> Result<Facts, ReadError> {
    let mut window = DedupWindow::new(dedup);
    let (mut first, mut last, mut last_time) = (None, None, UnixMicros(0));
    snapshot.visit_records(0, &mut |record| -> Result<bool, DamagedMeta> {
        first.get_or_insert(record.offset);
        (last, last_time) = (Some(record.offset), record.stored_at);
        if let Some(dedup) = record.dedup() {
            window.insert(StoredId { dedup, offset: record.offset, stored_at: record.stored_at });
        }
        Ok(true)
    })?;
    window.expire(last_time);
    let counts = |id: &&StoredId| window.look_up(&id.dedup, last_time, 0) == Seen::Same(id.offset);
    let ids = window.below(u64::MAX, last_time).filter(counts).map(|id| id.offset).collect();
    // What is gone before the first event is gone for everybody.
    let first = first.unwrap_or(u64::MAX);
    let floors = snapshot.manifest.floors.iter().filter(|(_, floor)| floor.to > first);
    let gone: BTreeMap<_, _> =
        floors.map(|(channel, floor)| (floor.to, (floor.stored_at, Arc::clone(channel)))).collect();
    let last = last.max(gone.last_key_value().map(|(offset, _)| *offset));
    Ok(Facts { ids: Arc::new(ids), gone: Arc::new(gone), last })
}

struct Reading {
    pages: mpsc::Sender<Result<Vec<Item>, ReadError>>,
    page: Vec<Item>,
    bytes: usize,
}

impl Reading {
    /// Answers whether somebody still wants more.
    fn push(&mut self, item: Item) -> bool {
        if let What::Event { head, frame, .. } = &item.what {
            self.bytes += head.len() + frame.len();
        }
        self.page.push(item);
        if self.page.len() == PAGE_EVENTS || self.bytes >= PAGE_BYTES { self.flush() } else { true }
    }

    fn flush(&mut self) -> bool {
        self.bytes = 0;
        let page = std::mem::take(&mut self.page);
        page.is_empty() || self.pages.blocking_send(Ok(page)).is_ok()
    }
}
