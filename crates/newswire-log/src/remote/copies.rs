//! The local copies of a node: a directory each, named by epoch and a number, of which one is in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use newswire_protocol::Epoch;

use crate::embedded::disk::OsDisk;
use crate::embedded::{EmbeddedLog, EmbeddedOptions, OpenError, SyncMode};

/// Where the copies of a node are, and how they are made.
pub(super) struct Copies {
    dir: PathBuf,
    options: EmbeddedOptions,
}

impl Copies {
    /// `options`: what is kept, and for how long; the rest is decided here.
    pub(super) fn in_dir(dir: PathBuf, options: EmbeddedOptions) -> Self {
        Self { dir, options }
    }

    /// Opens the newest copy of an epoch, or makes one, and removes all others. One that is damaged is made again: all of
    /// it is where it was copied from. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another node has the directory, [`OpenError::Io`].
    pub(super) fn open(&self, epoch: Epoch) -> Result<Arc<EmbeddedLog>, OpenError> {
        let newest = self.numbers(epoch)?.into_iter().max();
        let copy = match newest {
            None => self.open_number(epoch, 0)?,
            Some(number) => match self.open_number(epoch, number) {
                Err(OpenError::Damaged { file, byte, what }) => {
                    tracing::warn!(
                        file = %file.display(), byte, what,
                        "the local copy of the log is damaged; it is fetched again from the engine"
                    );
                    self.open_number(epoch, number + 1)?
                }
                opened => opened?,
            },
        };
        self.remove_others(copy.dir());
        Ok(Arc::new(copy))
    }

    /// Makes an empty copy beside those that are there. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub(super) fn make(&self, epoch: Epoch) -> Result<Arc<EmbeddedLog>, OpenError> {
        let number = self.numbers(epoch)?.into_iter().max().map_or(0, |newest| newest + 1);
        Ok(Arc::new(self.open_number(epoch, number)?))
    }

    /// Removes every copy but the one in this directory. What cannot be removed is left for the next time.
    pub(super) fn remove_others(&self, used: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != used) {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(%error, directory = %path.display(), "an old copy of the log was not removed");
            }
        }
    }

    fn open_number(&self, epoch: Epoch, number: u64) -> Result<EmbeddedLog, OpenError> {
        let options = EmbeddedOptions {
            copy_of: Some(epoch),
            // What a power failure takes is fetched again; the engine has made it durable before we know of it.
            sync: SyncMode::Os,
            new_epoch: false,
            ..self.options.clone()
        };
        EmbeddedLog::open(&self.dir.join(format!("{epoch}-{number}")), options, Arc::new(OsDisk))
    }

    /// The numbers of the copies of an epoch.
    fn numbers(&self, epoch: Epoch) -> Result<Vec<u64>, OpenError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(OpenError::io("listing", &self.dir))?,
        };
        let prefix = format!("{epoch}-");
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect())
    }
}
