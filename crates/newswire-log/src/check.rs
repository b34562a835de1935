//! Verifies a log's directory without changing anything.

use std::fmt;
use std::path::{Path, PathBuf};

use newswire_protocol::Epoch;

use crate::embedded::disk::{Disk, OsDisk};
use crate::embedded::inspect;
pub use crate::embedded::inspect::{IndexState, SegmentReport, SegmentState};

/// What was found in a directory.
#[derive(Clone, Debug)]
pub struct Report {
    /// The directory.
    pub dir: PathBuf,
    /// A server has it open: what stands at the very end may be half written at this moment.
    pub in_use: bool,
    /// The current epoch; `None` if the manifest cannot be read.
    pub epoch: Option<Epoch>,
    /// Whether it was closed cleanly.
    pub closed_cleanly: bool,
    /// Every segment, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The first damage to something durable: the log does not open.
    pub damage: Option<Damage>,
    /// Offset of the last event found before any damage; 0 if there is none.
    pub last_offset: u64,
}

/// Something durable is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In this file.
    pub file: PathBuf,
    /// At this byte.
    pub byte: u64,
    /// What was found.
    pub what: String,
}

impl Report {
    /// Whether the log can be opened with nothing durable lost.
    pub fn is_sound(&self) -> bool {
        self.damage.is_none()
    }

    /// Events in whole batches.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|segment| segment.events).sum()
    }
}

/// Verifies every file of the log in `dir`: each checksum of each record, batch, index and the manifest. Reads all of
/// it, changes nothing.
///
/// # Errors
/// Where the directory cannot be read at all. Damage is no error but what the report is for.
pub fn check(dir: &Path) -> std::io::Result<Report> {
    check_on(&OsDisk, dir)
}

/// As [`check`], on any disk.
///
/// # Errors
/// As [`check`].
pub fn check_on(disk: &dyn Disk, dir: &Path) -> std::io::Result<Report> {
    inspect::inspect(disk, dir)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} segments, {} events", self.dir.display(), self.segments.len(), self.events())?;
        if let Some(epoch) = self.epoch {
            let closed = if self.closed_cleanly { "closed cleanly" } else { "not closed cleanly" };
            writeln!(
                f,
                "epoch {epoch}, {closed}{}",
                if self.in_use { ", in use by a server now" } else { "" }
            )?;
        }
        for segment in &self.segments {
            writeln!(f, "  {segment}")?;
        }
        match &self.damage {
            None => self.fmt_sound(f),
            Some(damage) => self.fmt_damage(f, damage),
        }
    }
}

impl Report {
    fn fmt_sound(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = self.segments.last().map(|last| last.state);
        if let Some(SegmentState::UnfinishedTail { byte, bytes }) = tail {
            writeln!(
                f,
                "The last {bytes} bytes, from byte {byte} of the last segment, are an unfinished batch that was never \
                 acknowledged. The next start cuts them off."
            )?;
        }
        writeln!(
            f,
            "Sound: everything durable is there, up to offset {}. Nothing needs to be done.",
            self.last_offset
        )
    }

    fn fmt_damage(&self, f: &mut fmt::Formatter<'_>, damage: &Damage) -> fmt::Result {
        writeln!(f, "Damaged: {} at byte {}: {}.", damage.file.display(), damage.byte, damage.what)?;
        writeln!(f, "Events up to offset {} are whole before it.", self.last_offset)?;
        write!(
            f,
            "The server does not start on this directory, because events that were acknowledged may be missing. Restore \
             the directory from a backup and start once with a new epoch; or keep this directory aside and start with \
             an empty one, and subscribers are told of the new epoch."
        )
    }
}
