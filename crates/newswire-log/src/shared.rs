//! What the writer of a log shares with its other callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::dedup::{DedupOptions, DedupWindow};
use crate::event_log::{LogHealth, LogStats, Observer};
use crate::follow::Followers;

/// What the writer shares with the log's other callers.
pub(crate) struct Shared {
    pub(crate) followers: Followers,
    pub(crate) dedup: Mutex<DedupWindow>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Mutex<LogHealth>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) commits: AtomicU64,
    pub(crate) committed_events: AtomicU64,
    pub(crate) committed_bytes: AtomicU64,
    /// 0 before the first.
    pub(crate) last_commit_at: AtomicU64,
    /// In a copy of another log: when the last event was stored there.
    last_place: Option<AtomicU64>,
    tail: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        epoch: Epoch,
        tail: u64,
        dedup: DedupOptions,
        clock: Arc<dyn Clock>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Self {
            followers: Followers::new(epoch),
            dedup: Mutex::new(DedupWindow::new(dedup)),
            clock,
            health: Mutex::new(LogHealth::Ok),
            observer,
            commits: AtomicU64::new(0),
            committed_events: AtomicU64::new(0),
            committed_bytes: AtomicU64::new(0),
            last_commit_at: AtomicU64::new(0),
            last_place: None,
            tail: AtomicU64::new(tail),
        }
    }

    /// Makes this the state of a copy, whose last event was stored at this time.
    pub(crate) fn of_copy(mut self, last_time: UnixMicros) -> Self {
        self.last_place = Some(AtomicU64::new(last_time.0));
        self
    }

    /// The time that ids are judged by: in a copy that of its last event, because what is copied next may have been stored
    /// right behind it, however long ago that is.
    pub(crate) fn ids_now(&self) -> UnixMicros {
        match &self.last_place {
            Some(last) => UnixMicros(last.load(Ordering::Relaxed)),
            None => self.clock.now(),
        }
    }

    /// The next offset to be written.
    pub(crate) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// The last event of this log was stored at this time.
    pub(crate) fn copied_up_to(&self, now: UnixMicros) {
        if let Some(last) = &self.last_place {
            last.store(now.0, Ordering::Relaxed);
        }
    }

    /// Everything before this offset is there, or never will be.
    pub(crate) fn advance(&self, tail: u64) {
        self.tail.store(tail, Ordering::Release);
    }

    /// `kept`: events, bytes and segments that are there.
    pub(crate) fn stats(&self, epoch: Epoch, head: u64, tail: u64, kept: (u64, u64, usize)) -> LogStats {
        let last_commit_at = self.last_commit_at.load(Ordering::Relaxed);
        LogStats {
            epoch,
            head,
            tail,
            events: kept.0,
            bytes: kept.1,
            segments: kept.2,
            commits: self.commits.load(Ordering::Relaxed),
            committed_events: self.committed_events.load(Ordering::Relaxed),
            committed_bytes: self.committed_bytes.load(Ordering::Relaxed),
            dedup_ids: self.dedup.lock().len(),
            last_commit_at: (last_commit_at > 0).then_some(UnixMicros(last_commit_at)),
            interruptions: 0,
            health: self.health.lock().clone(),
        }
    }
}
