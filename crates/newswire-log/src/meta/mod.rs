//! [`Meta`]: small shared state beside the log.

mod actor;
pub(crate) mod embedded;
pub(crate) mod memory;
mod table;
#[cfg(any(feature = "jetstream", feature = "redis"))]
pub(crate) mod watchers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use newswire_protocol::UnixMicros;
use tokio::sync::mpsc;

pub use self::embedded::EmbeddedMeta;
pub use self::memory::MemoryMeta;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Largest value, in bytes: this is for tickets, cursors and leases, not for data.
pub const MAX_VALUE_BYTES: usize = 512 << 10;
/// Changes that may wait for one watcher; beyond, it is told that it missed some.
pub const WATCH_QUEUE: usize = 256;

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was put.
    pub value: Bytes,
    /// Grows with every change of anything in the store, never repeats, never 0.
    pub version: u64,
    /// From then on it is as if it had been deleted.
    pub expires_at: Option<UnixMicros>,
}

/// What must be there for a change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever.
    Any,
    /// Nothing.
    Absent,
    /// Exactly this version.
    Version(u64),
}

impl Expect {
    /// Whether what is there is as expected.
    pub(crate) fn check(self, current: Option<u64>) -> Result<(), MetaError> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Version(version) => current == Some(version),
        };
        if holds { Ok(()) } else { Err(MetaError::Conflict { current }) }
    }
}

/// A right that one owner at a time has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each acquisition: whoever guards something with the lease refuses lower ones. Renewing keeps it.
    pub token: u64,
    /// Until then nobody else gets it.
    pub expires_at: UnixMicros,
}

/// One change under a watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key has a new value.
    Put {
        /// The key.
        key: Arc<str>,
        /// What it has now.
        entry: Entry,
    },
    /// A key is gone: deleted, or found expired.
    Deleted {
        /// The key.
        key: Arc<str>,
        /// The version of the deletion.
        version: u64,
    },
}

/// Why a call did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Something else was there than expected.
    #[error("the key has version {current:?}")]
    Conflict {
        /// What is there, `None` if nothing.
        current: Option<u64>,
    },
    /// The key or the value is too large.
    #[error("a key has at most {MAX_KEY_BYTES} bytes, a value {MAX_VALUE_BYTES}")]
    TooLarge,
    /// The store failed; whether the change happened is unknown.
    #[error("the store of shared state failed: {error}")]
    Storage {
        /// What it said.
        error: Arc<str>,
    },
    /// The store is closed.
    #[error("the store of shared state is closed")]
    Closed,
}

/// The answer of every call, as a future.
pub type Answer<T> = BoxFuture<'static, Result<T, MetaError>>;

/// A small key-value store shared by all nodes of a deployment.
///
/// **Ordering.** All changes have one order, that of their versions; watchers see it. Calls by one caller, each awaited
/// before the next, happen in that order.
///
/// **Atomicity.** Each call is atomic: between what it expects and what it changes nobody comes in.
///
/// **Durability.** A change is durable (where the implementation keeps anything at all) before its call resolves and
/// before a watcher sees it.
///
/// **Cancel-safety.** Nothing happens before the first poll; dropping the future later leaves open whether it happened.
///
/// **Zero.** Version 0 does not occur. A time to live of zero is expired at once.
pub trait Meta: Send + Sync + 'static {
    /// The value of a key; `None` if there is none or it is expired.
    fn get(&self, key: &str) -> Answer<Option<Entry>>;
    /// Sets a key; returns the new version. Without `ttl` it stays until it is deleted.
    fn put(&self, key: &str, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Answer<u64>;
    /// Deletes a key; `false` if there was nothing (and nothing was expected).
    fn delete(&self, key: &str, expect: Expect) -> Answer<bool>;
    /// All keys with a prefix, sorted.
    fn list(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Entry)>>;
    /// Takes a lease that nobody else has; `None` if somebody has. Taking one's own again renews it.
    fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>>;
    /// Prolongs a lease from now on; `None` if the owner no longer has it.
    fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>>;
    /// Gives a lease up; `false` if the owner did not have it.
    fn release(&self, name: &str, owner: &str) -> Answer<bool>;
    /// Every change to keys with this prefix from now on, in order. Leases are not watched.
    fn watch(&self, prefix: &str) -> Watch;
}

/// What a watcher receives.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
}

/// The watcher was too slow and missed changes: list again, and watch anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher was too slow and missed changes, or the store is closed")]
pub struct WatchEnded;

impl Watch {
    pub(crate) fn new(changes: mpsc::Receiver<Change>) -> Self {
        Self { changes }
    }

    /// The next change. Cancel-safe.
    ///
    /// # Errors
    /// [`WatchEnded`], for good, once more than [`WATCH_QUEUE`] changes waited, or the store was closed; what waited
    /// comes first.
    pub async fn next(&mut self) -> Result<Change, WatchEnded> {
        self.changes.recv().await.ok_or(WatchEnded)
    }
}
