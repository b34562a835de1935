//! Who is connected: the limit, and how everybody is asked to leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The open connections of a feed.
#[derive(Debug)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    open: AtomicUsize,
    leaving: AtomicBool,
    next_id: AtomicU64,
    bells: Mutex<HashMap<u64, Arc<Bell>>>,
    emptied: Notify,
}

/// Wakes one connection to see that it should leave.
#[derive(Debug, Default)]
struct Bell {
    waker: AtomicWaker,
}

/// A place among the open connections; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        let shared = Shared {
            max,
            open: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            bells: Mutex::default(),
            emptied: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Takes a place, or none when all are taken or everybody is leaving.
    pub(crate) fn enter(&self) -> Option<Place> {
        let shared = &self.shared;
        let mut bells = shared.bells.lock();
        if bells.len() >= shared.max || shared.leaving.load(Ordering::Acquire) {
            return None;
        }
        let bell = Arc::new(Bell::default());
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        bells.insert(id, Arc::clone(&bell));
        shared.open.store(bells.len(), Ordering::Relaxed);
        Some(Place { id, shared: Arc::clone(shared), bell })
    }

    /// Asks everybody to leave, and lets nobody in any more.
    pub(crate) fn close_all(&self) {
        self.shared.leaving.store(true, Ordering::Release);
        for bell in self.shared.bells.lock().values() {
            bell.waker.wake();
        }
    }

    /// Waits until nobody is left. Cancel-safe.
    pub(crate) async fn all_closed(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Place {
    /// Whether this connection should leave; if not yet, `waker` is woken when it should.
    pub(crate) fn should_leave(&self, waker: &std::task::Waker) -> bool {
        self.bell.waker.register(waker);
        self.shared.leaving.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut bells = self.shared.bells.lock();
        bells.remove(&self.id);
        self.shared.open.store(bells.len(), Ordering::Relaxed);
        if bells.is_empty() {
            self.shared.emptied.notify_waiters();
        }
    }
}
