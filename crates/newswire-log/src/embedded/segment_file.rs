//! A segment in use: its file, how much of it is committed, and its index wherever that is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::disk::{Disk, DiskFile, replace_file};
use super::format::{INDEX_EXTENSION, Salt};
use super::index::{ActiveIndex, Indexed, SparseEntry, Summary};
use super::index_file::{self, Footer, FoundKey, KeyList, Tables};
use super::postings;
use super::record::{self, Head, Record};
use super::scan::{Place, scan};
use super::segment::SegmentHeader;
use crate::event_log::ReadError;
use crate::lru::Lru;

/// The unit in which readers share the log begins with the first batch of the sparse table in each so many bytes.
const CHUNK_BYTES: u64 = 256 << 10;
/// How much is read at first where the length of a single record is not known.
const FIRST_READ_BYTES: usize = 1024;

/// The tables of sealed segments that are being read, shared by all segments of a log.
pub(crate) type TableCache = Mutex<Lru<u64, Arc<Tables>>>;

/// Bytes of tables kept: some hundred segments of 64 MiB.
pub(crate) const TABLE_CACHE_BYTES: usize = 16 << 20;

pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    salt: Salt,
    state: RwLock<State>,
    tables: Arc<TableCache>,
}

struct State {
    /// Committed bytes; readers never look beyond.
    end: u64,
    /// Of all that is committed, and of a batch that is being synced.
    index: Index,
}

enum Index {
    Memory(Box<ActiveIndex>),
    File { file: Arc<dyn DiskFile>, footer: Footer, summary: Arc<Summary>, len: u64 },
}

/// A piece of a segment, of whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chunk {
    pub(crate) sequence: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Bytes of a single record: its head, and its frame behind it.
pub(crate) struct ReadRecord {
    pub(crate) position: u64,
    bytes: Vec<u8>,
    /// Bytes read for it, at most.
    pub(crate) read: u64,
}

fn chunk_of(entry: &SparseEntry) -> u64 {
    entry.position / CHUNK_BYTES
}

impl Segment {
    /// A segment whose index is in memory: new, or just scanned.
    pub(crate) fn in_memory(
        header: SegmentHeader,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        end: u64,
        index: ActiveIndex,
        tables: Arc<TableCache>,
    ) -> Self {
        let state = RwLock::new(State { end, index: Index::Memory(Box::new(index)) });
        Self { header, path, file, salt: header.salt(), state, tables }
    }

    /// A sealed segment with its index file; `None` if that is missing or unsound.
    pub(crate) fn sealed(
        disk: &dyn Disk,
        header: SegmentHeader,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        end: u64,
        tables: Arc<TableCache>,
    ) -> io::Result<Option<Self>> {
        let index_file = match disk.open(&path.with_extension(INDEX_EXTENSION), super::disk::OpenMode::Read) {
            Ok(index_file) => index_file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((footer, summary)) = index_file::open(index_file.as_ref(), &header)? else {
            return Ok(None);
        };
        if footer.segment_len != end {
            return Ok(None);
        }
        let index =
            Index::File { len: index_file.len()?, file: index_file, footer, summary: Arc::new(summary) };
        let state = RwLock::new(State { end, index });
        Ok(Some(Self { header, path, file, salt: header.salt(), state, tables }))
    }

    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Committed bytes.
    pub(crate) fn end(&self) -> u64 {
        self.state.read().end
    }

    /// Bytes of segment and index.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.read();
        state.end + if let Index::File { len, .. } = &state.index { *len } else { 0 }
    }

    /// Sees the summary; under the lock if the segment is active, so be quick.
    pub(crate) fn summary<R>(&self, see: impl FnOnce(&Summary) -> R) -> R {
        let state = self.state.read();
        match &state.index {
            Index::Memory(index) => see(&index.summary),
            Index::File { summary, .. } => {
                let summary = summary.clone();
                drop(state);
                see(&summary)
            }
        }
    }

    /// Indexes records that stand behind the committed end. Nobody reads them before [`Self::commit`].
    pub(crate) fn stage<'a>(&self, events: impl Iterator<Item = Indexed<'a>>) {
        if let Index::Memory(index) = &mut self.state.write().index {
            events.for_each(|event| index.add(&event));
        }
    }

    /// What stands before `end` is committed.
    pub(crate) fn commit(&self, end: u64) {
        self.state.write().end = end;
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.state.read().index, Index::File { .. })
    }

    /// Writes the index of a segment that is no longer written to, and forgets the one in memory.
    pub(crate) fn seal(&self, disk: &dyn Disk) -> io::Result<()> {
        let bytes = {
            let state = self.state.read();
            let Index::Memory(index) = &state.index else { return Ok(()) };
            index_file::encode(index, &self.header, state.end)
        };
        let file = replace_file(disk, &self.path.with_extension(INDEX_EXTENSION), &bytes)?;
        let opened = index_file::open(file.as_ref(), &self.header)?;
        if let Some((footer, summary)) = opened {
            let len = bytes.len() as u64;
            self.state.write().index = Index::File { file, footer, summary: Arc::new(summary), len };
        }
        Ok(())
    }

    /// Replaces a damaged index file by what the segment itself tells.
    fn rebuild(&self) -> Result<(), ReadError> {
        let end = self.end();
        tracing::warn!(segment = %self.name(), "the index is damaged and is made again");
        let index = build_index(self.file.as_ref(), &self.header, end).map_err(|error| self.io(&error))?;
        let Ok(index) = index else { return Err(self.damaged(end)) };
        self.tables.lock().remove(&self.header.sequence);
        self.state.write().index = Index::Memory(Box::new(index));
        Ok(())
    }

    /// Runs a lookup on the index; if its file is damaged, once more on a rebuilt one.
    fn with_index<R>(
        &self,
        look: impl Fn(&Index) -> io::Result<Result<R, index_file::Damaged>>,
    ) -> Result<R, ReadError> {
        for attempt in 0..2 {
            match look(&self.state.read().index).map_err(|error| self.io(&error))? {
                Ok(found) => return Ok(found),
                Err(index_file::Damaged) if attempt == 0 => {}
                Err(index_file::Damaged) => break,
            }
            self.rebuild()?;
        }
        Err(ReadError::Damaged { file: self.name(), byte: 0 })
    }

    fn tables_of(
        &self,
        file: &dyn DiskFile,
        footer: &Footer,
    ) -> io::Result<Result<Arc<Tables>, index_file::Damaged>> {
        let sequence = self.header.sequence;
        if let Some(tables) = self.tables.lock().get(&sequence) {
            return Ok(Ok(tables));
        }
        let Some(tables) = index_file::read_tables(file, footer)? else {
            return Ok(Err(index_file::Damaged));
        };
        let tables = Arc::new(tables);
        self.tables.lock().insert(sequence, tables.clone(), tables.footprint());
        Ok(Ok(tables))
    }

    /// Sees the sparse table and the committed end.
    pub(crate) fn sparse<R>(&self, see: impl Fn(&[SparseEntry]) -> R) -> Result<R, ReadError> {
        self.with_index(|index| match index {
            Index::Memory(index) => Ok(Ok(see(&index.sparse))),
            Index::File { file, footer, .. } => {
                Ok(self.tables_of(file.as_ref(), footer)?.map(|tables| see(&tables.sparse)))
            }
        })
    }

    /// The list of a key; `None` if no record has it.
    pub(crate) fn find(&self, hash: u64) -> Result<Option<FoundKey>, ReadError> {
        self.with_index(|index| match index {
            Index::Memory(index) => Ok(Ok(index.keys.get(hash).map(|list| FoundKey {
                count: list.count(),
                list: KeyList::InMemory(list.bytes().to_vec()),
            }))),
            Index::File { file, footer, .. } => match self.tables_of(file.as_ref(), footer)? {
                Ok(tables) => index_file::find(file.as_ref(), footer, &tables, hash),
                Err(damaged) => Ok(Err(damaged)),
            },
        })
    }

    /// The committed positions in a list, ascending, and the bytes read for them.
    pub(crate) fn positions(&self, found: &FoundKey) -> Result<(Vec<u64>, u64), ReadError> {
        let end = self.end();
        let (mut positions, bytes) = self.with_index(|index| {
            let bytes = match (&found.list, index) {
                (KeyList::InMemory(bytes), _) => Some(bytes.clone()),
                (KeyList::InFile { at, len }, Index::File { file, .. }) => {
                    index_file::read_list(file.as_ref(), *at, *len)?
                }
                // The index was rebuilt after the list was found.
                (KeyList::InFile { .. }, Index::Memory(_)) => None,
            };
            let decoded = bytes.and_then(|bytes| {
                postings::decode(&bytes, found.count).map(|positions| (positions, bytes.len() as u64))
            });
            Ok(decoded.ok_or(index_file::Damaged))
        })?;
        positions.truncate(positions.partition_point(|position| *position < end));
        Ok((positions, bytes))
    }

    /// The positions of a key's records, ascending.
    pub(crate) fn positions_of(&self, hash: u64) -> Result<Vec<u64>, ReadError> {
        match self.find(hash)? {
            Some(found) => Ok(self.positions(&found)?.0),
            None => Ok(Vec::new()),
        }
    }

    /// The chunks that hold the offsets from `first` to `last`, ascending.
    pub(crate) fn chunks(&self, first: u64, last: u64) -> Result<Vec<Chunk>, ReadError> {
        let end = self.end();
        self.sparse(|sparse| {
            // Entries of commits after `end` was read are none of our business.
            let sparse = &sparse[..sparse.partition_point(|entry| entry.position < end)];
            let before = sparse.partition_point(|entry| entry.offset <= first).saturating_sub(1);
            let begins = |at: &usize| *at == 0 || chunk_of(&sparse[*at]) != chunk_of(&sparse[*at - 1]);
            let from = (0..=before).rev().find(begins).unwrap_or(0);
            let mut starts = (from..sparse.len()).filter(begins).map(|at| &sparse[at]).peekable();
            let mut chunks = Vec::new();
            while let Some(start) = starts.next().filter(|start| start.offset <= last) {
                let end = starts.peek().map_or(end, |next| next.position);
                chunks.push(Chunk { sequence: self.header.sequence, start: start.position, end });
            }
            chunks
        })
    }

    /// Reads the single record whose head stands at a position.
    pub(crate) fn read_record(&self, position: u64) -> Result<ReadRecord, ReadError> {
        let mut bytes = vec![0; FIRST_READ_BYTES];
        let got = self.file.read_at(&mut bytes, position).map_err(|error| self.io(&error))?;
        bytes.truncate(got);
        let head = Head::read(&bytes).ok_or_else(|| self.damaged(position))?;
        let frame = head.frame();
        let frame = bytes
            .get(frame.clone())
            .map(<[u8]>::to_vec)
            .map_or_else(|| self.read_more(Vec::new(), frame.len(), position + frame.start as u64), Ok)?;
        bytes.truncate(head.len());
        let mut bytes = self.read_more(bytes, head.len(), position)?;
        bytes.extend_from_slice(&frame);
        let read = (got + bytes.len()) as u64;
        Ok(ReadRecord { position, bytes, read })
    }

    /// Fills `bytes`, the first of those that stand at `position`, up to a length.
    fn read_more(&self, mut bytes: Vec<u8>, len: usize, position: u64) -> Result<Vec<u8>, ReadError> {
        let have = bytes.len();
        if have < len {
            bytes.resize(len, 0);
            let got = self.file.read_at(&mut bytes[have..], position + have as u64);
            if got.map_err(|error| self.io(&error))? < len - have {
                return Err(self.damaged(position));
            }
        }
        Ok(bytes)
    }

    /// Verifies what [`Self::read_record`] returned.
    pub(crate) fn decode_record<'a>(&self, read: &'a ReadRecord) -> Result<Record<'a>, ReadError> {
        record::decode(&read.bytes, self.salt).ok_or_else(|| self.damaged(read.position))
    }

    pub(crate) fn damaged(&self, byte: u64) -> ReadError {
        ReadError::Damaged { file: self.name(), byte }
    }

    pub(crate) fn io(&self, error: &io::Error) -> ReadError {
        ReadError::Io { file: self.name(), error: error.to_string() }
    }
}

/// Makes the index of a segment from its records. The inner error is the position of the first damage.
pub(crate) fn build_index(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    end: u64,
) -> io::Result<Result<ActiveIndex, u64>> {
    let mut index = ActiveIndex::new();
    let mut unreadable = None;
    let scanned = scan(file, header, end, &mut |place, record| {
        if !add_to_index(&mut index, place, record) {
            unreadable.get_or_insert(place.head);
        }
    })?;
    Ok(match unreadable {
        Some(position) => Err(position),
        None if scanned.end < end => Err(scanned.end),
        None => Ok(index),
    })
}

/// `false` if the record's head cannot be read.
pub(crate) fn add_to_index(index: &mut ActiveIndex, place: Place, record: &Record<'_>) -> bool {
    let Ok(meta) = newswire_core::MetaView::decode(record.meta) else { return false };
    let Record { offset, stored_at, .. } = *record;
    let (bytes, has_id) = (record.len(), record.dedup().is_some());
    index.add(&Indexed { offset, stored_at, batch: place.batch, position: place.head, bytes, has_id, meta });
    true
}
