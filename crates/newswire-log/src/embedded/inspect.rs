//! Looks at every file of a directory, for `newswire check`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, OpenMode, read_file};
use super::format::{
    IDS_EXTENSION, INDEX_EXTENSION, LOCK_FILE, MANIFEST_FILE, SEGMENT_EXTENSION, base_of, segment_path,
};
use super::manifest::Manifest;
use super::options::OpenError;
use super::recovery::{check_complete, read_header, read_manifest};
use super::scan::{ScanStop, Scanned, scan};
use super::segment::SegmentHeader;
use super::{ids, index_file};
use crate::check::{Damage, Report};

/// What was found in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// Its number; 0 if its header cannot be read.
    pub sequence: u64,
    /// Whole batches.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes up to the end of the last whole batch.
    pub bytes: u64,
    /// Bytes of them that are proven to be durable.
    pub proven: u64,
    /// What ends it.
    pub state: SegmentState,
    /// Its index.
    pub index: IndexState,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Whole.
    Whole,
    /// Whole; the file goes on with zeros that later batches will fill.
    ZeroedAhead,
    /// From this byte on there is an unfinished batch that was never acknowledged.
    UnfinishedTail {
        /// Where it begins.
        byte: u64,
        /// How long it is.
        bytes: u64,
    },
    /// At this byte something durable is not as it was written.
    Damaged {
        /// Where.
        byte: u64,
    },
}

impl SegmentState {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::ZeroedAhead => "whole, zeroed ahead",
            Self::UnfinishedTail { .. } => "unfinished tail",
            Self::Damaged { .. } => "damaged",
        }
    }
}

/// What was found of a segment's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Sound.
    Sound,
    /// The segment is being written to and has none yet.
    NotYet,
    /// Missing; the next start makes it again.
    Missing,
    /// Damaged; it is made again when it is needed.
    Damaged,
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let Self { batches, events, bytes, proven, .. } = self;
        write!(f, "{name}  {events} events in {batches} batches, {bytes} bytes ({proven} proven durable), ")?;
        match self.state {
            SegmentState::Damaged { byte } => write!(f, "damaged at byte {byte}")?,
            SegmentState::UnfinishedTail { byte, bytes } => {
                write!(f, "{bytes} bytes unfinished from byte {byte}")?;
            }
            whole => f.write_str(whole.name())?,
        }
        f.write_str(match self.index {
            IndexState::Sound => ", index sound",
            IndexState::NotYet => "",
            IndexState::Missing => ", index missing (the next start makes it again)",
            IndexState::Damaged => ", index damaged (made again when needed)",
        })
    }
}

pub(crate) fn inspect(disk: &dyn Disk, dir: &Path) -> io::Result<Report> {
    let mut report = empty_report(disk, dir)?;
    let manifest = match read_manifest(disk, dir) {
        Ok(manifest) => manifest,
        Err(error) => {
            note(&mut report, error)?;
            None
        }
    };
    inspect_files(disk, manifest.as_ref(), report)
}

/// As [`inspect`], of a directory that is given this manifest once it is sound.
pub(crate) fn inspect_with(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> io::Result<Report> {
    inspect_files(disk, Some(manifest), empty_report(disk, dir)?)
}

fn empty_report(disk: &dyn Disk, dir: &Path) -> io::Result<Report> {
    let names = disk.list(dir)?;
    Ok(Report {
        dir: dir.to_owned(),
        in_use: names.iter().any(|name| name == LOCK_FILE) && disk.lock(&dir.join(LOCK_FILE))?.is_none(),
        epoch: None,
        closed_cleanly: false,
        segments: Vec::new(),
        damage: None,
        last_offset: 0,
    })
}

fn inspect_files(disk: &dyn Disk, manifest: Option<&Manifest>, mut report: Report) -> io::Result<Report> {
    let dir = &report.dir.clone();
    let names = disk.list(dir)?;
    if let Some(manifest) = manifest {
        report.epoch = Some(manifest.epoch());
        report.closed_cleanly = manifest.clean_end.is_some();
    }
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name, SEGMENT_EXTENSION)).collect();
    bases.sort_unstable();
    if manifest.is_none() && !bases.is_empty() {
        let what = "it is missing, though there are segments";
        note(&mut report, OpenError::damaged(&dir.join(MANIFEST_FILE), 0, what))?;
    }
    inspect_segments(disk, dir, &bases, manifest, &mut report)?;
    inspect_ids(disk, dir, &names, &mut report)?;
    Ok(report)
}

/// Notes the first damage; passes other errors on.
fn note(report: &mut Report, error: OpenError) -> io::Result<()> {
    let damage = match error {
        OpenError::Damaged { file, byte, what } => Damage { file, byte, what },
        OpenError::Version { ref file, .. } => {
            Damage { file: file.clone(), byte: 8, what: error.to_string() }
        }
        OpenError::Io { error, .. } => return Err(error),
        OpenError::Locked { .. } => return Err(io::Error::other(error.to_string())),
    };
    report.damage.get_or_insert(damage);
    Ok(())
}

struct Open {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
}

fn inspect_segments(
    disk: &dyn Disk,
    dir: &Path,
    bases: &[u64],
    manifest: Option<&Manifest>,
    report: &mut Report,
) -> io::Result<()> {
    let mut open = Vec::with_capacity(bases.len());
    for base in bases {
        let path = segment_path(dir, *base);
        let file = disk.open(&path, OpenMode::Read)?;
        match read_header(file.as_ref(), &path) {
            Ok(header) if manifest.is_some_and(|manifest| manifest.is_removed(header.sequence)) => {}
            Ok(header) => open.push(Open { path, file, header }),
            Err(error) => {
                note(report, error)?;
                report.segments.push(unreadable(path));
            }
        }
    }
    if let Some(manifest) = manifest {
        let found: Vec<_> =
            open.iter().map(|segment| (segment.header.sequence, segment.path.as_path())).collect();
        if let Err(error) = check_complete(dir, &found, manifest) {
            note(report, error)?;
        }
    }
    for (index, segment) in open.iter().enumerate() {
        let found = inspect_segment(disk, segment, open.get(index + 1), manifest, report)?;
        report.segments.push(found);
    }
    report.segments.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(())
}

fn unreadable(file: PathBuf) -> SegmentReport {
    let state = SegmentState::Damaged { byte: 0 };
    SegmentReport {
        file,
        sequence: 0,
        batches: 0,
        events: 0,
        bytes: 0,
        proven: 0,
        state,
        index: IndexState::Missing,
    }
}

fn inspect_segment(
    disk: &dyn Disk,
    segment: &Open,
    next: Option<&Open>,
    manifest: Option<&Manifest>,
    report: &mut Report,
) -> io::Result<SegmentReport> {
    let Open { path, file, header } = segment;
    let len = file.len()?;
    let neighbour = next.filter(|next| next.header.sequence == header.sequence + 1);
    let clean_end = manifest
        .and_then(|manifest| manifest.clean_end)
        .filter(|end| end.sequence == header.sequence)
        .map_or(0, |end| end.byte);
    // A segment that another follows is durable as a whole.
    let promised = match (neighbour, next) {
        (Some(neighbour), _) => neighbour.header.previous_len,
        (None, Some(_)) => len,
        (None, None) => clean_end,
    };
    let limit = if neighbour.is_some() { promised.min(len) } else { len };
    let scanned = scan(file.as_ref(), header, limit, &mut |_, _| {})?;
    let state = judge(path, &scanned, promised, len, report);
    if report.damage.is_none() || matches!(state, SegmentState::Damaged { .. }) {
        report.last_offset = report.last_offset.max(scanned.next_offset.saturating_sub(1));
    }
    let index = match next {
        None => IndexState::NotYet,
        Some(_) => inspect_index(disk, segment)?,
    };
    Ok(SegmentReport {
        file: path.clone(),
        sequence: header.sequence,
        batches: scanned.batches,
        events: scanned.events,
        bytes: scanned.end,
        proven: scanned.proven.max(promised.min(scanned.end)),
        state,
        index,
    })
}

fn judge(path: &Path, scanned: &Scanned, promised: u64, len: u64, report: &mut Report) -> SegmentState {
    let byte = scanned.end;
    let damage = if byte < promised {
        Some(format!("no whole batch stands here, though the segment was durable up to byte {promised}"))
    } else if let ScanStop::Damage { witness } = scanned.stop {
        Some(format!("a batch that was durable does not verify (the batch at byte {witness} testifies)"))
    } else {
        None
    };
    if let Some(what) = damage {
        report.damage.get_or_insert(Damage { file: path.to_owned(), byte, what });
        return SegmentState::Damaged { byte };
    }
    match scanned.stop {
        ScanStop::Zeros => SegmentState::ZeroedAhead,
        ScanStop::Tail => SegmentState::UnfinishedTail { byte, bytes: len - byte },
        ScanStop::End | ScanStop::Damage { .. } => SegmentState::Whole,
    }
}

fn inspect_index(disk: &dyn Disk, segment: &Open) -> io::Result<IndexState> {
    match disk.open(&segment.path.with_extension(INDEX_EXTENSION), OpenMode::Read) {
        Ok(file) if index_file::verify(file.as_ref(), &segment.header)? => Ok(IndexState::Sound),
        Ok(_) => Ok(IndexState::Damaged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(IndexState::Missing),
        Err(error) => Err(error),
    }
}

fn inspect_ids(disk: &dyn Disk, dir: &Path, names: &[String], report: &mut Report) -> io::Result<()> {
    for name in names.iter().filter(|name| base_of(name, IDS_EXTENSION).is_some()) {
        let path = dir.join(name);
        if ids::decode(&read_file(disk, &path)?).is_none() {
            let what = "the saved ids do not verify";
            note(report, OpenError::damaged(&path, 0, what))?;
        }
    }
    Ok(())
}

/// Reads bytes as each of the log's shapes, the checksums made to fit so that the fields behind them are reached. For
/// fuzzing: it must return.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn read_anything(bytes: &[u8]) {
    use super::format::{FORMAT_VERSION, IDS_MAGIC, INDEX_MAGIC, MANIFEST_MAGIC, Salt, put_checksum};
    use newswire_protocol::{Epoch, UnixMicros};

    let (sequence, epoch) = (1, Epoch::from_bytes([0; 16]));
    let salt = Salt::new(epoch, sequence);
    for magic in [MANIFEST_MAGIC, IDS_MAGIC, INDEX_MAGIC] {
        let mut file = magic.to_vec();
        file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        file.extend_from_slice(bytes);
        put_checksum(&mut file, 0);
        let _ = Manifest::decode(&file);
        let _ = ids::decode(&file);
    }
    let _ = SegmentHeader::decode(bytes);
    let _ = super::postings::decode(bytes, bytes.len() as u32);
    read_record(bytes, salt);
    let disk = crate::testing::FaultDisk::new();
    let header =
        SegmentHeader { epoch, sequence, base_offset: 1, created_at: UnixMicros(0), previous_len: 0 };
    if let Ok(file) = disk.open(Path::new("/fuzzed"), OpenMode::Create) {
        let _ = file.write_at(&header.encode(), 0).and_then(|()| file.write_at(bytes, 128));
        let len = 128 + bytes.len() as u64;
        let _ = scan(file.as_ref(), &header, len, &mut |_, _| {});
    }
    if let Ok(file) = disk.open(Path::new("/fuzzed.idx"), OpenMode::Create) {
        let _ = file.write_at(bytes, 0);
        let _ = index_file::verify(file.as_ref(), &header);
    }
}

/// A record whose head and frame are these bytes, with a checksum that fits.
#[cfg(any(test, feature = "testing"))]
fn read_record(bytes: &[u8], salt: super::format::Salt) {
    use super::record;
    use crate::event_log::NewEvent;

    let event = NewEvent { meta: bytes, before: b"", behind: b"", dedup: None };
    let frame_at = record::head_len(&event);
    let mut made = vec![0; frame_at];
    let frame = frame_at..frame_at + bytes.len();
    record::write_head(&mut made, 1, newswire_protocol::UnixMicros(1), &event, frame);
    made.extend_from_slice(bytes);
    record::seal(&mut made, salt);
    if let Some(record) = record::decode(&made, salt) {
        let _ = newswire_core::MetaView::decode(record.meta);
    }
    let _ = record::Head::read(bytes);
    let _ = record::decode(bytes, salt);
}
