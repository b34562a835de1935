//! Puts the page of a read together: the same rules for every implementation.

use std::ops::Range;
use std::sync::Arc;

use newswire_core::{Batch, Direction, Lost, Page, Picks, ReadRequest, Run};
use newswire_protocol::Epoch;

use crate::floors::Floors;

/// The offsets that a read looks at, both inclusive. `first > last` is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Bounds {
    /// What a request asks for of a log with these ends; `since` still has to be looked up.
    pub(crate) fn of(request: &ReadRequest, head: u64, tail: u64) -> Self {
        let least_after =
            request.selector.entries().iter().map(|entry| entry.after).min().unwrap_or(u64::MAX);
        let wanted = least_after.saturating_add(1).max(head);
        match request.direction {
            Direction::Forward => Self {
                first: request.from.saturating_add(1).max(wanted),
                last: request.until.min(tail.saturating_sub(1)),
            },
            Direction::Backward => Self {
                first: request.until.max(wanted),
                last: request.from.saturating_sub(1).min(tail.saturating_sub(1)),
            },
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first > self.last
    }
}

/// Whether [`newswire_core::Selector::matches`] holds for every event, so that it need not be asked.
fn wants_everything(request: &ReadRequest) -> bool {
    request.direction == Direction::Forward
        && request.since.is_none()
        && request.selector.takes_all_after(request.from)
}

/// How many indexes at the start of a range a condition holds for that holds for none behind the first it fails.
fn count_while(range: &Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = usize::midpoint(low, high);
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - range.start
}

/// Collects matching events in the direction of the read until a budget is used up.
pub(crate) struct PageBuilder<'a> {
    request: &'a ReadRequest,
    floors: &'a Floors,
    bounds: Bounds,
    runs: Vec<Run>,
    bytes: usize,
    events: usize,
    scanned: u64,
    /// The last offset looked at.
    reached: Option<u64>,
    full: bool,
    /// Forward, and every event is wanted.
    is_unfiltered: bool,
}

impl<'a> PageBuilder<'a> {
    pub(crate) fn new(request: &'a ReadRequest, floors: &'a Floors, bounds: Bounds) -> Self {
        Self {
            request,
            floors,
            bounds,
            runs: Vec::new(),
            bytes: 0,
            events: 0,
            scanned: 0,
            reached: None,
            full: false,
            is_unfiltered: wants_everything(request),
        }
    }

    /// Looks at the events of a batch that lie within the bounds; batches come in the direction of the read.
    /// `false` once the page is full.
    pub(crate) fn examine(&mut self, batch: &Arc<Batch>) -> bool {
        let range =
            batch.index_after(self.bounds.first.saturating_sub(1))..batch.index_after(self.bounds.last);
        if self.is_unfiltered && batch.first() > self.floors.highest() && !range.is_empty() {
            return self.take(batch, range);
        }
        let mut picked = Vec::new();
        match self.request.direction {
            Direction::Forward => self.pick(batch, range, &mut picked),
            Direction::Backward => self.pick(batch, range.rev(), &mut picked),
        }
        if picked.is_empty() {
            return !self.full;
        }
        let whole_and_ascending = picked.len() == batch.len()
            && (self.request.direction == Direction::Forward || picked.len() == 1);
        let picks = if whole_and_ascending { Picks::All } else { Picks::Some(picked.into()) };
        self.runs.push(Run { batch: batch.clone(), picks });
        !self.full
    }

    /// Takes as many events as there is room for, where nothing about them decides: a replay of everything.
    fn take(&mut self, batch: &Arc<Batch>, range: Range<usize>) -> bool {
        let start = batch.frame_range(range.start).start;
        let room = self.request.max_bytes.saturating_sub(self.bytes);
        // As many as end within the room; the first of a page is taken however large it is.
        let fits = |index: usize| batch.frame_range(index).end - start <= room;
        let by_bytes = if fits(range.end - 1) { range.len() } else { count_while(&range, fits) };
        let by_events = self.request.max_events.max(1) - self.events;
        let taken = by_bytes.max(usize::from(self.events == 0)).min(by_events);
        self.full = taken < range.len() || taken == by_events;
        let Some(last) = taken.checked_sub(1).map(|before| range.start + before) else { return false };
        self.bytes += batch.frame_range(last).end - start;
        self.events += taken;
        self.reached = Some(batch.offset(last));
        let picks = match taken == batch.len() {
            true => Picks::All,
            false => Picks::Some((range.start..=last).map(|index| index as u32).collect()),
        };
        self.runs.push(Run { batch: batch.clone(), picks });
        !self.full
    }

    fn pick(&mut self, batch: &Batch, indexes: impl Iterator<Item = usize>, picked: &mut Vec<u32>) {
        for index in indexes {
            let event = batch.get(index);
            let too_old = self.request.since.is_some_and(|since| event.stored_at < since);
            if !too_old
                && self.is_retained(event.channel, event.offset)
                && self.request.selector.matches(&event)
            {
                let bytes = self.bytes + event.frame.len();
                if self.events > 0 && bytes > self.request.max_bytes {
                    self.full = true;
                    return;
                }
                self.bytes = bytes;
                self.events += 1;
                picked.push(index as u32);
            }
            self.reached = Some(event.offset);
            if self.events >= self.request.max_events.max(1) {
                self.full = true;
                return;
            }
        }
    }

    fn is_retained(&self, channel: &str, offset: u64) -> bool {
        offset > self.floors.highest() || offset > self.floors.of(channel)
    }

    /// Counts bytes looked at. `false` if that was the last of the budget, and something has been looked at.
    pub(crate) fn scan(&mut self, bytes: u64) -> bool {
        self.scanned += bytes;
        if self.scanned >= self.request.max_scan_bytes as u64 && self.reached.is_some() {
            self.full = true;
        }
        !self.full
    }

    /// The page. `end`: everything within the bounds was offered.
    pub(crate) fn finish(self, epoch: Epoch, lost: Vec<Lost>) -> Page {
        let end = !self.full || self.is_at_bound();
        let reached = match (self.request.direction, self.reached) {
            (_, Some(reached)) if !end => reached,
            (Direction::Forward, _) => self.bounds.last,
            (Direction::Backward, _) => self.bounds.first.min(self.request.from),
        };
        Page { epoch, runs: self.runs, reached, end, lost, scanned_bytes: self.scanned }
    }

    fn is_at_bound(&self) -> bool {
        match self.request.direction {
            Direction::Forward => self.reached.is_some_and(|reached| reached >= self.bounds.last),
            Direction::Backward => self.reached.is_some_and(|reached| reached <= self.bounds.first),
        }
    }
}
