//! The order of the stream: the live path and replays take turns, messages stand at their places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use newswire_protocol::reply::Gap;
use newswire_protocol::{CloseCode, GapReason};
use parking_lot::Mutex;

use super::command::tell_losses;
use super::lag::losses_of_set;
use super::replay::unsent;
use super::writer::Writer;
use super::{Asked, Reads, Session};
use crate::hub::Hub;
use crate::outbox::{EpochMark, GapMark, Item, Mode, Placed, PlacedKind, QueuedRun};
use crate::read::Page;
use crate::reader::Ready;
use crate::seeded::seeded_bug;

/// Attempts to move on in one turn, so that a search without matches lets others run.
pub(super) const STEPS: usize = 8;

/// What a round of turns came to.
pub(super) struct Turn {
    /// The live path has been handed on completely up to here.
    pub(super) live_at: u64,
    /// Something could go on at once.
    pub(super) more: bool,
}

/// What one turn of one source came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits for something else.
    Rest,
    /// Its share is used up.
    More,
}

impl Session {
    /// Lets the live path and one replay take turns by bytes until the budget is used or nothing can go on.
    pub(super) fn turns(&mut self, writer: &mut Writer<'_>, hub: &Mutex<Hub>) -> Turn {
        let share = (writer.room() / 4).max(1);
        let mut live_at = self.main_position();
        let mut more = true;
        for _ in 0..STEPS {
            if !more || writer.room() == 0 || self.closing.is_some() {
                break;
            }
            let main = self.main_turn(writer, share, hub, &mut live_at);
            let job = self.job_turn(writer, share, live_at, hub);
            more = main == Step::More || job == Step::More;
        }
        Turn { live_at, more }
    }

    fn main_position(&self) -> u64 {
        self.lag.as_ref().map_or(self.checkpoint.main_sent, |lag| lag.reader.position())
    }

    fn main_turn(
        &mut self,
        writer: &mut Writer<'_>,
        share: usize,
        hub: &Mutex<Hub>,
        live_at: &mut u64,
    ) -> Step {
        if self.lag.is_some() && !self.outbox.is_read_from_log() {
            self.lag = None;
        }
        if self.lag.is_none() {
            let step = self.live_turn(writer, share, live_at);
            if self.lag.is_none() {
                return step;
            }
        }
        let step = self.lag_turn(writer, share, hub);
        *live_at = self.main_position();
        step
    }

    /// Hands on what the hub pushed.
    fn live_turn(&mut self, writer: &mut Writer<'_>, share: usize, live_at: &mut u64) -> Step {
        let dispatched = self.dispatched.get();
        let taken = self.outbox.take(share.min(writer.room().max(1)));
        let some = !taken.is_empty();
        let same_epoch = !taken.iter().any(|item| matches!(item, Item::Epoch(_)));
        for item in taken.first.into_iter().chain(taken.others) {
            match item {
                Item::Run(run) => self.send_live(&run, writer),
                Item::Gap(gap) => self.send_gap(&gap, writer),
                Item::Placed(placed) => self.send_placed(*placed, writer),
                Item::Epoch(mark) => self.begin_epoch(*mark, writer),
            }
        }
        match taken.mode {
            Mode::TooSlow => {
                self.closing.get_or_insert((CloseCode::TooSlow, "too slow: the backlog is full"));
                return Step::Rest;
            }
            Mode::Lagging { from } if !some => self.fall_behind(from),
            Mode::Lagging { .. } | Mode::Live => {}
        }
        // What was dispatched counts in the epoch in which it was asked for.
        *live_at = if taken.drained && same_epoch { dispatched } else { self.checkpoint.main_sent };
        if some && !taken.drained { Step::More } else { Step::Rest }
    }

    fn send_live(&mut self, run: &QueuedRun, writer: &mut Writer<'_>) {
        let window = self.window.as_deref_mut().zip(run.packed.as_ref());
        match window.and_then(|(window, packed)| packed.frames(window, run.next, run.end)) {
            Some(frames) => writer.bytes(frames),
            None => writer.run(run),
        }
        self.checkpoint.main_sent = run.last_offset();
        self.tell(run.last_offset());
    }

    /// The client was sent this offset; without replays it is one to resume from.
    pub(super) fn tell(&mut self, offset: u64) {
        if self.jobs.is_empty() && self.joining == 0 {
            self.checkpoint.told = self.checkpoint.told.max(offset);
        }
    }

    /// Tells what the policy dropped, set by set.
    fn send_gap(&mut self, mark: &GapMark, writer: &mut Writer<'_>) {
        if seeded_bug!(GapUntold) {
            return;
        }
        let mut messages = self.form.nothing();
        for gap in &mark.sets {
            let channels: Vec<&str> = gap.channels.iter().map(|channel| &**channel).collect();
            let sub = self.sets.by_slot(gap.slot).and_then(|set| set.name.as_deref());
            let gap = Gap {
                channels: &channels,
                from: gap.first,
                to: gap.last,
                reason: GapReason::Backlog,
                epoch: Some(self.epoch),
            };
            messages.gap(&self.dispatched.told, sub, self.epoch, &gap);
            self.checkpoint.main_sent = self.checkpoint.main_sent.max(gap.to);
        }
        writer.messages(messages);
    }

    pub(super) fn send_placed(&mut self, placed: Placed, writer: &mut Writer<'_>) {
        placed.runs.iter().for_each(|run| writer.run(run));
        writer.messages(placed.messages);
        if let PlacedKind::CaughtUp { .. } = placed.what {
            self.joining -= 1;
        }
        if let PlacedKind::Answer { seq, starts } = placed.what {
            self.answered = seq;
            self.sets.purge(seq);
            if let Some(job) = self.jobs.iter_mut().find(|job| Some(job.id) == starts) {
                job.running = true;
            }
            // Answers keep the order of the commands: replies to what came between this one and the next go here.
            self.replies.flush(self.answered, writer);
        }
        self.tell(placed.at);
    }

    /// The log began anew here: every set is told, the live path goes on with the new end, replays begin again.
    fn begin_epoch(&mut self, mark: EpochMark, writer: &mut Writer<'_>) {
        self.epoch = mark.epoch;
        self.awaits_epoch = false;
        self.wish = None;
        self.generation = mark.generation.number;
        self.renew_spans(mark.generation);
        let oldest = mark.head.saturating_sub(1);
        let mut gaps: BTreeMap<(u8, u64), BTreeSet<String>> = BTreeMap::new();
        for ((slot, pattern), sub) in self.subs_at_front() {
            let missing_to = if sub.live { mark.dispatched } else { oldest };
            gaps.entry((slot, missing_to)).or_default().insert(pattern.to_string());
        }
        let mut messages = self.form.nothing();
        for ((slot, to), names) in gaps {
            let channels: Vec<String> = names.into_iter().collect();
            let sub = self.sets.by_slot(slot).and_then(|set| set.name.as_deref());
            let epoch = Some(mark.epoch);
            let gap = Gap { channels: &channels, from: 0, to, reason: GapReason::Epoch, epoch };
            messages.gap(&self.dispatched.told, sub, mark.epoch, &gap);
        }
        writer.messages(messages);
        for job in self.jobs.iter_mut().filter(|job| job.running) {
            job.restart(oldest, mark.dispatched, &self.principal);
        }
        self.checkpoint.main_sent = mark.dispatched;
        self.checkpoint.told = if self.jobs.is_empty() { mark.dispatched } else { 0 };
    }

    /// Hands on what a reader found.
    pub(super) fn send_read(&mut self, ready: Ready, main: bool, writer: &mut Writer<'_>) {
        match ready {
            Ready::Gap(messages) => writer.messages(messages),
            Ready::Run(run) if main => self.send_live(&run, writer),
            Ready::Run(run) => writer.run(&run),
        }
    }

    /// Gives a page to whom it was read for, if that still wants it.
    pub(super) fn take_page(&mut self, asked: &Asked, page: Page) {
        let (sets, told, epoch, form) = (&self.sets, &self.dispatched.told, self.epoch, self.form);
        let principal = &self.principal;
        match asked.by {
            Reads::Main => {
                let Some(lag) = &mut self.lag else { return };
                if !Arc::ptr_eq(lag.reader.selector(), &asked.selector) {
                    return;
                }
                let subs = &lag.subs;
                lag.reader.absorb(page, &Some, |lost| {
                    let mut messages = form.nothing();
                    let slots: BTreeSet<u8> = subs.keys().map(|(slot, _)| *slot).collect();
                    for slot in slots {
                        let sub = sets.by_slot(slot).and_then(|set| set.name.as_deref());
                        tell_losses(
                            &mut messages,
                            &losses_of_set(&lost, slot, subs, principal),
                            told,
                            sub,
                            epoch,
                        );
                    }
                    messages
                });
            }
            Reads::Job(id) => {
                let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) else { return };
                if !Arc::ptr_eq(job.reader.selector(), &asked.selector) {
                    return;
                }
                let (slot, asked_at, spans) = (job.slot, job.asked_at, &self.spans);
                let sub = sets.by_slot(slot).and_then(|set| set.name.as_deref());
                job.reader.absorb(page, &|run| unsent(run, slot, asked_at, spans), |lost| {
                    let mut messages = form.nothing();
                    tell_losses(&mut messages, &lost, told, sub, epoch);
                    messages
                });
            }
            Reads::Nobody => {}
            Reads::Plan(id) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
                    job.on_plan_page(&page, &self.principal);
                }
            }
        }
    }
}
