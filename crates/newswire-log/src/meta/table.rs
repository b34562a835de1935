//! The rules of [`super::Meta`] over any ordered table: versions, expectations, expiry, leases.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::UnixMicros;

use super::{Change, Entry, Expect, Lease, MAX_KEY_BYTES, MAX_VALUE_BYTES, MetaError};

/// Keys of callers and of the store itself must not meet.
const USER: char = 'k';
const LEASE: char = 'l';
/// Holds the last version given.
const VERSION_KEY: &str = "v";
const RECORD_HEAD: usize = 16;

/// An ordered table of bytes; one call of [`super::Meta`] is one transaction on it.
pub(crate) trait Table {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, MetaError>;
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), MetaError>;
    fn remove(&mut self, key: &str) -> Result<(), MetaError>;
    /// All keys with a prefix, sorted.
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, MetaError>;
}

/// The rules at one moment, on one transaction. Collects what watchers are to see once it is durable.
pub(crate) struct Rules<'a> {
    table: &'a mut dyn Table,
    now: UnixMicros,
    changes: Vec<Change>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(table: &'a mut dyn Table, now: UnixMicros) -> Self {
        Self { table, now, changes: Vec::new() }
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        self.entry(&stored_key(USER, key))
    }

    pub(crate) fn put(
        &mut self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<Duration>,
    ) -> Result<u64, MetaError> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(MetaError::TooLarge);
        }
        let stored = stored_key(USER, key);
        check(expect, self.entry(&stored)?.as_ref())?;
        let expires_at = ttl.map(|ttl| self.now.saturating_add(ttl));
        let entry = Entry { value, version: self.next_version()?, expires_at };
        self.table.set(&stored, &encode(&entry))?;
        let version = entry.version;
        self.changes.push(Change::Put { key: key.into(), entry });
        Ok(version)
    }

    pub(crate) fn delete(&mut self, key: &str, expect: Expect) -> Result<bool, MetaError> {
        let stored = stored_key(USER, key);
        let current = self.entry(&stored)?;
        check(expect, current.as_ref())?;
        if current.is_none() {
            return Ok(false);
        }
        self.table.remove(&stored)?;
        let version = self.next_version()?;
        self.changes.push(Change::Deleted { key: key.into(), version });
        Ok(true)
    }

    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<(Arc<str>, Entry)>, MetaError> {
        let all = self.table.scan(&stored_key(USER, prefix))?;
        let live = all.into_iter().filter_map(|(key, bytes)| {
            let entry = decode(&bytes).filter(|entry| self.is_live(entry))?;
            Some((Arc::from(&key[USER.len_utf8()..]), entry))
        });
        Ok(live.collect())
    }

    pub(crate) fn acquire(
        &mut self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, MetaError> {
        match self.entry(&stored_key(LEASE, name))? {
            Some(held) if held.value != owner.as_bytes() => Ok(None),
            Some(mine) => self.write_lease(name, owner, ttl, mine.version).map(Some),
            None => {
                let token = self.next_version()?;
                self.write_lease(name, owner, ttl, token).map(Some)
            }
        }
    }

    pub(crate) fn renew(
        &mut self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, MetaError> {
        match self.entry(&stored_key(LEASE, name))? {
            Some(mine) if mine.value == owner.as_bytes() => {
                self.write_lease(name, owner, ttl, mine.version).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn release(&mut self, name: &str, owner: &str) -> Result<bool, MetaError> {
        let stored = stored_key(LEASE, name);
        let is_mine = self.entry(&stored)?.is_some_and(|held| held.value == owner.as_bytes());
        if is_mine {
            self.table.remove(&stored)?;
        }
        Ok(is_mine)
    }

    /// Removes what is expired, so that it takes no space and watchers learn of it.
    pub(crate) fn sweep(&mut self) -> Result<usize, MetaError> {
        let mut gone = 0;
        for (key, bytes) in self.table.scan("")? {
            let is_expired = key != VERSION_KEY && decode(&bytes).is_none_or(|entry| !self.is_live(&entry));
            if !is_expired {
                continue;
            }
            gone += 1;
            self.table.remove(&key)?;
            if let Some(user_key) = key.strip_prefix(USER) {
                let version = self.next_version()?;
                self.changes.push(Change::Deleted { key: user_key.into(), version });
            }
        }
        Ok(gone)
    }

    fn write_lease(
        &mut self,
        name: &str,
        owner: &str,
        ttl: Duration,
        token: u64,
    ) -> Result<Lease, MetaError> {
        if name.len() > MAX_KEY_BYTES || owner.len() > MAX_VALUE_BYTES {
            return Err(MetaError::TooLarge);
        }
        let expires_at = self.now.saturating_add(ttl);
        let value = Bytes::copy_from_slice(owner.as_bytes());
        let entry = Entry { value, version: token, expires_at: Some(expires_at) };
        self.table.set(&stored_key(LEASE, name), &encode(&entry))?;
        Ok(Lease { token, expires_at })
    }

    fn entry(&self, stored: &str) -> Result<Option<Entry>, MetaError> {
        Ok(self.table.get(stored)?.and_then(|bytes| decode(&bytes)).filter(|entry| self.is_live(entry)))
    }

    fn is_live(&self, entry: &Entry) -> bool {
        entry.expires_at.is_none_or(|at| at > self.now)
    }

    fn next_version(&mut self) -> Result<u64, MetaError> {
        let last = self
            .table
            .get(VERSION_KEY)?
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes);
        self.table.set(VERSION_KEY, &(last + 1).to_le_bytes())?;
        Ok(last + 1)
    }
}

fn stored_key(kind: char, key: &str) -> String {
    format!("{kind}{key}")
}

fn check(expect: Expect, current: Option<&Entry>) -> Result<(), MetaError> {
    expect.check(current.map(|entry| entry.version))
}

/// `version u64 | expires_at u64 µs, 0 for never | value`
fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEAD + entry.value.len());
    out.extend_from_slice(&entry.version.to_le_bytes());
    out.extend_from_slice(&entry.expires_at.map_or(0, |at| at.0.max(1)).to_le_bytes());
    out.extend_from_slice(&entry.value);
    out
}

fn decode(bytes: &[u8]) -> Option<Entry> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (expires_at, value) = rest.split_first_chunk()?;
    let expires_at = u64::from_le_bytes(*expires_at);
    Some(Entry {
        value: Bytes::copy_from_slice(value),
        version: u64::from_le_bytes(*version),
        expires_at: (expires_at > 0).then_some(UnixMicros(expires_at)),
    })
}
