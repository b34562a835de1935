//! A file that has its name only when it is whole.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Removed when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    wanted: PathBuf,
    kept: bool,
}

impl Unfinished {
    /// Takes the name with `.incomplete` behind it; neither may be there.
    pub(super) fn create(wanted: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(!wanted.exists(), "{} is there already; nothing was written", wanted.display());
        let mut path = wanted.as_os_str().to_owned();
        path.push(".incomplete");
        let path = PathBuf::from(path);
        let create = OpenOptions::new().write(true).create_new(true).open(&path);
        create.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, wanted: wanted.to_owned(), kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open(&self) -> anyhow::Result<File> {
        let file = OpenOptions::new().write(true).open(&self.path);
        file.with_context(|| format!("cannot open {}", self.path.display()))
    }

    /// Gives it its name, durably. A file that got that name in the meantime stays, and this is an error.
    pub(super) fn keep(mut self) -> anyhow::Result<()> {
        let shown = self.wanted.display().to_string();
        File::open(&self.path)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("syncing {shown}"))?;
        std::fs::hard_link(&self.path, &self.wanted)
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Err(error),
                // A file system without hard links.
                _ => std::fs::rename(&self.path, &self.wanted),
            })
            .with_context(|| format!("cannot name the file {shown}"))?;
        let _ = std::fs::remove_file(&self.path);
        self.kept = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
