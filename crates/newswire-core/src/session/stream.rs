//! The order of the stream: the live path, catching up with it, and replays joining it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use newswire_protocol::reply::{self, Echo, Gap};
use newswire_protocol::{CloseCode, GapReason};
use parking_lot::Mutex;

use super::command::gap_frames;
use super::job::Job;
use super::writer::{Writer, add_gap, frame};
use super::{Asked, Reads, Session, Span};
use crate::event::Run;
use crate::hub::Hub;
use crate::outbox::{EpochMark, GapMark, Item, Mode, Placed, PlacedKind};
use crate::principal::Principal;
use crate::read::Page;
use crate::reader::{Fetched, Loss, Losses, Reader, Ready};
use crate::seeded::seeded_bug;
use crate::selector::{Selector, SelectorEntry};
use crate::subscriptions::{Change, StreamSubs, put};
use crate::view::{LogView, Lost};

/// Attempts to move on in one turn, so that a search without matches lets others run.
const STEPS: usize = 8;

/// The live path of a connection that fell behind: read from ring and log, from where the queue was cut.
#[derive(Debug)]
pub(crate) struct Lag {
    /// What was subscribed at this place of the stream.
    subs: StreamSubs,
    pub(crate) reader: Reader,
    /// Where the last step of the reader began.
    step_from: u64,
}

/// What a round of turns came to.
pub(super) struct Turn {
    /// The live path has been handed on completely up to here.
    pub(super) live_at: u64,
    /// Something could go on at once.
    pub(super) more: bool,
}

/// What one turn of one source came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It waits for something else.
    Rest,
    /// Its share is used up.
    More,
}

impl Session {
    /// Lets the live path and one replay take turns by bytes until the budget is used or nothing can go on.
    pub(super) fn turns(&mut self, writer: &mut Writer<'_>, hub: &Mutex<Hub>, _log: &dyn LogView) -> Turn {
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
        let some = !taken.items.is_empty();
        let same_epoch = !taken.items.iter().any(|item| matches!(item, Item::Epoch(_)));
        for item in taken.items {
            match item {
                Item::Run(run) => self.send_live(&run, writer),
                Item::Gap(gap) => self.send_gap(&gap, writer),
                Item::Placed(placed) => self.send_placed(&placed, writer),
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

    fn send_live(&mut self, run: &crate::outbox::QueuedRun, writer: &mut Writer<'_>) {
        writer.run(run);
        self.checkpoint.main_sent = run.last_offset();
        self.tell(run.last_offset());
    }

    /// The client was sent this offset; without replays it is one to resume from.
    fn tell(&mut self, offset: u64) {
        if self.jobs.is_empty() && self.joining == 0 {
            self.checkpoint.told = self.checkpoint.told.max(offset);
        }
    }

    /// Tells what the policy dropped, set by set.
    fn send_gap(&mut self, mark: &GapMark, writer: &mut Writer<'_>) {
        if seeded_bug!(GapUntold) {
            return;
        }
        let mut frames = Vec::new();
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
            add_gap(&mut frames, &self.dispatched.told, sub, &gap);
            self.checkpoint.main_sent = self.checkpoint.main_sent.max(gap.to);
        }
        writer.bytes(frames.into());
    }

    fn send_placed(&mut self, placed: &Placed, writer: &mut Writer<'_>) {
        placed.runs.iter().for_each(|run| writer.run(run));
        writer.bytes(placed.frames.clone());
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
        let mut frames = Vec::new();
        for ((slot, to), names) in gaps {
            let channels: Vec<String> = names.into_iter().collect();
            let sub = self.sets.by_slot(slot).and_then(|set| set.name.as_deref());
            let epoch = Some(mark.epoch);
            let gap = Gap { channels: &channels, from: 0, to, reason: GapReason::Epoch, epoch };
            add_gap(&mut frames, &self.dispatched.told, sub, &gap);
        }
        writer.bytes(frames.into());
        for job in self.jobs.iter_mut().filter(|job| job.running) {
            job.restart(oldest, &self.principal);
        }
        self.checkpoint.main_sent = mark.dispatched;
        self.checkpoint.told = if self.jobs.is_empty() { mark.dispatched } else { 0 };
    }

    /// What was subscribed where the queue begins.
    fn subs_at_front(&self) -> StreamSubs {
        let mut subs = self.sets.states();
        if !seeded_bug!(OldSubscriptionsForgotten) {
            self.outbox.undo_changes(|change| put(&mut subs, change, &change.before));
        }
        subs
    }

    fn fall_behind(&mut self, from: u64) {
        let subs = self.subs_at_front();
        let reader = Reader::new(live_selector(&subs, &self.principal), from);
        self.lag = Some(Box::new(Lag { subs, reader, step_from: from }));
    }

    /// Reads on behind the live path, stops at every place where something waits, and rejoins.
    fn lag_turn(&mut self, writer: &mut Writer<'_>, share: usize, hub: &Mutex<Hub>) -> Step {
        let end = writer.used() + share;
        for _ in 0..STEPS {
            if writer.used() >= end || writer.room() == 0 {
                return Step::More;
            }
            let Some(lag) = &mut self.lag else { return Step::More };
            if let Some(ready) = lag.reader.take(share) {
                self.send_read(&ready, true, writer);
                continue;
            }
            let position = lag.reader.reached();
            if let Some(placed) = self.outbox.take_placed(position) {
                let gaps = self.change_lag(&placed.changes, position, &Losses::default());
                self.send_placed(&placed, writer);
                writer.bytes(gaps);
                continue;
            }
            if let Some(job) = self.jobs.iter().position(|job| job.stands_at(position)) {
                self.join_lagging(job, position, writer, hub);
                continue;
            }
            // A replay that was as close as the last step is long: wait for it, or the two would never meet.
            let close = |job: &Job| {
                job.running
                    && job.plan.is_none()
                    && (lag.step_from..=position).contains(&job.reader.reached())
            };
            if self.jobs.iter().any(close) {
                return Step::Rest;
            }
            match self.lag_moves(position, writer, hub) {
                Some(step) => return step,
                None => continue,
            }
        }
        Step::More
    }

    /// Moves the lagging live path on; `None` if it moved.
    fn lag_moves(&mut self, position: u64, writer: &mut Writer<'_>, hub: &Mutex<Hub>) -> Option<Step> {
        let dispatched = self.dispatched.get();
        let place = self.outbox.next_place();
        let ahead =
            self.jobs.iter().filter(|job| job.running && job.plan.is_none()).map(|job| job.reader.reached());
        let meeting = ahead.filter(|reached| (position + 1..=dispatched).contains(reached)).min();
        let until = dispatched.min(place.unwrap_or(u64::MAX)).min(meeting.unwrap_or(u64::MAX));
        if place.is_none() && meeting.is_none() && self.rejoin(writer, hub) {
            return Some(Step::More);
        }
        if until <= position {
            return Some(Step::Rest);
        }
        let busy = self.asked.is_some() || self.wish.is_some() || self.awaits_epoch;
        let lag = self.lag.as_mut()?;
        lag.step_from = position;
        match lag.reader.fetch(until, hub, self.epoch, &self.config, &Some) {
            Fetched::Moved => None,
            Fetched::Read(request) if !busy => {
                self.wish = Some((Reads::Main, request));
                Some(Step::Rest)
            }
            Fetched::Read(_) | Fetched::OtherEpoch => Some(Step::Rest),
        }
    }

    /// The last step back onto the live path, under the hub's lock. `false` if it is not the last one yet.
    fn rejoin(&mut self, writer: &mut Writer<'_>, hub: &Mutex<Hub>) -> bool {
        let Some(lag) = &mut self.lag else { return false };
        let hub = hub.lock();
        let at = hub.dispatched();
        if hub.epoch() != self.epoch || lag.reader.reached() > at {
            return false;
        }
        let Some(slice) = hub.ring_slice(lag.reader.reached(), at, self.config.hop_bytes) else {
            return false;
        };
        if slice.reached < at || !self.outbox.rejoin() {
            return false;
        }
        drop(hub);
        lag.reader.scan(&slice, at, &Some);
        while let Some(ready) = self.lag.as_mut().and_then(|lag| lag.reader.take(usize::MAX)) {
            if seeded_bug!(RejoinTooLate) && !self.lag.as_ref().is_some_and(|lag| lag.reader.has_ready()) {
                break;
            }
            self.send_read(&ready, true, writer);
        }
        self.lag = None;
        true
    }

    /// Something that was placed holds from here on. Returns messages for what the subscriptions that begin here have
    /// lost, where the others were told already. `knows` is what those that begin were told themselves.
    fn change_lag(&mut self, changes: &[Change], at: u64, knows: &Losses) -> Bytes {
        let Some(lag) = self.lag.as_mut().filter(|_| !changes.is_empty()) else { return Bytes::new() };
        let told: Vec<Lost> = lag.reader.losses().beyond(at).collect();
        let had = |subs: &StreamSubs, slot: u8, channel: &str| {
            subs.iter().any(|((of, pattern), sub)| *of == slot && sub.live && pattern.matches(channel))
        };
        let slots: BTreeSet<u8> = changes.iter().map(|change| change.slot).collect();
        let before: Vec<Vec<bool>> = slots
            .iter()
            .map(|slot| told.iter().map(|lost| had(&lag.subs, *slot, &lost.channel)).collect())
            .collect();
        for change in changes {
            put(&mut lag.subs, change, &change.after);
        }
        let mut frames = Vec::new();
        for (slot, before) in slots.into_iter().zip(before) {
            let begins = told.iter().zip(before).filter(|(lost, before)| {
                !before && had(&lag.subs, slot, &lost.channel) && knows.told(&lost.channel) < lost.to
            });
            let lost: Vec<Loss> = begins
                .map(|(lost, _)| {
                    let from = knows.told(&lost.channel).max(at) + 1;
                    Loss { channel: Arc::clone(&lost.channel), from, to: lost.to }
                })
                .collect();
            let sub = self.sets.by_slot(slot).and_then(|set| set.name.as_deref());
            frames.extend(gap_frames(&lost, &self.dispatched.told, sub, self.epoch));
        }
        lag.reader.select(live_selector(&lag.subs, &self.principal));
        frames.into()
    }

    /// Hands on what a reader found.
    fn send_read(&mut self, ready: &Ready, main: bool, writer: &mut Writer<'_>) {
        match ready {
            Ready::Gap(frames) => writer.bytes(frames.clone()),
            Ready::Run(run) if main => self.send_live(run, writer),
            Ready::Run(run) => writer.run(run),
        }
    }

    /// Gives one replay its turn, then passes the turn on.
    fn job_turn(&mut self, writer: &mut Writer<'_>, share: usize, live_at: u64, hub: &Mutex<Hub>) -> Step {
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
                self.send_read(&ready, false, writer);
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
        let frames = self.caught_up(&job, at);
        let what = PlacedKind::CaughtUp { job: job.id };
        self.outbox.push_placed(Placed { at, runs: Vec::new(), frames, changes, what });
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
    fn join_lagging(&mut self, index: usize, at: u64, writer: &mut Writer<'_>, hub: &Mutex<Hub>) {
        let job = self.jobs.remove(index);
        let changes = self.set_live(&job, &mut hub.lock());
        let gaps = self.change_lag(&changes, at, job.reader.losses());
        writer.bytes(self.caught_up(&job, at));
        writer.bytes(gaps);
        self.note_joined(&job, at);
        self.tell(at);
    }

    fn caught_up(&self, job: &Job, at: u64) -> Bytes {
        let sub = self.sets.by_slot(job.slot).and_then(|set| set.name.as_deref());
        let echo = Echo { id: job.command.as_ref(), sub };
        frame(|out| reply::caught_up(out, echo, &job.names(), at))
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

    /// Gives a page to whom it was read for, if that still wants it.
    pub(super) fn take_page(&mut self, asked: &Asked, page: Page) {
        let (sets, told, epoch) = (&self.sets, &self.dispatched.told, self.epoch);
        match asked.by {
            Reads::Main => {
                let Some(lag) = &mut self.lag else { return };
                if !Arc::ptr_eq(lag.reader.selector(), &asked.selector) {
                    return;
                }
                let subs = &lag.subs;
                lag.reader.absorb(page, &Some, |lost| {
                    let mut frames = Vec::new();
                    let slots: BTreeSet<u8> = subs.keys().map(|(slot, _)| *slot).collect();
                    for slot in slots {
                        let sub = sets.by_slot(slot).and_then(|set| set.name.as_deref());
                        frames.extend(gap_frames(&losses_of_set(&lost, slot, subs), told, sub, epoch));
                    }
                    Some(frames.into())
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
                    Some(gap_frames(&lost, told, sub, epoch).into())
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

/// What became of an attempt to join the live path.
enum Joined {
    Done,
    /// It must wait.
    Rests,
    /// It must read on.
    NotYet,
}

/// Everything that any set has live at this place of the stream.
fn live_selector(subs: &StreamSubs, principal: &Principal) -> Arc<Selector> {
    let live: BTreeSet<_> = subs
        .iter()
        .filter(|(_, sub)| sub.live)
        .map(|((_, pattern), sub)| (pattern.clone(), Arc::clone(&sub.filter)))
        .collect();
    let entries = live.into_iter().map(|(pattern, filter)| SelectorEntry::new(pattern, filter)).collect();
    Arc::new(Selector::new(entries, principal.clone()))
}

fn losses_of_set(lost: &[Loss], slot: u8, subs: &StreamSubs) -> Vec<Loss> {
    let wants = |loss: &&Loss| {
        subs.iter().any(|((of, pattern), sub)| *of == slot && sub.live && pattern.matches(&loss.channel))
    };
    lost.iter().filter(wants).cloned().collect()
}

/// The events of a replay without those that its set was sent live meanwhile, by another pattern.
fn unsent(run: Run, slot: u8, asked_at: u64, spans: &[Span]) -> Option<Run> {
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
                    && span.pattern.matches(event.channel)
                    && span.filter.matches(&event)
            };
            !spans.iter().any(sent)
        })
        .map(|nth| u32::try_from(run.index(nth)).expect("picks are 32 bits wide"))
        .collect();
    Run::of_indexes(&run.batch, &kept)
}
