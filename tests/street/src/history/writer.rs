//! Writes a history while it happens.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Record;

/// One file that many tasks write to; lines stand in the order in which [`Self::write`] was entered.
pub struct Writer {
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
    asks: AtomicU64,
}

impl Writer {
    /// Begins a file, over whatever was there.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Self {
        let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = Mutex::new(BufWriter::with_capacity(256 * 1024, file));
        Self { path: path.to_path_buf(), file, asks: AtomicU64::new(0) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number for the next request, never given twice.
    pub fn next_ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, record: &Record) {
        let mut line = serde_json::to_vec(record).expect("a record is JSON");
        line.push(b'\n');
        self.file.lock().unwrap().write_all(&line).expect("the history can be written");
    }

    /// Writes out what waits.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn flush(&self) {
        self.file.lock().unwrap().flush().expect("the history can be written");
    }
}
