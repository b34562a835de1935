//! The physical limit that the log is held against: write a batch, `fdatasync`, nothing else that a log must do.
//!
//! Records carry length and offset, batches a CRC32C, segments are cut at the same size, and the index stays in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: u64 = 64 << 20;
const BATCH_HEADER: usize = 12;
const RECORD_HEADER: usize = 12;

/// A bare segment writer.
pub struct Bare {
    dir: PathBuf,
    file: File,
    segments: u32,
    written: u64,
    next: u64,
    batch: Vec<u8>,
    /// Where each batch begins: first offset, segment, byte.
    index: Vec<(u64, u32, u64)>,
}

impl Bare {
    /// A writer in an empty directory.
    ///
    /// # Errors
    /// When the first segment cannot be created.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let file = segment(dir, 0)?;
        let (dir, batch, index) = (dir.to_path_buf(), Vec::new(), Vec::new());
        Ok(Self { dir, file, segments: 1, written: 0, next: 1, batch, index })
    }

    /// Writes a batch of records and syncs it.
    ///
    /// # Errors
    /// When writing or syncing fails.
    pub fn append<'a>(&mut self, records: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
        if self.written >= SEGMENT_BYTES {
            self.file = segment(&self.dir, self.segments)?;
            (self.segments, self.written) = (self.segments + 1, 0);
        }
        self.index.push((self.next, self.segments - 1, self.written));
        self.batch.clear();
        self.batch.resize(BATCH_HEADER, 0);
        let first = self.next;
        for record in records {
            self.batch.extend((record.len() as u32).to_le_bytes());
            self.batch.extend(self.next.to_le_bytes());
            self.batch.extend(record);
            self.next += 1;
        }
        let body = &self.batch[BATCH_HEADER..];
        let (length, sum) = (body.len() as u32, crc32c::crc32c(body));
        self.batch[..4].copy_from_slice(&length.to_le_bytes());
        self.batch[4..8].copy_from_slice(&((self.next - first) as u32).to_le_bytes());
        self.batch[8..12].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all(&self.batch)?;
        self.file.sync_data()?;
        self.written += self.batch.len() as u64;
        Ok(())
    }
}

fn segment(dir: &Path, number: u32) -> io::Result<File> {
    let path = dir.join(format!("{number:08}.bare"));
    let file = OpenOptions::new().create_new(true).append(true).open(path)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Reads everything back with its checksums verified; gives records and bytes.
///
/// # Errors
/// When a batch is not as it was written.
pub fn replay(dir: &Path) -> io::Result<(u64, u64)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let (mut records, mut bytes) = (0, 0);
    let mut batch = Vec::new();
    for path in paths {
        let mut file = io::BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut header = [0; BATCH_HEADER];
        while file.read_exact(&mut header).is_ok() {
            let word =
                |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            batch.resize(word(0) as usize, 0);
            file.read_exact(&mut batch)?;
            if crc32c::crc32c(&batch) != word(8) {
                return Err(io::Error::other("a checksum is wrong"));
            }
            let mut rest = &batch[..];
            while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
                let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
                records += 1;
                bytes += length as u64;
                rest = &behind[length..];
            }
        }
    }
    Ok((records, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut bare = Bare::create(dir.path()).expect("a segment");
        for batch in 1..=3 {
            bare.append(std::iter::repeat_n(&[7; 100][..], batch)).expect("space");
        }
        assert_eq!(replay(dir.path()).expect("good checksums"), (6, 600));
    }
}
