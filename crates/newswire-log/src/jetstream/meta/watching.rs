//! Reading along with the bucket, for those who watch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::datetime::DateTime;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::bucket::Bucket;
use super::record;
use crate::jetstream::follow::{self, Followed};
use crate::meta::{Change, WATCH_QUEUE, Watch};

/// Between two attempts to read along.
const PAUSE: Duration = Duration::from_millis(200);

/// Who watches, and how far changes were shown to them.
pub(super) struct Watchers {
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
    /// Everything up to this revision was.
    revision: u64,
    /// Whether the node reads along at the moment.
    is_live: bool,
}

impl Watchers {
    /// Nobody yet, at a revision of the bucket.
    pub(super) fn at(revision: u64) -> Self {
        Self {
            watchers: Mutex::default(),
            shown: watch::Sender::new(Shown { revision, is_live: false }),
            known: AtomicU64::new(revision),
        }
    }

    /// Every change from now on.
    pub(super) fn add(&self, prefix: &str) -> Watch {
        let (sender, changes) = mpsc::channel(WATCH_QUEUE);
        let after = self.known.load(Ordering::SeqCst);
        self.watchers.lock().push(Watcher { prefix: prefix.into(), after, changes: sender });
        Watch::new(changes)
    }

    /// Ends all watches: they have to list again.
    pub(super) fn end(&self) {
        self.watchers.lock().clear();
    }

    /// A call of this node was told of a change.
    pub(super) fn knows(&self, revision: u64) {
        self.known.fetch_max(revision, Ordering::SeqCst);
    }

    /// Waits until a change was shown, where the node reads along.
    pub(super) async fn caught_up(&self, revision: u64) {
        // The sender is here.
        let _ = self.shown.subscribe().wait_for(|shown| shown.revision >= revision || !shown.is_live).await;
    }

    /// Shows a change. A watcher whose queue is full is dropped, and sees its end.
    fn show(&self, revision: u64, change: Option<&Change>) {
        if let Some(change) = change {
            let (Change::Put { key, .. } | Change::Deleted { key, .. }) = change;
            self.watchers.lock().retain(|watcher| {
                revision <= watcher.after
                    || !key.starts_with(&*watcher.prefix)
                    || watcher.changes.try_send(change.clone()).is_ok()
            });
        }
        self.shown.send_replace(Shown { revision, is_live: true });
    }
}

/// Shows changes for ever. A lost connection is ridden out; where a change was missed, watches end.
pub(super) async fn read_along(bucket: Arc<Bucket>, watchers: Arc<Watchers>) {
    let mut created = bucket.stream.cached_info().created;
    loop {
        let reason = read(&bucket, &watchers, &mut created).await;
        watchers.shown.send_modify(|shown| shown.is_live = false);
        tracing::debug!(%reason, "shared state in NATS is not read along");
        sleep(PAUSE).await;
    }
}

/// Reads until something is wrong; returns what.
async fn read(bucket: &Bucket, watchers: &Watchers, created: &mut DateTime) -> String {
    let mut after = watchers.shown.borrow().revision;
    match bucket.stream.get_info().await {
        Err(error) => return error.to_string(),
        Ok(info) if info.created != *created || info.state.last_sequence < after => {
            // Another bucket, or one that lost its end.
            watchers.end();
            *created = info.created;
            after = info.state.last_sequence;
            watchers.shown.send_replace(Shown { revision: after, is_live: false });
            watchers.known.store(after, Ordering::SeqCst);
        }
        Ok(_) => {}
    }
    let followed = follow::follow(&bucket.connection, &bucket.stream, after, bucket.timeout).await;
    let mut followed = match followed {
        Ok(followed) => std::pin::pin!(followed),
        Err(error) => return error.to_string(),
    };
    watchers.shown.send_modify(|shown| shown.is_live = true);
    loop {
        match followed.next().await {
            Some(Ok(followed)) => take(bucket, watchers, &mut after, &followed),
            Some(Err(error)) => return error.to_string(),
            None => return "it ended".to_owned(),
        }
    }
}

fn take(bucket: &Bucket, watchers: &Watchers, after: &mut u64, followed: &Followed) {
    let revision = followed.place.offset;
    if revision != *after + 1 {
        // Versions in between were removed before they were seen here.
        watchers.end();
    }
    *after = revision;
    let message = &followed.message;
    let key = message.subject.strip_prefix(&bucket.prefix).and_then(record::key_of);
    let change = key.map(|key| match record::entry(message.headers.as_ref(), &message.payload, revision) {
        Some(entry) => Change::Put { key: key.into(), entry },
        None => Change::Deleted { key: key.into(), version: revision },
    });
    watchers.show(revision, change.as_ref());
}
