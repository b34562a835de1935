//! What a read wants: channels, filters and lower bounds, under one principal.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::channel::ChannelPattern;
use crate::event::EventView;
use crate::fields::PayloadFields;
use crate::filter::Filter;
use crate::principal::{Principal, RowRule};

/// Any of the entries, and the principal's row rule.
#[derive(Clone, Debug)]
pub struct Selector {
    entries: Box<[SelectorEntry]>,
    principal: Principal,
    /// Entries by exact channel name, so that an event is compared only with what can match it.
    exact: BTreeMap<Arc<str>, Vec<u32>>,
    /// Entries with a prefix.
    prefixes: Box<[u32]>,
}

/// Events of these channels that pass the filter, beyond an offset.
#[derive(Clone, Debug)]
pub struct SelectorEntry {
    /// Which channels.
    pub pattern: ChannelPattern,
    /// Which of their events.
    pub filter: Arc<Filter>,
    /// Only offsets greater than this; 0 for all.
    pub after: u64,
}

impl SelectorEntry {
    /// All offsets.
    pub fn new(pattern: ChannelPattern, filter: Arc<Filter>) -> Self {
        Self { pattern, filter, after: 0 }
    }

    /// Whether the entry wants the event, whoever reads.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        event.offset > self.after && self.pattern.matches(event.channel) && self.filter.matches(event)
    }
}

/// What one subscription asks of an event of its channels: the filter, and that the event exists for the reader.
/// The one place where a row rule meets a filter; live dispatch, replay and history all come through here.
pub(crate) fn admits(
    rule: &RowRule,
    filter: &Filter,
    event: &EventView<'_>,
    fields: &PayloadFields<'_>,
) -> bool {
    filter.matches_with(event, fields) && rule.allows(event, fields)
}

impl Selector {
    /// A selector of any of these entries.
    pub fn new(entries: Vec<SelectorEntry>, principal: Principal) -> Self {
        let mut exact: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        let mut prefixes = Vec::new();
        for (index, entry) in (0..).zip(&entries) {
            match &entry.pattern {
                ChannelPattern::Exact(name) => exact.entry(Arc::clone(name)).or_default().push(index),
                ChannelPattern::Prefix(_) => prefixes.push(index),
            }
        }
        Self { entries: entries.into(), principal, exact, prefixes: prefixes.into() }
    }

    /// One entry.
    pub fn one(entry: SelectorEntry, principal: Principal) -> Self {
        Self::new(vec![entry], principal)
    }

    /// The entries, in the order given.
    pub fn entries(&self) -> &[SelectorEntry] {
        &self.entries
    }

    /// On whose behalf.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether every event beyond this offset is wanted, whatever it is: a read then need not look at events at all.
    pub fn takes_all_after(&self, offset: u64) -> bool {
        if self.principal.row_rule != RowRule::AlwaysTrue {
            return false;
        }
        self.entries.iter().any(|entry| {
            let everywhere = matches!(&entry.pattern, ChannelPattern::Prefix(prefix) if prefix.is_empty());
            everywhere && entry.filter.is_all() && entry.after <= offset
        })
    }

    /// Whether the event is wanted and exists for the principal.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        let fields = PayloadFields::of(event);
        if let [entry] = &*self.entries {
            return event.offset > entry.after
                && entry.pattern.matches(event.channel)
                && admits(&self.principal.row_rule, &entry.filter, event, &fields);
        }
        self.entries_for(event.channel).any(|entry| {
            event.offset > entry.after && admits(&self.principal.row_rule, &entry.filter, event, &fields)
        })
    }

    /// The lower bound of what is wanted of a channel: the least `after` of its entries; `None` if nothing is.
    pub fn wants(&self, channel: &str) -> Option<u64> {
        self.entries_for(channel).map(|entry| entry.after).min()
    }

    /// The entries whose pattern means this channel.
    pub fn entries_for(&self, channel: &str) -> impl Iterator<Item = &SelectorEntry> {
        let exact = self.exact.get(channel).map_or(&[][..], Vec::as_slice);
        let by_prefix = self.prefixes.iter().map(|&index| &self.entries[index as usize]);
        exact
            .iter()
            .map(|&index| &self.entries[index as usize])
            .chain(by_prefix.filter(|entry| entry.pattern.matches(channel)))
    }
}
