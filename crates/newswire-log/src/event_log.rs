//! [`EventLog`]: the one log of a deployment, and everything its promises mention.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::{EventHead, LogView, Page, ReadRequest};
use newswire_protocol::{Encoded, Epoch, UnixMicros};

use crate::dedup::Dedup;
use crate::follow::CommitReceiver;
use crate::retention::RetentionOptions;

/// Bytes of a packed head, mostly; a longer one is moved once.
const ROOM_FOR_HEAD: usize = 128;

/// Events to be appended together, in this order. Their offsets are given by the log.
///
/// They are one piece of memory, packed by whoever publishes: publishers are many, and the log's writer, which is one, is
/// left with copying it from front to back.
#[derive(Clone, Debug, Default)]
pub struct NewEvents {
    /// Of each event: the packed head, then the JSON without the digits of its offset.
    bytes: Vec<u8>,
    events: Vec<Packed>,
    on_stored: Option<Arc<dyn OnStored>>,
}

/// Told of an append whose events were stored, before followers and publisher learn of it.
///
/// Called by the log's writer, which everybody waits for: it must only take a note.
pub trait OnStored: fmt::Debug + Send + Sync {
    /// The first event that was stored of this append has this offset. Not called where nothing was stored.
    fn stored(&self, first: u64);
}

/// Where an event stands in the bytes, behind the one before it.
#[derive(Clone, Copy, Debug)]
struct Packed {
    json_at: usize,
    /// Where the digits go.
    offset_at: usize,
    end: usize,
    dedup: Option<Dedup>,
}

/// One of [`NewEvents`].
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    /// The head as [`EventHead::encode_meta`] packs it.
    pub(crate) meta: &'a [u8],
    /// The JSON before the digits of the offset.
    pub before: &'a [u8],
    /// The JSON behind them.
    pub behind: &'a [u8],
    pub(crate) dedup: Option<&'a Dedup>,
}

impl NewEvents {
    /// Adds an event. `head` is what readers select by, `encoded` what will be sent to them. `dedup` is present if the
    /// publisher gave an id of its own: the same key again, inside the window, stores nothing.
    pub fn push(&mut self, head: &EventHead, encoded: &Encoded, dedup: Option<Dedup>) {
        head.encode_meta(&mut self.bytes);
        let json_at = self.bytes.len();
        self.bytes.extend_from_slice(&encoded.json);
        let (offset_at, end) = (json_at + encoded.offset_at, self.bytes.len());
        self.events.push(Packed { json_at, offset_at, end, dedup });
    }

    /// Adds an event whose head is packed already and whose JSON is cut where its offset's digits go.
    pub(crate) fn push_packed(&mut self, event: NewEvent<'_>) {
        self.bytes.extend_from_slice(event.meta);
        let json_at = self.bytes.len();
        self.bytes.extend_from_slice(event.before);
        let offset_at = self.bytes.len();
        self.bytes.extend_from_slice(event.behind);
        self.events.push(Packed { json_at, offset_at, end: self.bytes.len(), dedup: event.dedup.copied() });
    }

    /// One event.
    pub fn one(head: &EventHead, encoded: &Encoded, dedup: Option<Dedup>) -> Self {
        let room = ROOM_FOR_HEAD + encoded.json.len();
        let mut events =
            Self { bytes: Vec::with_capacity(room), events: Vec::with_capacity(1), on_stored: None };
        events.push(head, encoded, dedup);
        events
    }

    /// Has this told when the log has stored them.
    pub fn on_stored(&mut self, told: Arc<dyn OnStored>) {
        self.on_stored = Some(told);
    }

    /// Who is to be told.
    pub(crate) fn told(&self) -> Option<&dyn OnStored> {
        self.on_stored.as_deref()
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of all heads and JSON.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = NewEvent<'_>> {
        let starts = std::iter::once(0).chain(self.events.iter().map(|packed| packed.end));
        self.events.iter().zip(starts).map(|(packed, start)| {
            let Packed { json_at, offset_at, end, dedup } = packed;
            NewEvent {
                meta: &self.bytes[start..*json_at],
                before: &self.bytes[*json_at..*offset_at],
                behind: &self.bytes[*offset_at..*end],
                dedup: dedup.as_ref(),
            }
        })
    }
}

/// All events of several lists, one list behind the other. Nobody is told when they are stored.
impl FromIterator<Self> for NewEvents {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        let mut all = Self::default();
        for list in lists {
            let shift = all.bytes.len();
            all.bytes.extend_from_slice(&list.bytes);
            all.events.extend(list.events.iter().map(|packed| Packed {
                json_at: packed.json_at + shift,
                offset_at: packed.offset_at + shift,
                end: packed.end + shift,
                dedup: packed.dedup,
            }));
        }
        all
    }
}

/// Where and when somebody else stored an event, for a log that is a copy of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its offset.
    pub offset: u64,
    /// When they stored it. A time before that of the event before it counts as that one.
    pub stored_at: UnixMicros,
}

/// What became of one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log.
    Stored {
        /// Where.
        offset: u64,
    },
    /// The same event, by key and fingerprint, was there already; nothing was stored.
    Duplicate {
        /// Where the first one is.
        offset: u64,
    },
    /// Another event had the same key inside the window; nothing was stored.
    Conflict {
        /// Where that other event is.
        offset: u64,
    },
}

/// Why an append did not happen. All of its events share the fate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No space. None of the events is in the log, now or after a crash; a later append tries again.
    #[error("storage is full")]
    StorageFull,
    /// The log takes no more events until it is opened again. Events that were under way when it stopped were not
    /// acknowledged: they may or may not be found after the restart, so repeat them under the same event id.
    #[error("the log has stopped: {reason}")]
    Stopped {
        /// What happened, with file and error.
        reason: Arc<str>,
    },
    /// The log was closed before the append reached it. None of the events is in the log.
    #[error("the log is closed")]
    Closed,
    /// The append is larger than the log takes in one piece. Split it.
    #[error("an append of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// An append at given places whose offsets do not ascend, or that lie before the log's end.
    #[error("offset {offset} is before {expected}, the least that may follow")]
    OffsetTaken {
        /// The first offending offset.
        offset: u64,
        /// The least that was possible in its place.
        expected: u64,
    },
    /// The engine that keeps the log is not there, or did not answer in time. The events may or may not be stored, now or
    /// later: repeat them under the same event id.
    #[error("not stored for sure: {reason}; repeat under the same event_id")]
    Unavailable {
        /// What happened.
        reason: Arc<str>,
    },
    /// The log has given every offset below 2^53.
    #[error("all offsets are used up")]
    OutOfOffsets,
}

/// Why a read did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A record that was durable cannot be read back.
    #[error("{file} is damaged at byte {byte}; run `newswire check` on the data directory")]
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        byte: u64,
    },
    /// The file system failed.
    #[error("reading {file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: String,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// Why a trim did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrimError {
    /// The index of what is to be trimmed could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new floors could not be made durable; nothing was trimmed.
    #[error("writing {file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: String,
    },
}

/// What to trim by hand; retention does the same by policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Only this channel; `None` is all.
    pub channel: Option<Arc<str>>,
    /// Every event up to this offset, inclusive. Beyond the end means all there are.
    pub up_to: u64,
}

/// Whether the log takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// It does.
    Ok,
    /// The last append found no space. The next one tries again.
    Full,
    /// It does not, until it is opened again. Reads go on.
    Stopped {
        /// What happened.
        reason: Arc<str>,
    },
    /// The engine that keeps it is out of reach, or this node is still fetching what it has: nothing new is shown here
    /// meanwhile. It heals by itself; reads go on with what there is.
    Behind {
        /// What happened.
        reason: Arc<str>,
    },
}

/// Figures of the log at one moment. Counters start at zero when the log is opened.
#[derive(Clone, Debug)]
pub struct LogStats {
    /// The current epoch.
    pub epoch: Epoch,
    /// Oldest retained offset, `tail` if there is none.
    pub head: u64,
    /// Next offset to be written.
    pub tail: u64,
    /// Retained events.
    pub events: u64,
    /// Bytes in segments, indexes and saved ids.
    pub bytes: u64,
    /// Segment files; 0 in memory.
    pub segments: usize,
    /// Batches committed.
    pub commits: u64,
    /// Events committed.
    pub committed_events: u64,
    /// Bytes of committed batches as written.
    pub committed_bytes: u64,
    /// Ids in the dedup window.
    pub dedup_ids: usize,
    /// When the last batch was committed.
    pub last_commit_at: Option<UnixMicros>,
    /// How often following the engine that keeps the log was interrupted; 0 where the log is kept here.
    pub interruptions: u64,
    /// Whether it takes events.
    pub health: LogHealth,
}

/// One channel that has, or had, events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStats {
    /// Its name.
    pub name: Arc<str>,
    /// Oldest retained offset.
    pub first: u64,
    /// Newest retained offset.
    pub last: u64,
    /// Retained events.
    pub events: u64,
    /// Their bytes as stored; where a segment is trimmed in part, by its average.
    pub bytes: u64,
}

/// What one commit was.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Events in the batch.
    pub events: usize,
    /// Publishers' appends in the batch.
    pub appends: usize,
    /// Bytes written.
    pub bytes: usize,
    /// How long the write took.
    pub write: Duration,
    /// How long the sync took; zero where this commit was not synced.
    pub sync: Duration,
}

/// Hears of commits, for metrics. Called on the writer: return fast, never block.
pub trait Observer: Send + Sync + 'static {
    /// A batch is durable and visible.
    fn on_commit(&self, commit: &Commit);
    /// An append was refused.
    fn on_refused(&self, _error: &AppendError) {}
    /// Retention removed so many events.
    fn on_trim(&self, _events: u64) {}
}

/// The log: one order over all channels, from which live delivery, replay and history are served.
///
/// **Ordering.** Offsets ascend strictly, beginning at 1, over all channels. Events of one append keep their order and
/// lie next to each other. Appends are ordered by the first poll of their futures.
///
/// **Atomicity.** An append is committed as a whole or not at all, also across a crash.
///
/// **Durability.** An append resolves only after its events are durable (as the implementation defines it: synced to
/// disk, or merely in memory) and after the batch was handed to every follower. Nothing is visible to [`Self::read`],
/// [`LogView::tail`] or a follower before it is durable.
///
/// **Zero.** Offset 0 is before every event: reading from 0 forward reads all; `tail` of an empty new log is 1, and
/// equals `head`.
///
/// **Retention.** Trimmed events are never returned again, and [`LogView::lost`] tells of them for ever.
pub trait EventLog: LogView + Send + Sync + 'static {
    /// Appends events; the results stand in their order.
    ///
    /// Nothing happens before the first poll. Dropping the future before it resolved leaves it open whether the events
    /// are stored: it does not undo. Waits while the bounded queue before the writer is full.
    ///
    /// The epoch in which a result's offset holds is [`LogView::epoch`]. It changes while a log is open only where an
    /// engine elsewhere keeps it, and lost events; appends that were under way then fail.
    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>>;

    /// Reads a page. Blocks on the disk: call it off the async threads. Safe to call from many threads.
    ///
    /// Whatever the budgets, a page examines at least one event if there is one, so repeating with the page's `reached`
    /// as the new `from` comes to the end. Backward, `since` bounds the read below.
    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError>;

    /// Every batch committed from now on in this epoch, in order, none missing; [`CommitReceiver::start`] is the first
    /// offset it can bring. It ends with the epoch ([`CommitReceiver::epoch`]), or when the log is closed. The receiver's queue is bounded and the writer **waits** for it when it is full: drain it promptly, or
    /// drop it.
    fn follow(&self) -> CommitReceiver;

    /// Makes events up to an offset disappear; returns how many. Blocks on the disk.
    fn trim(&self, trim: &Trim) -> Result<u64, TrimError>;

    /// Applies the retention policy now; returns how many events went. It is also applied by itself, periodically.
    /// Blocks on the disk.
    fn retain(&self) -> Result<u64, TrimError>;

    /// Waits until this node shows what somebody else may have seen already on another: everything up to `offset` of
    /// `epoch`. `false` where it could not be had in time and may be there all the same; `true` also where no such
    /// epoch or offset exists. A log that nobody shares has everything that anybody saw, and answers at once.
    fn settle(&self, _epoch: Option<Epoch>, _offset: u64) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(true))
    }

    /// Whether several nodes show this log, of which another one may be ahead ([`Self::settle`]).
    fn is_copy(&self) -> bool {
        false
    }

    /// The most events that one append may have.
    fn max_append_events(&self) -> usize {
        usize::MAX
    }

    /// Fewer events than this are stored sooner by appends one after the other than by one of them all. 0 where one append
    /// is always the better choice.
    fn gathers_from(&self) -> usize {
        0
    }

    /// What people call that which keeps the log: `embedded`, `memory`, or the name of an engine.
    fn engine(&self) -> &'static str;

    /// Replaces the retention policy, from the next time that it is applied on; returns whether there is one to replace.
    /// The size of segments stays what it was when the log was opened.
    fn set_retention(&self, _retention: RetentionOptions) -> bool {
        false
    }

    /// Figures for metrics and health.
    fn stats(&self) -> LogStats;

    /// Every channel that has retained events, by name.
    fn channel_stats(&self) -> Vec<ChannelStats>;

    /// Whether it takes events, and if not, why.
    fn health(&self) -> LogHealth;

    /// Commits what waits, makes all durable and stops. Later appends are refused with [`AppendError::Closed`], reads
    /// go on where the implementation can. Blocks until done; closing twice is no error. Dropping the log closes it.
    fn close(&self);
}
