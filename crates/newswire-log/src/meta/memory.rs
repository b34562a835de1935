//! Shared state in memory, for tests and for logs that do not outlive the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MetaError;
use super::actor::{Backend, MetaActor, delegate_meta};
use super::table::Table;
use crate::clock::Clock;

/// A [`super::Meta`] that lives as long as the process.
pub struct MemoryMeta {
    actor: MetaActor,
}

impl MemoryMeta {
    /// An empty one.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Ok(Self { actor: MetaActor::spawn(MemoryBackend::default(), clock)? })
    }
}

delegate_meta!(MemoryMeta);

#[derive(Default)]
struct MemoryBackend(BTreeMap<String, Vec<u8>>);

impl Backend for MemoryBackend {
    fn transact(
        &mut self,
        writes: bool,
        act: &mut dyn FnMut(&mut dyn Table) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let mut changed = Overlay { below: &self.0, changes: BTreeMap::new() };
        act(&mut changed)?;
        let changes = changed.changes;
        if writes {
            for (key, value) in changes {
                match value {
                    Some(value) => drop(self.0.insert(key, value)),
                    None => drop(self.0.remove(&key)),
                }
            }
        }
        Ok(())
    }
}

/// Changes that are not made yet, so that a call that fails leaves nothing behind.
struct Overlay<'a> {
    below: &'a BTreeMap<String, Vec<u8>>,
    changes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Table for Overlay<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, MetaError> {
        Ok(self.changes.get(key).map_or_else(|| self.below.get(key).cloned(), Clone::clone))
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), MetaError> {
        self.changes.insert(key.to_owned(), Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), MetaError> {
        self.changes.insert(key.to_owned(), None);
        Ok(())
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
        let mut all: BTreeMap<&String, Option<&Vec<u8>>> =
            self.below.iter().map(|(key, value)| (key, Some(value))).collect();
        all.extend(self.changes.iter().map(|(key, value)| (key, value.as_ref())));
        let meant = all.into_iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(meant.filter_map(|(key, value)| Some((key.clone(), value?.clone()))).collect())
    }
}
