//! Shared state in one file, on redb.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::MetaError;
use super::actor::{Backend, MetaActor, delegate_meta};
use super::table::Table;
use crate::clock::Clock;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-1");

/// A [`super::Meta`] in a file of its own. Every change is synced before its call resolves.
pub struct EmbeddedMeta {
    actor: MetaActor,
}

/// Why the file did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenMetaError {
    /// The store refused: in use, damaged, or of another version.
    #[error("opening {}: {error}", .file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// What it said.
        #[source]
        error: Box<redb::Error>,
    },
    /// The system gave no thread.
    #[error("starting a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl EmbeddedMeta {
    /// Opens the file, or creates it. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenMetaError`].
    pub fn open(file: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenMetaError> {
        let database = open(file)
            .map_err(|error| OpenMetaError::Store { file: file.to_owned(), error: error.into() })?;
        Ok(Self { actor: MetaActor::spawn(RedbBackend(database), clock)? })
    }
}

delegate_meta!(EmbeddedMeta);

fn open(file: &Path) -> Result<Database, redb::Error> {
    let database = Database::create(file)?;
    let write = database.begin_write()?;
    write.open_table(TABLE)?;
    write.commit()?;
    Ok(database)
}

struct RedbBackend(Database);

fn storage(error: impl Into<redb::Error>) -> MetaError {
    MetaError::Storage { error: error.into().to_string().into() }
}

impl Backend for RedbBackend {
    fn transact(
        &mut self,
        writes: bool,
        act: &mut dyn FnMut(&mut dyn Table) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        if !writes {
            let read = self.0.begin_read().map_err(storage)?;
            return act(&mut ReadTable(read.open_table(TABLE).map_err(storage)?));
        }
        let write = self.0.begin_write().map_err(storage)?;
        // Dropped without a commit, the transaction leaves nothing behind.
        act(&mut WriteTable(write.open_table(TABLE).map_err(storage)?))?;
        write.commit().map_err(storage)
    }
}

struct ReadTable(redb::ReadOnlyTable<&'static str, &'static [u8]>);

struct WriteTable<'t>(redb::Table<'t, &'static str, &'static [u8]>);

fn get(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<Vec<u8>>, MetaError> {
    Ok(table.get(key).map_err(storage)?.map(|value| value.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
    let mut found = Vec::new();
    for entry in table.range(prefix..).map_err(storage)? {
        let (key, value) = entry.map_err(storage)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(found)
}

impl Table for ReadTable {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, MetaError> {
        get(&self.0, key)
    }

    fn set(&mut self, _: &str, _: &[u8]) -> Result<(), MetaError> {
        Err(MetaError::Storage { error: "a reading call tried to write".into() })
    }

    fn remove(&mut self, key: &str) -> Result<(), MetaError> {
        self.set(key, &[])
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
        scan(&self.0, prefix)
    }
}

impl Table for WriteTable<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, MetaError> {
        get(&self.0, key)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), MetaError> {
        self.0.insert(key, value).map(drop).map_err(storage)
    }

    fn remove(&mut self, key: &str) -> Result<(), MetaError> {
        self.0.remove(key).map(drop).map_err(storage)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
        scan(&self.0, prefix)
    }
}
