//! What waits for one connection: events of the live path and the messages that stand between them.
//!
//! Shared by the hub, which fills it under its own lock, and the session, which empties it. Bounded: events by
//! [`Backlog::max_bytes`] with the stated policy, answers by the session, which takes no more commands while
//! [`MAX_PENDING_ANSWERS`] of them wait, the end of replays by the number of subscriptions.
//!
//! While its connection has everything and only live events can follow, an outbox is armed: who fills it also writes what
//! it holds to the socket, see [`direct`].

mod direct;
mod items;
mod policy;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::{Backlog, BacklogPolicy};
use crate::event::Run;
use crate::subscriptions::Change;
pub(crate) use crate::told::{Dispatched, Told};
pub use direct::{DirectSink, Flushed, MAX_SLICES, TURN_BYTES};
pub(crate) use items::{EpochMark, GapMark, Generation, Item, Placed, PlacedKind, QueuedRun, SetMask, Sets};

/// In-stream answers that may wait in an outbox before the session takes no more commands.
pub const MAX_PENDING_ANSWERS: usize = 24;

/// Sparse runs beyond this many are copied out of their batches, so that a few matching events of a connection that
/// does not read keep no large batches alive.
const SHARED_RUNS: usize = 16;

/// The mailbox of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    /// In place of the hub's.
    own_backlog: Option<Box<Backlog>>,
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
    /// Others than the session may write what waits. Then there is a waker and a sink, the mode is live, and no rest waits.
    armed: bool,
    waker: Option<Waker>,
    /// Kept from the first time that the outbox was armed.
    sink: Option<Arc<dyn DirectSink>>,
    /// The end of a frame that was begun, to be written before anything else.
    rest: Option<Box<Bytes>>,
}

/// Who is to do something about what was put into an outbox.
#[derive(Debug)]
pub(crate) enum Rouse {
    /// Nobody: its connection lags, or somebody was roused before.
    Nobody,
    /// The connection's task.
    Task(Waker),
    /// Whoever put it there: the outbox is armed, see [`Outbox::write_directly`].
    Writer,
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
    pub(crate) fn with_backlog(backlog: Option<Backlog>) -> Self {
        Self { own_backlog: backlog.map(Box::new), ..Self::default() }
    }

    /// The bound that holds here, where the hub's is this one.
    pub(crate) fn backlog<'a>(&'a self, of_hub: &'a Backlog) -> &'a Backlog {
        self.own_backlog.as_deref().unwrap_or(of_hub)
    }

    pub(crate) fn wake_later(&self) -> Option<Waker> {
        self.inner.lock().disarm()
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

    /// Puts matching events behind everything else, as the policy allows. Returns who is to see to them.
    pub(crate) fn push_run(&self, run: QueuedRun, backlog: &Backlog) -> Rouse {
        let mut inner = self.inner.lock();
        if inner.mode != Mode::Live {
            return Rouse::Nobody;
        }
        let first = inner.items.is_empty();
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
        if inner.armed && inner.mode == Mode::Live {
            return if first { Rouse::Writer } else { Rouse::Nobody };
        }
        inner.disarm().map_or(Rouse::Nobody, Rouse::Task)
    }

    /// Puts messages behind everything else.
    pub(crate) fn push_placed(&self, placed: Placed) {
        self.inner.lock().push(Item::Placed(Box::new(placed)));
    }

    /// Gives the end of a replay, which was placed just now, its last events.
    pub(crate) fn fill_placed(&self, of: u64, runs: Vec<QueuedRun>) {
        for item in self.inner.lock().items.iter_mut().rev() {
            if let Item::Placed(placed) = item
                && matches!(placed.what, PlacedKind::CaughtUp { job, .. } if job == of)
            {
                placed.runs = runs;
                return;
            }
        }
    }

    /// Leaves of the last events of the replays of a set that wait for their places what `kept` leaves of them; it is
    /// given the offset of the answer that began the replay.
    pub(crate) fn sift_placed(&self, of: u8, kept: impl Fn(u64, Run) -> Option<Run>) {
        for item in &mut self.inner.lock().items {
            if let Item::Placed(placed) = item
                && let PlacedKind::CaughtUp { slot, asked_at, .. } = placed.what
                && slot == of
            {
                let runs = std::mem::take(&mut placed.runs).into_iter();
                placed.runs = runs
                    .filter_map(|queued| kept(asked_at, queued.run))
                    .map(|run| QueuedRun::new(run.clone(), run.bytes(), Sets::Same(0)))
                    .collect();
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
        inner.disarm()
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
    /// From here on only the session writes. Returns whom to wake for it.
    fn disarm(&mut self) -> Option<Waker> {
        self.armed = false;
        self.waker.take()
    }

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
}
