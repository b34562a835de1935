//! What stands in an outbox.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use newswire_protocol::Epoch;

use crate::event::{BatchBuilder, Picks, Run};
use crate::notice::Messages;
use crate::packed::PackedRun;
use crate::subscriptions::Change;

/// The sets of a connection, one bit each by their slot. 100 sets may live, and at most [`MAX_PENDING_ANSWERS`] more
/// wait for the answer that ends them.
pub(crate) type SetMask = u128;

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
    pub(super) fn of(&self, nth: usize) -> SetMask {
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
    pub(crate) messages: Messages,
    /// What holds from here on.
    pub(crate) changes: Vec<Change>,
    pub(crate) what: PlacedKind,
}

impl Placed {
    pub(super) fn bytes(&self) -> usize {
        self.messages.weight() + self.runs.iter().map(|run| run.bytes).sum::<usize>()
    }
}

/// Why something was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlacedKind {
    /// The answer to a command, counted by the session; the replay it starts, if any.
    Answer { seq: u64, starts: Option<u64> },
    /// The end of this replay.
    CaughtUp {
        job: u64,
        slot: u8,
        /// The offset of the answer that began it.
        asked_at: u64,
    },
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
    pub(super) fn add(&mut self, mut mask: SetMask, offset: u64, channel: &str) {
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

    /// Where the frames still to be sent stand among those of the batch, in order; neighbours as one.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = Range<usize>> {
        let (run, batch, mut nth) = (&self.run, &self.run.batch, self.next);
        std::iter::from_fn(move || {
            let first = (nth < self.end).then(|| run.index(nth))?;
            let mut last = first;
            if let Picks::All = run.picks {
                last = self.end - 1;
                nth = self.end;
            } else {
                nth += 1;
                while nth < self.end && run.index(nth) == last + 1 {
                    last += 1;
                    nth += 1;
                }
            }
            Some(batch.frame_range(first).start..batch.frame_range(last).end)
        })
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
    pub(super) fn drop_first(&mut self, gap: &mut GapMark) -> usize {
        let index = self.run.index(self.next);
        let event = self.run.batch.get(index);
        gap.add(self.sets.of(self.next), event.offset, event.channel);
        let bytes = self.run.batch.frame_len(index);
        self.next += 1;
        self.bytes -= bytes;
        bytes
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.bytes * 4 < self.run.batch.footprint()
    }

    /// The same events in a batch of their own.
    pub(super) fn copied(self) -> Self {
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
