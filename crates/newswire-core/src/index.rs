//! Which subscriptions an event matches, at a cost that follows the matches.
//!
//! Equal predicates (pattern, filter, and how one sees) of any number of subscriptions form one group, evaluated once an
//! event. A group hangs at its pattern, or at what a list of granted channels leaves of it, under the values of its most
//! selective clause, be it of the filter or of the row rule: an event looks up the values it has, and meets only groups
//! that want one of them. Tables whose keys clients choose are trees, which no choice of keys makes slow.

use std::collections::BTreeMap;
use std::sync::Arc;

use newswire_protocol::Scalar;

use crate::channel::ChannelPattern;
use crate::event::{Batch, EventView, Run};
use crate::fields::PayloadFields;
use crate::filter::{Clause, Filter, Key};
use crate::grants::Channels;
use crate::hub::Sights;
use crate::principal::RowRule;
use crate::selector::admits;
use crate::slab::Slab;
use crate::variant::VariantId;

pub(crate) type GroupId = u32;
pub(crate) type SubId = u32;

/// What the subscriptions of a group ask of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Predicate {
    pub(crate) pattern: ChannelPattern,
    pub(crate) filter: Arc<Filter>,
    pub(crate) rule: RowRule,
    /// The channels that the pattern stands for.
    pub(crate) channels: Channels,
    pub(crate) variant: VariantId,
}

/// Places of one group in the tree of patterns. Whoever was granted a longer list hangs at what they asked for, and is
/// compared with every event there.
const MAX_PLACES: usize = 256;

/// Where the clause stands by whose values an event finds a group. Every other one is compared then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    Filter,
    Rule,
}

impl Predicate {
    /// The most selective clause of the filter or of the row rule: they come in that order.
    fn leading(&self, leads: Leads) -> Option<&Clause> {
        match leads {
            Leads::Filter => self.filter.clauses().first(),
            Leads::Rule => self.rule.filter().and_then(|rule| rule.clauses().first()),
        }
    }

    /// The names and beginnings of the channels that are meant: of a pattern, what was granted.
    fn places(&self) -> Vec<ChannelPattern> {
        match (&self.pattern, &self.channels) {
            (ChannelPattern::Prefix(_), Channels::Listed(granted)) if granted.len() <= MAX_PLACES => {
                let mut places: Vec<_> =
                    granted.iter().filter_map(|granted| granted.meet(&self.pattern)).collect();
                places.sort_unstable();
                places.dedup();
                places
            }
            _ => vec![self.pattern.clone()],
        }
    }
}

/// Subscriptions that ask for the same. There may be as many groups as subscriptions, so what only a group with
/// matches needs stands in [`Matches`].
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) predicate: Predicate,
    /// In no order; each subscription knows its place.
    members: Vec<Member>,
    /// The last event that was compared, so that one reached by two values is compared once.
    seen: u64,
    /// Where its matches stand, if it has any in the present batch: [`Index::matches`] tells.
    matches: u32,
    /// Chosen when it was made: where it hangs.
    leads: Leads,
}

/// A subscription, with what dispatch has to know of it: whom it concerns is found without looking at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) sub: SubId,
    /// The connection's place in the hub.
    pub(crate) conn: u32,
    /// The set's slot.
    pub(crate) slot: u8,
}

/// What a group matches in the present batch.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    group: GroupId,
    /// Indexes of the events, ascending.
    pub(crate) picks: Vec<u32>,
    /// The same as a run, and its bytes; made when first asked for.
    run: Option<(Run, usize)>,
}

/// Names the matches of one group in the present batch.
pub(crate) type MatchesId = u32;

/// The groups with matches in the present batch. Those behind `count` are kept for the room they have.
#[derive(Debug, Default)]
struct Found {
    matches: Vec<Matches>,
    count: usize,
}

impl Found {
    fn clear(&mut self) {
        for matches in &mut self.matches[..self.count] {
            // A run keeps its batch alive; and one large batch must not take memory for ever.
            matches.run = None;
            if matches.picks.capacity() > 1024 { matches.picks = Vec::new() } else { matches.picks.clear() }
        }
        self.matches.truncate(1024);
        self.count = 0;
    }

    fn of(&self, group: &Group, id: GroupId) -> Option<&Matches> {
        self.matches[..self.count].get(group.matches as usize).filter(|matches| matches.group == id)
    }

    fn add(&mut self, group: &mut Group, id: GroupId, event: u32) {
        if self.of(group, id).is_none() {
            group.matches = u32::try_from(self.count).expect("there are fewer groups than that");
            if self.count == self.matches.len() {
                self.matches.push(Matches::default());
            }
            self.matches[self.count].group = id;
            self.count += 1;
        }
        self.matches[group.matches as usize].picks.push(event);
    }
}

/// The groups, and the ways to find them.
#[derive(Debug, Default)]
pub(crate) struct Index {
    groups: Slab<Group>,
    by_predicate: BTreeMap<Predicate, GroupId>,
    exact: BTreeMap<Arc<str>, Node>,
    prefixes: PrefixMap<Node>,
    found: Found,
    /// Counts events, to tell a group reached twice.
    clock: u64,
    /// Predicates compared with events since the start.
    evaluated: u64,
}

impl Index {
    /// Adds a member to the group of this predicate; returns the group and the member's place in it.
    pub(crate) fn join(&mut self, predicate: Predicate, member: Member) -> (GroupId, u32) {
        let id = match self.by_predicate.get(&predicate) {
            Some(&id) => id,
            None => self.add_group(predicate),
        };
        let members = &mut self.groups.get_mut(id).expect("known predicates have a group").members;
        members.push(member);
        (id, u32::try_from(members.len() - 1).expect("memory ends before four billion members do"))
    }

    /// Takes the member at this place out of its group. Returns the member that now stands there, if another does.
    pub(crate) fn leave(&mut self, id: GroupId, place: u32) -> Option<SubId> {
        let group = self.groups.get_mut(id)?;
        group.members.swap_remove(place as usize);
        let moved = group.members.get(place as usize).map(|member| member.sub);
        if group.members.is_empty() {
            self.remove_group(id);
        }
        moved
    }

    pub(crate) fn group(&self, id: GroupId) -> &Group {
        self.groups.get(id).expect("a group stands while it has members")
    }

    pub(crate) fn evaluated(&self) -> u64 {
        self.evaluated
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Finds the groups that each event of the batch matches; they are told by [`Index::touched`] and their picks.
    pub(crate) fn match_batch(&mut self, batch: &Batch) {
        self.found.clear();
        for (index, event) in (0..).zip(batch.iter()) {
            self.clock += 1;
            let fields = PayloadFields::of(&event);
            let mut scan = Scan {
                event,
                fields: &fields,
                index,
                clock: self.clock,
                groups: &mut self.groups,
                found: &mut self.found,
                evaluated: &mut self.evaluated,
            };
            if let Some(node) = self.exact.get(event.channel) {
                node.visit(&mut scan);
            }
            self.prefixes.each(event.channel, |node| node.visit(&mut scan));
        }
    }

    /// What matched in the last batch, and whom it concerns.
    pub(crate) fn found(&self) -> impl Iterator<Item = (MatchesId, &[Member])> {
        (0..).zip(&self.found.matches[..self.found.count]).map(|(id, matches)| {
            let members = self.groups.get(matches.group).map_or(&[][..], |group| &group.members);
            (id, members)
        })
    }

    /// What matched in the last batch for those who are not shown whole payloads.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (VariantId, &[u32])> {
        let variant = |matches: &Matches| self.groups.get(matches.group).map(|group| group.predicate.variant);
        let found = self.found.matches[..self.found.count].iter();
        found
            .filter_map(move |matches| Some((variant(matches)?, &*matches.picks)))
            .filter(|(variant, _)| *variant != VariantId::FULL)
    }

    /// How those see to whom the matches belong.
    pub(crate) fn variant(&self, id: MatchesId) -> VariantId {
        let group = self.found.matches.get(id as usize).and_then(|matches| self.groups.get(matches.group));
        group.map_or(VariantId::FULL, |group| group.predicate.variant)
    }

    /// Indexes of the events of the last batch.
    pub(crate) fn picks(&self, id: MatchesId) -> &[u32] {
        &self.found.matches[id as usize].picks
    }

    /// The matches of a group as a run of the last batch, as they are shown, and its bytes; made once and shared.
    pub(crate) fn run(&mut self, id: MatchesId, batch: &Arc<Batch>, sights: &Sights) -> Option<(Run, usize)> {
        let matches = self.found.matches.get_mut(id as usize)?;
        if matches.run.is_none() {
            let variant = self.groups.get(matches.group)?.predicate.variant;
            let run = sights.run(variant, &matches.picks, batch)?;
            let bytes = run.bytes();
            matches.run = Some((run, bytes));
        }
        matches.run.clone()
    }

    /// Lets go of the last batch.
    pub(crate) fn forget_batch(&mut self) {
        self.found.clear();
    }

    fn add_group(&mut self, predicate: Predicate) -> GroupId {
        let places = predicate.places();
        let leads = self.leads(&predicate, &places);
        // Most groups of filtered subscribers have one member and keep one.
        let group = Group {
            predicate: predicate.clone(),
            members: Vec::with_capacity(1),
            seen: 0,
            matches: 0,
            leads,
        };
        let id = self.groups.insert(group);
        for place in &places {
            let node = match place {
                ChannelPattern::Exact(name) => self.exact.entry(Arc::clone(name)).or_default(),
                ChannelPattern::Prefix(prefix) => self.prefixes.entry(prefix),
            };
            node.add(predicate.leading(leads), id);
        }
        self.by_predicate.insert(predicate, id);
        id
    }

    /// Of filter and row rule, that by which the group stands among fewer others: where all ask for the same type, the
    /// rules tell them apart, and where all have the same rule, the filters do.
    fn leads(&self, predicate: &Predicate, places: &[ChannelPattern]) -> Leads {
        let (filter, rule) = match [Leads::Filter, Leads::Rule].map(|leads| predicate.leading(leads)) {
            [_, None] => return Leads::Filter,
            [None, Some(_)] => return Leads::Rule,
            [Some(filter), Some(rule)] => (filter, rule),
        };
        let others = |clause: &Clause| {
            let node = |place: &ChannelPattern| match place {
                ChannelPattern::Exact(name) => self.exact.get(name),
                ChannelPattern::Prefix(prefix) => self.prefixes.values.get(&**prefix),
            };
            places.iter().filter_map(node).map(|node| node.most_at(clause)).max().unwrap_or(0)
        };
        // Among as many, the more selective key.
        let of = |clause: &Clause| (others(clause), clause.key.clone());
        if of(rule) < of(filter) { Leads::Rule } else { Leads::Filter }
    }

    fn remove_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(id) else { return };
        let leading = group.predicate.leading(group.leads);
        for place in group.predicate.places() {
            match &place {
                ChannelPattern::Exact(name) => {
                    if self.exact.get_mut(name).is_some_and(|node| node.remove(leading, id)) {
                        self.exact.remove(name);
                    }
                }
                ChannelPattern::Prefix(prefix) => {
                    self.prefixes.change(prefix, |node| node.remove(leading, id));
                }
            }
        }
        self.by_predicate.remove(&group.predicate);
    }
}

/// One event on its way through the index.
struct Scan<'a> {
    event: EventView<'a>,
    /// Shared by all filters that ask for a key of the payload.
    fields: &'a PayloadFields<'a>,
    index: u32,
    clock: u64,
    groups: &'a mut Slab<Group>,
    found: &'a mut Found,
    evaluated: &'a mut u64,
}

impl Scan<'_> {
    fn offer(&mut self, ids: &[GroupId]) {
        for &id in ids {
            let Some(group) = self.groups.get_mut(id) else { continue };
            if std::mem::replace(&mut group.seen, self.clock) == self.clock {
                continue;
            }
            *self.evaluated += 1;
            let Predicate { channels, rule, filter, .. } = &group.predicate;
            if admits(channels, rule, filter, &self.event, self.fields) {
                self.found.add(group, id, self.index);
            }
        }
    }
}

/// The groups of one pattern.
#[derive(Debug, Default)]
struct Node {
    /// Without a filter and a row rule.
    whole: Vec<GroupId>,
    /// By the values of their most selective clause.
    agents: ValueMap,
    projects: ValueMap,
    sources: TextMap,
    correlation_ids: TextMap,
    causation_ids: TextMap,
    types: TextMap,
    type_prefixes: PrefixMap<Vec<GroupId>>,
    payload: BTreeMap<Box<str>, ValueMap>,
    /// Groups at this node, those included that nothing can match.
    count: usize,
}

/// Canonical scalars to groups.
type ValueMap = BTreeMap<Box<[u8]>, Vec<GroupId>>;
/// Texts to groups.
type TextMap = BTreeMap<Box<str>, Vec<GroupId>>;

impl Node {
    fn add(&mut self, leading: Option<&Clause>, id: GroupId) {
        self.count += 1;
        self.places(leading, |ids| {
            ids.push(id);
            false
        });
    }

    /// `true` if the node is empty now.
    fn remove(&mut self, leading: Option<&Clause>, id: GroupId) -> bool {
        self.count -= 1;
        self.places(leading, |ids| {
            ids.retain(|other| *other != id);
            ids.is_empty()
        });
        self.count == 0
    }

    /// The most groups that stand together under one of the values of this clause.
    fn most_at(&self, clause: &Clause) -> usize {
        let values = |table: &ValueMap| {
            let at = |value: &Scalar| table.get(value.as_bytes()).map_or(0, Vec::len);
            clause.values.iter().map(at).max()
        };
        let texts = |table: &TextMap| {
            let at = |value: &Scalar| value.as_str().and_then(|text| table.get(text)).map_or(0, Vec::len);
            clause.values.iter().map(at).max()
        };
        let most = match &clause.key {
            Key::Agent => values(&self.agents),
            Key::Project => values(&self.projects),
            Key::Payload(name) => self.payload.get(name).and_then(values),
            Key::Source => texts(&self.sources),
            Key::CorrelationId => texts(&self.correlation_ids),
            Key::CausationId => texts(&self.causation_ids),
            Key::EventType => {
                let at = |prefix: &str| self.type_prefixes.values.get(prefix).map_or(0, Vec::len);
                texts(&self.types).max(clause.prefixes.iter().map(|prefix| at(prefix)).max())
            }
        };
        most.unwrap_or(0)
    }

    /// Applies the change to every list where a group with this clause stands; a list is removed where it says `true`.
    fn places(&mut self, leading: Option<&Clause>, mut change: impl FnMut(&mut Vec<GroupId>) -> bool) {
        let Some(clause) = leading else {
            change(&mut self.whole);
            return;
        };
        match &clause.key {
            Key::Agent => change_values(&mut self.agents, clause, change),
            Key::Project => change_values(&mut self.projects, clause, change),
            Key::Payload(name) => {
                let table = self.payload.entry(name.clone()).or_default();
                change_values(table, clause, change);
                if table.is_empty() {
                    self.payload.remove(name);
                }
            }
            Key::Source => change_texts(&mut self.sources, clause, change),
            Key::CorrelationId => change_texts(&mut self.correlation_ids, clause, change),
            Key::CausationId => change_texts(&mut self.causation_ids, clause, change),
            Key::EventType => {
                change_texts(&mut self.types, clause, &mut change);
                for prefix in &clause.prefixes {
                    self.type_prefixes.change(prefix, &mut change);
                }
            }
        }
    }

    fn visit(&self, scan: &mut Scan<'_>) {
        scan.offer(&self.whole);
        if self.count == self.whole.len() {
            return;
        }
        let event = scan.event;
        if !self.agents.is_empty() {
            event.agents().filter_map(|agent| self.agents.get(agent)).for_each(|ids| scan.offer(ids));
        }
        if !self.projects.is_empty() {
            event.projects().filter_map(|project| self.projects.get(project)).for_each(|ids| scan.offer(ids));
        }
        let texts = [
            (&self.sources, event.source()),
            (&self.correlation_ids, event.correlation_id()),
            (&self.causation_ids, event.causation_id()),
            (&self.types, Some(event.event_type)),
        ];
        for (table, text) in texts {
            if let Some(ids) = text.and_then(|text| table.get(text)) {
                scan.offer(ids);
            }
        }
        self.type_prefixes.each(event.event_type, |ids| scan.offer(ids));
        if !self.payload.is_empty() {
            self.visit_payload(scan);
        }
    }

    fn visit_payload(&self, scan: &mut Scan<'_>) {
        let fields = scan.fields;
        if self.payload.len() == 1 {
            for (key, table) in &self.payload {
                fields.has(key, |value| {
                    table.get(value).is_some_and(|ids| {
                        scan.offer(ids);
                        true
                    })
                });
            }
            return;
        }
        for (key, value) in fields.table() {
            if let Some(ids) = self.payload.get(&**key).and_then(|table| table.get(value.as_bytes())) {
                scan.offer(ids);
            }
        }
    }
}

fn change_values(table: &mut ValueMap, clause: &Clause, mut change: impl FnMut(&mut Vec<GroupId>) -> bool) {
    for value in &clause.values {
        if change(table.entry(value.as_bytes().into()).or_default()) {
            table.remove(value.as_bytes());
        }
    }
}

fn change_texts(table: &mut TextMap, clause: &Clause, mut change: impl FnMut(&mut Vec<GroupId>) -> bool) {
    // Envelope fields are strings: a number or boolean never matches them.
    for text in clause.values.iter().filter_map(|value| value.as_str()) {
        if change(table.entry(text.into()).or_default()) {
            table.remove(text);
        }
    }
}

/// Values by prefix, found for a text by one look-up for each length that occurs.
#[derive(Debug)]
struct PrefixMap<T> {
    values: BTreeMap<Box<str>, T>,
    /// Byte lengths of the prefixes, and how many have each.
    lengths: BTreeMap<usize, usize>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

impl<T: Default> PrefixMap<T> {
    fn entry(&mut self, prefix: &str) -> &mut T {
        if !self.values.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        self.values.entry(prefix.into()).or_default()
    }

    /// Changes the value of a prefix, which is removed if `change` says `true`.
    fn change(&mut self, prefix: &str, change: impl FnOnce(&mut T) -> bool) {
        if !change(self.entry(prefix)) {
            return;
        }
        self.values.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn each(&self, text: &str, mut visit: impl FnMut(&T)) {
        for &length in self.lengths.keys() {
            if length > text.len() {
                break;
            }
            if let Some(value) = text.get(..length).and_then(|prefix| self.values.get(prefix)) {
                visit(value);
            }
        }
    }
}
