//! Opening a directory: what is proven must be there, what is not proven is kept if it is whole and cut off if not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, OpenMode, read_exact_at, read_file, replace_file};
use super::engine::{Start, create_segment};
use super::format::{
    FORMAT_VERSION, IDS_EXTENSION, INDEX_EXTENSION, MANIFEST_FILE, SEGMENT_EXTENSION, base_of,
};
use super::index::ActiveIndex;
use super::manifest::Manifest;
use super::options::{EmbeddedOptions, OpenError, SyncMode};
use super::scan::{ScanStop, scan};
use super::segment::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment_file::{Segment, TABLE_CACHE_BYTES, TableCache, add_to_index, build_index};
use super::store::{ChannelState, Store};
use crate::lru::Lru;

/// An opened directory.
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) start: Start,
    /// Files with ids of removed segments.
    pub(crate) saved_ids: Vec<PathBuf>,
}

/// A segment as it was found.
struct Found {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    len: u64,
}

pub(crate) fn open(
    dir: &Path,
    options: EmbeddedOptions,
    disk: Arc<dyn Disk>,
    new_epoch: Epoch,
) -> Result<Recovered, OpenError> {
    let listing = Listing::read(disk.as_ref(), dir)?;
    let always = options.sync == SyncMode::Always;
    let known = read_manifest(disk.as_ref(), dir)?;
    if known.is_none() && !listing.segments.is_empty() {
        let what = "it is missing, though there are segments";
        return Err(OpenError::damaged(&dir.join(MANIFEST_FILE), 0, what));
    }
    let is_new = known.is_none();
    let mut manifest = known.unwrap_or_else(|| Manifest::new(new_epoch, always));
    let found = find_segments(disk.as_ref(), dir, &listing, &manifest)?;
    let tables: Arc<TableCache> = Arc::new(Mutex::new(Lru::new(TABLE_CACHE_BYTES)));
    let mut segments = Vec::with_capacity(found.len());
    let mut tail = None;
    for (index, segment) in found.iter().enumerate() {
        match found.get(index + 1) {
            Some(next) => {
                segments.push(open_sealed(disk.as_ref(), segment, next, &tables, options.verify_on_open)?);
                if options.verify_on_open {
                    tell_progress(index + 1, found.len());
                }
            }
            None => {
                let recovered = recover_tail(segment, &manifest, &tables)?;
                segments.push(recovered.0);
                tail = Some(recovered.1);
            }
        }
    }
    let mut start = tail.unwrap_or(Start {
        position: SEGMENT_HEADER_BYTES,
        next_offset: 1,
        last_time: UnixMicros(0),
        mark_due: false,
    });
    start.next_offset = start.next_offset.max(manifest.next_offset);

    if let Some(epoch) = options.copy_of
        && epoch != manifest.epoch()
    {
        let what = format!("it is a copy of epoch {}, not of {epoch}", manifest.epoch());
        return Err(OpenError::damaged(&dir.join(MANIFEST_FILE), 0, what));
    }
    // The end of a copy is compared with what it copies.
    let unproven_end = !manifest.synced_always && manifest.clean_end.is_none() && !is_new;
    if (unproven_end && options.copy_of.is_none()) || (options.new_epoch && !is_new) {
        tracing::warn!(epoch = %new_epoch, "the log begins a new epoch");
        manifest.begin_epoch(new_epoch, start.next_offset);
    }
    manifest.synced_always = always;
    manifest.clean_end = None;
    manifest.next_offset = start.next_offset;
    manifest.last_sequence = found.last().map_or(manifest.last_sequence, |last| last.header.sequence);
    save_manifest(disk.as_ref(), dir, &manifest)?;
    let store = Store::new(disk, dir.to_owned(), options, manifest, segments, tables);
    ensure_writable_segment(&store, &mut start)?;
    fill_catalog(&store).map_err(|error| unreadable(&store, &error))?;
    Ok(Recovered { store, start, saved_ids: listing.ids })
}

struct Listing {
    /// By base offset.
    segments: BTreeMap<u64, PathBuf>,
    ids: Vec<PathBuf>,
}

impl Listing {
    fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let mut listing = Self { segments: BTreeMap::new(), ids: Vec::new() };
        for name in disk.list(dir).map_err(OpenError::io("listing", dir))? {
            let path = dir.join(&name);
            if let Some(base) = base_of(&name, SEGMENT_EXTENSION) {
                listing.segments.insert(base, path);
            } else if base_of(&name, IDS_EXTENSION).is_some() {
                listing.ids.push(path);
            } else if name.ends_with(".tmp") {
                // Half of a replacement that a crash interrupted.
                disk.remove(&path).map_err(OpenError::io("removing", &path))?;
            }
        }
        Ok(listing)
    }
}

/// `None` if there is none.
pub(crate) fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("reading", &path)(error)),
    };
    Manifest::decode(&bytes).map(Some).map_err(|fault| header_error(&path, fault))
}

fn save_manifest(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let path = dir.join(MANIFEST_FILE);
    replace_file(disk, &path, &manifest.encode()).map(drop).map_err(OpenError::io("writing", &path))
}

pub(crate) fn header_error(path: &Path, fault: HeaderFault) -> OpenError {
    match fault {
        HeaderFault::Damaged => OpenError::damaged(path, 0, "its header does not verify"),
        HeaderFault::Version(version) => {
            OpenError::Version { file: path.to_owned(), version, supported: FORMAT_VERSION }
        }
    }
}

/// Reads the header of a segment file.
pub(crate) fn read_header(file: &dyn DiskFile, path: &Path) -> Result<SegmentHeader, OpenError> {
    let bytes = match read_exact_at(file, 0, SEGMENT_HEADER_BYTES as usize) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(header_error(path, HeaderFault::Damaged));
        }
        Err(error) => return Err(OpenError::io("reading", path)(error)),
    };
    SegmentHeader::decode(&bytes).map_err(|fault| header_error(path, fault))
}

/// Opens every segment that must be there, oldest first, and removes those whose removal a crash interrupted.
fn find_segments(
    disk: &dyn Disk,
    dir: &Path,
    listing: &Listing,
    manifest: &Manifest,
) -> Result<Vec<Found>, OpenError> {
    let mut found: Vec<Found> = Vec::with_capacity(listing.segments.len());
    for (base, path) in &listing.segments {
        let file = disk.open(path, OpenMode::Write).map_err(OpenError::io("opening", path))?;
        let header = read_header(file.as_ref(), path)?;
        if header.base_offset != *base {
            return Err(OpenError::damaged(
                path,
                0,
                format!("its header is that of offset {}", header.base_offset),
            ));
        }
        if manifest.is_removed(header.sequence) {
            for gone in [path.with_extension(INDEX_EXTENSION), path.clone()] {
                if let Err(error) = disk.remove(&gone)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(OpenError::io("removing", &gone)(error));
                }
            }
            continue;
        }
        let len = file.len().map_err(OpenError::io("reading", path))?;
        found.push(Found { path: path.clone(), file, header, len });
    }
    let numbers: Vec<_> = found.iter().map(|found| (found.header.sequence, found.path.as_path())).collect();
    check_complete(dir, &numbers, manifest)?;
    Ok(found)
}

/// Every sequence up to the last must be there or removed. `found`: the sequences that are there, with their files.
pub(crate) fn check_complete(
    dir: &Path,
    found: &[(u64, &Path)],
    manifest: &Manifest,
) -> Result<(), OpenError> {
    let mut expected = 1;
    for (sequence, path) in found {
        if *sequence < expected {
            return Err(OpenError::damaged(path, 0, format!("segment number {sequence} is there twice")));
        }
        if let Some(missing) = (expected..*sequence).find(|missing| !manifest.is_removed(*missing)) {
            let what = format!("segment number {missing}, which should stand before it, is missing");
            return Err(OpenError::damaged(path, 0, what));
        }
        expected = sequence + 1;
    }
    if let Some(missing) = (expected..=manifest.last_sequence).find(|missing| !manifest.is_removed(*missing))
    {
        let path = found.last().map_or_else(|| dir.join(MANIFEST_FILE), |(_, path)| path.to_path_buf());
        return Err(OpenError::damaged(&path, 0, format!("segment number {missing}, behind it, is missing")));
    }
    Ok(())
}

/// Reads a full segment whole, all of which was durable.
fn verify_sealed(segment: &Found, end: u64) -> Result<(), OpenError> {
    let Found { path, file, header, .. } = segment;
    let scanned = scan(file.as_ref(), header, end, &mut |_, _| {}).map_err(OpenError::io("reading", path))?;
    if scanned.end < end {
        return Err(OpenError::damaged(path, scanned.end, "a durable batch does not verify"));
    }
    Ok(())
}

/// A log of many gigabytes takes a while to verify, and whoever waits should know for what.
fn tell_progress(verified: usize, segments: usize) {
    const EVERY: usize = 16;
    if verified.is_multiple_of(EVERY) {
        tracing::info!(verified, segments, "verifying the log before it is served (log.verify_on_start)");
    }
}

/// Opens a full segment by its index, without reading the segment unless it is to be verified; makes the index again
/// where it is missing.
fn open_sealed(
    disk: &dyn Disk,
    segment: &Found,
    next: &Found,
    tables: &Arc<TableCache>,
    verify: bool,
) -> Result<Arc<Segment>, OpenError> {
    let Found { path, file, header, len } = segment;
    let is_neighbour = next.header.sequence == header.sequence + 1;
    let end = if is_neighbour { next.header.previous_len } else { *len };
    if *len < end {
        let what = format!("the file ends here, though {end} bytes of it were durable");
        return Err(OpenError::damaged(path, *len, what));
    }
    if verify {
        verify_sealed(segment, end)?;
    }
    let io = OpenError::io("reading", path);
    let opened =
        Segment::sealed(disk, *header, path.clone(), file.clone(), end, tables.clone()).map_err(io)?;
    if let Some(opened) = opened {
        return Ok(Arc::new(opened));
    }
    tracing::warn!(segment = %path.display(), "its index is missing or damaged and is made again");
    let index = build_index(file.as_ref(), header, end).map_err(OpenError::io("reading", path))?;
    let index = index.map_err(|byte| OpenError::damaged(path, byte, "a durable batch does not verify"))?;
    let rebuilt = Segment::in_memory(*header, path.clone(), file.clone(), end, index, tables.clone());
    if let Err(error) = rebuilt.seal(disk) {
        tracing::warn!(%error, segment = %path.display(), "its index was not written and stays in memory");
    }
    Ok(Arc::new(rebuilt))
}

/// Finds where the log ends in the segment that was written to last, and makes that end durable.
fn recover_tail(
    segment: &Found,
    manifest: &Manifest,
    tables: &Arc<TableCache>,
) -> Result<(Arc<Segment>, Start), OpenError> {
    let Found { path, file, header, len } = segment;
    let io = |error| OpenError::io("recovering", path)(error);
    let mut index = ActiveIndex::new();
    let mut unreadable = None;
    let scanned = scan(file.as_ref(), header, *len, &mut |place, record| {
        if !add_to_index(&mut index, place, record) {
            unreadable.get_or_insert(place.head);
        }
    })
    .map_err(io)?;
    if let Some(position) = unreadable {
        return Err(OpenError::damaged(path, position, "the head of an event cannot be read"));
    }
    let clean_end =
        manifest.clean_end.filter(|end| end.sequence == header.sequence).map_or(0, |end| end.byte);
    if scanned.end < clean_end {
        let what =
            format!("no whole batch stands here, though the log was closed cleanly at byte {clean_end}");
        return Err(OpenError::damaged(path, scanned.end, what));
    }
    if let ScanStop::Damage { witness } = scanned.stop {
        let what =
            format!("a batch that was durable does not verify (the batch at byte {witness} testifies)");
        return Err(OpenError::damaged(path, scanned.end, what));
    }
    if scanned.stop == ScanStop::Tail {
        tracing::warn!(
            segment = %path.display(), byte = scanned.end, bytes = len - scanned.end,
            "an unfinished batch at the log's end, never acknowledged, is cut off"
        );
    }
    let proven = scanned.proven.max(clean_end);
    make_durable(file.as_ref(), proven, scanned.end, *len).map_err(io)?;
    let start = Start {
        position: scanned.end,
        next_offset: scanned.next_offset,
        last_time: scanned.last_time,
        mark_due: scanned.end > proven,
    };
    let segment = Segment::in_memory(*header, path.clone(), file.clone(), scanned.end, index, tables.clone());
    Ok((Arc::new(segment), start))
}

/// Cuts the file at `end` and syncs it. What is not proven is written once more before: after a sync that failed, the
/// system may hold pages for clean that never reached the disk, and a sync alone would skip them.
fn make_durable(file: &dyn DiskFile, proven: u64, end: u64, len: u64) -> io::Result<()> {
    if len > end {
        file.set_len(end)?;
    }
    if end > proven {
        let tail = read_exact_at(file, proven, (end - proven) as usize)?;
        file.write_at(&tail, proven)?;
    }
    if len > end || end > proven { file.sync_all() } else { Ok(()) }
}

/// Makes sure that the last segment belongs to the current epoch; its checksums are salted with it.
fn ensure_writable_segment(store: &Store, start: &mut Start) -> Result<(), OpenError> {
    let last = store.segments().last().cloned();
    let header = match &last {
        Some(last) if last.header.epoch == store.epoch => return Ok(()),
        // An empty segment is replaced under its own name; nothing durable is lost with it.
        Some(last)
            if last.summary(|summary| summary.events == 0)
                && last.header.base_offset == start.next_offset =>
        {
            SegmentHeader { epoch: store.epoch, ..last.header }
        }
        Some(last) => SegmentHeader {
            epoch: store.epoch,
            sequence: last.header.sequence + 1,
            base_offset: start.next_offset,
            created_at: start.last_time,
            previous_len: start.position,
        },
        None => SegmentHeader {
            epoch: store.epoch,
            sequence: 1,
            base_offset: start.next_offset,
            created_at: start.last_time,
            previous_len: 0,
        },
    };
    let path = store.segment_path(header.base_offset);
    let segment = create_segment(store, header).map_err(OpenError::io("creating", &path))?;
    store.drop_segments(|sequence| sequence == header.sequence);
    store.push_segment(segment);
    start.position = SEGMENT_HEADER_BYTES;
    start.mark_due = false;
    store
        .change_manifest(|manifest| manifest.last_sequence = header.sequence)
        .map_err(OpenError::io("writing", &store.dir.join(MANIFEST_FILE)))
}

/// What every channel has, from the summaries of the segments and the floors.
fn fill_catalog(store: &Store) -> Result<(), crate::event_log::ReadError> {
    let mut floors = crate::floors::Floors::default();
    store
        .change_manifest(|manifest| floors = manifest.floors.clone())
        .expect("an unchanged manifest is not written");
    let segments = store.segments();
    let mut channels: BTreeMap<Arc<str>, ChannelState> = BTreeMap::new();
    for segment in segments.iter() {
        let summaries = segment.summary(|summary| summary.channels.clone());
        for (name, summary) in summaries {
            let state = super::trim::retained_in(segment, &name, &summary, floors.of(&name))?;
            let Some(state) = state else { continue };
            channels
                .entry(name)
                .and_modify(|known| {
                    known.last = state.last;
                    known.events += state.events;
                    known.bytes += state.bytes;
                })
                .or_insert(state);
        }
    }
    if let Some(floor) = floors.of_all() {
        channels.keys().for_each(|channel| floors.raise(channel, floor));
    }
    store.change_catalog(|catalog| {
        catalog.channels = channels;
        catalog.floors = Arc::new(floors);
        catalog.find_head();
    });
    Ok(())
}

pub(crate) fn unreadable(store: &Store, error: &crate::event_log::ReadError) -> OpenError {
    match error {
        crate::event_log::ReadError::Damaged { file, byte } => {
            OpenError::damaged(Path::new(file), *byte, "a durable record does not verify")
        }
        other => OpenError::Io {
            doing: "opening",
            file: store.dir.clone(),
            error: io::Error::other(other.to_string()),
        },
    }
}
