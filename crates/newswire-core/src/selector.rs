//! What a read wants: channels, filters and lower bounds, under one principal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use newswire_protocol::{Refusal, Start};

use crate::channel::ChannelPattern;
use crate::event::EventView;
use crate::fields::PayloadFields;
use crate::filter::Filter;
use crate::grants::{Action, Channels};
use crate::principal::{Principal, RowRule};
use crate::seeded::seeded_bug;
use crate::view::Lost;

/// Any of the entries, as far as the principal's grants go, and its row rule.
#[derive(Clone, Debug)]
pub struct Selector {
    entries: Box<[SelectorEntry]>,
    /// Which of the channels of each entry its pattern stands for.
    channels: Box<[Channels]>,
    principal: Principal,
    /// Entries by exact channel name, so that an event is compared only with what can match it.
    exact: BTreeMap<Arc<str>, Vec<u32>>,
    /// Entries with a prefix.
    prefixes: Box<[u32]>,
    /// For whoever is told of trims by the names it gave: what is wanted beyond which offset, by these.
    by_name: BTreeMap<Arc<str>, u64>,
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
    /// What the principal must be granted for it.
    pub access: Access,
    /// As what it was asked for, where that is something else: the pattern of which a `history` takes each channel.
    pub asked_as: Option<ChannelPattern>,
}

/// As what events are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As history.
    #[default]
    Past,
    /// As part of a subscription, from where it began.
    Live,
    /// As the past of a subscription.
    Replay,
}

impl Access {
    fn actions(self) -> &'static [Action] {
        match self {
            Self::Past => &[Action::History],
            Self::Live => &[Action::Subscribe],
            Self::Replay => &[Action::Subscribe, Action::History],
        }
    }

    /// As what a subscription that begins so is read.
    pub fn of(start: &Start) -> Self {
        if *start == Start::Live { Self::Live } else { Self::Replay }
    }

    /// Refuses a name that the principal may not read so, and a pattern that stands for no channel.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`](newswire_protocol::ErrorCode::Forbidden).
    pub fn permit(self, principal: &Principal, pattern: &ChannelPattern) -> Result<(), Refusal> {
        match pattern {
            ChannelPattern::Exact(name) => {
                self.actions().iter().try_for_each(|action| principal.permit(*action, name))
            }
            // Of a subscription, what it may not read of the past it may still be sent.
            ChannelPattern::Prefix(_) => {
                let action = self.actions()[0];
                let meets = principal.grants.of(action).meet(pattern);
                if meets { Ok(()) } else { Err(principal.forbids(action, pattern)) }
            }
        }
    }

    /// Whether the past may be read of all that a subscription of this pattern is sent. A name was refused where it may not.
    pub(crate) fn past_is_whole(principal: &Principal, pattern: &ChannelPattern) -> bool {
        let granted = |action| principal.grants.of(action);
        match pattern {
            ChannelPattern::Exact(_) => true,
            ChannelPattern::Prefix(_) => {
                granted(Action::History).have_all(granted(Action::Subscribe), pattern)
            }
        }
    }

    /// Which channels a pattern stands for. A name is judged by itself, as one may be somebody's own.
    fn channels(self, pattern: &ChannelPattern, principal: &Principal) -> Channels {
        match pattern {
            ChannelPattern::Exact(name) => {
                let may = self.actions().iter().all(|action| principal.may(*action, name));
                if may { Channels::All } else { Channels::none() }
            }
            ChannelPattern::Prefix(_) => {
                let granted = self.actions().iter().map(|action| principal.grants.of(*action).clone());
                granted.reduce(|some, others| some.and(&others)).unwrap_or_else(Channels::none)
            }
        }
    }
}

impl SelectorEntry {
    /// All offsets, as history.
    pub fn new(pattern: ChannelPattern, filter: Arc<Filter>) -> Self {
        Self { pattern, filter, after: 0, access: Access::Past, asked_as: None }
    }

    /// The name by which it was asked for.
    fn name(&self) -> &ChannelPattern {
        self.asked_as.as_ref().unwrap_or(&self.pattern)
    }

    /// Whether the entry wants the event, whoever reads.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        event.offset > self.after && self.pattern.matches(event.channel) && self.filter.matches(event)
    }
}

/// What one subscription asks of an event that its pattern matches: that the pattern stands for this channel, the filter,
/// and that the event exists for the reader.
/// The one place where grants and a row rule meet a filter; live dispatch, replay and history all come through here.
pub(crate) fn admits(
    channels: &Channels,
    rule: &RowRule,
    filter: &Filter,
    event: &EventView<'_>,
    fields: &PayloadFields<'_>,
) -> bool {
    (channels.have(event.channel) || seeded_bug!(GrantsForgotten))
        && filter.matches_with(event, fields)
        && (seeded_bug!(RowRuleForgotten) || rule.allows(event, fields))
}

fn may_know_trims(principal: &Principal) -> bool {
    principal.row_rule == RowRule::AlwaysTrue
}

/// By which names losses are told of what was subscribed by some patterns.
pub(crate) struct ToldBy<'a> {
    principal: &'a Principal,
    patterns: Vec<&'a ChannelPattern>,
    /// The patterns' texts, for whoever is told by these.
    names: BTreeSet<String>,
}

impl<'a> ToldBy<'a> {
    pub(crate) fn of(principal: &'a Principal, patterns: impl Iterator<Item = &'a ChannelPattern>) -> Self {
        let patterns: Vec<_> = patterns.collect();
        let by_text = !may_know_trims(principal);
        let names = patterns.iter().filter(|_| by_text).map(ToString::to_string).collect();
        Self { principal, patterns, names }
    }

    /// Whether a loss of this name is one of theirs.
    pub(crate) fn has(&self, name: &str) -> bool {
        if !may_know_trims(self.principal) {
            return self.names.contains(name);
        }
        let granted = self.principal.grants.of(Action::Subscribe);
        self.patterns.iter().any(|pattern| granted.mean_by(pattern, name))
    }
}

impl Selector {
    /// A selector of any of these entries.
    pub fn new(entries: Vec<SelectorEntry>, principal: Principal) -> Self {
        let of_entry = |entry: &SelectorEntry| entry.access.channels(&entry.pattern, &principal);
        let channels: Box<[Channels]> = entries.iter().map(of_entry).collect();
        let mut by_name: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        if !may_know_trims(&principal) {
            for (entry, _) in
                entries.iter().zip(&channels).filter(|(_, channels)| **channels != Channels::none())
            {
                let least = by_name.entry(entry.name().to_string().into()).or_insert(entry.after);
                *least = entry.after.min(*least);
            }
        }
        let mut exact: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        let mut prefixes = Vec::new();
        for (index, entry) in (0..).zip(&entries) {
            match &entry.pattern {
                ChannelPattern::Exact(name) => exact.entry(Arc::clone(name)).or_default().push(index),
                ChannelPattern::Prefix(_) => prefixes.push(index),
            }
        }
        Self { entries: entries.into(), channels, principal, exact, prefixes: prefixes.into(), by_name }
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

    /// Whether whoever reads may know what was trimmed of each channel: not one for whom some events never existed.
    pub(crate) fn may_know_trims(&self) -> bool {
        may_know_trims(&self.principal)
    }

    /// Whether every event beyond this offset is wanted, whatever it is: a read then need not look at events at all.
    pub fn takes_all_after(&self, offset: u64) -> bool {
        if self.principal.row_rule != RowRule::AlwaysTrue {
            return false;
        }
        self.entries.iter().zip(&self.channels).any(|(entry, channels)| {
            let everywhere = matches!(&entry.pattern, ChannelPattern::Prefix(prefix) if prefix.is_empty());
            let granted = *channels == Channels::All;
            everywhere && granted && entry.filter.is_all() && entry.after <= offset
        })
    }

    /// Whether the event is wanted and exists for the principal.
    pub fn matches(&self, event: &EventView<'_>) -> bool {
        let fields = PayloadFields::of(event);
        let rule = &self.principal.row_rule;
        if let ([entry], [channels]) = (&*self.entries, &*self.channels) {
            return event.offset > entry.after
                && entry.pattern.matches(event.channel)
                && admits(channels, rule, &entry.filter, event, &fields);
        }
        self.indexes_for(event.channel).any(|index| {
            let (entry, channels) = (&self.entries[index], &self.channels[index]);
            event.offset > entry.after && admits(channels, rule, &entry.filter, event, &fields)
        })
    }

    /// What the reader can no longer get beyond an offset, of what was trimmed: each channel with its newest trimmed offset.
    ///
    /// Who must not learn which channels had events that it does not see is told that anything trimmed may have been its
    /// own: everything it asked for counts as lost up to the newest trim of all, by the names that it gave.
    pub fn lost<'t>(&self, trims: impl Iterator<Item = (&'t Arc<str>, u64)>, beyond: u64) -> Vec<Lost> {
        if self.may_know_trims() {
            let lost = |(channel, to): (&Arc<str>, u64)| {
                let after = self.wants(channel)?;
                (to > after.max(beyond)).then(|| Lost { channel: Arc::clone(channel), to })
            };
            return trims.filter_map(lost).collect();
        }
        let Some(to) = trims.map(|(_, to)| to).max() else { return Vec::new() };
        let lost = self.by_name.iter().filter(|(name, after)| {
            let is_told = !seeded_bug!(RowTrimsUntold) || !name.ends_with('*');
            is_told && to > beyond.max(**after)
        });
        lost.map(|(name, _)| Lost { channel: Arc::clone(name), to }).collect()
    }

    /// The lower bound of what is wanted of a channel, or of what was asked for by this name where trims are told so: the
    /// least `after` of its entries; `None` if nothing is wanted.
    pub(crate) fn wants(&self, name: &str) -> Option<u64> {
        if self.may_know_trims() {
            return self.entries_for(name).map(|entry| entry.after).min();
        }
        self.by_name.get(name).copied()
    }

    /// Whether the pattern of the entry at this place stands for the channel: it matches, and the channel is granted.
    pub fn stands_for(&self, entry: usize, channel: &str) -> bool {
        self.entries[entry].pattern.matches(channel) && self.channels[entry].have(channel)
    }

    /// The entries whose pattern stands for this channel.
    fn entries_for(&self, channel: &str) -> impl Iterator<Item = &SelectorEntry> {
        let granted = self.indexes_for(channel).filter(|index| self.channels[*index].have(channel));
        granted.map(|index| &self.entries[index])
    }

    /// The entries whose pattern matches this channel.
    fn indexes_for(&self, channel: &str) -> impl Iterator<Item = usize> {
        let exact = self.exact.get(channel).map_or(&[][..], Vec::as_slice).iter();
        let matches = |index: &&u32| self.entries[**index as usize].pattern.matches(channel);
        exact.chain(self.prefixes.iter().filter(matches)).map(|index| *index as usize)
    }
}
