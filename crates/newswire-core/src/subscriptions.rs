//! What a connection has subscribed: its sets, and how they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channel::ChannelPattern;
use crate::filter::Filter;
use crate::index::SubId;

/// One change of one subscription, with what was before, so that it can be undone and done again.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) slot: u8,
    pub(crate) pattern: ChannelPattern,
    pub(crate) before: Option<SubState>,
    pub(crate) after: Option<SubState>,
}

/// A subscription as the stream sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubState {
    pub(crate) filter: Arc<Filter>,
    /// `false` while a replay withholds it from the live path.
    pub(crate) live: bool,
}

/// All subscriptions of a connection at some place of its stream.
pub(crate) type StreamSubs = BTreeMap<(u8, ChannelPattern), SubState>;

/// Does a change to the state of the stream, or undoes it.
pub(crate) fn put(subs: &mut StreamSubs, change: &Change, state: &Option<SubState>) {
    let key = (change.slot, change.pattern.clone());
    match state {
        Some(state) => {
            subs.insert(key, state.clone());
        }
        None => {
            subs.remove(&key);
        }
    }
}

/// One set of subscriptions.
#[derive(Debug)]
pub(crate) struct Set {
    /// A small number that stands for it until its last message is out.
    pub(crate) slot: u8,
    pub(crate) name: Option<Arc<str>>,
    /// Sorted by pattern.
    pub(crate) subs: Vec<Sub>,
    /// The last command that spoke of it, by number.
    pub(crate) last_answer: u64,
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) pattern: ChannelPattern,
    pub(crate) filter: Arc<Filter>,
    pub(crate) id: SubId,
    /// The replay that withholds it from the live path.
    pub(crate) job: Option<u64>,
}

impl Sub {
    pub(crate) fn state(&self) -> SubState {
        SubState { filter: Arc::clone(&self.filter), live: self.job.is_none() }
    }
}

impl Set {
    pub(crate) fn find(&self, pattern: &ChannelPattern) -> Result<usize, usize> {
        self.subs.binary_search_by(|sub| sub.pattern.cmp(pattern))
    }

    /// The names as subscribed.
    pub(crate) fn names(&self) -> Vec<String> {
        self.subs.iter().map(|sub| sub.pattern.to_string()).collect()
    }
}

/// The sets of a connection, few.
#[derive(Debug, Default)]
pub(crate) struct SetList {
    sets: Vec<Set>,
}

impl SetList {
    pub(crate) fn by_name(&self, name: Option<&str>) -> Option<&Set> {
        self.sets.iter().find(|set| set.name.as_deref() == name)
    }

    pub(crate) fn by_slot(&self, slot: u8) -> Option<&Set> {
        self.sets.iter().find(|set| set.slot == slot)
    }

    pub(crate) fn by_slot_mut(&mut self, slot: u8) -> Option<&mut Set> {
        self.sets.iter_mut().find(|set| set.slot == slot)
    }

    /// The slot of the set of this name, which is made if there is none.
    pub(crate) fn slot(&mut self, name: Option<&str>) -> u8 {
        if let Some(set) = self.by_name(name) {
            return set.slot;
        }
        let slot = (0..=u8::MAX)
            .find(|slot| self.by_slot(*slot).is_none())
            .expect("sets are bounded, and so are answers that wait");
        if self.sets.is_empty() {
            // Most connections have one set, and there are many connections.
            self.sets.reserve_exact(1);
        }
        self.sets.push(Set { slot, name: name.map(Arc::from), subs: Vec::new(), last_answer: 0 });
        slot
    }

    /// Forgets empty sets of which every message is out: those last spoken of by this answer or before.
    pub(crate) fn purge(&mut self, answered: u64) {
        self.sets.retain(|set| !set.subs.is_empty() || set.last_answer > answered);
    }

    /// Sets that have subscriptions.
    pub(crate) fn in_use(&self) -> usize {
        self.sets.iter().filter(|set| !set.subs.is_empty()).count()
    }

    /// Subscriptions over all sets.
    pub(crate) fn total(&self) -> usize {
        self.sets.iter().map(|set| set.subs.len()).sum()
    }

    /// Bytes of their filters.
    pub(crate) fn filter_bytes(&self) -> usize {
        self.sets.iter().flat_map(|set| &set.subs).map(|sub| sub.filter.footprint()).sum()
    }

    /// The state at the end of the stream.
    pub(crate) fn states(&self) -> StreamSubs {
        self.sets
            .iter()
            .flat_map(|set| set.subs.iter().map(|sub| ((set.slot, sub.pattern.clone()), sub.state())))
            .collect()
    }
}
