//! A log's directory as it is at one moment, read without the lock, beside the server that writes it.
//!
//! What makes that safe: every segment but the last is complete before the next one has a name; the last one is read up
//! to the end of its last whole batch, which its checksums tell; the manifest is replaced atomically, and is read before
//! and after the list of files until nothing changed in between. So everything that was acknowledged before is in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use newswire_core::{Batch, BatchBuilder, DamagedMeta};
use newswire_protocol::Epoch;

use super::disk::{Disk, DiskFile, OpenMode};
use super::format::{IDS_EXTENSION, SEGMENT_EXTENSION, base_of, segment_path};
use super::manifest::Manifest;
use super::options::OpenError;
use super::record::Record;
use super::recovery::{check_complete, read_header, read_manifest};
use super::scan::{ScanStop, scan};
use super::segment::SegmentHeader;
use crate::event_log::ReadError;

/// How often a view is tried, as the server may roll or trim under our hands, and how long after the first failure.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// Events of one batch that [`Snapshot::visit`] hands out, and about how many bytes.
const VISIT_EVENTS: usize = 1_000;
const VISIT_BYTES: usize = 1 << 20;

/// A log's files at one moment, held open: what is trimmed later stays readable.
pub struct Snapshot {
    pub(crate) manifest: Manifest,
    /// Oldest first.
    pub(crate) pieces: Vec<Piece>,
    /// Saved ids of removed segments.
    pub(crate) ids: Vec<PathBuf>,
    /// At least one beyond the last event.
    pub(crate) next_offset: u64,
}

/// One segment, up to where it counts.
pub(crate) struct Piece {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) end: u64,
}

impl Snapshot {
    /// Looks at the log in `dir`, which may be in use by a server. Takes no lock and changes nothing. Blocks on the disk.
    ///
    /// # Errors
    /// `None` inside where there is no log; else as [`super::EmbeddedLog::open`].
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let mut attempt = 1;
        loop {
            match Self::attempt(disk, dir) {
                Ok(Looked::Stable(snapshot)) => return Ok(snapshot.map(|snapshot| *snapshot)),
                Ok(Looked::Changed) if attempt == ATTEMPTS => {
                    let error = io::Error::other("it changes faster than it can be read");
                    return Err(OpenError::Io { doing: "reading", file: dir.to_owned(), error });
                }
                Err(error) if attempt == ATTEMPTS || !matches!(error, OpenError::Damaged { .. }) => {
                    return Err(error);
                }
                // Found half-way through a change it looks like damage; what really is damaged still is later.
                Ok(Looked::Changed) | Err(_) => std::thread::sleep(PAUSE),
            }
            attempt += 1;
        }
    }

    fn attempt(disk: &dyn Disk, dir: &Path) -> Result<Looked, OpenError> {
        let Some(manifest) = read_manifest(disk, dir)? else {
            // Damage where there are segments; whoever asks finds the same words as the server's.
            let names = disk.list(dir).map_err(OpenError::io("listing", dir))?;
            let has_segments = names.iter().any(|name| base_of(name, SEGMENT_EXTENSION).is_some());
            return if has_segments {
                let what =
                    "it is missing, though there are segments: the log, or the copy of it, is not whole";
                Err(OpenError::damaged(&dir.join(super::format::MANIFEST_FILE), 0, what))
            } else {
                Ok(Looked::Stable(None))
            };
        };
        let names = disk.list(dir).map_err(OpenError::io("listing", dir))?;
        let Some(found) = open_all(disk, dir, &names, &manifest)? else { return Ok(Looked::Changed) };
        let ids = names.iter().filter(|name| base_of(name, IDS_EXTENSION).is_some());
        let ids = ids.map(|name| dir.join(name)).collect();
        if read_manifest(disk, dir)?.as_ref() != Some(&manifest) {
            return Ok(Looked::Changed);
        }
        let numbers: Vec<_> =
            found.iter().map(|(path, _, header)| (header.sequence, path.as_path())).collect();
        check_complete(dir, &numbers, &manifest)?;
        let (pieces, scanned_to) = bounded(found, &manifest)?;
        let next_offset = manifest.next_offset.max(scanned_to);
        Ok(Looked::Stable(Some(Box::new(Self { manifest, pieces, ids, next_offset }))))
    }

    /// The log's epoch.
    pub fn epoch(&self) -> Epoch {
        self.manifest.epoch()
    }

    /// One beyond the last offset.
    pub fn tail(&self) -> u64 {
        self.next_offset
    }

    /// Bytes of the segments.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.end).sum()
    }

    /// Hands out every retained event after `after`, oldest first, some at a time; `visit` ends it by answering false.
    /// Verifies every batch that it reads. Blocks on the disk.
    ///
    /// # Errors
    /// Where something durable does not verify, or the file system fails.
    pub fn visit(&self, after: u64, visit: &mut dyn FnMut(&Batch) -> bool) -> Result<(), ReadError> {
        let mut page = Pending { builder: BatchBuilder::new(), bytes: 0, goes_on: true };
        self.visit_records(after, &mut |record| {
            page.push(record, visit)?;
            Ok(page.goes_on)
        })?;
        page.flush(visit);
        Ok(())
    }

    /// As [`Self::visit`], with each record as it stands in the files.
    pub(crate) fn visit_records(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<bool, DamagedMeta>,
    ) -> Result<(), ReadError> {
        let mut goes_on = true;
        for (index, piece) in self.pieces.iter().enumerate() {
            let is_before =
                self.pieces.get(index + 1).is_some_and(|next| next.header.base_offset <= after + 1);
            if is_before {
                continue;
            }
            let mut damaged = None;
            let scanned = scan(piece.file.as_ref(), &piece.header, piece.end, &mut |place, record| {
                let meta = newswire_core::MetaView::decode(record.meta);
                let floor = |meta: newswire_core::MetaView<'_>| self.manifest.floors.of(meta.channel());
                let is_wanted = meta.map(|meta| goes_on && record.offset > after.max(floor(meta)));
                match is_wanted.and_then(|is_wanted| if is_wanted { visit(record) } else { Ok(goes_on) }) {
                    Ok(wants_more) => goes_on = wants_more,
                    Err(_) => drop(damaged.get_or_insert(place.head)),
                }
            });
            let name = || piece.path.display().to_string();
            let scanned =
                scanned.map_err(|error| ReadError::Io { file: name(), error: error.to_string() })?;
            let damaged = damaged.or((scanned.end < piece.end).then_some(scanned.end));
            if let Some(byte) = damaged {
                return Err(ReadError::Damaged { file: name(), byte });
            }
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }
}

enum Looked {
    Stable(Option<Box<Snapshot>>),
    Changed,
}

struct Pending {
    builder: BatchBuilder,
    bytes: usize,
    goes_on: bool,
}

impl Pending {
    fn push(
        &mut self,
        record: &Record<'_>,
        visit: &mut dyn FnMut(&Batch) -> bool,
    ) -> Result<(), DamagedMeta> {
        if !self.goes_on {
            return Ok(());
        }
        self.builder.push_stored(record.offset, record.stored_at, record.meta, record.frame)?;
        self.bytes += record.frame.len();
        if self.builder.len() == VISIT_EVENTS || self.bytes >= VISIT_BYTES {
            self.flush(visit);
        }
        Ok(())
    }

    fn flush(&mut self, visit: &mut dyn FnMut(&Batch) -> bool) {
        self.bytes = 0;
        let builder = std::mem::take(&mut self.builder);
        if !builder.is_empty() {
            self.goes_on = visit(&builder.finish());
        }
    }
}

type Opened = (PathBuf, Arc<dyn DiskFile>, SegmentHeader);

/// `None` where a file of the list is gone already.
fn open_all(
    disk: &dyn Disk,
    dir: &Path,
    names: &[String],
    manifest: &Manifest,
) -> Result<Option<Vec<Opened>>, OpenError> {
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name, SEGMENT_EXTENSION)).collect();
    bases.sort_unstable();
    let mut found = Vec::with_capacity(bases.len());
    for base in bases {
        let path = segment_path(dir, base);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("opening", &path)(error)),
        };
        let header = read_header(file.as_ref(), &path)?;
        if !manifest.is_removed(header.sequence) {
            found.push((path, file, header));
        }
    }
    Ok(Some(found))
}

/// Finds where each segment ends, and what the next offset is.
fn bounded(found: Vec<Opened>, manifest: &Manifest) -> Result<(Vec<Piece>, u64), OpenError> {
    let nexts: Vec<Option<SegmentHeader>> =
        found.iter().skip(1).map(|(_, _, header)| Some(*header)).chain([None]).collect();
    let (mut pieces, mut next_offset) = (Vec::with_capacity(found.len()), 1);
    for ((path, file, header), next) in found.into_iter().zip(nexts) {
        let len = file.len().map_err(OpenError::io("reading", &path))?;
        let end = match next {
            Some(next) if next.sequence == header.sequence + 1 => next.previous_len,
            Some(_) => len,
            None => {
                let scanned = scan(file.as_ref(), &header, len, &mut |_, _| {});
                let scanned = scanned.map_err(OpenError::io("reading", &path))?;
                let promised = manifest.clean_end.filter(|end| end.sequence == header.sequence);
                let is_short = promised.is_some_and(|promised| scanned.end < promised.byte);
                if is_short || matches!(scanned.stop, ScanStop::Damage { .. }) {
                    return Err(OpenError::damaged(&path, scanned.end, "a durable batch does not verify"));
                }
                next_offset = scanned.next_offset;
                scanned.end
            }
        };
        if len < end {
            let what = format!("the file ends here, though {end} bytes of it were durable");
            return Err(OpenError::damaged(&path, len, what));
        }
        pieces.push(Piece { path, file, header, end });
    }
    Ok((pieces, next_offset))
}
