//! From a committed batch to the outboxes of the connections that want any of it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::wakes::Wakes;
use super::{About, Hub, HubSub, HubSubState, Sights};
use crate::config::{Backlog, BacklogPolicy};
use crate::event::{Batch, Run};
use crate::index::{GroupId, Index, MatchesId, SubId};
use crate::outbox::{QueuedRun, SetMask, Sets};
use crate::seeded::seeded_bug;
use crate::slab::Slab;

/// Who is concerned by the present batch, and by what; one room for all connections, used again for every batch.
#[derive(Debug, Default)]
pub(super) struct Reached {
    conns: Vec<u32>,
    hits: Vec<Hit>,
    /// The hits of one connection.
    of_conn: Vec<(MatchesId, u8)>,
}

/// One of a connection's sets is concerned.
#[derive(Clone, Copy, Debug)]
struct Hit {
    matches: MatchesId,
    slot: u8,
    /// The hit of the same connection before this one; `NO_HIT` at the first.
    before: u32,
}

pub(super) const NO_HIT: u32 = u32::MAX;

impl Hub {
    /// Takes the next committed batch. Batches come in offset order, none missing, none twice; empty ones count for
    /// nothing. Costs what matches; whom it concerns is roused by [`Wakes::flush`].
    pub fn publish(&mut self, batch: Arc<Batch>) -> Wakes {
        if batch.is_empty() {
            return Wakes::default();
        }
        self.index.match_batch(&batch);
        self.sights.show(&self.index, &batch);
        self.find_connections();
        let mut merged = FxHashMap::default();
        let mut reached = std::mem::take(&mut self.reached);
        let mut wakes = Wakes::of(reached.conns.len());
        for &conn in &reached.conns {
            let _ = self.deliver(conn, &reached.hits, &mut reached.of_conn, &batch, &mut merged, &mut wakes);
        }
        self.reached = reached;
        self.index.forget_batch();
        self.packed.forget_batch();
        self.sights.forget_batch();
        let last = batch.last();
        self.ring.push(batch);
        self.dispatched.set(last);
        for index in self.waiting.drain(..) {
            if let Some(conn) = self.conns.get_mut(index) {
                conn.waits = false;
                wakes.add_tasks(conn.outbox.wake_later());
            }
        }
        wakes
    }

    /// Turns the groups that matched into the connections that are concerned, each with its groups and sets.
    fn find_connections(&mut self) {
        self.clock += 1;
        self.reached.conns.clear();
        self.reached.hits.clear();
        for (matches, members) in self.index.found() {
            for member in members {
                let Some(conn) = self.conns.get_mut(member.conn) else { continue };
                if conn.seen != self.clock {
                    conn.seen = self.clock;
                    conn.hits = NO_HIT;
                    self.reached.conns.push(member.conn);
                }
                let hit = Hit { matches, slot: member.slot, before: conn.hits };
                conn.hits = u32::try_from(self.reached.hits.len()).expect("fewer subscriptions than that");
                self.reached.hits.push(hit);
            }
        }
    }

    fn deliver(
        &mut self,
        conn: u32,
        all_hits: &[Hit],
        hits: &mut Vec<(MatchesId, u8)>,
        batch: &Arc<Batch>,
        merged: &mut Merged,
        wakes: &mut Wakes,
    ) -> Option<()> {
        let conn = self.conns.get_mut(conn)?;
        hits.clear();
        let mut next = conn.hits;
        while let Some(hit) = all_hits.get(next as usize) {
            hits.push((hit.matches, hit.slot));
            next = hit.before;
        }
        let first = hits.first()?.0;
        let (run, bytes) = if hits.iter().all(|(matches, _)| *matches == first) {
            self.index.run(first, batch, &self.sights)?
        } else {
            merge(&self.index, &self.sights, hits, batch, merged)?
        };
        let backlog = conn.outbox.backlog(&self.config.backlog);
        let sets = sets_of(&self.index, &self.sights, hits, &run, *backlog);
        self.deliveries += run.len() as u64;
        if seeded_bug!(SetsNotMerged) && hits.len() > 1 {
            let again = QueuedRun::new(run.clone(), bytes, sets.clone());
            wakes.add(&conn.outbox, conn.outbox.push_run(again, backlog));
        }
        let packed = conn.deflate.then(|| {
            let About { reads, subs, .. } = &mut *conn.about;
            self.packed.read(reads.as_mut()?, || live_groups(&self.subs, subs), &run)
        });
        let packed = packed.flatten();
        let run = QueuedRun { packed, ..QueuedRun::new(run, bytes, sets) };
        wakes.add(&conn.outbox, conn.outbox.push_run(run, backlog));
        Some(())
    }
}

fn live_groups(subs: &Slab<HubSub>, of_conn: &[SubId]) -> Vec<GroupId> {
    let live = |sub: &HubSub| match sub.state {
        HubSubState::Live(group, _) => Some(group),
        HubSubState::Withheld(_) => None,
    };
    of_conn.iter().filter_map(|id| subs.get(*id).and_then(live)).collect()
}

/// Unions of groups, made once for all connections that have the same.
type Merged = FxHashMap<Box<[MatchesId]>, (Run, usize)>;

fn merge(
    index: &Index,
    sights: &Sights,
    hits: &[(MatchesId, u8)],
    batch: &Arc<Batch>,
    merged: &mut Merged,
) -> Option<(Run, usize)> {
    let mut groups: Vec<MatchesId> = hits.iter().map(|(matches, _)| *matches).collect();
    groups.sort_unstable();
    groups.dedup();
    if let Some(known) = merged.get(&*groups) {
        return Some(known.clone());
    }
    let mut picks: Vec<u32> = groups.iter().flat_map(|matches| index.picks(*matches)).copied().collect();
    picks.sort_unstable();
    picks.dedup();
    // All groups of a connection show the same.
    let run = sights.run(index.variant(groups[0]), &picks, batch)?;
    let bytes = run.bytes();
    merged.insert(groups.into(), (run.clone(), bytes));
    Some((run, bytes))
}

/// Which sets matched which events; only policies that drop ever ask.
fn sets_of(index: &Index, sights: &Sights, hits: &[(MatchesId, u8)], run: &Run, backlog: Backlog) -> Sets {
    if matches!(backlog.policy, BacklogPolicy::CatchUp | BacklogPolicy::Disconnect) {
        return Sets::Same(0);
    }
    let bit = |slot: u8| -> SetMask { 1 << slot };
    let (first_group, first_slot) = hits[0];
    if hits.iter().all(|(group, _)| *group == first_group) || hits.iter().all(|(_, slot)| *slot == first_slot)
    {
        return Sets::Same(hits.iter().fold(0, |mask, (_, slot)| mask | bit(*slot)));
    }
    let mut by_index: FxHashMap<u32, SetMask> = FxHashMap::default();
    for (group, slot) in hits {
        for pick in index.picks(*group) {
            *by_index.entry(*pick).or_default() |= bit(*slot);
        }
    }
    let variant = index.variant(first_group);
    let mask = |nth: usize| {
        let index = sights.committed(run, variant, nth);
        by_index.get(&index).copied().unwrap_or_default()
    };
    Sets::Each((0..run.len()).map(mask).collect())
}
