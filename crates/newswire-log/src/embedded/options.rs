//! How the embedded log is set up, and why it may not open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use newswire_protocol::Epoch;

use crate::clock::{Clock, SystemClock};
use crate::dedup::DedupOptions;
use crate::event_log::Observer;
use crate::retention::RetentionOptions;
use crate::writer::BatchOptions;

/// When a batch counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Once it is synced. Survives a power failure.
    Always,
    /// Once it is written; synced at least this often. A power failure loses up to this much; a killed process nothing.
    /// After an unclean stop the log begins a new epoch, because it cannot prove that nothing shown was lost.
    Interval(Duration),
    /// Once it is written; synced when the system likes, and when a segment is full. Else as `Interval`.
    Os,
}

/// How an [`super::EmbeddedLog`] behaves.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// When a batch counts as durable.
    pub sync: SyncMode,
    /// A segment is closed at about this size. Also the grain in which disk space is given back.
    pub segment_bytes: u64,
    /// What is kept.
    pub retention: RetentionOptions,
    /// How far back repeated ids are recognised.
    pub dedup: DedupOptions,
    /// Bounds of one batch.
    pub batch: BatchOptions,
    /// Small batches are written into space that was zeroed ahead in pieces of this size, so that a sync need not make
    /// a new file length durable. 0 switches it off.
    pub zero_ahead_bytes: u64,
    /// A batch beyond this is large: it is written into space that was reserved ahead instead, because zeroing would
    /// write its bytes twice to save one small write.
    pub zero_ahead_batch_bytes: usize,
    /// Large batches are written into space that the file system reserved ahead in pieces of this size, so that their
    /// syncs need not find space and make a new file length durable. 0 switches it off.
    pub reserve_ahead_bytes: u64,
    /// After idling this long the writer leaves a mark that proves the last batch durable.
    pub mark_after: Duration,
    /// Bytes of decoded log that readers share.
    pub chunk_cache_bytes: usize,
    /// Read the whole log and verify its checksums before it is served. Without, only the last segment is read, and
    /// damage to an older one is found by whoever reads it (as an error), or by [`crate::check()`].
    pub verify_on_open: bool,
    /// Begin a new epoch: for a directory that was restored from a backup.
    pub new_epoch: bool,
    /// This log is a copy of one that is kept elsewhere, in this epoch: it begins none by itself, and an end that a crash
    /// took is fetched again from there. Ids are judged by the times of what is copied.
    pub copy_of: Option<Epoch>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Hears of commits.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            segment_bytes: 64 << 20,
            retention: RetentionOptions::default(),
            dedup: DedupOptions::default(),
            batch: BatchOptions::default(),
            zero_ahead_bytes: 1 << 20,
            zero_ahead_batch_bytes: 64 << 10,
            reserve_ahead_bytes: 16 << 20,
            mark_after: Duration::from_millis(30),
            chunk_cache_bytes: 8 << 20,
            verify_on_open: true,
            new_epoch: false,
            copy_of: None,
            clock: Arc::new(SystemClock),
            observer: None,
        }
    }
}

impl EmbeddedOptions {
    /// Segments are at most an eighth of what the whole log may hold, so that retention by size has grain.
    pub(crate) fn effective_segment_bytes(&self) -> u64 {
        let bound = self.retention.all.max_bytes.map_or(u64::MAX, |max| (max / 8).max(64 << 10));
        self.segment_bytes.min(bound).min(u64::from(u32::MAX))
    }
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another log in this one, has it.
    #[error(
        "{} is in use by another Newswire; stop that one, or give this one a data directory of its own",
        .dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Something that was durable is not there, or not as it was written. Nothing was changed.
    #[error(
        "{} is damaged at byte {byte}: {what}. Nothing was changed. Run `newswire check {}` for the extent, then \
         restore the directory from a backup",
        .file.display(), .file.parent().unwrap_or(Path::new(".")).display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        byte: u64,
        /// What was found.
        what: String,
    },
    /// A file was written by another version.
    #[error("{} has format version {version}; this Newswire reads version {supported}", .file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
        /// What this build reads.
        supported: u32,
    },
    /// The file system failed.
    #[error("{doing} {}: {error}", .file.display())]
    Io {
        /// What was tried, like `reading`.
        doing: &'static str,
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io<'a>(doing: &'static str, file: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| Self::Io { doing, file: file.to_owned(), error }
    }

    pub(crate) fn damaged(file: &Path, byte: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), byte, what: what.into() }
    }
}
