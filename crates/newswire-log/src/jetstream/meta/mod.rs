//! The small shared state in a key-value bucket of JetStream.
//!
//! `bucket` reads and changes one key, `record` says how keys and values are written, `watching` shows changes. A version is
//! the revision that the bucket gives. What is deleted leaves a mark that the server removes after a while; what has expired
//! is as if it were gone at once, by the clock of whoever reads, and the server removes it later.

mod bucket;
mod record;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::bucket::{Bucket, Write, check};
use self::record::Kind;
use super::connect::Connection;
use super::options::{JetStreamError, JetStreamOptions};
use super::stream;
use crate::clock::Clock;
use crate::meta::watchers::Watchers;
use crate::meta::{Answer, Entry, Expect, Lease, MAX_KEY_BYTES, MAX_VALUE_BYTES, Meta, MetaError, Watch};

/// Writes of one node that it has not read back yet: fewer than versions of one key that the bucket keeps, so that a node
/// which reads along misses none of its own.
const WRITES: usize = 24;
/// How often somebody may come in between a look and a change.
const ATTEMPTS: usize = 64;

/// The store; see [`Meta`]. Lists are read key by key: each entry is as it was at some moment of the call. A watcher may
/// first see changes that other nodes made shortly before it watched; their versions say so.
pub struct JetStreamMeta {
    inner: Arc<Inner>,
    reading: JoinHandle<()>,
}

struct Inner {
    bucket: Arc<Bucket>,
    watchers: Arc<Watchers>,
    writes: Semaphore,
}

impl JetStreamMeta {
    pub(super) async fn open(
        context: &Context,
        connection: &Connection,
        options: &JetStreamOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JetStreamError> {
        let stream = stream::open(context, connection, &bucket::config(options)).await?;
        let watchers = Arc::new(Watchers::at(stream.cached_info().state.last_sequence));
        let bucket = Arc::new(Bucket {
            connection: connection.clone(),
            stream,
            timeout: options.timeout,
            clock,
            prefix: format!("$KV.{}.", bucket::name(options)),
        });
        let reading = tokio::spawn(watching::read_along(Arc::clone(&bucket), Arc::clone(&watchers)));
        let inner = Inner { bucket, watchers, writes: Semaphore::new(WRITES) };
        Ok(Self { inner: Arc::new(inner), reading })
    }
}

impl Drop for JetStreamMeta {
    fn drop(&mut self) {
        self.reading.abort();
        self.inner.watchers.end();
    }
}

impl Inner {
    /// Changes a key that is at this revision, or in any case; `None` if it is at another.
    async fn write(
        &self,
        stored: &str,
        expected: Option<u64>,
        change: Write<'_>,
    ) -> Result<Option<u64>, MetaError> {
        let _turn = self.writes.acquire().await.map_err(|_| MetaError::Closed)?;
        let written = self.bucket.write(stored, expected, change).await?;
        if let Some(revision) = written {
            self.watchers.knows(revision);
            self.watchers.caught_up(revision).await;
        }
        Ok(written)
    }

    async fn put(
        &self,
        key: &str,
        value: &[u8],
        expect: Expect,
        ttl: Option<Duration>,
    ) -> Result<u64, MetaError> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(MetaError::TooLarge);
        }
        let stored = record::stored(Kind::Key, key);
        for _ in 0..ATTEMPTS {
            let expected = match expect {
                Expect::Any => None,
                Expect::Absent | Expect::Version(_) => {
                    let found = self.bucket.look(&stored).await?;
                    check(expect, &found)?;
                    Some(found.revision)
                }
            };
            if let Some(revision) = self.write(&stored, expected, Write::Put(value, ttl)).await? {
                return Ok(revision);
            }
        }
        Err(contended())
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, MetaError> {
        let stored = record::stored(Kind::Key, key);
        for _ in 0..ATTEMPTS {
            let found = self.bucket.look(&stored).await?;
            check(expect, &found)?;
            if found.entry.is_none() {
                return Ok(false);
            }
            if self.write(&stored, Some(found.revision), Write::Delete).await?.is_some() {
                return Ok(true);
            }
        }
        Err(contended())
    }

    /// Takes or renews a lease; `may_take` where nobody has it.
    async fn lease(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
        may_take: bool,
    ) -> Result<Option<Lease>, MetaError> {
        if name.len() > MAX_KEY_BYTES || owner.len() > MAX_VALUE_BYTES {
            return Err(MetaError::TooLarge);
        }
        let stored = record::stored(Kind::Lease, name);
        for _ in 0..ATTEMPTS {
            let found = self.bucket.look(&stored).await?;
            let token = match found.entry.as_ref().and_then(record::holder) {
                Some((token, by)) if by == owner.as_bytes() => token,
                None if may_take => 0,
                Some(_) | None => return Ok(None),
            };
            // Not later than what is written, which takes the time itself.
            let expires_at = self.bucket.clock.now().saturating_add(ttl);
            let value = record::lease(token, owner);
            if let Some(revision) =
                self.write(&stored, Some(found.revision), Write::Put(&value, Some(ttl))).await?
            {
                return Ok(Some(Lease { token: if token == 0 { revision } else { token }, expires_at }));
            }
        }
        Err(contended())
    }

    async fn release(&self, name: &str, owner: &str) -> Result<bool, MetaError> {
        let stored = record::stored(Kind::Lease, name);
        for _ in 0..ATTEMPTS {
            let found = self.bucket.look(&stored).await?;
            let holder = found.entry.as_ref().and_then(record::holder);
            if holder.is_none_or(|(_, by)| by != owner.as_bytes()) {
                return Ok(false);
            }
            if self.write(&stored, Some(found.revision), Write::Delete).await?.is_some() {
                return Ok(true);
            }
        }
        Err(contended())
    }
}

fn contended() -> MetaError {
    MetaError::Storage { error: "others change the same key all the time".into() }
}

impl Meta for JetStreamMeta {
    fn get(&self, key: &str) -> Answer<Option<Entry>> {
        let (inner, stored) = (Arc::clone(&self.inner), record::stored(Kind::Key, key));
        Box::pin(async move { Ok(inner.bucket.look(&stored).await?.entry) })
    }

    fn put(&self, key: &str, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Answer<u64> {
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        Box::pin(async move { inner.put(&key, &value, expect, ttl).await })
    }

    fn delete(&self, key: &str, expect: Expect) -> Answer<bool> {
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        Box::pin(async move { inner.delete(&key, expect).await })
    }

    fn list(&self, prefix: &str) -> Answer<Vec<(Arc<str>, Entry)>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.to_owned());
        Box::pin(async move { inner.bucket.list(&prefix).await })
    }

    fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.lease(&name, &owner, ttl, true).await })
    }

    fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.lease(&name, &owner, ttl, false).await })
    }

    fn release(&self, name: &str, owner: &str) -> Answer<bool> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.release(&name, &owner).await })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watchers.add(prefix)
    }
}
