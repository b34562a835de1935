//! Replays: what a `subscribe` with a start option asked for, until it has caught up with the live path.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use newswire_protocol::command::CommandId;

use crate::channel::ChannelPattern;
use crate::filter::Filter;
use crate::principal::Principal;
use crate::read::{Direction, Page, ReadRequest};
use crate::reader::Reader;
use crate::selector::{Access, Selector, SelectorEntry};

/// One replay. Ends when it joins the live path, or when other commands have taken all its channels.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) slot: u8,
    /// Repeated in `caught_up`.
    pub(crate) command: Option<CommandId>,
    /// The offset of the answer: what is older may repeat what the set had before.
    pub(crate) asked_at: u64,
    /// Beyond this offset its subscriptions want what comes, even of channels of which they may not read the past.
    pub(crate) live_from: u64,
    /// The answer is out: events may follow.
    pub(crate) running: bool,
    pub(crate) entries: Vec<JobEntry>,
    pub(crate) reader: Reader,
    /// Looking for the beginnings of a `history`.
    pub(crate) plan: Option<HistoryPlan>,
}

/// One channel or pattern of a replay.
#[derive(Clone, Debug)]
pub(crate) struct JobEntry {
    pub(crate) pattern: ChannelPattern,
    pub(crate) filter: Arc<Filter>,
    /// Wanted beyond this offset.
    pub(crate) after: u64,
    /// For a `history`: these channels are wanted beyond earlier offsets.
    pub(crate) channels: Vec<(Arc<str>, u64)>,
}

impl Job {
    /// Whether it has examined everything up to here and handed all of it on.
    pub(crate) fn stands_at(&self, offset: u64) -> bool {
        self.running && self.plan.is_none() && !self.reader.has_ready() && self.reader.reached() == offset
    }

    /// Everything that it matches up to here has been handed on.
    pub(crate) fn position(&self) -> u64 {
        if self.plan.is_some() { 0 } else { self.reader.position() }
    }

    /// The names as subscribed, for `caught_up`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.pattern.to_string()).collect()
    }

    /// Another command has taken these channels and patterns. `true` if nothing is left of the replay.
    pub(crate) fn take_away(&mut self, patterns: &BTreeSet<&ChannelPattern>, principal: &Principal) -> bool {
        self.entries.retain(|entry| !patterns.contains(&entry.pattern));
        if let Some(plan) = &mut self.plan {
            plan.forget(patterns);
        }
        self.reader.select(selector(&self.entries, self.live_from, principal));
        self.begin_if_planned(principal);
        self.entries.is_empty()
    }

    /// Everything retained is wanted, whatever was asked for: the log began anew, and what comes now is beyond `live_from`.
    pub(crate) fn restart(&mut self, from: u64, live_from: u64, principal: &Principal) {
        for entry in &mut self.entries {
            entry.after = 0;
            entry.channels.clear();
        }
        self.plan = None;
        (self.asked_at, self.live_from) = (from, live_from);
        self.reader.select(selector(&self.entries, self.live_from, principal));
        self.reader.restart(from);
    }

    /// Takes a page of the search for beginnings; once all are found, the replay begins.
    pub(crate) fn on_plan_page(&mut self, page: &Page, principal: &Principal) {
        let Some(plan) = &mut self.plan else { return };
        if let Some((pattern, channel, after)) = plan.on_page(page)
            && let Some(entry) = self.entries.iter_mut().find(|entry| entry.pattern == pattern)
        {
            entry.channels.push((channel, after));
        }
        self.begin_if_planned(principal);
    }

    /// Begins a `history` of which all beginnings are known.
    pub(crate) fn begin_if_planned(&mut self, principal: &Principal) {
        if self.plan.as_ref().is_some_and(HistoryPlan::is_done) {
            self.plan = None;
            let from = self.entries.iter().map(JobEntry::from).min().unwrap_or(self.asked_at);
            self.reader = Reader::new(selector(&self.entries, self.live_from, principal), from);
        }
    }
}

impl JobEntry {
    fn from(&self) -> u64 {
        self.channels.iter().map(|(_, after)| *after).min().unwrap_or(self.after).min(self.after)
    }
}

/// What the entries of a replay want: the past of the channels that may be read so, and beyond `live_from` everything.
pub(crate) fn selector(entries: &[JobEntry], live_from: u64, principal: &Principal) -> Arc<Selector> {
    let wanted = entries.iter().flat_map(|entry| {
        let of = |pattern: &ChannelPattern, after, access| {
            let (pattern, filter) = (pattern.clone(), Arc::clone(&entry.filter));
            SelectorEntry { pattern, filter, after, access, asked_as: Some(entry.pattern.clone()) }
        };
        let channels = entry.channels.iter().map(move |(channel, after)| {
            of(&ChannelPattern::Exact(Arc::clone(channel)), *after, Access::Replay)
        });
        let whole = of(&entry.pattern, entry.after, Access::Replay);
        let past_is_whole = Access::past_is_whole(principal, &entry.pattern);
        let live = (!past_is_whole).then(|| of(&entry.pattern, entry.after.max(live_from), Access::Live));
        std::iter::once(whole).chain(live).chain(channels)
    });
    Arc::new(Selector::new(wanted.collect(), principal.clone()))
}

/// Finds where the last n matching events of each channel begin, by reading backward and counting: memory does not
/// grow with n.
#[derive(Debug)]
pub(crate) struct HistoryPlan {
    /// Channels still to be looked at, the present one first.
    todo: VecDeque<(ChannelPattern, Arc<str>, Arc<Filter>)>,
    /// Events of each channel.
    wanted: u64,
    /// The end of the history.
    until: u64,
    /// The present channel: events below this offset are still to be looked at.
    below: u64,
    /// The present channel: how many are still to be found, and the least offset found.
    missing: u64,
    lowest: Option<u64>,
}

impl HistoryPlan {
    pub(crate) fn new(
        todo: VecDeque<(ChannelPattern, Arc<str>, Arc<Filter>)>,
        wanted: u64,
        until: u64,
    ) -> Self {
        Self { todo, wanted, until, below: until + 1, missing: wanted, lowest: None }
    }

    fn is_done(&self) -> bool {
        self.todo.is_empty() || self.wanted == 0
    }

    fn forget(&mut self, patterns: &BTreeSet<&ChannelPattern>) {
        if self.todo.front().is_some_and(|(of, ..)| patterns.contains(of)) {
            self.next_channel();
        }
        self.todo.retain(|(of, ..)| !patterns.contains(of));
    }

    fn next_channel(&mut self) {
        self.todo.pop_front();
        (self.below, self.missing, self.lowest) = (self.until + 1, self.wanted, None);
    }

    pub(crate) fn request(
        &self,
        principal: &Principal,
        max_bytes: usize,
        max_scan_bytes: usize,
    ) -> Option<ReadRequest> {
        let (_, channel, filter) = self.todo.front()?;
        let (pattern, filter) = (ChannelPattern::Exact(Arc::clone(channel)), Arc::clone(filter));
        let entry = SelectorEntry { pattern, filter, after: 0, access: Access::Replay, asked_as: None };
        Some(ReadRequest {
            selector: Arc::new(Selector::one(entry, principal.clone())),
            direction: Direction::Backward,
            from: self.below,
            since: None,
            until: 0,
            max_bytes,
            max_events: usize::try_from(self.missing).unwrap_or(usize::MAX),
            max_scan_bytes,
        })
    }

    /// The beginning of the present channel, once it is found: the offset behind which all is wanted.
    fn on_page(&mut self, page: &Page) -> Option<(ChannelPattern, Arc<str>, u64)> {
        for run in &page.runs {
            self.missing = self.missing.saturating_sub(run.len() as u64);
            self.lowest = run.iter().map(|event| event.offset).chain(self.lowest).min();
        }
        self.below = self.below.min(page.reached);
        if self.missing > 0 && !page.end {
            return None;
        }
        let (pattern, channel, _) = self.todo.front().cloned()?;
        let after = self.lowest.map_or(self.until, |lowest| lowest - 1);
        self.next_channel();
        Some((pattern, channel, after))
    }
}
