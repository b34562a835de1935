//! Replays: their turns beside the live path, and the last step onto it.

use std::sync::Arc;

use newswire_protocol::reply::Echo;
use parking_lot::Mutex;

use super::job::{Job, JobEntry};
use super::stream::{STEPS, Step};
use super::writer::Writer;
use super::{Reads, Session, Span};
use crate::event::Run;
use crate::grants::Action;
use crate::hub::Hub;
use crate::notice::Messages;
use crate::outbox::{Mode, Placed, PlacedKind};
use crate::reader::Fetched;
use crate::seeded::seeded_bug;
use crate::subscriptions::Change;

impl Session {
    /// Gives one replay its turn, then passes the turn on.
    pub(super) fn job_turn(
        &mut self,
        writer: &mut Writer<'_>,
        share: usize,
        live_at: u64,
        hub: &Mutex<Hub>,
    ) -> Step {
        let mut step = Step::Rest;
        for _ in 0..self.jobs.len() {
            let before = (writer.used(), self.jobs.len());
            self.turn = if self.turn < self.jobs.len() { self.turn } else { 0 };
            let in_hand = self.jobs.iter().position(|job| job.reader.has_ready());
            let index = in_hand.unwrap_or(self.turn);
            step = self.job_moves(index, writer, share, live_at, hub);
            let pages_left = self.jobs.get(index).is_some_and(|job| job.reader.has_ready());
            if !pages_left && self.jobs.len() == before.1 {
                self.turn = index + 1;
            }
            if step == Step::More || (writer.used(), self.jobs.len()) != before || self.jobs.is_empty() {
                return Step::More;
            }
            if pages_left {
                return step;
            }
        }
        step
    }

    /// A replay never overtakes the live path: whoever takes the highest offset received for the position of what is
    /// live misses nothing.
    fn job_moves(
        &mut self,
        index: usize,
        writer: &mut Writer<'_>,
        share: usize,
        live_at: u64,
        hub: &Mutex<Hub>,
    ) -> Step {
        let end = writer.used() + share;
        for _ in 0..STEPS {
            if writer.used() >= end || writer.room() == 0 {
                return Step::More;
            }
            let Some(job) = self.jobs.get_mut(index).filter(|job| job.running) else { return Step::Rest };
            if let Some(ready) = job.reader.take(share) {
                self.send_read(ready, false, writer);
                continue;
            }
            let busy = self.asked.is_some() || self.wish.is_some() || self.awaits_epoch;
            if let Some(plan) = &job.plan {
                let request =
                    plan.request(&self.principal, self.config.page_bytes, self.config.page_scan_bytes);
                if let Some(request) = request.filter(|_| !busy) {
                    self.wish = Some((Reads::Plan(job.id), request));
                }
                return Step::Rest;
            }
            let reached = job.reader.reached();
            let until = match &self.lag {
                Some(lag) => lag.reader.position(),
                None if matches!(self.outbox.mode(), Mode::Lagging { .. }) => return Step::Rest,
                None => match self.join_live(index, hub) {
                    Joined::Done => return Step::More,
                    Joined::Rests => return Step::Rest,
                    Joined::NotYet if seeded_bug!(ReplayOvertakes) => self.dispatched.get(),
                    Joined::NotYet => live_at.min(self.dispatched.get()),
                },
            };
            if until <= reached {
                return Step::Rest;
            }
            let Self { jobs, spans, epoch, config, .. } = self;
            let Some(job) = jobs.get_mut(index) else { return Step::Rest };
            let (slot, asked_at) = (job.slot, job.asked_at);
            match job.reader.fetch(until, hub, *epoch, config, &|run| unsent(run, slot, asked_at, spans)) {
                Fetched::Moved => {}
                Fetched::Read(request) => {
                    let by = Reads::Job(job.id);
                    if !busy {
                        self.wish = Some((by, request));
                    }
                    return Step::Rest;
                }
                Fetched::OtherEpoch => return Step::Rest,
            }
        }
        Step::More
    }

    /// The last step of a replay onto the live path, under the hub's lock: from the next batch on its channels are
    /// pushed, and `caught_up` has its place before them.
    fn join_live(&mut self, index: usize, hub: &Mutex<Hub>) -> Joined {
        let Some(job) = self.jobs.get_mut(index) else { return Joined::Rests };
        let mut hub = hub.lock();
        let at = hub.dispatched();
        if hub.epoch() != self.epoch || self.outbox.mode() != Mode::Live {
            return Joined::Rests;
        }
        if job.reader.reached() > at {
            hub.wake_at_next_batch(self.id);
            return Joined::Rests;
        }
        let Some(mut slice) = hub.ring_slice(job.reader.reached(), at, self.config.hop_bytes) else {
            return Joined::NotYet;
        };
        if slice.reached < at {
            return Joined::NotYet;
        }
        if seeded_bug!(SeamOffByOne) && slice.batches.len() == 1 {
            slice.batches.clear();
        }
        let mut job = self.jobs.remove(index);
        let changes = self.set_live(&job, &mut hub);
        let messages = self.caught_up(&job, at);
        let what = PlacedKind::CaughtUp { job: job.id, slot: job.slot, asked_at: job.asked_at };
        self.outbox.push_placed(Placed { at, runs: Vec::new(), messages, changes, what });
        self.joining += 1;
        drop(hub);
        // The place is taken, and only this session empties the outbox: others need not wait while events are matched.
        let spans = &self.spans;
        job.reader.scan(&slice, at, &|run| unsent(run, job.slot, job.asked_at, spans));
        self.outbox.fill_placed(job.id, job.reader.take_runs());
        self.note_joined(&job, at);
        Joined::Done
    }

    /// A replay meets the live path behind which the connection reads: the two go on as one.
    pub(super) fn join_lagging(&mut self, index: usize, at: u64, writer: &mut Writer<'_>, hub: &Mutex<Hub>) {
        let job = self.jobs.remove(index);
        let changes = self.set_live(&job, &mut hub.lock());
        let gaps = self.change_lag(&changes, at, job.reader.losses());
        // Replays of the set that were over before the connection fell behind still wait, further on, to send their
        // last events: those that are now read live before that are not sent again.
        let live = |entry: &JobEntry| {
            let (pattern, filter) = (entry.pattern.clone(), Arc::clone(&entry.filter));
            let granted = self.principal.grants.of(Action::Subscribe).clone();
            Span { slot: job.slot, pattern, filter, granted, from: at, to: u64::MAX }
        };
        let spans: Vec<Span> = job.entries.iter().map(live).collect();
        self.outbox.sift_placed(job.slot, |asked_at, run| unsent(run, job.slot, asked_at, &spans));
        writer.messages(self.caught_up(&job, at));
        writer.messages(gaps);
        self.note_joined(&job, at);
        self.tell(at);
    }

    fn caught_up(&self, job: &Job, at: u64) -> Messages {
        let sub = self.sets.by_slot(job.slot).and_then(|set| set.name.as_deref());
        let echo = Echo { id: job.command.as_ref(), sub };
        let mut messages = self.form.nothing();
        messages.caught_up(echo, &job.names(), at);
        messages
    }

    /// The subscriptions of a replay belong to the live path now.
    fn set_live(&mut self, job: &Job, hub: &mut Hub) -> Vec<Change> {
        let Some(set) = self.sets.by_slot_mut(job.slot) else { return Vec::new() };
        let mut changes = Vec::new();
        for entry in &job.entries {
            let Ok(place) = set.find(&entry.pattern) else { continue };
            let sub = &mut set.subs[place];
            let before = Some(sub.state());
            sub.job = None;
            hub.set_live(sub.id);
            let after = Some(sub.state());
            changes.push(Change { slot: job.slot, pattern: entry.pattern.clone(), before, after });
        }
        changes
    }

    fn note_joined(&mut self, job: &Job, at: u64) {
        self.open_spans(job.slot, job.entries.iter().map(|entry| (&entry.pattern, &entry.filter)), at);
        self.forget_spans();
    }
}

/// What became of an attempt to join the live path.
enum Joined {
    Done,
    /// It must wait.
    Rests,
    /// It must read on.
    NotYet,
}

/// The events of a replay without those that its set was sent live meanwhile, by another pattern.
pub(super) fn unsent(run: Run, slot: u8, asked_at: u64, spans: &[Span]) -> Option<Run> {
    if !spans.iter().any(|span| span.slot == slot) {
        return Some(run);
    }
    let kept: Vec<u32> = (0..run.len())
        .filter(|nth| {
            let event = run.batch.get(run.index(*nth));
            let sent = |span: &Span| {
                span.slot == slot
                    && event.offset > span.from.max(asked_at)
                    && event.offset <= span.to
                    && span.granted.mean_by(&span.pattern, event.channel)
                    && span.filter.matches(&event)
            };
            !spans.iter().any(sent)
        })
        .map(|nth| u32::try_from(run.index(nth)).expect("picks are 32 bits wide"))
        .collect();
    Run::of_indexes(&run.batch, &kept)
}
