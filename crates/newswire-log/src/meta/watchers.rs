//! Who watches shared state that an engine keeps, and how far this node has read its changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{Change, WATCH_QUEUE, Watch};

/// The watchers of one node. One task reads the engine's changes and shows them here, in order.
pub(crate) struct Watchers {
    watchers: Mutex<Vec<Watcher>>,
    shown: watch::Sender<Shown>,
    /// The newest change that a call of this node was told of.
    known: AtomicU64,
}

struct Watcher {
    prefix: Arc<str>,
    /// What came before it watched.
    after: u64,
    changes: mpsc::Sender<Change>,
}

#[derive(Clone, Copy)]
struct Shown {
    /// Everything up to this version was.
    version: u64,
    /// Whether the node reads along at the moment.
    is_live: bool,
}

impl Watchers {
    /// Nobody yet, at a version; a reader is about to begin.
    pub(crate) fn at(version: u64) -> Self {
        Self {
            watchers: Mutex::default(),
            shown: watch::Sender::new(Shown { version, is_live: true }),
            known: AtomicU64::new(version),
        }
    }

    /// Every change from now on.
    pub(crate) fn add(&self, prefix: &str) -> Watch {
        let (sender, changes) = mpsc::channel(WATCH_QUEUE);
        let after = self.known.load(Ordering::SeqCst);
        self.watchers.lock().push(Watcher { prefix: prefix.into(), after, changes: sender });
        Watch::new(changes)
    }

    /// Ends all watches: they have to list again.
    pub(crate) fn end(&self) {
        self.watchers.lock().clear();
    }

    /// A call of this node was told of a change.
    pub(crate) fn knows(&self, version: u64) {
        self.known.fetch_max(version, Ordering::SeqCst);
    }

    /// Waits until a change was shown, where the node reads along.
    pub(crate) async fn caught_up(&self, version: u64) {
        // The sender is here.
        let _ = self.shown.subscribe().wait_for(|shown| shown.version >= version || !shown.is_live).await;
    }

    /// The version up to which changes were shown.
    pub(crate) fn version(&self) -> u64 {
        self.shown.borrow().version
    }

    /// Whether the node reads along from now on; who waits for a change waits no longer than it does.
    pub(crate) fn set_live(&self, is_live: bool) {
        self.shown.send_modify(|shown| shown.is_live = is_live);
    }

    /// The state is another one, or has lost its end: watches end, and versions go on from this one.
    pub(crate) fn begin_anew(&self, version: u64) {
        self.end();
        self.known.store(version, Ordering::SeqCst);
        self.shown.send_replace(Shown { version, is_live: false });
    }

    /// Shows a change, or that a version has nothing to show. A watcher whose queue is full is dropped, and sees its end.
    pub(crate) fn show(&self, version: u64, change: Option<&Change>) {
        if let Some(change) = change {
            let (Change::Put { key, .. } | Change::Deleted { key, .. }) = change;
            self.watchers.lock().retain(|watcher| {
                version <= watcher.after
                    || !key.starts_with(&*watcher.prefix)
                    || watcher.changes.try_send(change.clone()).is_ok()
            });
        }
        self.shown.send_replace(Shown { version, is_live: true });
    }
}
