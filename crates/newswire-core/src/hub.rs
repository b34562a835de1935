//! The local registry of connections and subscriptions: takes every committed batch, and hands its events to the
//! connections that want them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use newswire_protocol::{Epoch, GapReason};
use rustc_hash::FxHashMap;

use crate::channel::ChannelPattern;
use crate::config::{Backlog, BacklogPolicy, HubConfig};
use crate::event::{Batch, Picks, Run};
use crate::figures::{ConnectionInfo, HubStats, SubscriptionInfo};
use crate::filter::Filter;
use crate::index::{GroupId, Index, MatchesId, Member, Predicate, SubId};
use crate::outbox::{Dispatched, EpochMark, Generation, Mode, Outbox, QueuedRun, SetMask, Sets};
use crate::packed::{PackedStreams, Reads};
use crate::principal::RowRule;
use crate::ring::{Ring, Slice};
use crate::seeded::seeded_bug;
use crate::slab::Slab;

/// A connection, as long as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The registry of one feed. The shell keeps it in one `parking_lot::Mutex`, which sessions lock for moments.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    epoch: Epoch,
    /// Counts epochs, and the last offset of this one that was not handed to this hub.
    generation: Generation,
    dispatched: Arc<Dispatched>,
    ring: Ring,
    index: Index,
    conns: Slab<Conn>,
    by_id: FxHashMap<ConnId, u32>,
    next_conn: u64,
    /// Hubs that number their connections together.
    shards: u64,
    subs: Slab<HubSub>,
    /// Connections that asked to be woken by the next batch.
    waiting: Vec<u32>,
    /// Counts batches, to tell a connection reached by several groups.
    clock: u64,
    reached: Reached,
    packed: PackedStreams,
    deliveries: u64,
}

/// A connection as dispatch sees it, small: with many connections, the time of a delivery is that of reaching for
/// memory that no cache holds.
#[derive(Debug)]
struct Conn {
    outbox: Arc<Outbox>,
    /// The last batch with matches for it.
    seen: u64,
    /// The last of its hits, while a batch is dispatched.
    hits: u32,
    /// Stands in [`Hub::waiting`].
    waits: bool,
    /// May be sent compressed events.
    deflate: bool,
    about: Box<About>,
}

/// The rest of a connection.
#[derive(Debug)]
struct About {
    id: ConnId,
    principal: Arc<str>,
    subs: Vec<SubId>,
    set_names: Vec<(u8, Arc<str>)>,
    /// Only where it may be sent compressed events.
    reads: Option<Box<Reads>>,
}

/// Who is concerned by the present batch, and by what; one room for all connections, used again for every batch.
#[derive(Debug, Default)]
struct Reached {
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

const NO_HIT: u32 = u32::MAX;

/// One subscription of one set of one connection.
#[derive(Debug)]
struct HubSub {
    conn: u32,
    place_in_conn: u32,
    slot: u8,
    rule: RowRule,
    state: HubSubState,
}

#[derive(Debug)]
enum HubSubState {
    /// The hub pushes it: a member of this group, at this place.
    Live(GroupId, u32),
    /// A replay withholds it.
    Withheld(Box<(ChannelPattern, Arc<Filter>)>),
}

/// Those who are to be told that something came. Wakes them when dropped: let it live beyond the hub's lock.
#[derive(Debug, Default)]
#[must_use = "drop it behind the hub's lock"]
pub struct Wakes {
    wakers: Vec<Waker>,
    reached: usize,
}

impl Wakes {
    /// Connections that got something, those included that are awake.
    pub fn reached(&self) -> usize {
        self.reached
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Hub {
    /// A hub that has been handed everything up to `dispatched`: the log's tail minus one at its start.
    pub fn new(config: HubConfig, epoch: Epoch, dispatched: u64) -> Self {
        Self::sharded(config, epoch, dispatched, 0, 1)
    }

    /// One of several hubs that share the connections of a feed. Each is handed every batch; the numbers of their
    /// connections never meet. `shard` counts from zero and is less than `shards`.
    pub fn sharded(config: HubConfig, epoch: Epoch, dispatched: u64, shard: usize, shards: usize) -> Self {
        debug_assert!(shard < shards, "shard {shard} of {shards}");
        Self {
            epoch,
            generation: Generation { number: 0, start: dispatched },
            dispatched: Arc::new(Dispatched::new(dispatched)),
            ring: Ring::new(config.ring_bytes, dispatched),
            config,
            index: Index::default(),
            conns: Slab::default(),
            by_id: FxHashMap::default(),
            next_conn: shard as u64 + 1,
            shards: shards as u64,
            subs: Slab::default(),
            waiting: Vec::new(),
            clock: 0,
            reached: Reached::default(),
            packed: PackedStreams::new(config.segment_bytes),
            deliveries: 0,
        }
    }

    /// Takes the next committed batch. Batches come in offset order, none missing, none twice; empty ones count for
    /// nothing. Costs what matches, and wakes whom it concerns once the result is dropped.
    pub fn publish(&mut self, batch: Arc<Batch>) -> Wakes {
        let mut wakes = Wakes::default();
        if batch.is_empty() {
            return wakes;
        }
        self.index.match_batch(&batch);
        self.find_connections();
        let mut merged = FxHashMap::default();
        let mut reached = std::mem::take(&mut self.reached);
        wakes.reached = reached.conns.len();
        wakes.wakers.reserve(wakes.reached);
        for &conn in &reached.conns {
            wakes.wakers.extend(self.deliver(conn, &reached.hits, &mut reached.of_conn, &batch, &mut merged));
        }
        self.reached = reached;
        self.index.forget_batch();
        self.packed.forget_batch();
        let last = batch.last();
        self.ring.push(batch);
        self.dispatched.set(last);
        for index in self.waiting.drain(..) {
            if let Some(conn) = self.conns.get_mut(index) {
                conn.waits = false;
                wakes.wakers.extend(conn.outbox.wake_later());
            }
        }
        wakes
    }

    /// The log has begun a new epoch, with these retained offsets (`head..tail`). Every connection is told in its
    /// stream; what is committed from `tail` on is to be published here, nothing of the old epoch any more.
    pub fn epoch_changed(&mut self, epoch: Epoch, head: u64, tail: u64) -> Wakes {
        let dispatched = tail.saturating_sub(1);
        self.epoch = epoch;
        self.generation = Generation { number: self.generation.number + 1, start: dispatched };
        self.ring = Ring::new(self.config.ring_bytes, dispatched);
        let mark = EpochMark { epoch, head, dispatched, generation: self.generation };
        let wakers = self.conns.iter().filter_map(|(_, conn)| conn.outbox.push_epoch(mark)).collect();
        // Last: a session that sees the new offset finds the mark in its outbox.
        self.dispatched.set(dispatched);
        Wakes { wakers, reached: self.conns.len() }
    }

    /// The epoch that offsets belong to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last offset handed to [`Hub::publish`].
    pub fn dispatched(&self) -> u64 {
        self.dispatched.get()
    }

    /// Gaps told to clients so far, by reason.
    pub fn gaps_told(&self) -> Vec<(GapReason, u64)> {
        self.dispatched.told.gaps()
    }

    /// Commands answered with an error so far, by code.
    pub fn errors_told(&self) -> Vec<(&'static str, u64)> {
        self.dispatched.told.errors()
    }

    /// Figures.
    pub fn stats(&self) -> HubStats {
        let lagging = |conn: &Conn| matches!(conn.outbox.mode(), Mode::Lagging { .. });
        HubStats {
            evaluated: self.index.evaluated(),
            deliveries: self.deliveries,
            connections: self.conns.len(),
            subscriptions: self.subs.len(),
            groups: self.index.groups(),
            lagging: self.conns.iter().filter(|(_, conn)| lagging(conn)).count(),
            ring_bytes: self.ring.bytes(),
        }
    }

    /// All connections, in no order.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.conns.iter().map(|(_, conn)| self.info(conn)).collect()
    }

    /// One connection.
    pub fn connection(&self, id: ConnId) -> Option<ConnectionInfo> {
        self.by_id.get(&id).and_then(|conn| self.conns.get(*conn)).map(|conn| self.info(conn))
    }

    /// Who has subscribed what: a connection and one of its patterns, in no order. A snapshot to count with, so that
    /// counting does not hold the hub.
    pub fn interests(&self) -> Vec<(ConnId, ChannelPattern)> {
        let interest = |sub: &HubSub| {
            let pattern = match &sub.state {
                HubSubState::Live(group, _) => &self.index.group(*group).predicate.pattern,
                HubSubState::Withheld(what) => &what.0,
            };
            self.conns.get(sub.conn).map(|conn| (conn.about.id, pattern.clone()))
        };
        self.subs.iter().filter_map(|(_, sub)| interest(sub)).collect()
    }

    /// Forgets a connection and its subscriptions; nothing happens if it is unknown. Sessions do this themselves
    /// when they are closed; for a shell whose session was lost.
    pub fn disconnect(&mut self, id: ConnId) {
        if let Some(conn) = self.by_id.remove(&id) {
            while let Some(sub) = self.conns.get(conn).and_then(|conn| conn.about.subs.last().copied()) {
                self.remove_sub(sub);
            }
            self.conns.remove(conn);
        }
    }

    pub(crate) fn connect(&mut self, principal: Arc<str>) -> (ConnId, Arc<Outbox>, Arc<Dispatched>) {
        let id = ConnId(self.next_conn);
        self.next_conn += self.shards;
        let outbox = Arc::<Outbox>::default();
        let (subs, set_names, reads) = (Vec::new(), Vec::new(), None);
        let about = Box::new(About { id, principal, subs, set_names, reads });
        let (outbox_here, hits) = (Arc::clone(&outbox), NO_HIT);
        let conn = Conn { outbox: outbox_here, seen: 0, hits, waits: false, deflate: false, about };
        self.by_id.insert(id, self.conns.insert(conn));
        (id, outbox, Arc::clone(&self.dispatched))
    }

    /// Remembers how a set is called, for people who look.
    pub(crate) fn name_set(&mut self, id: ConnId, slot: u8, name: &Arc<str>) {
        if let Some(conn) = self.by_id.get(&id).and_then(|conn| self.conns.get_mut(*conn)) {
            conn.about.set_names.retain(|(known, _)| *known != slot);
            conn.about.set_names.push((slot, Arc::clone(name)));
        }
    }

    /// From now on the connection may be sent compressed events.
    pub(crate) fn accept_compressed(&mut self, id: ConnId) {
        if let Some(conn) = self.by_id.get(&id).and_then(|conn| self.conns.get_mut(*conn)) {
            conn.deflate = true;
            conn.about.reads = Some(Box::default());
        }
    }

    /// Wakes the connection at the next batch, whatever it holds.
    pub(crate) fn wake_at_next_batch(&mut self, id: ConnId) {
        if let Some(&index) = self.by_id.get(&id)
            && let Some(conn) = self.conns.get_mut(index)
            && !std::mem::replace(&mut conn.waits, true)
        {
            self.waiting.push(index);
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn ring_slice(&self, from: u64, until: u64, max_bytes: usize) -> Option<Slice> {
        self.ring.slice(from, until, max_bytes)
    }

    pub(crate) fn add_sub(
        &mut self,
        id: ConnId,
        slot: u8,
        pattern: ChannelPattern,
        filter: Arc<Filter>,
        rule: RowRule,
        live: bool,
    ) -> Option<SubId> {
        let conn_index = *self.by_id.get(&id)?;
        let conn = self.conns.get_mut(conn_index)?;
        let place_in_conn =
            u32::try_from(conn.about.subs.len()).expect("subscriptions of a connection are bounded");
        let state = HubSubState::Withheld(Box::new((pattern, filter)));
        let sub = self.subs.insert(HubSub { conn: conn_index, place_in_conn, slot, rule, state });
        if conn.about.subs.capacity() == 0 {
            // Most connections have one subscription and keep one.
            conn.about.subs.reserve_exact(1);
        }
        conn.about.subs.push(sub);
        if live {
            self.set_live(sub);
        }
        Some(sub)
    }

    /// From now on the hub pushes this subscription's events.
    pub(crate) fn set_live(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        if let HubSubState::Withheld(what) = &sub.state {
            let (pattern, filter) = (**what).clone();
            let member = Member { sub: id, conn: sub.conn, slot: sub.slot };
            let (group, place) = self.index.join(Predicate { pattern, filter, rule: sub.rule }, member);
            sub.state = HubSubState::Live(group, place);
            Reads::forget(self.conns.get_mut(member.conn).and_then(|conn| conn.about.reads.as_mut()));
        }
    }

    /// From now on the hub pushes it no more.
    pub(crate) fn withhold(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        if let HubSubState::Live(group, place) = sub.state {
            let predicate = self.index.group(group).predicate.clone();
            sub.state = HubSubState::Withheld(Box::new((predicate.pattern, predicate.filter)));
            Reads::forget(self.conns.get_mut(sub.conn).and_then(|conn| conn.about.reads.as_mut()));
            let moved = self.index.leave(group, place);
            if let Some(HubSub { state: HubSubState::Live(_, at), .. }) =
                moved.and_then(|id| self.subs.get_mut(id))
            {
                *at = place;
            }
        }
    }

    /// Gives the subscription another filter.
    pub(crate) fn set_filter(&mut self, id: SubId, filter: Arc<Filter>, live: bool) {
        self.withhold(id);
        if let Some(HubSub { state: HubSubState::Withheld(what), .. }) = self.subs.get_mut(id) {
            what.1 = filter;
        }
        if live {
            self.set_live(id);
        }
    }

    pub(crate) fn remove_sub(&mut self, id: SubId) {
        self.withhold(id);
        let Some(sub) = self.subs.remove(id) else { return };
        let Some(conn) = self.conns.get_mut(sub.conn) else { return };
        let subs = &mut conn.about.subs;
        subs.swap_remove(sub.place_in_conn as usize);
        if let Some(moved) = subs.get(sub.place_in_conn as usize).and_then(|id| self.subs.get_mut(*id)) {
            moved.place_in_conn = sub.place_in_conn;
        }
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
    ) -> Option<Waker> {
        let conn = self.conns.get_mut(conn)?;
        hits.clear();
        let mut next = conn.hits;
        while let Some(hit) = all_hits.get(next as usize) {
            hits.push((hit.matches, hit.slot));
            next = hit.before;
        }
        let first = hits.first()?.0;
        let (run, bytes) = if hits.iter().all(|(matches, _)| *matches == first) {
            self.index.run(first, batch)?
        } else {
            merge(&self.index, hits, batch, merged)?
        };
        let sets = sets_of(&self.index, hits, &run, self.config.backlog);
        self.deliveries += run.len() as u64;
        if seeded_bug!(SetsNotMerged) && hits.len() > 1 {
            let _ =
                conn.outbox.push_run(QueuedRun::new(run.clone(), bytes, sets.clone()), &self.config.backlog);
        }
        let packed = conn.deflate.then(|| {
            let About { reads, subs, .. } = &mut *conn.about;
            self.packed.read(reads.as_mut()?, || live_groups(&self.subs, subs), &run)
        });
        let packed = packed.flatten();
        conn.outbox.push_run(QueuedRun { packed, ..QueuedRun::new(run, bytes, sets) }, &self.config.backlog)
    }

    fn info(&self, conn: &Conn) -> ConnectionInfo {
        let figures = &conn.outbox.figures;
        let lagging = matches!(conn.outbox.mode(), Mode::Lagging { .. });
        let position = figures.position.load(Ordering::Relaxed);
        let describe = |sub: &HubSub| {
            let (pattern, filter, replaying) = match &sub.state {
                HubSubState::Live(group, _) => {
                    let predicate = &self.index.group(*group).predicate;
                    (predicate.pattern.clone(), Arc::clone(&predicate.filter), false)
                }
                HubSubState::Withheld(what) => (what.0.clone(), Arc::clone(&what.1), true),
            };
            let name = conn.about.set_names.iter().find(|(slot, _)| *slot == sub.slot);
            SubscriptionInfo { sub: name.map(|(_, name)| Arc::clone(name)), pattern, filter, replaying }
        };
        ConnectionInfo {
            id: conn.about.id,
            principal: Arc::clone(&conn.about.principal),
            lagging,
            last_sent: figures.last_sent.load(Ordering::Relaxed),
            lag: if lagging { self.dispatched().saturating_sub(position) } else { 0 },
            queued_bytes: conn.outbox.queued_bytes(),
            dropped: figures.dropped.load(Ordering::Relaxed),
            subscriptions: conn.about.subs.iter().filter_map(|id| self.subs.get(*id)).map(describe).collect(),
        }
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
    let run = Run::of_indexes(batch, &picks)?;
    let bytes = run.bytes();
    merged.insert(groups.into(), (run.clone(), bytes));
    Some((run, bytes))
}

/// Which sets matched which events; only policies that drop ever ask.
fn sets_of(index: &Index, hits: &[(MatchesId, u8)], run: &Run, backlog: Backlog) -> Sets {
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
    let mask = |nth: usize| {
        let index = match &run.picks {
            Picks::All => u32::try_from(nth).expect("picks are 32 bits wide"),
            Picks::Some(picks) => picks[nth],
        };
        by_index.get(&index).copied().unwrap_or_default()
    };
    Sets::Each((0..run.len()).map(mask).collect())
}
