//! The local registry of connections and subscriptions: takes every committed batch, and hands its events to the
//! connections that want them.

mod dispatch;
mod sights;
mod wakes;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use newswire_protocol::{Epoch, GapReason};
use rustc_hash::FxHashMap;

use crate::channel::ChannelPattern;
use crate::config::{Backlog, HubConfig};
use crate::figures::{ConnectionInfo, HubStats, SubscriptionInfo};
use crate::filter::Filter;
use crate::index::{GroupId, Index, Member, Predicate, SubId};
use crate::outbox::{Dispatched, EpochMark, Generation, Mode, Outbox};
use crate::packed::{PackedStreams, Reads};
use crate::principal::Principal;
use crate::ring::{Ring, Slice};
use crate::slab::Slab;
use dispatch::{NO_HIT, Reached};
pub use sights::MAX_VARIANTS;
pub(crate) use sights::{Sight, Sights};
pub use wakes::Wakes;

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
    sights: Sights,
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
    /// `None` where there was no room for its variant: then it has no subscriptions.
    sight: Option<Arc<Sight>>,
    subs: Vec<SubId>,
    set_names: Vec<(u8, Arc<str>)>,
    /// Only where it may be sent compressed events.
    reads: Option<Box<Reads>>,
}

/// One subscription of one set of one connection.
#[derive(Debug)]
struct HubSub {
    conn: u32,
    place_in_conn: u32,
    slot: u8,
    state: HubSubState,
}

#[derive(Debug)]
enum HubSubState {
    /// The hub pushes it: a member of this group, at this place.
    Live(GroupId, u32),
    /// A replay withholds it.
    Withheld(Box<(ChannelPattern, Arc<Filter>)>),
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
            sights: Sights::default(),
            deliveries: 0,
        }
    }

    /// The log has begun a new epoch, with these retained offsets (`head..tail`). Every connection is told in its
    /// stream; what is committed from `tail` on is to be published here, nothing of the old epoch any more.
    pub fn epoch_changed(&mut self, epoch: Epoch, head: u64, tail: u64) -> Wakes {
        let dispatched = tail.saturating_sub(1);
        self.epoch = epoch;
        self.generation = Generation { number: self.generation.number + 1, start: dispatched };
        self.ring = Ring::new(self.config.ring_bytes, dispatched);
        let mark = EpochMark { epoch, head, dispatched, generation: self.generation };
        let mut wakes = Wakes::of(self.conns.len());
        wakes.add_tasks(self.conns.iter().filter_map(|(_, conn)| conn.outbox.push_epoch(mark)));
        // Last: a session that sees the new offset finds the mark in its outbox.
        self.dispatched.set(dispatched);
        wakes
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
            variants: self.sights.in_use(),
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
            if let Some(conn) = self.conns.remove(conn) {
                conn.about.sight.iter().for_each(|sight| self.sights.leave(sight));
                conn.outbox.retire();
            }
        }
    }

    /// `backlog` holds in place of the hub's.
    pub(crate) fn connect(
        &mut self,
        principal: &Principal,
        backlog: Option<Backlog>,
    ) -> (ConnId, Arc<Outbox>, Arc<Dispatched>) {
        let id = ConnId(self.next_conn);
        self.next_conn += self.shards;
        let outbox = Arc::new(Outbox::with_backlog(backlog));
        let (subs, set_names, reads) = (Vec::new(), Vec::new(), None);
        let (sight, principal) = (self.sights.enter(principal), Arc::clone(&principal.id));
        let about = Box::new(About { id, principal, sight, subs, set_names, reads });
        let (outbox_here, hits) = (Arc::clone(&outbox), NO_HIT);
        let conn = Conn { outbox: outbox_here, seen: 0, hits, waits: false, deflate: false, about };
        self.by_id.insert(id, self.conns.insert(conn));
        (id, outbox, Arc::clone(&self.dispatched))
    }

    /// Remembers whose the connection is from now on, for people who look; and how it sees, if it has no subscriptions.
    pub(crate) fn admit(&mut self, id: ConnId, principal: &Principal) {
        if let Some(conn) = self.by_id.get(&id).and_then(|conn| self.conns.get_mut(*conn)) {
            conn.about.principal = Arc::clone(&principal.id);
            if conn.about.subs.is_empty() {
                conn.about.sight.take().iter().for_each(|sight| self.sights.leave(sight));
                conn.about.sight = self.sights.enter(principal);
            }
        }
    }

    /// Whether there was room for the connection's variant of payloads: without, it can have no subscriptions.
    pub(crate) fn shows(&self, id: ConnId) -> bool {
        let conn = self.by_id.get(&id).and_then(|conn| self.conns.get(*conn));
        conn.is_some_and(|conn| conn.about.sight.is_some())
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
        live: bool,
    ) -> Option<SubId> {
        let conn_index = *self.by_id.get(&id)?;
        let conn = self.conns.get_mut(conn_index)?;
        conn.about.sight.as_ref()?;
        let place_in_conn =
            u32::try_from(conn.about.subs.len()).expect("subscriptions of a connection are bounded");
        let state = HubSubState::Withheld(Box::new((pattern, filter)));
        let sub = self.subs.insert(HubSub { conn: conn_index, place_in_conn, slot, state });
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
            let Some(sight) = self.conns.get(sub.conn).and_then(|conn| conn.about.sight.as_ref()) else {
                return;
            };
            let (pattern, filter) = (**what).clone();
            let member = Member { sub: id, conn: sub.conn, slot: sub.slot };
            let (channels, rule, variant) = (sight.channels(&pattern), sight.rule.clone(), sight.variant);
            let (group, place) =
                self.index.join(Predicate { pattern, filter, rule, channels, variant }, member);
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
