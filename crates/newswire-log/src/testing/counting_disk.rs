//! A disk that counts what is read from it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::embedded::disk::{Disk, DiskFile, LockGuard, OpenMode};

/// Another disk, and a count of the bytes read from it. Clones share the count.
#[derive(Clone)]
pub struct CountingDisk {
    inner: Arc<dyn Disk>,
    read: Arc<AtomicU64>,
}

impl CountingDisk {
    /// Counts the reads of a disk.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, read: Arc::default() }
    }

    /// Bytes read since the last call.
    pub fn take_read_bytes(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }
}

impl Disk for CountingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(CountingFile { inner, read: self.read.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.inner.lock(path)
    }
}

struct CountingFile {
    inner: Arc<dyn DiskFile>,
    read: Arc<AtomicU64>,
}

impl DiskFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let got = self.inner.read_at(buf, position)?;
        self.read.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.inner.write_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn reserve(&self, from: u64, end: u64) -> io::Result<()> {
        self.inner.reserve(from, end)
    }

    fn begin_writeback(&self, from: u64, end: u64) {
        self.inner.begin_writeback(from, end);
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
