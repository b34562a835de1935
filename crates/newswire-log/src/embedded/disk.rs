//! All file access of the embedded log goes through [`Disk`], so that a simulated disk can drop, reorder and tear
//! what was never synced, and the log's promises can be tested against it.

use std::any::Any;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Held while a directory is in use; dropping it gives the directory free.
pub type LockGuard = Box<dyn Any + Send + Sync>;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new or emptied file, for reading and writing.
    Create,
}

/// A file system, as far as the log needs one.
///
/// Nothing written is durable before [`DiskFile::sync_data`] returned without an error, and no name (created, renamed,
/// removed) before [`Disk::sync_dir`] did. All calls block.
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory and its parents; no error if it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing `to` if it is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Takes the lock file `path`, or says with `None` that somebody else holds it. Never waits.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;
}

/// An open file. Positions are bytes from its start; calls may come from several threads.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file, 0 beyond it.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes`; after an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Makes the content and the length durable. After an error nothing is known about what was.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`Self::sync_data`], with every attribute: for a file that has become shorter.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file at least `end` bytes long, with disk space behind every byte from `from` on; what it adds reads as
    /// zeros. After an error any part of it may have happened.
    fn reserve(&self, from: u64, end: u64) -> io::Result<()>;
    /// Hints that the bytes from `from` up to `end`, just written, are about to be synced: they may go to the device
    /// already. Promises nothing: whatever was not synced may still be lost.
    fn begin_writeback(&self, _from: u64, _end: u64) {}
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads exactly `len` bytes; a file that ends before is `UnexpectedEof`.
pub fn read_exact_at(file: &dyn DiskFile, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let got = file.read_at(&mut buf, position)?;
    if got < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file ends at byte {}, wanted {} bytes from {position}", position + got as u64, len),
        ));
    }
    Ok(buf)
}

/// Reads a whole file.
pub fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    read_exact_at(file.as_ref(), 0, len)
}

/// Replaces `path` with `bytes` atomically and durably: whoever opens it later, also after a crash, finds the old
/// content or the new, never a mixture.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    // The whole name and a suffix: an index and saved ids of one segment may be replaced at the same time.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = disk.open(temporary, OpenMode::Create)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(temporary, path)?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir)?;
    }
    Ok(file)
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

struct OsFile(File);

impl Disk for OsDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        // The directory's own name must survive a crash as well.
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => drop(options.write(true)),
            OpenMode::Create => drop(options.write(true).create(true).truncate(true)),
        }
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(unix)]
impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], position + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.0.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, from: u64, end: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        Ok(fallocate(&self.0, FallocateFlags::empty(), from, end.saturating_sub(from).max(1))?)
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&self, _from: u64, _end: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(target_os = "linux")]
    fn begin_writeback(&self, from: u64, end: u64) {
        use rustix::fs::{Advice, fadvise};
        if let Some(len) = end.checked_sub(from).and_then(std::num::NonZeroU64::new) {
            // Dirty pages are not dropped by this but sent off. A refused hint costs nothing but the time it saves.
            let _ = fadvise(&self.0, from, Some(len), Advice::DontNeed);
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_off_early_stays_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("file"), OpenMode::Create).unwrap();
        let bytes: Vec<u8> = (0..300_007_u32).map(|n| n as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        file.begin_writeback(4_097, 300_007);
        file.begin_writeback(9, 9);
        assert_eq!(read_exact_at(file.as_ref(), 0, bytes.len()).unwrap(), bytes);
        file.sync_data().unwrap();
        assert_eq!(read_exact_at(file.as_ref(), 0, bytes.len()).unwrap(), bytes);
    }
}
