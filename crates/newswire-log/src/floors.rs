//! Where each channel has been trimmed. The one truth for what a reader may still see and what it has lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use newswire_core::{Direction, Lost, ReadRequest, Selector};
use newswire_protocol::UnixMicros;

/// A channel's newest trimmed event. Events at or below it are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Its offset: that of an event that was there, so a channel whose events are all retained has no floor.
    pub(crate) to: u64,
    /// When it had been stored.
    pub(crate) stored_at: UnixMicros,
}

/// The floors of all channels that ever lost an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floors {
    by_channel: BTreeMap<Arc<str>, Floor>,
    highest: u64,
}

impl From<BTreeMap<Arc<str>, Floor>> for Floors {
    fn from(by_channel: BTreeMap<Arc<str>, Floor>) -> Self {
        let highest = by_channel.values().map(|floor| floor.to).max().unwrap_or(0);
        Self { by_channel, highest }
    }
}

impl Floors {
    pub(crate) fn len(&self) -> usize {
        self.by_channel.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Floor)> {
        self.by_channel.iter()
    }

    /// The newest trimmed offset of a channel, 0 if nothing was.
    pub(crate) fn of(&self, channel: &str) -> u64 {
        self.by_channel.get(channel).map_or(0, |floor| floor.to)
    }

    /// The highest floor of all: above it nothing was ever trimmed.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Raises a floor; a lower one is ignored.
    pub(crate) fn raise(&mut self, channel: &Arc<str>, floor: Floor) {
        let known = self.by_channel.entry(channel.clone()).or_insert(floor);
        if floor.to > known.to {
            *known = floor;
        }
        self.highest = self.highest.max(floor.to);
    }

    /// What a page of this read says is lost.
    pub(crate) fn lost_to(&self, request: &ReadRequest) -> Vec<Lost> {
        if request.direction == Direction::Backward || self.highest <= request.from {
            return Vec::new();
        }
        self.matching(&request.selector, |floor, after| {
            let is_recent = request.since.is_none_or(|since| floor.stored_at >= since);
            is_recent && floor.to > after.max(request.from)
        })
    }

    /// What a reader of `selector` that has everything up to `after` can no longer get.
    pub(crate) fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        if self.highest <= after {
            return Vec::new();
        }
        self.matching(selector, |floor, entry_after| floor.to > after.max(entry_after))
    }

    /// What a reader of `selector` can no longer get of the events stored at or after `since`.
    pub(crate) fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.matching(selector, |floor, entry_after| floor.stored_at >= since && floor.to > entry_after)
    }

    fn matching(&self, selector: &Selector, is_lost: impl Fn(&Floor, u64) -> bool) -> Vec<Lost> {
        if !selector.may_know_trims() {
            return self.matching_any(selector, is_lost);
        }
        let lost = |(channel, floor): (&Arc<str>, &Floor)| {
            let wanted_after = selector.wants(channel)?;
            is_lost(floor, wanted_after).then(|| Lost { channel: channel.clone(), to: floor.to })
        };
        self.by_channel.iter().filter_map(lost).collect()
    }

    /// For one who must not learn which channels had events that it does not see: what was lost of the log counts as lost
    /// of everything that it asked for, by the names that it gave.
    fn matching_any(&self, selector: &Selector, is_lost: impl Fn(&Floor, u64) -> bool) -> Vec<Lost> {
        let mut lost: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for entry in selector.entries() {
            let trimmed = self.by_channel.values().filter(|floor| is_lost(floor, entry.after));
            if let Some(to) = trimmed.map(|floor| floor.to).max() {
                let known = lost.entry(entry.pattern.to_string().into()).or_default();
                *known = to.max(*known);
            }
        }
        let named = |(channel, _): &(Arc<str>, u64)| selector.wants(channel).is_some();
        lost.into_iter().filter(named).map(|(channel, to)| Lost { channel, to }).collect()
    }
}
