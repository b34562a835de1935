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

/// Stands among the floors for every channel; none has this name.
const EVERY_CHANNEL: &str = "*";

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

    /// The floor of every channel there was.
    pub(crate) fn of_all(&self) -> Option<Floor> {
        self.by_channel.get(EVERY_CHANNEL).copied()
    }

    /// Raises the floor of every channel there was, also of those that nobody knows.
    pub(crate) fn raise_all(&mut self, floor: Floor) {
        self.raise(&EVERY_CHANNEL.into(), floor);
    }

    /// What a page of this read says is lost.
    pub(crate) fn lost_to(&self, request: &ReadRequest) -> Vec<Lost> {
        if request.direction == Direction::Backward {
            return Vec::new();
        }
        self.lost_of(&request.selector, request.from, request.since)
    }

    /// What a reader of `selector` that has everything up to `after` can no longer get.
    pub(crate) fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.lost_of(selector, after, None)
    }

    /// What a reader of `selector` can no longer get of the events stored at or after `since`.
    pub(crate) fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.lost_of(selector, 0, Some(since))
    }

    fn lost_of(&self, selector: &Selector, after: u64, since: Option<UnixMicros>) -> Vec<Lost> {
        if self.highest <= after {
            return Vec::new();
        }
        let is_recent = |floor: &Floor| since.is_none_or(|since| floor.stored_at >= since);
        let recent = self.by_channel.iter().filter(|(_, floor)| is_recent(floor));
        let known = recent.filter(|(channel, _)| ***channel != *EVERY_CHANNEL);
        let mut trims: BTreeMap<_, _> = known.map(|(channel, floor)| (channel.clone(), floor.to)).collect();
        if let Some(floor) = self.of_all().filter(is_recent) {
            // Nobody knows of what there were events, so what was asked for counts, by the names that were given.
            let names = selector.entries().iter().map(|entry| Arc::from(entry.pattern.to_string()));
            names.for_each(|name| {
                trims.entry(name).or_insert(floor.to);
            });
        }
        selector.lost(trims.iter().map(|(channel, to)| (channel, *to)), after)
    }
}
