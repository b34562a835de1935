//! What a subscriber may ask for after a lost connection, and which events it has had already.
//!
//! Pure: told what was asked and what arrived, it answers what to ask next. No socket, no clock.
//!
//! The rule it lives by: a position is *safe* when everything owed up to it has arrived.
//! - One set on a connection arrives in offset order, so every event is a safe position, in a replay too.
//! - With several sets, a replay may run beside live events; then only a `checkpoint` (all sets) and a `caught_up`
//!   (its set) are safe, and events beyond the safe position are remembered one by one, so that what a second
//!   replay repeats is not delivered twice. Once no set replays, events come in order and are safe positions again.

use std::collections::BTreeSet;
use std::time::Duration;

use newswire_protocol::Epoch;

/// At most this many offsets are remembered beyond the safe position. Overflow: the lowest is forgotten, and may be
/// delivered a second time if its set replays again; nothing is lost.
pub(crate) const MAX_REMEMBERED: usize = 1 << 18;

/// A place in the log from which everything can be resumed: all up to and with `offset` has been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The incarnation of the log in which `offset` means something.
    pub epoch: Epoch,
    /// The last offset that needs no repeating; 0 is before the first event.
    pub offset: u64,
}

/// Where a set of subscriptions begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    #[default]
    Live,
    /// With the first retained event after `offset`. Give the epoch where it is known: without it, an offset of
    /// another incarnation of the log passes for one of this.
    After {
        /// Exclusive; 0 is everything retained.
        offset: u64,
        /// The epoch the offset was seen in.
        epoch: Option<Epoch>,
    },
    /// With the first event that the server stored in this last stretch of time.
    SinceAgo(Duration),
    /// With the first event that the server stored at or after this RFC 3339 time.
    SinceTime(String),
    /// With the last n events of each channel.
    History(u64),
}

impl From<Position> for Start {
    fn from(position: Position) -> Self {
        Self::After { offset: position.offset, epoch: Some(position.epoch) }
    }
}

/// Whether the consumer gets an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Deliver,
    Repeat,
}

/// The rest of a `history` replay that a lost connection cut off: what of it lay in `from..=to` is not asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutHistory {
    pub(crate) set: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The command is under way.
    Asked,
    /// Answered; its replay runs until `caught_up`.
    Replaying {
        end: u64,
    },
    Live,
}

#[derive(Debug)]
struct Set {
    start: Start,
    /// What was asked on this connection.
    asked: Start,
    phase: Phase,
    /// Everything that this set is owed up to here has arrived. None: not known yet, so the start is asked for again.
    done: Option<u64>,
    /// Last event of an unfinished `history` replay.
    history_reached: Option<u64>,
}

/// The memory of one subscription over all its connections.
#[derive(Debug)]
pub(crate) struct Resume {
    epoch: Option<Epoch>,
    sets: Vec<Set>,
    /// Delivered offsets beyond the least `done`; only used with several sets.
    remembered: BTreeSet<u64>,
}

impl Resume {
    pub(crate) fn new(starts: impl IntoIterator<Item = Start>) -> Self {
        let sets = starts
            .into_iter()
            .map(|start| Set {
                asked: start.clone(),
                phase: Phase::Asked,
                done: match start {
                    Start::After { offset, .. } => Some(offset),
                    _ => None,
                },
                history_reached: None,
                start,
            })
            .collect();
        Self { epoch: None, sets, remembered: BTreeSet::new() }
    }

    /// A connection stands: what to ask for, one start a set, `since_begin` after the subscription was made.
    pub(crate) fn connect(&mut self, since_begin: Duration) -> (Vec<Start>, Vec<CutHistory>) {
        let mut cuts = Vec::new();
        for (index, set) in self.sets.iter_mut().enumerate() {
            if let (Some(reached), Phase::Replaying { end }, None) =
                (set.history_reached, set.phase, set.done)
            {
                // Asking for the history again could skip what arrived meanwhile; asking for all after `reached` could
                // bring millions that nobody asked for. What is owed for certain begins at the answer's end.
                set.done = Some(end);
                if reached < end {
                    cuts.push(CutHistory { set: index, from: reached + 1, to: end });
                }
            }
            set.history_reached = None;
            set.phase = Phase::Asked;
            set.asked = match (set.done, &set.start) {
                (Some(offset), start) => Start::After { offset, epoch: self.epoch.or(given_epoch(start)) },
                // The stretch was counted back from the first attempt.
                (None, Start::SinceAgo(ago)) => Start::SinceAgo(*ago + since_begin),
                (None, start) => start.clone(),
            };
        }
        (self.sets.iter().map(|set| set.asked.clone()).collect(), cuts)
    }

    /// The answer to the subscribe command of `set`: the log ended at `end`.
    pub(crate) fn subscribed(&mut self, set: usize, end: u64, epoch: Epoch) {
        let known = self.epoch.or_else(|| self.sets.get(set).and_then(|set| given_epoch(&set.asked)));
        self.epoch.get_or_insert(epoch);
        let renewed = known.is_some_and(|known| known != epoch);
        if renewed {
            self.new_epoch(epoch);
        }
        let Some(set) = self.sets.get_mut(set) else { return };
        set.phase = Phase::Replaying { end };
        match set.asked {
            Start::Live => {
                set.phase = Phase::Live;
                set.done = Some(end);
            }
            Start::After { .. } => {}
            // Begins in the new epoch like in any other: with what it asked for, not with the oldest event.
            Start::SinceAgo(_) | Start::SinceTime(_) | Start::History(_) => {
                if renewed {
                    set.done = None;
                }
            }
        }
    }

    /// An event arrived.
    pub(crate) fn event(&mut self, offset: u64) -> Verdict {
        if let [set] = self.sets.as_mut_slice() {
            return set.in_order(offset);
        }
        if offset <= self.done_by_all() || !self.remembered.insert(offset) {
            return Verdict::Repeat;
        }
        if self.sets.iter().all(|set| set.phase == Phase::Live) {
            for set in &mut self.sets {
                set.done = set.done.max(Some(offset));
            }
            self.forget_done();
            return Verdict::Deliver;
        }
        for set in self.sets.iter_mut().filter(|set| set.in_history()) {
            // Perhaps another set's; then its history is called cut off although it had not begun, never the reverse.
            set.history_reached = set.history_reached.max(Some(offset));
        }
        if self.remembered.len() > MAX_REMEMBERED {
            self.remembered.pop_first();
        }
        Verdict::Deliver
    }

    /// The replay of `set` is over; it went as far as `offset`.
    pub(crate) fn caught_up(&mut self, set: usize, offset: u64) {
        if let Some(set) = self.sets.get_mut(set) {
            set.phase = Phase::Live;
            set.history_reached = None;
            set.done = set.done.max(Some(offset));
        }
        self.forget_done();
    }

    /// Everything that any answered set matches up to `offset` has arrived.
    pub(crate) fn checkpoint(&mut self, offset: u64) {
        for set in &mut self.sets {
            if set.phase != Phase::Asked && !set.in_history() {
                set.done = set.done.max(Some(offset));
            }
        }
        self.forget_done();
    }

    /// The server said `gap` with the reason `epoch`: for one set where it names one, else for all. What may be missing
    /// ends at `to`, and the stream goes on behind it.
    pub(crate) fn epoch_gap(&mut self, set: Option<usize>, epoch: Option<Epoch>, to: u64) {
        if let Some(epoch) = epoch.filter(|epoch| self.epoch != Some(*epoch)) {
            self.new_epoch(epoch);
        }
        // Else an offset lay beyond the end of this very epoch.
        for (index, one) in self.sets.iter_mut().enumerate() {
            if set.is_none_or(|set| set == index) {
                one.done = Some(to);
                one.history_reached = None;
            }
        }
    }

    /// From where all sets can be resumed; None while a replay without a known position runs.
    pub(crate) fn position(&self) -> Option<Position> {
        let least = self.sets.iter().map(|set| set.done).min().flatten()?;
        Some(Position { epoch: self.epoch?, offset: least })
    }

    fn new_epoch(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
        self.remembered.clear();
        for set in &mut self.sets {
            set.done = Some(0);
            set.history_reached = None;
        }
    }

    fn done_by_all(&self) -> u64 {
        self.sets.iter().map(|set| set.done.unwrap_or(0)).min().unwrap_or(0)
    }

    fn forget_done(&mut self) {
        let done = self.done_by_all();
        if self.remembered.first().is_some_and(|lowest| *lowest <= done) {
            self.remembered = self.remembered.split_off(&(done + 1));
        }
    }
}

impl Set {
    /// What arrives now may be old events, picked by number: an offset among them says nothing about those between.
    fn in_history(&self) -> bool {
        self.done.is_none()
            && matches!((&self.asked, self.phase), (Start::History(_), Phase::Replaying { .. }))
    }

    /// The only set of its connection: its events come in offset order.
    fn in_order(&mut self, offset: u64) -> Verdict {
        if self.done.max(self.history_reached).is_some_and(|reached| offset <= reached) {
            return Verdict::Repeat;
        }
        match self.phase {
            // The picked ones end where the log ended; a replay that goes on beyond that is complete there.
            Phase::Replaying { end } if self.in_history() && offset <= end => {
                self.history_reached = Some(offset);
            }
            _ => self.done = Some(offset),
        }
        Verdict::Deliver
    }
}

fn given_epoch(start: &Start) -> Option<Epoch> {
    match start {
        Start::After { epoch, .. } => *epoch,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
