//! Decides how to find a selector's events in a segment: by walking it, or by going to the records that its index
//! names. The index only narrows; whether an event matches is for the selector alone to say.

use std::sync::Arc;

use newswire_core::{ChannelPattern, Clause, Key, Selector, SelectorEntry};
use newswire_protocol::Scalar;
use parking_lot::Mutex;

use super::format::key_hash;
use super::index::{Summary, TAG_AGENT, TAG_CHANNEL, TAG_PROJECT, TAG_TYPE};
use super::index_file::FoundKey;
use super::postings;
use super::segment_file::Segment;
use crate::event_log::ReadError;
use crate::lru::Lru;

/// Going to single records pays where they are, on average, at least this far apart: reading 256 KiB in one piece costs
/// about as much as thirty single reads.
const SPARSE_SPACING_BYTES: u64 = 8 << 10;
/// Fewer candidates than this are not worth another list to narrow them.
const NARROW_FROM: usize = 32;
/// A list so many times longer costs more to decode than the reads it may save.
const NARROW_FACTOR: u64 = 1000;
/// Plans remembered.
const CACHED_PLANS: usize = 256;

/// How to read a segment.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Walk it.
    All,
    /// Look at the records at these ascending positions; no other can match.
    Positions(Arc<Vec<u64>>),
}

/// Plans for sealed segments, by segment and selector: the pages of one replay plan a segment once.
pub(crate) struct PlanCache {
    /// The selector is kept, so that its address stays its own.
    plans: Mutex<Lru<PlanKey, (Arc<Selector>, Plan)>>,
}

/// A segment's sequence, and a selector's address.
type PlanKey = (u64, usize);

impl PlanCache {
    pub(crate) fn new() -> Self {
        Self { plans: Mutex::new(Lru::new(CACHED_PLANS)) }
    }

    /// The plan, and the bytes of index read for it.
    pub(crate) fn plan(&self, segment: &Segment, selector: &Arc<Selector>) -> Result<(Plan, u64), ReadError> {
        if !segment.is_sealed() {
            return Planner::new(segment, selector).plan();
        }
        let key = (segment.header.sequence, Arc::as_ptr(selector) as usize);
        if let Some((_, plan)) = self.plans.lock().get(&key) {
            return Ok((plan, 0));
        }
        let (plan, bytes) = Planner::new(segment, selector).plan()?;
        self.plans.lock().insert(key, (selector.clone(), plan.clone()), 1);
        Ok((plan, bytes))
    }
}

struct Planner<'a> {
    segment: &'a Segment,
    selector: &'a Selector,
    last: u64,
    size: u64,
    read: u64,
}

/// What the index can say about one entry of a selector.
enum Narrowed {
    Nothing,
    /// Any of these positions.
    To(Vec<u64>),
    Not,
}

/// Keys of which an event has at least one.
struct AnyOf(Vec<u64>);

impl<'a> Planner<'a> {
    fn new(segment: &'a Segment, selector: &'a Selector) -> Self {
        let last = segment.summary(|summary| summary.last);
        Self { segment, selector, last, size: segment.end(), read: 0 }
    }

    fn plan(mut self) -> Result<(Plan, u64), ReadError> {
        let mut lists = Vec::new();
        let selector = self.selector;
        for (index, entry) in selector.entries().iter().enumerate() {
            if entry.after >= self.last {
                continue;
            }
            match self.narrow(entry, |channel| selector.stands_for(index, channel))? {
                Narrowed::Nothing => {}
                Narrowed::To(positions) => lists.push(positions),
                Narrowed::Not => return Ok((Plan::All, self.read)),
            }
        }
        let positions = if lists.is_empty() { Vec::new() } else { postings::union(lists) };
        let plan = if self.is_dense(positions.len() as u64) {
            Plan::All
        } else {
            Plan::Positions(Arc::new(positions))
        };
        Ok((plan, self.read))
    }

    fn is_dense(&self, count: u64) -> bool {
        count.saturating_mul(SPARSE_SPACING_BYTES) > self.size
    }

    fn narrow(
        &mut self,
        entry: &SelectorEntry,
        stands_for: impl Fn(&str) -> bool,
    ) -> Result<Narrowed, ReadError> {
        let rule = self.selector.principal().row_rule.filter().map_or(&[][..], |rule| rule.clauses());
        let options = self.segment.summary(|summary| options(summary, entry, rule, stands_for));
        let Some(options) = options else { return Ok(Narrowed::Nothing) };
        let mut costed = Vec::with_capacity(options.len());
        for AnyOf(keys) in options {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.extend(self.segment.find(key)?);
            }
            let count: u64 = found.iter().map(|key| u64::from(key.count)).sum();
            if count == 0 {
                return Ok(Narrowed::Nothing);
            }
            costed.push((count, found));
        }
        costed.sort_by_key(|(count, _)| *count);
        self.intersect(costed)
    }

    /// Starts from the rarest keys and narrows by the others as long as that pays.
    fn intersect(&mut self, costed: Vec<(u64, Vec<FoundKey>)>) -> Result<Narrowed, ReadError> {
        let mut costed = costed.into_iter();
        let Some((count, keys)) = costed.next() else { return Ok(Narrowed::Not) };
        if self.is_dense(count) && costed.len() == 0 {
            return Ok(Narrowed::Not);
        }
        let mut positions = self.positions(&keys)?;
        for (count, keys) in costed {
            let pays = positions.len() >= NARROW_FROM && count < NARROW_FACTOR * positions.len() as u64;
            if pays {
                let others = self.positions(&keys)?;
                positions = postings::intersection(&positions, &others);
            }
        }
        Ok(if self.is_dense(positions.len() as u64) { Narrowed::Not } else { Narrowed::To(positions) })
    }

    fn positions(&mut self, keys: &[FoundKey]) -> Result<Vec<u64>, ReadError> {
        let mut lists = Vec::with_capacity(keys.len());
        for key in keys {
            let (positions, bytes) = self.segment.positions(key)?;
            self.read += bytes;
            lists.push(positions);
        }
        Ok(postings::union(lists))
    }
}

/// The ways to narrow an entry down: every matching event has a key of each. `None` if nothing can match. What `rule` asks
/// for is asked beside the entry's filter, and of the channels only those count that the entry stands for.
fn options(
    summary: &Summary,
    entry: &SelectorEntry,
    rule: &[Clause],
    stands_for: impl Fn(&str) -> bool,
) -> Option<Vec<AnyOf>> {
    let mut options = Vec::new();
    match &entry.pattern {
        ChannelPattern::Exact(name) => {
            summary.channels.get(name).filter(|_| stands_for(name))?;
            options.push(AnyOf(vec![key_hash(TAG_CHANNEL, name.as_bytes())]));
        }
        ChannelPattern::Prefix(_) => {
            let hashes: Vec<_> = summary
                .channels
                .keys()
                .filter(|name| stands_for(name))
                .map(|name| key_hash(TAG_CHANNEL, name.as_bytes()))
                .collect();
            if hashes.is_empty() {
                return None;
            }
            if hashes.len() < summary.channels.len() {
                options.push(AnyOf(hashes));
            }
        }
    }
    for clause in entry.filter.clauses().iter().chain(rule) {
        if clause.values.is_empty() && clause.prefixes.is_empty() {
            return None;
        }
        options.extend(clause_keys(summary, clause));
    }
    Some(options)
}

/// The indexed keys of a clause; `None` if it is not indexed.
fn clause_keys(summary: &Summary, clause: &Clause) -> Option<AnyOf> {
    let values = clause.values.iter().map(Scalar::as_bytes);
    let keys = match clause.key {
        Key::Agent => values.map(|value| key_hash(TAG_AGENT, value)).collect(),
        Key::Project => values.map(|value| key_hash(TAG_PROJECT, value)).collect(),
        Key::EventType => {
            // Types are strings: a number or a boolean matches none.
            let texts = clause.values.iter().filter_map(|value| value.as_str());
            let mut keys: Vec<_> = texts.map(|text| key_hash(TAG_TYPE, text.as_bytes())).collect();
            for prefix in &clause.prefixes {
                keys.extend(
                    summary.types_with_prefix(prefix)?.map(|name| key_hash(TAG_TYPE, name.as_bytes())),
                );
            }
            keys.sort_unstable();
            keys.dedup();
            keys
        }
        Key::CorrelationId | Key::CausationId | Key::Source | Key::Payload(_) => return None,
    };
    Some(AnyOf(keys))
}
