//! What waits for one connection: events of the live path and the messages that stand between them.
//!
//! Shared by the hub, which fills it under its own lock, and the session, which empties it. Bounded: events by
//! [`Backlog::max_bytes`] with the stated policy, answers by the session, which takes no more commands while
//! [`MAX_PENDING_ANSWERS`] of them wait, the end of replays by the number of subscriptions.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use bytes::Bytes;
use newswire_protocol::Epoch;
use parking_lot::Mutex;

use crate::config::{Backlog, BacklogPolicy};
use crate::event::{BatchBuilder, Run};
use crate::packed::PackedRun;
use crate::seeded::seeded_bug;
use crate::subscriptions::Change;
pub(crate) use crate::told::{Dispatched, Told};

/// In-stream answers that may wait in an outbox before the session takes no more commands.
pub const MAX_PENDING_ANSWERS: usize = 24;

/// Sparse runs beyond this many are copied out of their batches, so that a few matching events of a connection that
/// does not read keep no large batches alive.
const SHARED_RUNS: usize = 16;

/// The sets of a connection, one bit each by their slot. 100 sets may live, and at most [`MAX_PENDING_ANSWERS`] more
/// wait for the answer that ends them.
pub(crate) type SetMask = u128;

/// The mailbox of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    pub(crate) figures: Figures,
}

/// What others may read of a connection at any time.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// The last event offset handed to the writer.
    pub(crate) last_sent: AtomicU64,
    /// Where a connection that reads from the log stands.
    pub(crate) position: AtomicU64,
    /// Events dropped by the backlog policy.
    pub(crate) dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Item>,
    /// Bytes of the events among the items.
    queued_bytes: usize,
    runs: usize,
    /// Epoch marks among the items.
    epochs: usize,
    mode: Mode,
    /// Under `drop_newest`: events are being dropped until there is room again.
    dropping: bool,
    waker: Option<Waker>,
}

/// How the connection gets its live events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The hub pushes them here.
    #[default]
    Live,
    /// The session reads them from ring or log; they were not pushed from beyond this offset on.
    Lagging {
        /// All matching events up to here were sent or stand in the queue.
        from: u64,
    },
    /// The policy closes the connection.
    TooSlow,
}

/// One thing to send.
#[derive(Debug)]
pub(crate) enum Item {
    Run(QueuedRun),
    Gap(Box<GapMark>),
    Placed(Box<Placed>),
    Epoch(Box<EpochMark>),
}

/// Events that match: a part of a run.
#[derive(Clone, Debug)]
pub(crate) struct QueuedRun {
    pub(crate) run: Run,
    /// The first event of the run that is still to be sent.
    pub(crate) next: usize,
    /// Behind the last one.
    pub(crate) end: usize,
    /// Bytes still to be sent.
    pub(crate) bytes: usize,
    pub(crate) sets: Sets,
    /// The whole run compressed, for a connection that may read it.
    pub(crate) packed: Option<Arc<PackedRun>>,
}

/// Which sets of the connection matched the events of a run.
#[derive(Clone, Debug)]
pub(crate) enum Sets {
    /// The same for all events.
    Same(SetMask),
    /// One mask for each event of the run.
    Each(Arc<[SetMask]>),
}

impl Sets {
    fn of(&self, nth: usize) -> SetMask {
        match self {
            Self::Same(mask) => *mask,
            Self::Each(masks) => masks[nth],
        }
    }
}

/// Messages with an exact place in the stream: behind every event up to `at`, before every later one.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) at: u64,
    /// The last events of a replay, which stand before the messages: behind all live ones that were queued before.
    pub(crate) runs: Vec<QueuedRun>,
    /// Whole text frames.
    pub(crate) frames: Bytes,
    /// What holds from here on.
    pub(crate) changes: Vec<Change>,
    pub(crate) what: PlacedKind,
}

impl Placed {
    fn bytes(&self) -> usize {
        self.frames.len() + self.runs.iter().map(|run| run.bytes).sum::<usize>()
    }
}

/// Why something was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlacedKind {
    /// The answer to a command, counted by the session; the replay it starts, if any.
    Answer { seq: u64, starts: Option<u64> },
    /// The end of this replay.
    CaughtUp { job: u64 },
}

/// The log began a new epoch here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochMark {
    pub(crate) epoch: Epoch,
    /// Oldest retained offset of the new epoch.
    pub(crate) head: u64,
    /// The last offset of the new epoch that will not be pushed.
    pub(crate) dispatched: u64,
    pub(crate) generation: Generation,
}

/// An epoch by the order in which the hub had them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// The last offset that was in the log before.
    pub(crate) start: u64,
}

/// Events were dropped here.
#[derive(Debug, Default)]
pub(crate) struct GapMark {
    pub(crate) sets: Vec<SetGap>,
}

/// The dropped events of one set.
#[derive(Debug)]
pub(crate) struct SetGap {
    pub(crate) slot: u8,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) channels: BTreeSet<Box<str>>,
}

impl GapMark {
    fn add(&mut self, mut mask: SetMask, offset: u64, channel: &str) {
        while mask != 0 {
            let slot = u8::try_from(mask.trailing_zeros()).expect("a mask has 128 bits");
            mask &= mask - 1;
            let set = match self.sets.iter_mut().position(|set| set.slot == slot) {
                Some(at) => &mut self.sets[at],
                None => {
                    self.sets.push(SetGap { slot, first: offset, last: offset, channels: BTreeSet::new() });
                    self.sets.last_mut().expect("just pushed")
                }
            };
            set.last = set.last.max(offset);
            set.first = set.first.min(offset);
            if !set.channels.contains(channel) {
                set.channels.insert(channel.into());
            }
        }
    }
}

impl QueuedRun {
    pub(crate) fn new(run: Run, bytes: usize, sets: Sets) -> Self {
        Self { next: 0, end: run.len(), run, bytes, sets, packed: None }
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.run.batch.offset(self.run.index(self.next))
    }

    /// The last event still to be sent.
    pub(crate) fn last_offset(&self) -> u64 {
        self.run.batch.offset(self.run.index(self.end - 1))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Cuts off the events that fit, at least one.
    pub(crate) fn split(&mut self, budget: usize) -> Self {
        let mut front = Self { bytes: 0, end: self.next, ..self.clone() };
        while front.end < self.end {
            let bytes = self.run.batch.frame_len(self.run.index(front.end));
            if front.bytes > 0 && front.bytes + bytes > budget {
                break;
            }
            front.bytes += bytes;
            front.end += 1;
        }
        self.next = front.end;
        self.bytes -= front.bytes;
        front
    }

    /// Drops the first event and tells its size.
    fn drop_first(&mut self, gap: &mut GapMark) -> usize {
        let index = self.run.index(self.next);
        let event = self.run.batch.get(index);
        gap.add(self.sets.of(self.next), event.offset, event.channel);
        let bytes = self.run.batch.frame_len(index);
        self.next += 1;
        self.bytes -= bytes;
        bytes
    }

    fn is_sparse(&self) -> bool {
        self.bytes * 4 < self.run.batch.footprint()
    }

    /// The same events in a batch of their own.
    fn copied(self) -> Self {
        let mut builder = BatchBuilder::with_capacity(self.end - self.next, self.bytes);
        for nth in self.next..self.end {
            builder.push_event(&self.run.batch, self.run.index(nth));
        }
        let sets = match self.sets {
            Sets::Same(mask) => Sets::Same(mask),
            Sets::Each(masks) => Sets::Each(masks[self.next..self.end].into()),
        };
        Self::new(Run::all(Arc::new(builder.finish())), self.bytes, sets)
    }
}

/// What a session took out of its outbox.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The first one stands alone: mostly there is one, and it needs no allocation then.
    pub(crate) first: Option<Item>,
    pub(crate) others: Vec<Item>,
    /// Nothing is left: with what was taken, everything dispatched so far has been handed over.
    pub(crate) drained: bool,
    pub(crate) mode: Mode,
}

impl Taken {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.first.iter().chain(&self.others)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Outbox {
    /// Who is to be woken when something comes.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut inner = self.inner.lock();
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
    }

    pub(crate) fn wake_later(&self) -> Option<Waker> {
        self.inner.lock().waker.take()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.inner.lock().queued_bytes
    }

    pub(crate) fn mode(&self) -> Mode {
        self.inner.lock().mode
    }

    /// Whether what is read from the log stands at the front of the stream: the connection lags, and no change of
    /// epoch waits to be told before.
    pub(crate) fn is_read_from_log(&self) -> bool {
        let inner = self.inner.lock();
        matches!(inner.mode, Mode::Lagging { .. }) && inner.epochs == 0
    }

    /// Puts matching events behind everything else, as the policy allows. Returns whom to wake.
    pub(crate) fn push_run(&self, run: QueuedRun, backlog: &Backlog) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.mode != Mode::Live {
            return None;
        }
        // One who has everything is not slow, however large a commit is: the bound is on what waits before it.
        let fits = inner.queued_bytes == 0 || inner.queued_bytes + run.bytes <= backlog.max_bytes;
        match backlog.policy {
            BacklogPolicy::DropNewest => {
                let dropped = inner.push_dropping_newest(run, backlog.max_bytes);
                self.count_dropped(dropped);
            }
            _ if fits => inner.enqueue(run),
            BacklogPolicy::CatchUp => inner.fall_behind(&run),
            BacklogPolicy::Disconnect => inner.give_up(),
            BacklogPolicy::DropOldest => {
                inner.enqueue(run);
                let dropped = inner.drop_oldest(backlog.max_bytes);
                self.count_dropped(dropped);
            }
        }
        inner.waker.take()
    }

    /// Puts messages behind everything else.
    pub(crate) fn push_placed(&self, placed: Placed) {
        self.inner.lock().push(Item::Placed(Box::new(placed)));
    }

    /// Gives the end of a replay, which was placed just now, its last events.
    pub(crate) fn fill_placed(&self, of: u64, runs: Vec<QueuedRun>) {
        for item in self.inner.lock().items.iter_mut().rev() {
            if let Item::Placed(placed) = item
                && placed.what == (PlacedKind::CaughtUp { job: of })
            {
                placed.runs = runs;
                return;
            }
        }
    }

    /// The log began anew: what was read from the old one ends here, and the hub pushes again.
    pub(crate) fn push_epoch(&self, mark: EpochMark) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if matches!(inner.mode, Mode::Lagging { .. }) {
            inner.mode = Mode::Live;
        }
        inner.epochs += 1;
        inner.push(Item::Epoch(Box::new(mark)));
        inner.waker.take()
    }

    /// Takes items from the front until their events fill the budget. While the connection lags, only what stands
    /// before a change of epoch is taken: the rest waits for its place, see [`Outbox::take_placed`].
    pub(crate) fn take(&self, budget: usize) -> Taken {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let (mut first, mut others) = (None, Vec::new());
        let mut add = |item| match &first {
            None => first = Some(item),
            Some(_) => others.push(item),
        };
        let mut left = budget;
        while left > 0 && (inner.mode == Mode::Live || inner.epochs > 0) {
            match inner.items.front_mut() {
                None => break,
                Some(Item::Run(run)) if run.bytes > left => {
                    let front = run.split(left);
                    left = left.saturating_sub(front.bytes);
                    inner.queued_bytes -= front.bytes;
                    if run.is_done() {
                        inner.items.pop_front();
                        inner.runs -= 1;
                    }
                    add(Item::Run(front));
                }
                Some(_) => {
                    let Some(item) = inner.items.pop_front() else { break };
                    match &item {
                        Item::Run(run) => {
                            left -= run.bytes;
                            inner.queued_bytes -= run.bytes;
                            inner.runs -= 1;
                        }
                        Item::Epoch(_) => inner.epochs -= 1,
                        Item::Placed(placed) => left = left.saturating_sub(placed.bytes()),
                        Item::Gap(_) => {}
                    }
                    // What holds at a change of epoch is told by what still waits behind it.
                    let last = matches!(item, Item::Epoch(_));
                    add(item);
                    if last {
                        break;
                    }
                }
            }
        }
        let drained = inner.mode == Mode::Live && inner.items.is_empty();
        Taken { first, others, drained, mode: inner.mode }
    }

    /// While the connection lags: the next messages whose place has been reached.
    pub(crate) fn take_placed(&self, position: u64) -> Option<Box<Placed>> {
        let mut inner = self.inner.lock();
        match inner.items.front() {
            Some(Item::Placed(placed)) if placed.at <= position => match inner.items.pop_front() {
                Some(Item::Placed(placed)) => Some(placed),
                _ => None,
            },
            _ => None,
        }
    }

    /// While the connection lags: the place of the next messages.
    pub(crate) fn next_place(&self) -> Option<u64> {
        self.inner.lock().items.iter().find_map(|item| match item {
            Item::Placed(placed) => Some(placed.at),
            _ => None,
        })
    }

    /// Calls `undo` with the changes that wait, the last first: turns what holds at the end of the queue into what
    /// holds at its front.
    pub(crate) fn undo_changes(&self, mut undo: impl FnMut(&Change)) {
        for item in self.inner.lock().items.iter().rev() {
            if let Item::Placed(placed) = item {
                placed.changes.iter().rev().for_each(&mut undo);
            }
        }
    }

    /// The session has read everything dispatched so far: the hub pushes again. `false` if an epoch began meanwhile
    /// or something waits for its place.
    pub(crate) fn rejoin(&self) -> bool {
        let mut inner = self.inner.lock();
        let may = matches!(inner.mode, Mode::Lagging { .. }) && inner.items.is_empty();
        if may {
            inner.mode = Mode::Live;
        }
        may
    }

    fn count_dropped(&self, dropped: u64) {
        if dropped > 0 {
            self.figures.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn enqueue(&mut self, run: QueuedRun) {
        let run = if self.runs >= SHARED_RUNS && run.is_sparse() { run.copied() } else { run };
        self.queued_bytes += run.bytes;
        self.runs += 1;
        self.push(Item::Run(run));
    }

    /// The room of most outboxes, who keep up, is one item; it stays, so that a delivery allocates nothing.
    fn push(&mut self, item: Item) {
        if self.items.capacity() == 0 {
            self.items.reserve_exact(1);
        }
        self.items.push_back(item);
    }

    /// Leaves the live path: events go, answers keep their place.
    fn fall_behind(&mut self, arriving: &QueuedRun) {
        // Events before a change of epoch cannot be read again: they stay, within the bound they were accepted under.
        let fixed = self.items.iter().rposition(|item| matches!(item, Item::Epoch(_))).map_or(0, |at| at + 1);
        let first_unsent = self.items.range(fixed..).find_map(|item| match item {
            Item::Run(run) => Some(run.first_offset()),
            _ => None,
        });
        self.mode = Mode::Lagging { from: first_unsent.unwrap_or_else(|| arriving.first_offset()) - 1 };
        let kept: VecDeque<Item> = std::mem::take(&mut self.items)
            .into_iter()
            .enumerate()
            .filter(|(at, item)| *at < fixed || !matches!(item, Item::Run(_)))
            .map(|(_, item)| item)
            .collect();
        self.items = kept;
        let runs = |item: &Item| match item {
            Item::Run(run) => Some(run.bytes),
            _ => None,
        };
        self.queued_bytes = self.items.iter().filter_map(runs).sum();
        self.runs = self.items.iter().filter_map(runs).count();
    }

    fn give_up(&mut self) {
        self.mode = Mode::TooSlow;
        self.items = VecDeque::new();
        (self.queued_bytes, self.runs, self.epochs) = (0, 0, 0);
    }

    fn push_dropping_newest(&mut self, mut run: QueuedRun, max_bytes: usize) -> u64 {
        // Full is full until half of it has gone: not a gap for each event that happens to fit.
        if self.dropping && self.queued_bytes > max_bytes / 2 {
            return self.drop_rest(run);
        }
        self.dropping = false;
        if self.queued_bytes == 0 || self.queued_bytes + run.bytes <= max_bytes {
            self.enqueue(run);
            return 0;
        }
        let room = max_bytes.saturating_sub(self.queued_bytes);
        if run.run.batch.frame_len(run.run.index(run.next)) <= room {
            let fitting = run.split(room);
            self.enqueue(fitting);
        }
        self.drop_rest(run)
    }

    fn drop_rest(&mut self, mut run: QueuedRun) -> u64 {
        self.dropping = true;
        if !matches!(self.items.back(), Some(Item::Gap(_))) {
            self.items.push_back(Item::Gap(Box::default()));
        }
        let Some(Item::Gap(gap)) = self.items.back_mut() else { return 0 };
        let mut dropped = 0;
        while !run.is_done() {
            run.drop_first(gap);
            dropped += 1;
        }
        dropped
    }

    fn drop_oldest(&mut self, max_bytes: usize) -> u64 {
        let mut dropped = 0;
        while self.queued_bytes > max_bytes {
            let Some(at) = self.items.iter().position(|item| matches!(item, Item::Run(_))) else { break };
            let merges = at > 0 && matches!(self.items[at - 1], Item::Gap(_));
            let mut mark = Box::<GapMark>::default();
            if merges && let Item::Gap(before) = &mut self.items[at - 1] {
                mark = std::mem::take(before);
            }
            let Item::Run(run) = &mut self.items[at] else { break };
            while self.queued_bytes > max_bytes && !run.is_done() {
                self.queued_bytes -= run.drop_first(&mut mark);
                dropped += 1;
            }
            let emptied = run.is_done();
            self.place_gap(at, mark, merges, emptied);
        }
        dropped
    }

    /// Puts the gap before the run at `at`, or in its place if it is empty.
    fn place_gap(&mut self, at: usize, mark: Box<GapMark>, merges: bool, emptied: bool) {
        if emptied {
            self.items.remove(at);
            self.runs -= 1;
        }
        if merges {
            self.items[at - 1] = Item::Gap(mark);
        } else {
            let place = if seeded_bug!(AnswerLosesPlace) { 0 } else { at };
            self.items.insert(place, Item::Gap(mark));
        }
    }
}
