//! Commands that change what is subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use newswire_protocol::command::{CommandId, FilterChange, Start, Subscribe, Unsubscribe};
use newswire_protocol::limits::MAX_SETS;
use newswire_protocol::reply::{Echo, Gap, Subscribed};
use newswire_protocol::{Epoch, ErrorCode, GapReason, Refusal, RejectReason, UnixMicros};
use parking_lot::{Mutex, MutexGuard};

use super::job::{self, HistoryPlan, Job, JobEntry};
use super::{Noted, Reads, Session, Span};
use crate::channel::ChannelPattern;
use crate::config::Now;
use crate::filter::Filter;
use crate::grants::Action;
use crate::hub::{Hub, MAX_VARIANTS};
use crate::notice::Messages;
use crate::outbox::{Generation, Placed, PlacedKind, Told};
use crate::principal::Principal;
use crate::reader::{Loss, Losses, Reader, by_stretch};
use crate::selector::Access;
use crate::subscriptions::{Change, Set, Sub};
use crate::view::LogView;

/// The channels of a `subscribe` with the filters they will have, and the refused names.
struct Wanted {
    filters: BTreeMap<ChannelPattern, Arc<Filter>>,
    rejected: Vec<(String, RejectReason)>,
}

/// Where a replay begins, as far as it can be told without the hub.
enum Begin {
    After {
        offset: u64,
        epoch: Option<String>,
        /// The log's end: an offset at or beyond it is of another epoch.
        tail: u64,
        head: u64,
        losses: Losses,
        lost: Vec<Loss>,
    },
    Since {
        time: UnixMicros,
        losses: Losses,
        lost: Vec<Loss>,
    },
    History {
        count: u64,
    },
}

/// What the answer says of a beginning, and what it begins.
struct Begun {
    recovered: Option<bool>,
    gaps: Messages,
    reader: Reader,
    entries: Vec<JobEntry>,
    /// So many events of each channel, whose beginnings are still to be found.
    history: Option<u64>,
}

impl Session {
    pub(super) fn on_subscribe(
        &mut self,
        ask: &Subscribe,
        id: Option<CommandId>,
        now: Now,
        hub: &Mutex<Hub>,
        log: &dyn LogView,
    ) -> Result<(), Refusal> {
        let sub = ask.sub.as_deref();
        if !self.finds_room(hub) {
            let detail = format!("more than {MAX_VARIANTS} different redactions are in use; try again later");
            return Err(Refusal::because(ErrorCode::Unavailable, detail));
        }
        if let FilterChange::Replace(spec) = &ask.filters {
            self.principal.permit_filter(&Filter::compile(spec))?;
        }
        let wanted = self.wanted(ask);
        self.check_bounds(ask, &wanted)?;
        let begin = self.begin(ask, &wanted, now, log);
        let mut names = self.sets.by_name(sub).map(Set::names).unwrap_or_default();
        names.extend(wanted.filters.keys().map(ToString::to_string));
        let mut hub = hub.lock();
        let (at, epoch, generation) = (hub.dispatched(), hub.epoch(), hub.generation());
        let mut begun = self.begun(begin, &wanted, at, epoch, sub);
        let starts = begun.as_ref().filter(|begun| !begun.entries.is_empty()).map(|_| self.next_job);
        let (changes, old) = self.change_subs(ask, &wanted, starts, &mut hub);
        let mut messages = self.form.nothing();
        let echo = Echo { id: id.as_ref(), sub };
        let answer = Subscribed {
            channels: &names,
            offset: at,
            epoch,
            recovered: begun.as_ref().and_then(|begun| begun.recovered),
            rejected: &wanted.rejected,
        };
        messages.subscribed(echo, &answer);
        let channels = wanted.filters.keys().map(ToString::to_string).collect();
        self.noted = Some(Box::new(Noted::Subscribed { channels, rejected: wanted.rejected.clone() }));
        if let Some(begun) = &mut begun {
            messages.append(std::mem::replace(&mut begun.gaps, self.form.nothing()));
        }
        if begun.is_some() && starts.is_none() {
            // Nothing is to be replayed, which is soon done.
            messages.caught_up(echo, &[], at);
        }
        self.place_answer(at, messages, changes, starts, sub, hub);
        // What follows concerns this connection alone: others need not wait for it.
        self.renew_spans(generation);
        self.leave_old(sub, &old, at);
        if let (Some(job), Some(begun)) = (starts, begun) {
            let plan =
                begun.history.map(|count| history_plan(&begun.entries, count, at, log, &self.principal));
            self.start_job(job, sub, id, at, begun, plan);
        } else if let Some(slot) = self.sets.by_name(sub).map(|set| set.slot) {
            self.open_spans(slot, wanted.filters.iter(), at);
        }
        self.forget_spans();
        Ok(())
    }

    /// Whether there is room for its variant of payloads: where there was none when it came, there may be now.
    fn finds_room(&mut self, hub: &Mutex<Hub>) -> bool {
        if !self.is_shown {
            let mut hub = hub.lock();
            hub.admit(self.id, &self.principal);
            self.is_shown = hub.shows(self.id);
        }
        self.is_shown
    }

    pub(super) fn on_unsubscribe(&mut self, ask: &Unsubscribe, id: Option<&CommandId>, hub: &Mutex<Hub>) {
        let sub = ask.sub.as_deref();
        let mut old = Vec::new();
        if let Some(slot) = self.sets.by_name(sub).map(|set| set.slot)
            && let Some(set) = self.sets.by_slot_mut(slot)
        {
            for pattern in ask.channels.iter().filter_map(|name| ChannelPattern::parse(name)) {
                old.extend(set.find(&pattern).ok().map(|place| set.subs.remove(place)));
            }
        }
        let slot = self.sets.by_name(sub).map_or(0, |set| set.slot);
        let change = |gone: &Sub| Change {
            slot,
            pattern: gone.pattern.clone(),
            before: Some(gone.state()),
            after: None,
        };
        let changes = old.iter().map(change).collect();
        let names = self.sets.by_name(sub).map(Set::names).unwrap_or_default();
        let mut messages = self.form.nothing();
        messages.unsubscribed(Echo { id, sub }, &names);
        self.noted = Some(Box::new(Noted::Unsubscribed { channels: ask.channels.clone() }));
        let mut hub = hub.lock();
        let (at, generation) = (hub.dispatched(), hub.generation());
        old.iter().for_each(|gone| hub.remove_sub(gone.id));
        self.place_answer(at, messages, changes, None, sub, hub);
        self.renew_spans(generation);
        self.leave_old(sub, &old, at);
        self.forget_spans();
    }

    fn wanted(&self, ask: &Subscribe) -> Wanted {
        let set = self.sets.by_name(ask.sub.as_deref());
        let given = match &ask.filters {
            FilterChange::Keep => None,
            FilterChange::Replace(spec) => Some(Filter::compile(spec)),
        };
        let access = Access::of(&ask.start);
        let mut wanted = Wanted { filters: BTreeMap::new(), rejected: Vec::new() };
        for name in &ask.channels {
            let named = ChannelPattern::parse(name);
            // First: whoever may not read a channel is not told whether there is one.
            let forbidden = named.is_some_and(|pattern| access.permit(&self.principal, &pattern).is_err());
            let known = self.config.channels.parse(name, &self.principal).filter(|_| !forbidden);
            let Some(pattern) = known else {
                if !wanted.rejected.iter().any(|(known, _)| known == name) {
                    let reason =
                        if forbidden { RejectReason::Forbidden } else { RejectReason::UnknownChannel };
                    wanted.rejected.push((name.clone(), reason));
                }
                continue;
            };
            let kept = || {
                let place = set.and_then(|set| set.find(&pattern).ok().map(|place| &set.subs[place]));
                place.map_or_else(Filter::all, |sub| Arc::clone(&sub.filter))
            };
            let filter = given.clone().unwrap_or_else(kept);
            wanted.filters.insert(pattern, filter);
        }
        wanted
    }

    fn check_bounds(&self, ask: &Subscribe, wanted: &Wanted) -> Result<(), Refusal> {
        let set = self.sets.by_name(ask.sub.as_deref());
        let is_new = |pattern: &&ChannelPattern| set.is_none_or(|set| set.find(pattern).is_err());
        let added = wanted.filters.keys().filter(is_new).count();
        let refuse = |detail: String| Err(Refusal::because(ErrorCode::InvalidControlMessage, detail));
        let most_sets = self.config.max_sets.min(MAX_SETS);
        if added > 0 && set.is_none_or(|set| set.subs.is_empty()) && self.sets.in_use() >= most_sets {
            return refuse(format!("sub: a connection has at most {most_sets} sets of subscriptions"));
        }
        if self.sets.total() + added > self.config.max_subscriptions {
            let most = self.config.max_subscriptions;
            return refuse(format!("channels: a connection has at most {most} subscriptions"));
        }
        // Filters that are replaced count until they are: the bound is on memory, not on arithmetic.
        let filters: usize = wanted.filters.values().map(|filter| filter.footprint()).sum();
        let most = self.config.max_filter_bytes;
        if self.sets.filter_bytes() + filters > most {
            return refuse(format!("filters: those of a connection have at most {most} bytes"));
        }
        Ok(())
    }

    /// Asks the log what a beginning needs to know. The head is asked for before the losses: a trim in between then
    /// only splits a gap.
    fn begin(&self, ask: &Subscribe, wanted: &Wanted, now: Now, log: &dyn LogView) -> Option<Begin> {
        let entry = |(pattern, filter): (&ChannelPattern, &Arc<Filter>)| JobEntry {
            pattern: pattern.clone(),
            filter: Arc::clone(filter),
            after: 0,
            channels: Vec::new(),
        };
        let entries: Vec<JobEntry> = wanted.filters.iter().map(entry).collect();
        let selector = job::selector(&entries, u64::MAX, &self.principal);
        let begin = match &ask.start {
            Start::Live => return None,
            Start::After { offset, epoch } => {
                let (tail, head) = (log.tail(), log.head());
                let mut losses = Losses::default();
                let lost = losses.note(&log.lost(&selector, *offset), *offset, &selector, head);
                Begin::After { offset: *offset, epoch: epoch.clone(), tail, head, losses, lost }
            }
            Start::Since(since) => {
                let time = since.resolve(now.wall);
                let head = log.head();
                // What was trimmed before that time was not asked for.
                let mut losses = Losses::known(&log.lost(&selector, 0));
                let lost = Losses::default().note(&log.lost_since(&selector, time), 0, &selector, head);
                losses.add(&lost);
                Begin::Since { time, losses, lost }
            }
            Start::History(count) => Begin::History { count: *count },
        };
        Some(begin)
    }

    /// Decides where the replay begins, now that its place in the stream is known; `None` for a live beginning.
    fn begun(
        &self,
        begin: Option<Begin>,
        wanted: &Wanted,
        at: u64,
        epoch: Epoch,
        sub: Option<&str>,
    ) -> Option<Begun> {
        let entries = |after: u64| -> Vec<JobEntry> {
            let entry = |(pattern, filter): (&ChannelPattern, &Arc<Filter>)| JobEntry {
                pattern: pattern.clone(),
                filter: Arc::clone(filter),
                after,
                channels: Vec::new(),
            };
            wanted.filters.iter().map(entry).collect()
        };
        let begin = begin?;
        let all = entries(0);
        let selector = job::selector(&all, at, &self.principal);
        let reader = |from: u64| Reader::new(selector, from);
        let mut gaps = self.form.nothing();
        let (recovered, reader, entries, history) = match begin {
            Begin::After { offset, epoch: given, tail, head, losses, lost } => {
                let other = given.is_some_and(|given| given.parse() != Ok(epoch));
                if other || offset >= tail {
                    let before = head.saturating_sub(1);
                    let names: Vec<String> = wanted.filters.keys().map(ToString::to_string).collect();
                    let gap = Gap {
                        channels: &names,
                        from: 0,
                        to: before,
                        reason: GapReason::Epoch,
                        epoch: Some(epoch),
                    };
                    if !names.is_empty() {
                        gaps.gap(&self.dispatched.told, sub, epoch, &gap);
                    }
                    self.tell_unread(&mut gaps, wanted, before, at, sub, epoch);
                    (Some(false), reader(before), all, None)
                } else {
                    tell_losses(&mut gaps, &lost, &self.dispatched.told, sub, epoch);
                    let is_whole =
                        lost.is_empty() & self.tell_unread(&mut gaps, wanted, offset, at, sub, epoch);
                    (Some(is_whole), reader(offset).with_losses(losses), all, None)
                }
            }
            Begin::Since { time, losses, lost } => {
                tell_losses(&mut gaps, &lost, &self.dispatched.told, sub, epoch);
                let is_whole = lost.is_empty() & self.tell_unread(&mut gaps, wanted, 0, at, sub, epoch);
                (Some(is_whole), reader(0).since(time).with_losses(losses), all, None)
            }
            Begin::History { count } => {
                // Its selector is made when the beginnings are known.
                (None, reader(at), entries(at), Some(count))
            }
        };
        Some(Begun { recovered, gaps, reader, entries, history })
    }

    /// Says of which patterns not all channels are sent between these offsets, because their past may not be read. `false`
    /// if there are some: whether anything was on them is not told.
    fn tell_unread(
        &self,
        messages: &mut Messages,
        wanted: &Wanted,
        after: u64,
        at: u64,
        sub: Option<&str>,
        epoch: Epoch,
    ) -> bool {
        let unread = wanted.filters.keys().filter(|pattern| !Access::past_is_whole(&self.principal, pattern));
        let names: Vec<String> = unread.map(ToString::to_string).collect();
        if names.is_empty() || after >= at {
            return true;
        }
        let reason = GapReason::Forbidden;
        let gap = Gap { channels: &names, from: after + 1, to: at, reason, epoch: Some(epoch) };
        messages.gap(&self.dispatched.told, sub, epoch, &gap);
        false
    }

    /// Makes the subscriptions of a command what it asks: live from here on, or withheld by the replay that it starts.
    /// Returns the changes, and what was there before.
    fn change_subs(
        &mut self,
        ask: &Subscribe,
        wanted: &Wanted,
        job: Option<u64>,
        hub: &mut MutexGuard<'_, Hub>,
    ) -> (Vec<Change>, Vec<Sub>) {
        let (mut changes, mut replaced) = (Vec::new(), Vec::new());
        if wanted.filters.is_empty() {
            return (changes, replaced);
        }
        let slot = self.sets.slot(ask.sub.as_deref());
        if let Some(name) = self.sets.by_slot(slot).and_then(|set| set.name.as_ref()) {
            hub.name_set(self.id, slot, name);
        }
        if let Some(set) = self.sets.by_slot_mut(slot).filter(|set| set.subs.is_empty()) {
            // Mostly it stays at what is asked first, and there are many connections.
            set.subs.reserve_exact(wanted.filters.len());
        }
        for (pattern, filter) in &wanted.filters {
            let Some(set) = self.sets.by_slot_mut(slot) else { break };
            let before = match set.find(pattern) {
                Ok(place) => {
                    let sub = &mut set.subs[place];
                    let old = Sub {
                        pattern: pattern.clone(),
                        filter: Arc::clone(&sub.filter),
                        id: sub.id,
                        job: sub.job,
                    };
                    (sub.filter, sub.job) = (Arc::clone(filter), job);
                    if old.filter != *filter || old.job != job {
                        hub.set_filter(old.id, Arc::clone(filter), job.is_none());
                    }
                    Some(old)
                }
                Err(place) => {
                    let (pattern, filter) = (pattern.clone(), Arc::clone(filter));
                    let id = hub.add_sub(self.id, slot, pattern.clone(), Arc::clone(&filter), job.is_none());
                    let Some(id) = id else { break };
                    set.subs.insert(place, Sub { pattern, filter, id, job });
                    None
                }
            };
            let state = Sub { pattern: pattern.clone(), filter: Arc::clone(filter), id: 0, job }.state();
            let (pattern, after) = (pattern.clone(), Some(state));
            changes.push(Change { slot, pattern, before: before.as_ref().map(Sub::state), after });
            replaced.extend(before);
        }
        (changes, replaced)
    }

    /// Subscriptions are not any more what they were: replays lose them, and their time on the live path ends here.
    fn leave_old(&mut self, sub: Option<&str>, old: &[Sub], at: u64) {
        let Some(slot) = self.sets.by_name(sub).map(|set| set.slot) else { return };
        let mut by_job: BTreeMap<u64, BTreeSet<&ChannelPattern>> = BTreeMap::new();
        let mut live = BTreeSet::new();
        for old in old {
            match old.job {
                Some(job) => by_job.entry(job).or_default().insert(&old.pattern),
                None => live.insert(&old.pattern),
            };
        }
        for span in self.spans.iter_mut().filter(|span| span.slot == slot && live.contains(&span.pattern)) {
            span.to = span.to.min(at);
        }
        for (job, patterns) in by_job {
            // What a search for beginnings was about to learn may be of a channel that goes.
            if self.wish.as_ref().is_some_and(|(by, _)| *by == Reads::Plan(job)) {
                self.wish = None;
            }
            if let Some(asked) = self.asked.as_mut().filter(|asked| asked.by == Reads::Plan(job)) {
                asked.by = Reads::Nobody;
            }
            let principal = &self.principal;
            self.jobs.retain_mut(|other| other.id != job || !other.take_away(&patterns, principal));
        }
    }

    fn place_answer(
        &mut self,
        at: u64,
        messages: Messages,
        changes: Vec<Change>,
        starts: Option<u64>,
        sub: Option<&str>,
        hub: MutexGuard<'_, Hub>,
    ) {
        self.answers += 1;
        let seq = self.answers;
        if let Some(slot) = self.sets.by_name(sub).map(|set| set.slot)
            && let Some(set) = self.sets.by_slot_mut(slot)
        {
            set.last_answer = seq;
        }
        self.outbox.push_placed(Placed {
            at,
            runs: Vec::new(),
            messages,
            changes,
            what: PlacedKind::Answer { seq, starts },
        });
        drop(hub);
    }

    fn start_job(
        &mut self,
        id: u64,
        sub: Option<&str>,
        command: Option<CommandId>,
        at: u64,
        begun: Begun,
        plan: Option<HistoryPlan>,
    ) {
        self.next_job += 1;
        let Some(slot) = self.sets.by_name(sub).map(|set| set.slot) else { return };
        let Begun { reader, entries, .. } = begun;
        let mut job =
            Job { id, slot, command, asked_at: at, live_from: at, running: false, entries, reader, plan };
        job.begin_if_planned(&self.principal);
        self.jobs.push(job);
        // What the set has live beside the replay is not sent by the replay again.
        let live: Vec<_> = self.sets.by_slot(slot).map_or_else(Vec::new, |set| {
            let others = set.subs.iter().filter(|sub| sub.job.is_none());
            others.map(|sub| (sub.pattern.clone(), Arc::clone(&sub.filter))).collect()
        });
        self.open_spans(slot, live.iter().map(|(pattern, filter)| (pattern, filter)), at);
    }

    /// Notes that patterns are live from here on, those of which a replay of the set has channels too.
    pub(super) fn open_spans<'a>(
        &mut self,
        slot: u8,
        live: impl Iterator<Item = (&'a ChannelPattern, &'a Arc<Filter>)>,
        from: u64,
    ) {
        let replayed = self.jobs.iter().filter(|job| job.slot == slot).flat_map(|job| &job.entries);
        let (exact, prefixes): (Vec<_>, Vec<_>) = replayed
            .map(|entry| &entry.pattern)
            .partition(|pattern| matches!(pattern, ChannelPattern::Exact(_)));
        let (spans, granted) = (&mut self.spans, self.principal.grants.of(Action::Subscribe));
        for (pattern, filter) in live {
            // A name meets another pattern only if that is a prefix.
            let candidates = if matches!(pattern, ChannelPattern::Exact(_)) { &[][..] } else { &exact[..] };
            let meets = |other: &&&ChannelPattern| **other != pattern && other.overlaps(pattern);
            let known = |span: &Span| span.slot == slot && span.pattern == *pattern && span.to == u64::MAX;
            if prefixes.iter().chain(candidates).any(|other| meets(&other)) && !spans.iter().any(known) {
                let (pattern, filter) = (pattern.clone(), Arc::clone(filter));
                let granted = granted.clone();
                spans.push(Span { slot, pattern, filter, granted, from, to: u64::MAX });
            }
        }
    }

    /// In a new epoch, what was live goes on behind its beginning.
    pub(super) fn renew_spans(&mut self, generation: Generation) {
        if self.spans_generation < generation.number {
            self.spans_generation = generation.number;
            self.spans.retain(|span| span.to == u64::MAX);
            self.spans.iter_mut().for_each(|span| span.from = generation.start);
        }
    }

    /// Without replays nobody asks when what was live.
    pub(super) fn forget_spans(&mut self) {
        if self.jobs.is_empty() {
            self.spans = Vec::new();
        }
    }
}

/// The channels of which the last events are wanted. Asked for behind the answer's place, so that none that had
/// events before it is missing.
fn history_plan(
    entries: &[JobEntry],
    count: u64,
    at: u64,
    log: &dyn LogView,
    principal: &Principal,
) -> HistoryPlan {
    let granted = principal.grants.of(Action::Subscribe).and(principal.grants.of(Action::History));
    let channels = log.channels();
    let of = |entry: &JobEntry| {
        let matching: Vec<Arc<str>> = match &entry.pattern {
            ChannelPattern::Exact(name) => vec![Arc::clone(name)],
            ChannelPattern::Prefix(_) => {
                let wanted = |channel: &&Arc<str>| entry.pattern.matches(channel) && granted.have(channel);
                channels.iter().filter(wanted).cloned().collect()
            }
        };
        let (pattern, filter) = (entry.pattern.clone(), Arc::clone(&entry.filter));
        matching.into_iter().map(move |channel| (pattern.clone(), channel, Arc::clone(&filter)))
    };
    HistoryPlan::new(entries.iter().flat_map(of).collect(), count, at)
}

/// Tells one set what was trimmed.
pub(super) fn tell_losses(
    messages: &mut Messages,
    lost: &[Loss],
    told: &Told,
    sub: Option<&str>,
    epoch: Epoch,
) {
    for ((from, to), channels) in by_stretch(lost.iter()) {
        let gap = Gap { channels: &channels, from, to, reason: GapReason::Retention, epoch: Some(epoch) };
        messages.gap(told, sub, epoch, &gap);
    }
}
