//! The small shared state beside the stream: each call is one script, and changes are a stream that every node reads along.

mod scripts;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::UnixMicros;
use tokio::task::JoinHandle;

use super::connect::{Again, Call, Connection};
use super::follow::Source;
use super::options::RedisOptions;
use super::scripts::Text;
use crate::clock::Clock;
use crate::meta::watchers::Watchers;
use crate::meta::{Answer, Entry, Expect, Lease, MAX_KEY_BYTES, MAX_VALUE_BYTES, Meta, MetaError, Watch};
use crate::remote::SequenceError;

/// How often what is expired is removed.
const SWEEP: Duration = Duration::from_secs(30);
/// What goes in one piece.
const AT_ONCE: usize = 200;
/// No time is later: what the numbers of scripts are exact to.
const LATEST: u64 = 1 << 53;

/// The store; see [`Meta`].
pub struct RedisMeta {
    inner: Arc<Inner>,
    tasks: [JoinHandle<()>; 2],
}

struct Inner {
    connection: Connection,
    keys: Vec<String>,
    watchers: Watchers,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl RedisMeta {
    pub(super) async fn open(options: &RedisOptions, clock: Arc<dyn Clock>) -> Result<Self, SequenceError> {
        let connection =
            Connection::new(options).map_err(|error| super::errors::refusal(error.to_string()))?;
        let keys = scripts::KEYS.map(|key| format!("{{{}}}:{key}", options.prefix)).to_vec();
        let timeout = options.timeout;
        let mut inner = Inner { connection, keys, watchers: Watchers::at(0), clock, timeout };
        let (_, shown): (String, u64) = inner.call(&scripts::OPEN, vec![], Again::Reads).await?;
        inner.watchers = Watchers::at(shown);
        let inner = Arc::new(inner);
        let reading = tokio::spawn(watching::read_along(Arc::clone(&inner)));
        let sweeping = tokio::spawn(sweep(Arc::clone(&inner)));
        Ok(Self { inner, tasks: [reading, sweeping] })
    }

    /// Removes what is expired now; also done by itself, periodically. Returns how many values went.
    pub fn sweep(&self) -> Answer<usize> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.sweep().await })
    }
}

impl Drop for RedisMeta {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.inner.watchers.end();
    }
}

async fn sweep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Err(error) = inner.sweep().await {
            tracing::debug!(%error, "expired shared state was not removed");
        }
    }
}

impl Inner {
    fn source(&self) -> Source {
        Source { stream: self.keys[5].as_str().into(), hash: self.keys[4].as_str().into() }
    }

    fn now(&self) -> UnixMicros {
        self.clock.now()
    }

    async fn call<T: ::redis::FromRedisValue>(
        &self,
        text: &Text,
        args: Vec<&[u8]>,
        again: Again,
    ) -> Result<T, SequenceError> {
        let keys = self.keys.iter().map(String::as_str).collect();
        self.connection.ask(&Call { script: &text.script, text: &text.text, keys, args }, again).await
    }

    async fn ask<T: ::redis::FromRedisValue>(
        &self,
        text: &Text,
        args: Vec<&[u8]>,
        again: Again,
    ) -> Result<T, MetaError> {
        let answered = self.call(text, args, again).await;
        answered.map_err(|error| MetaError::Storage { error: error.to_string().into() })
    }

    /// A change of this node is shown to its own watchers before the call resolves.
    async fn changed(&self, (is_done, version): (bool, u64)) -> Result<u64, MetaError> {
        if !is_done {
            return Err(MetaError::Conflict { current: (version > 0).then_some(version) });
        }
        if version > 0 {
            self.watchers.knows(version);
            // It is done, however long showing it takes.
            let _ = tokio::time::timeout(self.timeout, self.watchers.caught_up(version)).await;
        }
        Ok(version)
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        let record: Option<Vec<u8>> = self.ask(&scripts::GET, vec![key.as_bytes()], Again::Reads).await?;
        Ok(record.and_then(|record| self.entry(&record)))
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
        let (now, ends) = (self.now(), ttl.map_or(0, |ttl| self.end(ttl).0));
        let (expected, now, ends) = (expected(expect), now.0.to_string(), ends.to_string());
        let args = vec![key.as_bytes(), value, expected.as_bytes(), now.as_bytes(), ends.as_bytes()];
        self.changed(self.ask(&scripts::PUT, args, Again::Never).await?).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<bool, MetaError> {
        let (expected, now) = (expected(expect), self.now().0.to_string());
        let args = vec![key.as_bytes(), expected.as_bytes(), now.as_bytes()];
        let version = self.changed(self.ask(&scripts::DELETE, args, Again::Never).await?).await?;
        Ok(version > 0)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(Arc<str>, Entry)>, MetaError> {
        let found: Vec<Vec<u8>> = self.ask(&scripts::LIST, vec![prefix.as_bytes()], Again::Reads).await?;
        let mut found = found.into_iter();
        let mut entries = Vec::new();
        while let (Some(key), Some(record)) = (found.next(), found.next()) {
            if let (Ok(key), Some(entry)) = (String::from_utf8(key), self.entry(&record)) {
                entries.push((key.into(), entry));
            }
        }
        Ok(entries)
    }

    async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
        is_renewal: bool,
    ) -> Result<Option<Lease>, MetaError> {
        if name.len() > MAX_KEY_BYTES || owner.len() > MAX_VALUE_BYTES {
            return Err(MetaError::TooLarge);
        }
        let expires_at = self.end(ttl);
        let (now, ends) = (self.now().0.to_string(), expires_at.0.to_string());
        let renews: &[u8] = if is_renewal { b"1" } else { b"0" };
        let args = vec![name.as_bytes(), owner.as_bytes(), now.as_bytes(), ends.as_bytes(), renews];
        // Once more by the same owner is a renewal.
        let token: u64 = self.ask(&scripts::ACQUIRE, args, Again::Recognised).await?;
        Ok((token > 0).then_some(Lease { token, expires_at }))
    }

    async fn release(&self, name: &str, owner: &str) -> Result<bool, MetaError> {
        let now = self.now().0.to_string();
        let args = vec![name.as_bytes(), owner.as_bytes(), now.as_bytes()];
        self.ask(&scripts::RELEASE, args, Again::Never).await
    }

    async fn sweep(&self) -> Result<usize, MetaError> {
        let (now, most) = (self.now().0.to_string(), AT_ONCE.to_string());
        let mut gone = 0;
        loop {
            let args = vec![now.as_bytes(), most.as_bytes()];
            let some: usize = self.ask(&scripts::SWEEP, args, Again::Reads).await?;
            gone += some;
            if some < AT_ONCE {
                return Ok(gone);
            }
        }
    }

    fn end(&self, ttl: Duration) -> UnixMicros {
        UnixMicros(self.now().saturating_add(ttl).0.clamp(1, LATEST))
    }

    /// What a record says, unless it is expired.
    fn entry(&self, record: &[u8]) -> Option<Entry> {
        let mut parts = record.splitn(3, |byte| *byte == b':');
        let version = number(parts.next()?)?;
        let ends = number(parts.next()?)?;
        let value = Bytes::copy_from_slice(parts.next()?);
        let expires_at = (ends > 0).then_some(UnixMicros(ends));
        let is_live = expires_at.is_none_or(|at| at > self.now());
        is_live.then_some(Entry { value, version, expires_at })
    }
}

fn expected(expect: Expect) -> String {
    match expect {
        Expect::Any => "*".to_owned(),
        Expect::Absent => String::new(),
        Expect::Version(version) => version.to_string(),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Meta for RedisMeta {
    fn get(&self, key: &str) -> Answer<Option<Entry>> {
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        Box::pin(async move { inner.get(&key).await })
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
        Box::pin(async move { inner.list(&prefix).await })
    }

    fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.acquire(&name, &owner, ttl, false).await })
    }

    fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Answer<Option<Lease>> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.acquire(&name, &owner, ttl, true).await })
    }

    fn release(&self, name: &str, owner: &str) -> Answer<bool> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_owned(), owner.to_owned());
        Box::pin(async move { inner.release(&name, &owner).await })
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watchers.add(prefix)
    }
}
