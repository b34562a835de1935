//! Ids that outlive their segment: those still inside the dedup window are saved before the segment goes.
//!
//! ```text
//! magic 8 | version u32 | count u32 | {key 16 | fingerprint 16 | offset u64 | stored_at u64 µs}… | crc32c u32
//! ```

use std::io;
use std::path::Path;

use newswire_protocol::UnixMicros;

use super::batch::{self, BATCH_HEADER_BYTES};
use super::disk::{read_file, replace_file};
use super::format::{FORMAT_VERSION, Fields, IDS_EXTENSION, IDS_MAGIC, put_checksum, verified};
use super::record::Record;
use super::scan::Window;
use super::segment_file::Segment;
use super::store::Store;
use crate::dedup::{Dedup, DedupWindow, StoredId};
use crate::event_log::ReadError;
use crate::shared::Shared;

fn encode(ids: &[StoredId]) -> Vec<u8> {
    let mut out = IDS_MAGIC.to_vec();
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
    for id in ids {
        out.extend_from_slice(&id.dedup.key);
        out.extend_from_slice(&id.dedup.fingerprint);
        out.extend_from_slice(&id.offset.to_le_bytes());
        out.extend_from_slice(&id.stored_at.0.to_le_bytes());
    }
    put_checksum(&mut out, 0);
    out
}

/// The ids in a file; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<StoredId>> {
    let mut fields = Fields(verified(bytes)?);
    if fields.bytes(8)? != IDS_MAGIC || fields.u32()? != FORMAT_VERSION {
        return None;
    }
    let mut ids = Vec::new();
    for _ in 0..fields.u32()? {
        let dedup = Dedup { key: fields.array()?, fingerprint: fields.array()? };
        ids.push(StoredId { dedup, offset: fields.u64()?, stored_at: UnixMicros(fields.u64()?) });
    }
    fields.0.is_empty().then_some(ids)
}

/// Saves the ids of a segment that still count.
pub(crate) fn save(store: &Store, shared: &Shared, segment: &Segment) -> io::Result<()> {
    let Some((first, last, last_id_at)) = segment
        .summary(|summary| (summary.events > 0).then_some((summary.first, summary.last, summary.last_id_at)))
    else {
        return Ok(());
    };
    let now = shared.ids_now();
    let ids: Vec<_> = {
        let window = shared.dedup.lock();
        if last_id_at <= window.oldest(now) {
            return Ok(());
        }
        window.below(last + 1, now).filter(|id| id.offset >= first).copied().collect()
    };
    let Some(newest) = ids.last().map(|id| id.stored_at) else { return Ok(()) };
    let path = segment.path.with_extension(IDS_EXTENSION);
    replace_file(store.disk.as_ref(), &path, &encode(&ids))?;
    store.id_files.lock().push((path, newest));
    Ok(())
}

/// Removes files of which no id counts any more.
pub(crate) fn remove_expired(store: &Store, shared: &Shared) {
    let now = shared.ids_now();
    let oldest = shared.dedup.lock().oldest(now);
    store.id_files.lock().retain(|(path, newest)| {
        let counts = *newest > oldest;
        if !counts && let Err(error) = store.disk.remove(path) {
            tracing::warn!(%error, file = %path.display(), "expired ids were not removed");
        }
        counts
    });
}

/// Fills the window from saved ids and from the records that are young enough.
pub(crate) fn rebuild(
    store: &Store,
    window: &mut DedupWindow,
    saved: &[std::path::PathBuf],
    now: UnixMicros,
) -> Result<(), ReadError> {
    let oldest = window.oldest(now);
    let mut ids = Vec::new();
    for path in saved {
        ids.extend(load(store, path)?);
    }
    for segment in store.segments().iter() {
        if segment.summary(|summary| summary.last_id_at <= oldest) {
            continue;
        }
        let start = segment.sparse(|sparse| {
            let young = sparse.partition_point(|entry| entry.stored_at <= oldest);
            sparse.get(young.saturating_sub(1)).map(|entry| entry.position)
        })?;
        let Some(start) = start else { continue };
        walk_records(segment, start, segment.end(), &mut |record| {
            if let Some(dedup) = record.dedup() {
                ids.push(StoredId { dedup, offset: record.offset, stored_at: record.stored_at });
            }
        })?;
    }
    ids.sort_by_key(|id| id.offset);
    ids.dedup_by_key(|id| id.offset);
    for id in ids.into_iter().filter(|id| id.stored_at > oldest) {
        window.insert(id);
    }
    Ok(())
}

fn load(store: &Store, path: &Path) -> Result<Vec<StoredId>, ReadError> {
    let file = path.display().to_string();
    let bytes = match read_file(store.disk.as_ref(), path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(ReadError::Io { file, error: error.to_string() }),
    };
    let ids = decode(&bytes).ok_or(ReadError::Damaged { file, byte: 0 })?;
    let newest = ids.iter().map(|id| id.stored_at).max().unwrap_or_default();
    store.id_files.lock().push((path.to_owned(), newest));
    Ok(ids)
}

/// Hands every record from `start`, where a batch begins, to `end`, where one ends, to `visit`.
pub(crate) fn walk_records(
    segment: &Segment,
    start: u64,
    end: u64,
    visit: &mut dyn FnMut(&Record<'_>),
) -> Result<(), ReadError> {
    let mut window = Window::new(segment.file.as_ref(), end);
    let mut position = start;
    while position < end {
        let damaged = || segment.damaged(position);
        let io = |error: io::Error| segment.io(&error);
        let header = window.get(position, BATCH_HEADER_BYTES).map_err(io)?;
        let header = batch::decode_header(header, segment.salt()).ok_or_else(damaged)?;
        let body_at = position + BATCH_HEADER_BYTES as u64;
        let body = window.get(body_at, header.body_len()).map_err(io)?;
        if !batch::verify_body(&header, body, segment.salt(), |_, record| visit(&record)) {
            return Err(damaged());
        }
        position = body_at + header.body_len() as u64;
    }
    Ok(())
}
