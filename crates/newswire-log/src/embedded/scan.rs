//! Walks a segment from its start and finds where what is there ends, and what of it is proven to be durable. Used to
//! open a log, to rebuild an index, and to check a directory.

use std::io;

use newswire_protocol::UnixMicros;

use super::batch::{self, BATCH_HEADER_BYTES, BatchHeader};
use super::disk::DiskFile;
use super::format::BATCH_MAGIC;
use super::record::{RECORD_HEAD_BYTES, Record};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

const WINDOW_BYTES: usize = 1 << 20;

/// What ended the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanStop {
    /// The end of the file.
    End,
    /// Nothing but zeros from here on: space zeroed ahead.
    Zeros,
    /// Bytes that are no whole batch, and no later batch testifies that there ever was one.
    Tail,
    /// Bytes that are no whole batch, though a later batch, at this byte, testifies that there was one.
    Damage { witness: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned {
    /// Behind the last whole batch.
    pub(crate) end: u64,
    /// Everything before was synced, as batches up to `end` testify.
    pub(crate) proven: u64,
    pub(crate) stop: ScanStop,
    pub(crate) batches: u64,
    pub(crate) events: u64,
    /// At least one beyond the last event.
    pub(crate) next_offset: u64,
    pub(crate) last_time: UnixMicros,
}

/// Reads a file in large pieces.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    bytes: Vec<u8>,
    limit: u64,
}

impl<'a> Window<'a> {
    /// Nothing at or beyond `limit` is read.
    pub(crate) fn new(file: &'a dyn DiskFile, limit: u64) -> Self {
        Self { file, start: 0, bytes: Vec::new(), limit }
    }

    /// `len` bytes from `position`, or fewer where the file ends.
    pub(crate) fn get(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let is_inside =
            position >= self.start && position + len as u64 <= self.start + self.bytes.len() as u64;
        if !is_inside {
            let room = self.limit.saturating_sub(position);
            let wanted = (len.max(WINDOW_BYTES) as u64).min(room) as usize;
            self.bytes.resize(wanted, 0);
            let got = self.file.read_at(&mut self.bytes, position)?;
            self.bytes.truncate(got);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        let to = (from + len).min(self.bytes.len());
        Ok(&self.bytes[from.min(to)..to])
    }
}

/// Where a record stands: its batch, and its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) batch: u64,
    pub(crate) head: u64,
}

/// Walks the batches below `limit` and hands each record of each whole batch, with its place, to `visit`.
pub(crate) fn scan(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    limit: u64,
    visit: &mut dyn FnMut(Place, &Record<'_>),
) -> io::Result<Scanned> {
    let mut window = Window::new(file, limit);
    let mut scanned = Scanned {
        end: SEGMENT_HEADER_BYTES,
        proven: SEGMENT_HEADER_BYTES,
        stop: ScanStop::End,
        batches: 0,
        events: 0,
        next_offset: header.base_offset,
        last_time: header.created_at,
    };
    while scanned.end < limit {
        let Some(batch) = read_batch_header(&mut window, header, scanned.end)? else { break };
        if batch.first_offset < scanned.next_offset {
            break;
        }
        let body_at = scanned.end + BATCH_HEADER_BYTES as u64;
        let body = window.get(body_at, batch.body_len())?;
        // The count is not verified yet; the body is what there is.
        let mut records = Vec::with_capacity((batch.count as usize).min(body.len() / RECORD_HEAD_BYTES));
        let mut sound = true;
        let whole = batch::verify_body(&batch, body, header.salt(), |at, record| {
            sound &= record.is_sound(header.salt());
            records.push((at as u64, record));
        });
        if !whole || !sound {
            break;
        }
        for (at, record) in records {
            scanned.next_offset = record.offset + 1;
            visit(Place { batch: scanned.end, head: body_at + at }, &record);
        }
        if batch.durable.sequence == header.sequence {
            scanned.proven = scanned.proven.max(batch.durable.byte);
        }
        scanned.next_offset = scanned.next_offset.max(batch.first_offset);
        scanned.last_time = scanned.last_time.max(batch.appended_at);
        scanned.batches += 1;
        scanned.events += u64::from(batch.count);
        scanned.end = body_at + batch.body_len() as u64;
    }
    scanned.stop = classify(&mut window, header, scanned.end, limit)?;
    Ok(scanned)
}

/// The header at a position, if it is whole, undamaged and possible there.
fn read_batch_header(
    window: &mut Window<'_>,
    header: &SegmentHeader,
    position: u64,
) -> io::Result<Option<BatchHeader>> {
    let bytes = window.get(position, BATCH_HEADER_BYTES)?;
    let Some(batch) = batch::decode_header(bytes, header.salt()) else { return Ok(None) };
    let durable = (batch.durable.sequence, batch.durable.byte);
    Ok((durable <= (header.sequence, position)).then_some(batch))
}

/// What stands at `end`, where no whole batch does.
fn classify(window: &mut Window<'_>, header: &SegmentHeader, end: u64, limit: u64) -> io::Result<ScanStop> {
    let magic = BATCH_MAGIC.to_le_bytes();
    let mut only_zeros = true;
    let mut position = end;
    while position < limit {
        let bytes = window.get(position, WINDOW_BYTES.min((limit - position) as usize))?;
        if bytes.is_empty() {
            break;
        }
        only_zeros &= bytes.iter().all(|byte| *byte == 0);
        if only_zeros {
            position += bytes.len() as u64;
            continue;
        }
        let candidates: Vec<u64> = bytes
            .windows(magic.len())
            .enumerate()
            .filter(|(_, found)| *found == magic)
            .map(|(at, _)| position + at as u64)
            .collect();
        // The last three bytes may begin a magic that goes on in the next piece.
        position += bytes.len().saturating_sub(magic.len() - 1).max(1) as u64;
        for candidate in candidates {
            let witness = read_batch_header(window, header, candidate)?;
            let testifies = |batch: BatchHeader| {
                batch.durable.sequence == header.sequence && batch.durable.byte > end && candidate > end
            };
            if witness.is_some_and(testifies) {
                return Ok(ScanStop::Damage { witness: candidate });
            }
        }
    }
    Ok(match (end >= limit, only_zeros) {
        (true, _) => ScanStop::End,
        (false, true) => ScanStop::Zeros,
        (false, false) => ScanStop::Tail,
    })
}
