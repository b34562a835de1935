//! Compressed streams that many connections read: an event is compressed once for all who get the same events.
//!
//! A receiver's window holds what it was sent compressed, and nothing else. So a stream is cut into segments: at the
//! start of one the compressor forgets everything, and who begins to read there can read on. A connection is sent a
//! compressed event only if it was sent every one of the segment before it ([`Position`]); in all other cases, whatever
//! the reason (it came later, lagged, had events dropped, subscribes something else now), it is sent the plain frame,
//! which no window knows of. Nothing has to be told to the stream when a connection leaves it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use newswire_protocol::deflate::Deflater;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::event::Run;
use crate::index::GroupId;
use crate::seeded::seeded_bug;

/// Streams of one hub at once: each holds about 270 kB. Connections beyond them are sent plain frames.
pub const MAX_STREAMS: usize = 16;

/// What one connection has read of a segment: all of it, up to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// 0 is none.
    segment: u64,
    /// Events.
    read: u64,
}

/// The events of one set of groups.
pub(crate) struct PackedStream {
    state: Mutex<State>,
    /// Runs so far. Apart from the state, which is locked while a run is compressed: the hub must not wait for that.
    announced: AtomicU64,
    /// Somebody was sent plain frames because it did not read the segment from its start.
    awaited: AtomicBool,
    /// Numbers the segments of all streams that one connection may come to read.
    segments: Arc<AtomicU64>,
    /// [`HubConfig::segment_bytes`](crate::HubConfig::segment_bytes).
    segment_bytes: usize,
}

#[derive(Default)]
struct State {
    deflater: Option<Deflater>,
    position: Position,
    /// Of the segment.
    text_bytes: usize,
    /// The last run that was compressed.
    packed: u64,
}

/// The events of one batch in a stream. Compressed when the first connection comes to send them.
#[derive(Debug)]
pub(crate) struct PackedRun {
    stream: Arc<PackedStream>,
    number: u64,
    run: Run,
    frames: OnceLock<Option<Frames>>,
}

#[derive(Debug)]
struct Frames {
    /// Where the first event stands.
    at: Position,
    frames: Bytes,
    ends: Box<[u32]>,
}

impl PackedStream {
    fn new(segments: Arc<AtomicU64>, segment_bytes: usize) -> Self {
        let (state, announced, awaited) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Self { state, announced, awaited, segments, segment_bytes }
    }

    /// The next events. In the order in which they will be sent.
    fn announce(self: &Arc<Self>, run: Run) -> Arc<PackedRun> {
        let number = 1 + self.announced.fetch_add(1, Ordering::Relaxed);
        Arc::new(PackedRun { stream: Arc::clone(self), number, run, frames: OnceLock::new() })
    }

    /// Compresses a run; `None` if a later one was before it, which only somebody who is far behind asks for.
    fn pack(&self, number: u64, run: &Run) -> Option<Frames> {
        let mut state = self.state.lock();
        if number <= state.packed {
            return None;
        }
        // Where a run was left out nobody reads along any more.
        let broken = number != state.packed + 1;
        state.packed = number;
        if broken || (state.text_bytes >= self.segment_bytes && self.awaited.load(Ordering::Relaxed)) {
            state.position.segment = 0;
        }
        if state.position.segment == 0 {
            self.awaited.store(false, Ordering::Relaxed);
            state.position = Position { segment: 1 + self.segments.fetch_add(1, Ordering::Relaxed), read: 0 };
            state.text_bytes = 0;
            state.deflater.get_or_insert_default().restart();
        }
        let at = state.position;
        state.position.read += run.len() as u64;
        let mut frames = Vec::with_capacity(run.bytes() / 4);
        let mut ends = Vec::with_capacity(run.len());
        let State { deflater, text_bytes, .. } = &mut *state;
        let deflater = deflater.get_or_insert_default();
        for event in run.iter() {
            *text_bytes += event.json.len();
            deflater.push_text(&mut frames, event.json);
            ends.push(u32::try_from(frames.len()).expect("a batch is far below 4 GiB"));
        }
        Some(Frames { at, frames: frames.into(), ends: ends.into() })
    }
}

impl PackedRun {
    /// The frames of the events from the one to the other index of the run, and the reader's new position; `None` if it
    /// cannot read them.
    pub(crate) fn frames(&self, position: &mut Position, from: usize, to: usize) -> Option<Bytes> {
        let frames = self.frames.get_or_init(|| self.stream.pack(self.number, &self.run)).as_ref()?;
        let first = Position { read: frames.at.read + from as u64, ..frames.at };
        let reads_along = first == *position || first.read == 0 || seeded_bug!(WindowMissed);
        if !reads_along {
            self.stream.awaited.store(true, Ordering::Relaxed);
            return None;
        }
        *position = Position { read: frames.at.read + to as u64, ..frames.at };
        let end = |count: usize| count.checked_sub(1).map_or(0, |last| frames.ends[last] as usize);
        Some(frames.frames.slice(end(from)..end(to)))
    }
}

impl fmt::Debug for PackedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedStream").finish_non_exhaustive()
    }
}

/// Which stream a connection reads along with.
#[derive(Debug, Default)]
pub(crate) enum Reads {
    /// To be found out: its subscriptions changed.
    #[default]
    Unknown,
    /// None: there are too many.
    Nothing,
    Stream(Arc<PackedStream>),
}

impl Reads {
    /// The connection's subscriptions changed.
    pub(crate) fn forget(reads: Option<&mut Box<Self>>) {
        if let Some(reads) = reads {
            **reads = Self::Unknown;
        }
    }
}

/// The streams of one hub.
#[derive(Debug)]
pub(crate) struct PackedStreams {
    by_groups: FxHashMap<Box<[GroupId]>, Arc<PackedStream>>,
    segments: Arc<AtomicU64>,
    segment_bytes: usize,
    /// The runs of the present batch.
    present: Vec<Arc<PackedRun>>,
}

impl PackedStreams {
    pub(crate) fn new(segment_bytes: usize) -> Self {
        let (by_groups, segments) = (FxHashMap::default(), Arc::default());
        Self { by_groups, segments, segment_bytes, present: Vec::new() }
    }

    /// The run compressed, for a connection that is in these groups: the same for all that are in the same. Of one batch,
    /// such connections get the same run.
    pub(crate) fn read(
        &mut self,
        reads: &mut Reads,
        groups: impl FnOnce() -> Vec<GroupId>,
        run: &Run,
    ) -> Option<Arc<PackedRun>> {
        if let Reads::Unknown = reads {
            *reads = self.of(groups());
        }
        let Reads::Stream(stream) = reads else { return None };
        if let Some(known) = self.present.iter().find(|packed| Arc::ptr_eq(&packed.stream, stream)) {
            return Some(Arc::clone(known));
        }
        let packed = stream.announce(run.clone());
        self.present.push(Arc::clone(&packed));
        Some(packed)
    }

    /// The present batch is over.
    pub(crate) fn forget_batch(&mut self) {
        self.present.clear();
    }

    /// The stream of those who are in exactly these groups.
    fn of(&mut self, mut groups: Vec<GroupId>) -> Reads {
        groups.sort_unstable();
        groups.dedup();
        if let Some(stream) = self.by_groups.get(&*groups) {
            return Reads::Stream(Arc::clone(stream));
        }
        // Readers come and go, and take their streams along.
        self.by_groups.retain(|_, stream| Arc::strong_count(stream) > 1);
        if self.by_groups.len() >= MAX_STREAMS {
            return Reads::Nothing;
        }
        let stream = Arc::new(PackedStream::new(Arc::clone(&self.segments), self.segment_bytes));
        self.by_groups.insert(groups.into(), Arc::clone(&stream));
        Reads::Stream(stream)
    }
}
