//! Reading along with the stream of changes, for those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use newswire_protocol::UnixMicros;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Inner, number, scripts};
use crate::meta::{Change, Entry, WATCH_QUEUE, Watch};
use crate::redis::connect::Again;
use crate::redis::follow;
use crate::remote::Sequenced;

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
    /// Everything up to this version was.
    version: u64,
    /// Whether the node reads along at the moment.
    is_live: bool,
}

impl Watchers {
    /// Nobody yet, at a version.
    pub(super) fn at(version: u64) -> Self {
        Self {
            watchers: Mutex::default(),
            shown: watch::Sender::new(Shown { version, is_live: true }),
            known: AtomicU64::new(version),
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
    pub(super) fn knows(&self, version: u64) {
        self.known.fetch_max(version, Ordering::SeqCst);
    }

    /// Waits until a change was shown, where the node reads along.
    pub(super) async fn caught_up(&self, version: u64) {
        // The sender is here.
        let _ = self.shown.subscribe().wait_for(|shown| shown.version >= version || !shown.is_live).await;
    }

    /// Shows a change. A watcher whose queue is full is dropped, and sees its end.
    fn show(&self, version: u64, change: Change) {
        let (Change::Put { key, .. } | Change::Deleted { key, .. }) = &change;
        self.watchers.lock().retain(|watcher| {
            version <= watcher.after
                || !key.starts_with(&*watcher.prefix)
                || watcher.changes.try_send(change.clone()).is_ok()
        });
        self.shown.send_replace(Shown { version, is_live: true });
    }
}

/// Shows changes for ever. A lost connection is ridden out; where a change was missed, watches end.
pub(super) async fn read_along(inner: Arc<Inner>) {
    let mut incarnation = String::new();
    loop {
        let reason = read(&inner, &mut incarnation).await;
        inner.watchers.shown.send_modify(|shown| shown.is_live = false);
        tracing::debug!(%reason, "shared state in Redis is not read along");
        sleep(PAUSE).await;
    }
}

/// Reads until something is wrong; returns what.
async fn read(inner: &Inner, incarnation: &mut String) -> String {
    let watchers = &inner.watchers;
    let mut after = watchers.shown.borrow().version;
    let (found, newest): (String, u64) = match inner.call(&scripts::OPEN, vec![], Again::Reads).await {
        Ok(found) => found,
        Err(error) => return error.to_string(),
    };
    if newest < after || (!incarnation.is_empty() && *incarnation != found) {
        // Made anew, or without its end.
        watchers.end();
        after = newest;
        watchers.known.store(newest, Ordering::SeqCst);
        watchers.shown.send_replace(Shown { version: newest, is_live: false });
    }
    *incarnation = found;
    let followed = follow::follow(&inner.connection, inner.source(), after, inner.timeout).await;
    let mut followed = match followed {
        Ok(followed) => std::pin::pin!(followed),
        Err(error) => return error.to_string(),
    };
    watchers.shown.send_modify(|shown| shown.is_live = true);
    loop {
        match followed.next().await {
            Some(Ok(message)) => {
                let version = message.place.offset;
                let Some((before, change)) = change(&message) else {
                    return format!("change {version} cannot be read");
                };
                if before != after {
                    // Changes in between were removed before they were seen here.
                    watchers.end();
                }
                after = version;
                watchers.show(version, change);
            }
            Some(Err(error)) => return error.to_string(),
            None => return "it ended".to_owned(),
        }
    }
}

/// A change, and the version of the one before it.
fn change(message: &Sequenced) -> Option<(u64, Change)> {
    let version = message.place.offset;
    let mut parts = message.body.splitn(4, |byte| *byte == b':');
    let before = number(parts.next()?)?;
    let ends = number(parts.next()?)?;
    let length = usize::try_from(number(parts.next()?)?).ok()?;
    let (key, rest) = parts.next()?.split_at_checked(length)?;
    let key = Arc::from(std::str::from_utf8(key).ok()?);
    let change = match rest.split_first()? {
        (b'=', value) => {
            let expires_at = (ends > 0).then_some(UnixMicros(ends));
            let value = Bytes::copy_from_slice(value);
            Change::Put { key, entry: Entry { value, version, expires_at } }
        }
        _ => Change::Deleted { key, version },
    };
    Some((before, change))
}
