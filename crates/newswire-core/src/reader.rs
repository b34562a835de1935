//! A position that moves forward through ring and log, with at most one page in hand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;

use crate::config::SessionConfig;
use crate::event::Run;
use crate::hub::Hub;
use crate::notice::Messages;
use crate::outbox::{QueuedRun, Sets};
use crate::read::{Direction, Page, ReadRequest};
use crate::ring::Slice;
use crate::seeded::seeded_bug;
use crate::selector::Selector;
use crate::variant::Variant;
use crate::view::Lost;

/// Events of one page; its bytes bound it, this only bounds its bookkeeping.
const PAGE_EVENTS: usize = 65_536;

/// Reads what a selector wants, in order.
#[derive(Debug)]
pub(crate) struct Reader {
    selector: Arc<Selector>,
    /// Everything up to here has been examined; what of it is not yet handed on is in `ready`.
    reached: u64,
    /// Everything up to here has been handed on.
    sent: u64,
    /// Nothing handed on yet: still looking for the first event stored at or after this time.
    since: Option<UnixMicros>,
    ready: VecDeque<Ready>,
    losses: Losses,
    /// The losses as they were told before the gap that is in hand.
    losses_before: Option<Losses>,
}

/// Something to hand on.
#[derive(Debug)]
pub(crate) enum Ready {
    /// What was lost before the events of the page.
    Gap(Messages),
    Run(QueuedRun),
}

/// What became of an attempt to move on.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The position moved, perhaps with events.
    Moved,
    /// The log must be read.
    Read(ReadRequest),
    /// The hub is in another epoch: nothing can be read before the stream is told.
    OtherEpoch,
}

impl Reader {
    /// Begins behind this offset.
    pub(crate) fn new(selector: Arc<Selector>, from: u64) -> Self {
        Self {
            selector,
            reached: from,
            sent: from,
            since: None,
            ready: VecDeque::new(),
            losses: Losses::default(),
            losses_before: None,
        }
    }

    pub(crate) fn since(mut self, since: UnixMicros) -> Self {
        self.since = Some(since);
        self
    }

    /// Counts these losses as known.
    pub(crate) fn with_losses(mut self, losses: Losses) -> Self {
        self.losses = losses;
        self
    }

    pub(crate) fn selector(&self) -> &Arc<Selector> {
        &self.selector
    }

    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Everything up to here has been examined.
    pub(crate) fn reached(&self) -> u64 {
        self.reached
    }

    /// Everything up to here has been handed on.
    pub(crate) fn position(&self) -> u64 {
        if self.ready.is_empty() { self.reached } else { self.sent }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Wants something else from the present position on. What is in hand is given back and will be read again.
    pub(crate) fn select(&mut self, selector: Arc<Selector>) {
        self.reached = self.position();
        if let (Some(Ready::Gap(_)), Some(before)) = (self.ready.front(), self.losses_before.take()) {
            self.losses = before;
        }
        self.ready.clear();
        self.selector = selector;
    }

    /// Begins anew behind this offset.
    pub(crate) fn restart(&mut self, from: u64) {
        *self = Self::new(Arc::clone(&self.selector), from);
    }

    /// Moves on towards `until`, which must have been dispatched. Call it with nothing in hand.
    pub(crate) fn fetch(
        &mut self,
        until: u64,
        hub: &Mutex<Hub>,
        epoch: Epoch,
        config: &SessionConfig,
        wanted: &dyn Fn(Run) -> Option<Run>,
    ) -> Fetched {
        if until <= self.reached {
            return Fetched::Moved;
        }
        let slice = {
            let hub = hub.lock();
            if hub.epoch() != epoch {
                return Fetched::OtherEpoch;
            }
            hub.ring_slice(self.reached, until, 2 * config.page_bytes)
        };
        if self.selector.entries().is_empty() {
            self.moved_to(until);
            return Fetched::Moved;
        }
        match slice {
            Some(slice) => {
                self.scan(&slice, until, wanted);
                Fetched::Moved
            }
            None => Fetched::Read(ReadRequest {
                selector: Arc::clone(&self.selector),
                direction: Direction::Forward,
                from: self.reached,
                since: self.since,
                until,
                max_bytes: config.page_bytes,
                max_events: PAGE_EVENTS,
                max_scan_bytes: config.page_scan_bytes,
            }),
        }
    }

    /// Takes the matching events of a piece of the ring.
    pub(crate) fn scan(&mut self, slice: &Slice, until: u64, wanted: &dyn Fn(Run) -> Option<Run>) {
        let from = self.reached;
        // Who is told of losses by the names it gave may have lost nothing: what is there it gets.
        let are_losses_exact = self.selector.may_know_trims() || seeded_bug!(RowsHeldBack);
        for batch in &slice.batches {
            let run = Run::matching(batch, |event| {
                (event.offset > from && event.offset <= until)
                    && self.since.is_none_or(|since| event.stored_at >= since)
                    && self.selector.matches(event)
                    && !(are_losses_exact && self.losses.has(event.channel, event.offset))
            });
            let own = &self.selector.principal().variant;
            let variant = if seeded_bug!(RingUnmasked) { &Variant::Full } else { own };
            self.keep(run.map(|run| run.shown(variant)).and_then(wanted));
        }
        self.moved_to(slice.reached);
    }

    /// Takes a page that was read for the present selector. `gaps` tells losses.
    pub(crate) fn absorb(
        &mut self,
        page: Page,
        wanted: &dyn Fn(Run) -> Option<Run>,
        gaps: impl FnOnce(Vec<Loss>) -> Messages,
    ) {
        let first_found = page.runs.first().and_then(|run| run.iter().next()).map(|event| event.offset);
        let nothing_before = first_found.unwrap_or(page.reached + 1);
        let before = self.losses.clone();
        let lost = self.losses.note(&page.lost, self.reached, &self.selector, nothing_before);
        if !lost.is_empty() {
            self.losses_before = Some(before);
            self.ready.push_back(Ready::Gap(gaps(lost)));
        }
        for run in page.runs {
            self.keep(wanted(run));
        }
        self.moved_to(page.reached);
    }

    /// Hands on the next piece, about `budget` bytes.
    pub(crate) fn take(&mut self, budget: usize) -> Option<Ready> {
        match self.ready.front_mut()? {
            Ready::Run(run) if run.bytes > budget => {
                let front = run.split(budget);
                if run.is_done() {
                    self.ready.pop_front();
                }
                self.since = None;
                self.sent = front.last_offset();
                Some(Ready::Run(front))
            }
            _ => {
                let ready = self.ready.pop_front()?;
                if let Ready::Run(run) = &ready {
                    self.since = None;
                    self.sent = run.last_offset();
                }
                Some(ready)
            }
        }
    }

    /// Hands on all events that are in hand.
    pub(crate) fn take_runs(&mut self) -> Vec<QueuedRun> {
        let run = |ready| match ready {
            Ready::Run(run) => Some(run),
            Ready::Gap(_) => None,
        };
        self.ready.drain(..).filter_map(run).collect()
    }

    fn keep(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            let bytes = run.bytes();
            self.ready.push_back(Ready::Run(QueuedRun::new(run, bytes, Sets::Same(0))));
        }
    }

    fn moved_to(&mut self, reached: u64) {
        self.sent = self.sent.max(self.reached);
        self.reached = self.reached.max(reached);
    }
}

/// A stretch of offsets in which events of a channel were trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) channel: Arc<str>,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What was told of trimmed events, so that each loss is told once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    told: BTreeMap<Arc<str>, u64>,
}

impl Losses {
    /// Counts these as known without telling them.
    pub(crate) fn known(lost: &[Lost]) -> Self {
        Self { told: lost.iter().map(|lost| (Arc::clone(&lost.channel), lost.to)).collect() }
    }

    /// The highest offset of the channel that was told to be lost; 0 if none was.
    pub(crate) fn told(&self, channel: &str) -> u64 {
        self.told.get(channel).copied().unwrap_or_default()
    }

    /// What was told beyond this offset.
    pub(crate) fn beyond(&self, offset: u64) -> impl Iterator<Item = Lost> {
        let told = self.told.iter().filter(move |(_, to)| **to > offset);
        told.map(|(channel, to)| Lost { channel: Arc::clone(channel), to: *to })
    }

    /// Whether the event was told to be lost: the ring may still have what the log has trimmed.
    fn has(&self, channel: &str, offset: u64) -> bool {
        !self.told.is_empty() && offset <= self.told(channel)
    }

    /// Counts these as known too.
    pub(crate) fn add(&mut self, losses: &[Loss]) {
        for loss in losses {
            let told = self.told.entry(Arc::clone(&loss.channel)).or_default();
            *told = loss.to.max(*told);
        }
    }

    /// The losses beyond `from` that were not told yet; they count as told now.
    ///
    /// No event was found, and none will be, between `from` and `nothing_before`: channels that ended there share
    /// one stretch, so that a trim of the whole log is one gap and not one for each channel.
    pub(crate) fn note(
        &mut self,
        lost: &[Lost],
        from: u64,
        selector: &Selector,
        nothing_before: u64,
    ) -> Vec<Loss> {
        let mut losses: Vec<Loss> = Vec::new();
        for Lost { channel, to } in lost {
            let Some(after) = selector.wants(channel) else { continue };
            let from = self.told(channel).max(after).max(from);
            if *to > from {
                losses.push(Loss { channel: Arc::clone(channel), from: from + 1, to: *to });
            }
        }
        for loss in &losses {
            self.told.insert(Arc::clone(&loss.channel), loss.to);
        }
        let shared = losses.iter().map(|loss| loss.to).filter(|to| *to < nothing_before).max();
        for loss in &mut losses {
            if loss.to < nothing_before {
                loss.to = shared.unwrap_or(loss.to);
            }
        }
        losses
    }
}

/// Channels lost over the same stretch, told together: by stretch in offset order.
pub(crate) fn by_stretch<'a>(losses: impl Iterator<Item = &'a Loss>) -> BTreeMap<(u64, u64), Vec<&'a str>> {
    let mut stretches: BTreeMap<(u64, u64), Vec<&'a str>> = BTreeMap::new();
    for loss in losses {
        stretches.entry((loss.from, loss.to)).or_default().push(&loss.channel);
    }
    stretches
}
