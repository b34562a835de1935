//! The index of one segment: in memory while it is written to, in an `.idx` file once it is sealed.
//!
//! A *sparse* table gives a batch's place every 16 KiB, or more where batches are larger, by offset and time; *postings* give the positions of all
//! records that carry a key (a channel, an event type, an agent, a project); a *summary* tells of each channel what
//! retention and readers must know without looking into the segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use newswire_core::MetaView;
use newswire_protocol::UnixMicros;
use rustc_hash::FxHashMap;

use super::format::key_hash;
use super::postings::PostingList;

/// Bytes between two entries of the sparse table, about.
pub(crate) const SPARSE_BYTES: u64 = 16 << 10;
/// A segment with more distinct event types than this does not list them: type prefixes are then not indexed.
pub(crate) const MAX_LISTED_TYPES: usize = 4096;

pub(crate) const TAG_CHANNEL: u8 = b'c';
pub(crate) const TAG_TYPE: u8 = b't';
pub(crate) const TAG_AGENT: u8 = b'a';
pub(crate) const TAG_PROJECT: u8 = b'p';

/// The place of a batch that has events, and its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SparseEntry {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) stored_at: UnixMicros,
}

/// What a segment holds of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelSummary {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) last_at: UnixMicros,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// What a segment holds; small enough to stay in memory for every segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) channels: BTreeMap<Arc<str>, ChannelSummary>,
    /// `None` if there are too many to list.
    pub(crate) types: Option<BTreeSet<Arc<str>>>,
    pub(crate) events: u64,
    /// Of the first event; meaningless without events.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) last_at: UnixMicros,
    /// The newest event that carried an idempotency key; 0 if none did.
    pub(crate) last_id_at: UnixMicros,
}

/// One event as the index sees it.
pub(crate) struct Indexed<'a> {
    pub(crate) offset: u64,
    pub(crate) stored_at: UnixMicros,
    /// Of its batch in the segment.
    pub(crate) batch: u64,
    /// Of its record's head in the segment.
    pub(crate) position: u64,
    /// Of its record.
    pub(crate) bytes: usize,
    pub(crate) has_id: bool,
    pub(crate) meta: MetaView<'a>,
}

/// The index of a segment that is written to, or was until a moment ago.
#[derive(Debug)]
pub(crate) struct ActiveIndex {
    pub(crate) summary: Summary,
    pub(crate) sparse: Vec<SparseEntry>,
    pub(crate) keys: KeyIndex,
}

/// The posting lists of an index, by the hashes of their keys.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    places: FxHashMap<u64, u32>,
    lists: Vec<(u64, PostingList)>,
    /// The last key of each tag: events that follow each other often share it.
    last: [LastKey; 4],
}

#[derive(Debug, Default)]
struct LastKey {
    bytes: Vec<u8>,
    /// In [`KeyIndex::lists`]; `None` before the first.
    place: Option<u32>,
}

impl ActiveIndex {
    pub(crate) fn new() -> Self {
        let summary = Summary { types: Some(BTreeSet::new()), ..Summary::default() };
        Self { summary, sparse: Vec::new(), keys: KeyIndex::default() }
    }

    /// Adds an event; they come in the order of their positions.
    pub(crate) fn add(&mut self, event: &Indexed<'_>) {
        let due = self.sparse.last().is_none_or(|last| event.batch >= last.position + SPARSE_BYTES);
        if due {
            let Indexed { offset, batch, stored_at, .. } = *event;
            self.sparse.push(SparseEntry { offset, position: batch, stored_at });
        }
        self.keys.add(TAG_CHANNEL, event.meta.channel().as_bytes(), event.position);
        let same_type = self.keys.add(TAG_TYPE, event.meta.event_type().as_bytes(), event.position);
        self.summary.add(event, same_type);
        for agent in event.meta.agents() {
            self.keys.add(TAG_AGENT, agent, event.position);
        }
        for project in event.meta.projects() {
            self.keys.add(TAG_PROJECT, project, event.position);
        }
    }
}

impl KeyIndex {
    /// Adds a position to the list of a key. True if the last key of this tag was the same.
    fn add(&mut self, tag: u8, bytes: &[u8], position: u64) -> bool {
        let last = match tag {
            TAG_CHANNEL => &mut self.last[0],
            TAG_TYPE => &mut self.last[1],
            TAG_AGENT => &mut self.last[2],
            _ => &mut self.last[3],
        };
        let same = last.place.filter(|_| last.bytes == bytes);
        let place = same.unwrap_or_else(|| {
            let hash = key_hash(tag, bytes);
            let next = self.lists.len() as u32;
            let place = *self.places.entry(hash).or_insert(next);
            if place == next {
                self.lists.push((hash, PostingList::default()));
            }
            last.place = Some(place);
            last.bytes.clear();
            last.bytes.extend_from_slice(bytes);
            place
        });
        self.lists[place as usize].1.push(position);
        same.is_some()
    }

    pub(crate) fn get(&self, hash: u64) -> Option<&PostingList> {
        self.places.get(&hash).map(|place| &self.lists[*place as usize].1)
    }

    /// Every key's hash and list, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u64, PostingList)> {
        self.lists.iter()
    }
}

impl Summary {
    /// `same_type`: as the event before, so it is not new.
    fn add(&mut self, event: &Indexed<'_>, same_type: bool) {
        if self.events == 0 {
            self.first = event.offset;
        }
        self.events += 1;
        self.last = event.offset;
        self.last_at = event.stored_at;
        if event.has_id {
            self.last_id_at = event.stored_at;
        }
        self.add_channel(event);
        if !same_type {
            self.add_type(event.meta.event_type());
        }
    }

    fn add_channel(&mut self, event: &Indexed<'_>) {
        let bytes = event.bytes as u64;
        if let Some(channel) = self.channels.get_mut(event.meta.channel()) {
            channel.last = event.offset;
            channel.last_at = event.stored_at;
            channel.events += 1;
            channel.bytes += bytes;
            return;
        }
        let (offset, last_at) = (event.offset, event.stored_at);
        let summary = ChannelSummary { first: offset, last: offset, last_at, events: 1, bytes };
        self.channels.insert(event.meta.channel().into(), summary);
    }

    fn add_type(&mut self, event_type: &str) {
        let Some(types) = &mut self.types else { return };
        if types.contains(event_type) {
            return;
        }
        if types.len() == MAX_LISTED_TYPES {
            self.types = None;
        } else {
            types.insert(event_type.into());
        }
    }

    /// The listed event types with a prefix; `None` if they are not listed.
    pub(crate) fn types_with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> Option<impl Iterator<Item = &'a Arc<str>>> {
        let types = self.types.as_ref()?;
        Some(
            types
                .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
                .take_while(move |name| name.starts_with(prefix)),
        )
    }
}
