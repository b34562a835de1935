//! Catching up: the live path of a slow subscriber, read instead of pushed, until it can be pushed again.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::command::tell_losses;
use super::job::Job;
use super::stream::{STEPS, Step};
use super::writer::Writer;
use super::{Reads, Session};
use crate::hub::Hub;
use crate::notice::Messages;
use crate::principal::Principal;
use crate::reader::{Fetched, Loss, Losses, Reader};
use crate::seeded::seeded_bug;
use crate::selector::{Access, Selector, SelectorEntry, ToldBy};
use crate::subscriptions::{Change, StreamSubs, put};
use crate::view::Lost;

/// The live path of a connection that fell behind: read from ring and log, from where the queue was cut.
#[derive(Debug)]
pub(crate) struct Lag {
    /// What was subscribed at this place of the stream.
    pub(super) subs: StreamSubs,
    pub(crate) reader: Reader,
    /// Where the last step of the reader began.
    step_from: u64,
}

impl Session {
    /// What was subscribed where the queue begins.
    pub(super) fn subs_at_front(&self) -> StreamSubs {
        let mut subs = self.sets.states();
        if !seeded_bug!(OldSubscriptionsForgotten) {
            self.outbox.undo_changes(|change| put(&mut subs, change, &change.before));
        }
        subs
    }

    pub(super) fn fall_behind(&mut self, from: u64) {
        let subs = self.subs_at_front();
        let reader = Reader::new(live_selector(&subs, &self.principal), from);
        self.lag = Some(Box::new(Lag { subs, reader, step_from: from }));
    }

    /// Reads on behind the live path, stops at every place where something waits, and rejoins.
    pub(super) fn lag_turn(&mut self, writer: &mut Writer<'_>, share: usize, hub: &Mutex<Hub>) -> Step {
        let end = writer.used() + share;
        for _ in 0..STEPS {
            if writer.used() >= end || writer.room() == 0 {
                return Step::More;
            }
            let Some(lag) = &mut self.lag else { return Step::More };
            if let Some(ready) = lag.reader.take(share) {
                self.send_read(ready, true, writer);
                continue;
            }
            let position = lag.reader.reached();
            if let Some(placed) = self.outbox.take_placed(position) {
                let gaps = self.change_lag(&placed.changes, position, &Losses::default());
                self.send_placed(*placed, writer);
                writer.messages(gaps);
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
            self.send_read(ready, true, writer);
        }
        self.lag = None;
        true
    }

    /// Something that was placed holds from here on. Returns messages for what the subscriptions that begin here have
    /// lost, where the others were told already. `knows` is what those that begin were told themselves.
    pub(super) fn change_lag(&mut self, changes: &[Change], at: u64, knows: &Losses) -> Messages {
        let Some(lag) = self.lag.as_mut().filter(|_| !changes.is_empty()) else {
            return self.form.nothing();
        };
        let told: Vec<Lost> = lag.reader.losses().beyond(at).collect();
        let slots: BTreeSet<u8> = changes.iter().map(|change| change.slot).collect();
        let had = |subs: &StreamSubs, slot: u8| -> Vec<bool> {
            let live = live_of(subs, slot, &self.principal);
            told.iter().map(|lost| live.has(&lost.channel)).collect()
        };
        let before: Vec<Vec<bool>> = slots.iter().map(|slot| had(&lag.subs, *slot)).collect();
        for change in changes {
            put(&mut lag.subs, change, &change.after);
        }
        let mut messages = self.form.nothing();
        for (slot, before) in slots.into_iter().zip(before) {
            let now = had(&lag.subs, slot);
            let begins = told
                .iter()
                .zip(before.into_iter().zip(now))
                .filter(|(lost, (before, now))| !before && *now && knows.told(&lost.channel) < lost.to);
            let lost: Vec<Loss> = begins
                .map(|(lost, _)| {
                    let from = knows.told(&lost.channel).max(at) + 1;
                    Loss { channel: Arc::clone(&lost.channel), from, to: lost.to }
                })
                .collect();
            let sub = self.sets.by_slot(slot).and_then(|set| set.name.as_deref());
            tell_losses(&mut messages, &lost, &self.dispatched.told, sub, self.epoch);
        }
        lag.reader.select(live_selector(&lag.subs, &self.principal));
        messages
    }
}

/// Everything that any set has live at this place of the stream.
fn live_selector(subs: &StreamSubs, principal: &Principal) -> Arc<Selector> {
    let live: BTreeSet<_> = subs
        .iter()
        .filter(|(_, sub)| sub.live)
        .map(|((_, pattern), sub)| (pattern.clone(), Arc::clone(&sub.filter)))
        .collect();
    let entries = live.into_iter().map(|(pattern, filter)| SelectorEntry {
        pattern,
        filter,
        after: 0,
        access: Access::Live,
        asked_as: None,
    });
    Arc::new(Selector::new(entries.collect(), principal.clone()))
}

pub(super) fn losses_of_set(lost: &[Loss], slot: u8, subs: &StreamSubs, principal: &Principal) -> Vec<Loss> {
    let live = live_of(subs, slot, principal);
    lost.iter().filter(|loss| live.has(&loss.channel)).cloned().collect()
}

/// Of what losses are told to a set: of all that it has live.
fn live_of<'a>(subs: &'a StreamSubs, slot: u8, principal: &'a Principal) -> ToldBy<'a> {
    let live = subs.iter().filter(move |((of, _), sub)| *of == slot && sub.live);
    ToldBy::of(principal, live.map(|((_, pattern), _)| pattern))
}
