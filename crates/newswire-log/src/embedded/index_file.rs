//! The index of a sealed segment on disk. It holds nothing that the segment does not tell: where it is missing or
//! damaged it is made again.
//!
//! ```text
//! header 32 | postings… | key blocks of 4096 | fences | sparse table | summary | footer
//! ```
//!
//! A key block holds up to 170 entries {hash, place, length, count} in ascending order of hashes; the fences are the
//! first hashes of the blocks. Every part has a checksum of its own, because parts are read alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use newswire_protocol::UnixMicros;

use super::disk::{DiskFile, read_exact_at};
use super::format::{FORMAT_VERSION, Fields, INDEX_MAGIC, put_checksum, put_string, verified};
use super::index::{ActiveIndex, ChannelSummary, SparseEntry, Summary};
use super::segment::SegmentHeader;

const HEADER_BYTES: usize = 32;
const BLOCK_BYTES: usize = 4096;
const BLOCK_KEYS: usize = 170;
const ENTRY_BYTES: usize = 24;
const FOOTER_BYTES: usize = 96;

/// Where the parts stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footer {
    /// Bytes of the segment that are indexed.
    pub(crate) segment_len: u64,
    blocks_at: u64,
    blocks: u64,
    fences_at: u64,
    sparse_at: u64,
    summary_at: u64,
    footer_at: u64,
}

/// The parts of an index that lookups need at hand; cached while the segment is read.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) sparse: Vec<SparseEntry>,
    fences: Vec<u64>,
}

impl Tables {
    pub(crate) fn footprint(&self) -> usize {
        self.sparse.len() * size_of::<SparseEntry>() + self.fences.len() * 8
    }
}

/// An encoded posting list.
#[derive(Clone, Debug)]
pub(crate) struct FoundKey {
    pub(crate) count: u32,
    pub(crate) list: KeyList,
}

#[derive(Clone, Debug)]
pub(crate) enum KeyList {
    InMemory(Vec<u8>),
    InFile { at: u64, len: u32 },
}

/// The whole file.
pub(crate) fn encode(index: &ActiveIndex, header: &SegmentHeader, segment_len: u64) -> Vec<u8> {
    let mut out = INDEX_MAGIC.to_vec();
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&segment_len.to_le_bytes());
    let entries = encode_postings(&mut out, index);
    let blocks_at = out.len() as u64;
    let fences = encode_blocks(&mut out, &entries);
    let fences_at = out.len() as u64;
    for fence in &fences {
        out.extend_from_slice(&fence.to_le_bytes());
    }
    put_checksum(&mut out, fences_at as usize);
    let sparse_at = out.len() as u64;
    for entry in &index.sparse {
        for number in [entry.offset, entry.position, entry.stored_at.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    put_checksum(&mut out, sparse_at as usize);
    let summary_at = out.len() as u64;
    encode_summary(&mut out, &index.summary);
    put_checksum(&mut out, summary_at as usize);
    let footer_at = out.len();
    out.extend_from_slice(&INDEX_MAGIC);
    let places = [blocks_at, fences.len() as u64, fences_at, sparse_at, summary_at, footer_at as u64];
    for number in [segment_len, header.sequence, u64::from(header.salt().start())].into_iter().chain(places) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.resize(footer_at + FOOTER_BYTES - 4, 0);
    put_checksum(&mut out, footer_at);
    out
}

struct KeyEntry {
    hash: u64,
    at: u64,
    len: u32,
    count: u32,
}

fn encode_postings(out: &mut Vec<u8>, index: &ActiveIndex) -> Vec<KeyEntry> {
    let mut keys: Vec<_> = index.keys.iter().collect();
    keys.sort_unstable_by_key(|(hash, _)| *hash);
    let mut entries = Vec::with_capacity(keys.len());
    for (hash, list) in keys {
        let at = out.len();
        out.extend_from_slice(list.bytes());
        put_checksum(out, at);
        entries.push(KeyEntry {
            hash: *hash,
            at: at as u64,
            len: (out.len() - at) as u32,
            count: list.count(),
        });
    }
    entries
}

fn encode_blocks(out: &mut Vec<u8>, entries: &[KeyEntry]) -> Vec<u64> {
    let mut fences = Vec::new();
    for block in entries.chunks(BLOCK_KEYS) {
        let start = out.len();
        fences.push(block[0].hash);
        out.extend_from_slice(&(block.len() as u32).to_le_bytes());
        for entry in block {
            out.extend_from_slice(&entry.hash.to_le_bytes());
            out.extend_from_slice(&entry.at.to_le_bytes());
            out.extend_from_slice(&entry.len.to_le_bytes());
            out.extend_from_slice(&entry.count.to_le_bytes());
        }
        out.resize(start + BLOCK_BYTES - 4, 0);
        put_checksum(out, start);
    }
    fences
}

fn encode_summary(out: &mut Vec<u8>, summary: &Summary) {
    let Summary { channels, types, events, first, last, last_at, last_id_at } = summary;
    for number in [*events, *first, *last, last_at.0, last_id_at.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(channels.len() as u32).to_le_bytes());
    for (name, channel) in channels {
        put_string(out, name);
        for number in [channel.first, channel.last, channel.last_at.0, channel.events, channel.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out.push(u8::from(types.is_some()));
    let listed = types.iter().flatten();
    out.extend_from_slice(&(listed.clone().count() as u32).to_le_bytes());
    listed.for_each(|name| put_string(out, name));
}

fn decode_summary(bytes: &[u8]) -> Option<Summary> {
    let mut fields = Fields(bytes);
    let (events, first, last) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (last_at, last_id_at) = (UnixMicros(fields.u64()?), UnixMicros(fields.u64()?));
    let mut channels = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let name: Arc<str> = fields.string()?.into();
        let (first, last, last_at) = (fields.u64()?, fields.u64()?, UnixMicros(fields.u64()?));
        let channel = ChannelSummary { first, last, last_at, events: fields.u64()?, bytes: fields.u64()? };
        channels.insert(name, channel);
    }
    let listed = fields.u8()? != 0;
    let mut types = BTreeSet::new();
    for _ in 0..fields.u32()? {
        types.insert(Arc::from(fields.string()?));
    }
    let types = listed.then_some(types);
    fields.0.is_empty().then_some(Summary { channels, types, events, first, last, last_at, last_id_at })
}

/// Reads footer and summary. `Ok(None)`: not a sound index of this segment.
pub(crate) fn open(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<Option<(Footer, Summary)>> {
    let len = file.len()?;
    if len < (HEADER_BYTES + FOOTER_BYTES) as u64 {
        return Ok(None);
    }
    let footer_at = len - FOOTER_BYTES as u64;
    let Some(footer) = decode_footer(&read_exact_at(file, footer_at, FOOTER_BYTES)?, header) else {
        return Ok(None);
    };
    if footer.footer_at != footer_at {
        return Ok(None);
    }
    let bytes = read_exact_at(file, footer.summary_at, (footer_at - footer.summary_at) as usize)?;
    Ok(verified(&bytes).and_then(decode_summary).map(|summary| (footer, summary)))
}

fn decode_footer(bytes: &[u8], header: &SegmentHeader) -> Option<Footer> {
    let mut fields = Fields(verified(bytes)?);
    if fields.bytes(8)? != INDEX_MAGIC {
        return None;
    }
    let segment_len = fields.u64()?;
    if fields.u64()? != header.sequence || fields.u64()? != u64::from(header.salt().start()) {
        return None;
    }
    let (blocks_at, blocks, fences_at) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (sparse_at, summary_at, footer_at) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let ascending = blocks_at <= fences_at && fences_at <= sparse_at && sparse_at <= summary_at;
    let sound = ascending && summary_at <= footer_at;
    sound.then_some(Footer { segment_len, blocks_at, blocks, fences_at, sparse_at, summary_at, footer_at })
}

/// Reads the tables. `Ok(None)`: damaged.
pub(crate) fn read_tables(file: &dyn DiskFile, footer: &Footer) -> io::Result<Option<Tables>> {
    let bytes = read_exact_at(file, footer.fences_at, (footer.summary_at - footer.fences_at) as usize)?;
    let (fences, sparse) = bytes.split_at((footer.sparse_at - footer.fences_at) as usize);
    Ok(decode_tables(fences, sparse).filter(|tables| tables.fences.len() as u64 == footer.blocks))
}

fn decode_tables(fences: &[u8], sparse: &[u8]) -> Option<Tables> {
    let mut fields = Fields(verified(fences)?);
    let mut fences = Vec::new();
    while !fields.0.is_empty() {
        fences.push(fields.u64()?);
    }
    let mut fields = Fields(verified(sparse)?);
    let mut sparse = Vec::new();
    while !fields.0.is_empty() {
        let (offset, position, stored_at) = (fields.u64()?, fields.u64()?, UnixMicros(fields.u64()?));
        sparse.push(SparseEntry { offset, position, stored_at });
    }
    Some(Tables { sparse, fences })
}

/// Looks a key up. `Ok(Err(()))`: damaged; `Ok(Ok(None))`: no record has it.
pub(crate) fn find(
    file: &dyn DiskFile,
    footer: &Footer,
    tables: &Tables,
    hash: u64,
) -> io::Result<Result<Option<FoundKey>, Damaged>> {
    let behind = tables.fences.partition_point(|fence| *fence <= hash);
    let Some(block) = behind.checked_sub(1) else { return Ok(Ok(None)) };
    let bytes = read_exact_at(file, footer.blocks_at + (block * BLOCK_BYTES) as u64, BLOCK_BYTES)?;
    Ok(verified(&bytes).and_then(|block| find_in_block(block, hash)).ok_or(Damaged))
}

/// A part of an index does not verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damaged;

fn find_in_block(block: &[u8], hash: u64) -> Option<Option<FoundKey>> {
    let mut fields = Fields(block);
    let count = fields.u32()? as usize;
    let entries = fields.bytes(count.checked_mul(ENTRY_BYTES)?)?;
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let mut entry = Fields(entry);
        if entry.u64()? == hash {
            let (at, len, count) = (entry.u64()?, entry.u32()?, entry.u32()?);
            return Some(Some(FoundKey { count, list: KeyList::InFile { at, len } }));
        }
    }
    Some(None)
}

/// Reads a posting list. `Ok(None)`: damaged.
pub(crate) fn read_list(file: &dyn DiskFile, at: u64, len: u32) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = read_exact_at(file, at, len as usize)?;
    let body = verified(&bytes).map(<[u8]>::len);
    Ok(body.map(|len| {
        bytes.truncate(len);
        bytes
    }))
}

/// Verifies every part of an index file; `false` if any is damaged. Reads it whole.
pub(crate) fn verify(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<bool> {
    let Some((footer, _)) = open(file, header)? else { return Ok(false) };
    if read_tables(file, &footer)?.is_none() {
        return Ok(false);
    }
    for block in 0..footer.blocks {
        let bytes = read_exact_at(file, footer.blocks_at + block * BLOCK_BYTES as u64, BLOCK_BYTES)?;
        let Some(block) = verified(&bytes) else { return Ok(false) };
        let mut fields = Fields(block);
        let count = fields.u32().unwrap_or(0) as usize;
        let Some(entries) = fields.bytes(count * ENTRY_BYTES) else { return Ok(false) };
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let mut entry = Fields(&entry[8..]);
            let (Some(at), Some(len)) = (entry.u64(), entry.u32()) else { return Ok(false) };
            if at + u64::from(len) > footer.blocks_at || read_list(file, at, len)?.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
