//! What hub and sessions share without a lock: how far was dispatched, and what clients did not like to hear.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use newswire_protocol::{ErrorCode, GapReason};
use parking_lot::Mutex;

/// Shared by hub and sessions without a lock: how far the hub has dispatched, and what clients were told.
#[derive(Debug)]
pub(crate) struct Dispatched {
    offset: AtomicU64,
    pub(crate) told: Told,
}

impl Dispatched {
    pub(crate) fn new(offset: u64) -> Self {
        Self { offset: AtomicU64::new(offset), told: Told::default() }
    }

    /// Every matching event up to the returned offset stands in its outboxes (or its connection lags).
    pub(crate) fn get(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, offset: u64) {
        self.offset.store(offset, Ordering::Release);
    }
}

/// Counts of what clients did not like to hear, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Told {
    gaps: [AtomicU64; GapReason::ALL.len()],
    /// By code; rare, so a lock serves.
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Told {
    pub(crate) fn gap(&self, reason: GapReason) {
        if let Some(at) = GapReason::ALL.iter().position(|known| *known == reason) {
            self.gaps[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn error(&self, code: ErrorCode) {
        *self.errors.lock().entry(code.code()).or_default() += 1;
    }

    pub(crate) fn gaps(&self) -> Vec<(GapReason, u64)> {
        GapReason::ALL.into_iter().zip(self.gaps.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }

    pub(crate) fn errors(&self) -> Vec<(&'static str, u64)> {
        self.errors.lock().iter().map(|(code, count)| (*code, *count)).collect()
    }
}
