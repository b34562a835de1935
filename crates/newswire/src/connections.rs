//! Who is connected: the limit, and how everybody is asked to leave.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use newswire_core::ConnId;
use newswire_protocol::UnixMicros;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::auth::Identity;
use crate::crowd::{Crowd, Held};
use crate::http::stream::Kept;
use crate::rates::network;

/// Peers without a place that are told so at once; further ones are let go of without a word.
pub(crate) const TURNED_AWAY_AT_ONCE: usize = 256;

/// The open connections of a feed.
#[derive(Debug)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
    pub(crate) turning_away: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    max: AtomicUsize,
    max_strangers: AtomicUsize,
    /// How many places each identity has.
    identities: Crowd<Arc<str>>,
    /// Strangers that were told to make room, ever.
    displaced: AtomicU64,
    open: AtomicUsize,
    leaving: AtomicBool,
    bells: Mutex<Bells>,
    emptied: Notify,
    /// Those that were told something and have not heeded it.
    told: AtomicUsize,
}

/// Who is where; a few words a connection, because idle ones are counted in kilobytes.
#[derive(Debug, Default)]
struct Bells {
    places: Vec<Seat>,
    free: Vec<u32>,
    /// Places of guests, for whom nobody waits.
    guests: usize,
    /// Those who have not said who they are, in the order in which they came. They have places of their own.
    strangers: Vec<Stranger>,
    /// Strangers that were told to make room and are still there.
    displaced: usize,
}

#[derive(Clone, Copy, Debug)]
struct Stranger {
    index: u32,
    network: Option<IpAddr>,
}

/// In whose number a place counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counted {
    #[default]
    Known,
    Stranger,
    Displaced,
}

/// What is known of one place.
#[derive(Debug, Default)]
struct Seat {
    waker: Option<Waker>,
    visitor: Option<Box<Visitor>>,
    told: Option<Leave>,
    counted: Counted,
    /// Counts it as one of its identity's.
    of_identity: Option<Held<Arc<str>>>,
}

/// Why somebody has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken, or everybody is leaving.
    AtAll,
    /// The identity has as many as it may.
    ForIdentity,
}

/// Who has a place.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// As the hub knows it.
    pub(crate) id: ConnId,
    pub(crate) peer: Peer,
    pub(crate) since: UnixMicros,
    /// Whose credential it came with, as far as credentials count.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What lasts as long as it does.
    #[expect(dead_code, reason = "held, and dropped with the place")]
    pub(crate) kept: Kept,
}

/// The other side of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// `websocket`, `stream` or `library`.
    pub(crate) kind: &'static str,
    /// Where it comes from, as far as that is known.
    pub(crate) address: Option<SocketAddr>,
}

impl Peer {
    /// Somebody in this process.
    pub(crate) const LIBRARY: Self = Self { kind: "library", address: None };

    pub(crate) fn websocket(address: Option<SocketAddr>) -> Self {
        Self { kind: "websocket", address }
    }

    pub(crate) fn stream(address: Option<SocketAddr>) -> Self {
        Self { kind: "stream", address }
    }
}

/// Why a connection should leave, the weightiest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    /// It may stay, if its identity still counts. Told once.
    Recheck,
    /// Others want the place, and nobody has said whose it is.
    Displaced,
    /// Everybody does.
    Stopping,
    /// This one was told to.
    Kicked,
    /// Its credential counts no more: nothing that waits is written.
    Revoked,
}

/// A place among the open connections; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    index: u32,
    guest: bool,
    shared: Arc<Shared>,
}

impl Connections {
    /// `max_of_identity`: of each; `None` for no limit.
    pub(crate) fn new(max: usize, max_strangers: usize, max_of_identity: Option<usize>) -> Self {
        let shared = Shared {
            max: AtomicUsize::new(max),
            max_strangers: AtomicUsize::new(max_strangers),
            identities: Crowd::new(max_of_identity),
            displaced: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            bells: Mutex::default(),
            emptied: Notify::new(),
            told: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), turning_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)) }
    }

    pub(crate) fn max(&self) -> usize {
        self.shared.max.load(Ordering::Relaxed)
    }

    /// Those that are there stay, also where they are more.
    pub(crate) fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    /// Likewise.
    pub(crate) fn set_max_strangers(&self, max: usize) {
        self.shared.max_strangers.store(max, Ordering::Relaxed);
    }

    /// Likewise.
    pub(crate) fn set_max_of_identity(&self, max: Option<usize>) {
        self.shared.identities.set_most(max);
    }

    pub(crate) fn max_of_identity(&self) -> usize {
        self.shared.identities.most()
    }

    /// Those who have not said who they are.
    pub(crate) fn strangers(&self) -> usize {
        self.shared.bells.lock().strangers.len()
    }

    /// How many of them had to make room, ever.
    pub(crate) fn displaced(&self) -> u64 {
        self.shared.displaced.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Takes a place for whom it is known, as far as that is asked.
    pub(crate) fn enter(&self, identity: Option<&Identity>) -> Result<Place, NoPlace> {
        self.take_place(false, identity)
    }

    /// Takes a place for one that is asked to leave like all others, but not waited for: it may be held by whoever waits.
    pub(crate) fn enter_as_guest(&self, identity: Option<&Identity>) -> Result<Place, NoPlace> {
        self.take_place(true, identity)
    }

    fn take_place(&self, guest: bool, identity: Option<&Identity>) -> Result<Place, NoPlace> {
        let shared = &self.shared;
        let mut bells = shared.bells.lock();
        if bells.known() >= self.max() || shared.leaving.load(Ordering::Acquire) {
            return Err(NoPlace::AtAll);
        }
        let take = |identity: &Identity| shared.identities.take(&identity.principal.id);
        let of_identity = identity.map(|identity| take(identity).ok_or(NoPlace::ForIdentity)).transpose()?;
        let index = bells.take();
        bells.places[index as usize].of_identity = of_identity;
        shared.open.store(bells.taken(), Ordering::Relaxed);
        bells.guests += usize::from(guest);
        Ok(Place { index, guest, shared: Arc::clone(shared) })
    }

    /// Takes a place of one who has yet to say who it is. Where all of those are taken, the one makes room that has waited
    /// longest at the address that has most of them: so whoever opens many displaces its own. `None` where as many are making
    /// room as there may be, or everybody is leaving.
    pub(crate) fn enter_unknown(&self, address: Option<IpAddr>) -> Option<Place> {
        let shared = &self.shared;
        let max = shared.max_strangers.load(Ordering::Relaxed);
        let mut bells = shared.bells.lock();
        if bells.displaced >= max || shared.leaving.load(Ordering::Acquire) {
            return None;
        }
        let mut waker = None;
        if bells.strangers.len() >= max {
            waker = bells.displace(&shared.told);
            shared.displaced.fetch_add(1, Ordering::Relaxed);
        }
        let index = bells.take();
        bells.places[index as usize].counted = Counted::Stranger;
        bells.strangers.push(Stranger { index, network: address.map(network) });
        shared.open.store(bells.taken(), Ordering::Relaxed);
        drop(bells);
        waker.into_iter().for_each(Waker::wake);
        Some(Place { index, guest: false, shared: Arc::clone(shared) })
    }

    /// Asks everybody to leave, and lets nobody in any more.
    pub(crate) fn close_all(&self) {
        self.shared.leaving.store(true, Ordering::Release);
        let wakers: Vec<Waker> = self.shared.bells.lock().wakers();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Everybody who has said who they are.
    pub(crate) fn visitors(&self) -> HashMap<ConnId, Visitor> {
        let bells = self.shared.bells.lock();
        let visitors = bells.places.iter().filter_map(|seat| seat.visitor.as_deref());
        visitors.map(|visitor| (visitor.id, visitor.clone())).collect()
    }

    /// Tells one to leave; false if nobody has this id. Telling it twice is telling it once.
    pub(crate) fn kick(&self, id: ConnId) -> bool {
        self.tell(Leave::Kicked, |visitor| visitor.id == id) > 0
    }

    /// Tells those to leave whose credentials count no more.
    pub(crate) fn revoke(&self, concerns: impl Fn(&Identity) -> bool) -> usize {
        self.tell(Leave::Revoked, |visitor| visitor.identity.as_deref().is_some_and(&concerns))
    }

    /// Has everybody's identity judged again.
    pub(crate) fn recheck(&self) -> usize {
        self.tell(Leave::Recheck, |visitor| visitor.identity.is_some())
    }

    /// Returns whom it concerned.
    fn tell(&self, what: Leave, concerns: impl Fn(&Visitor) -> bool) -> usize {
        let mut bells = self.shared.bells.lock();
        let (mut concerned, mut wakers) = (0, Vec::new());
        for seat in &mut bells.places {
            if seat.visitor.as_deref().is_some_and(&concerns) {
                concerned += 1;
                if seat.told.is_none() {
                    self.shared.told.fetch_add(1, Ordering::Release);
                }
                seat.told = seat.told.max(Some(what));
                wakers.extend(seat.waker.clone());
            }
        }
        drop(bells);
        wakers.into_iter().for_each(Waker::wake);
        concerned
    }

    /// Waits until nobody is left but guests. Cancel-safe.
    pub(crate) async fn all_closed(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.shared.bells.lock().only_guests() {
                return;
            }
            emptied.await;
        }
    }
}

impl Bells {
    fn wakers(&self) -> Vec<Waker> {
        self.places.iter().filter_map(|seat| seat.waker.clone()).collect()
    }

    fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Those who said who they are, or were not asked.
    fn known(&self) -> usize {
        self.taken() - self.strangers.len() - self.displaced
    }

    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(Seat::default());
            u32::try_from(self.places.len() - 1).expect("connections are bounded far below four billion")
        })
    }

    /// Tells a stranger to make room. Returns whom to wake.
    fn displace(&mut self, told: &AtomicUsize) -> Option<Waker> {
        let mut of_network: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for stranger in &self.strangers {
            *of_network.entry(stranger.network).or_default() += 1;
        }
        let most = of_network.values().copied().max()?;
        let victim = self.strangers.iter().position(|stranger| of_network[&stranger.network] == most)?;
        let Stranger { index, .. } = self.strangers.remove(victim);
        self.displaced += 1;
        let seat = &mut self.places[index as usize];
        seat.counted = Counted::Displaced;
        if seat.told.is_none() {
            told.fetch_add(1, Ordering::Release);
        }
        seat.told = seat.told.max(Some(Leave::Displaced));
        seat.waker.clone()
    }

    /// From now on the place counts as that of somebody who is known, or of nobody.
    fn uncount(&mut self, index: u32) {
        match std::mem::take(&mut self.places[index as usize].counted) {
            Counted::Known => {}
            Counted::Stranger => self.strangers.retain(|stranger| stranger.index != index),
            Counted::Displaced => self.displaced -= 1,
        }
    }

    fn only_guests(&self) -> bool {
        self.taken() == self.guests
    }
}

impl Place {
    /// Says who has this place.
    pub(crate) fn introduce(&self, visitor: Visitor) {
        self.shared.bells.lock().places[self.index as usize].visitor = Some(Box::new(visitor));
    }

    /// Who is to be woken when it should leave. To be called before [`Place::should_leave`] is asked.
    pub(crate) fn register(&self, waker: &Waker) {
        self.shared.bells.lock().places[self.index as usize].waker = Some(waker.clone());
    }

    /// The credential of whoever has this place.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.shared.bells.lock().places[self.index as usize].visitor.as_ref()?.identity.clone()
    }

    /// It has said who it is. False where there is no place for one more of those, or of this one; then it keeps the place
    /// that it has.
    pub(crate) fn admit(&self, identity: &Identity) -> bool {
        let mut bells = self.shared.bells.lock();
        let is_stranger = bells.places[self.index as usize].counted == Counted::Stranger;
        let has_room = bells.known() < self.shared.max.load(Ordering::Relaxed);
        if !is_stranger || !has_room {
            return false;
        }
        let Some(held) = self.shared.identities.take(&identity.principal.id) else { return false };
        bells.places[self.index as usize].of_identity = Some(held);
        bells.uncount(self.index);
        true
    }

    /// It has shown another credential. False where that is somebody else's who has as many places as they may; then the place
    /// stays whose it was.
    pub(crate) fn identify(&self, identity: Arc<Identity>) -> bool {
        let mut bells = self.shared.bells.lock();
        let seat = &mut bells.places[self.index as usize];
        let id = &identity.principal.id;
        if seat.of_identity.as_ref().is_none_or(|held| held.by() != id) {
            let Some(held) = self.shared.identities.take(id) else { return false };
            seat.of_identity = Some(held);
        }
        if let Some(visitor) = &mut seat.visitor {
            visitor.identity = Some(identity);
        }
        true
    }

    /// Whether this connection should leave, and why.
    pub(crate) fn should_leave(&self) -> Option<Leave> {
        // Asked at every turn of every connection: the lock only while somebody was told something.
        if self.shared.told.load(Ordering::Acquire) > 0 {
            let seat = &mut self.shared.bells.lock().places[self.index as usize];
            match seat.told {
                Some(Leave::Recheck) => {
                    seat.told = None;
                    self.shared.told.fetch_sub(1, Ordering::Release);
                    return Some(Leave::Recheck);
                }
                Some(told) => return Some(told),
                None => {}
            }
        }
        self.shared.leaving.load(Ordering::Acquire).then_some(Leave::Stopping)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat;
        let mut bells = self.shared.bells.lock();
        bells.uncount(self.index);
        seat = std::mem::take(&mut bells.places[self.index as usize]);
        if seat.told.is_some() {
            self.shared.told.fetch_sub(1, Ordering::Release);
        }
        bells.free.push(self.index);
        bells.guests -= usize::from(self.guest);
        self.shared.open.store(bells.taken(), Ordering::Relaxed);
        if bells.only_guests() {
            self.shared.emptied.notify_waiters();
        }
        drop(bells);
        // Its waker may be the last thing that keeps its task: not to be dropped while others wait for the lock.
        drop(seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    fn somebody(name: &str) -> Identity {
        Identity::of(newswire_core::Principal::new(name))
    }

    #[test]
    fn an_identity_has_so_many_places_however_it_came_by_them() {
        let connections = Connections::new(10, 10, Some(2));
        let [a, b] = ["a", "b"].map(somebody);
        let first = connections.enter(Some(&a)).unwrap();
        let guest = connections.enter_as_guest(Some(&a)).unwrap();
        assert_eq!(connections.enter(Some(&a)).err(), Some(NoPlace::ForIdentity));
        let stranger = connections.enter_unknown(None).unwrap();
        assert!(!stranger.admit(&a), "it says so only now, and is one too many");
        assert!(connections.enter(Some(&b)).is_ok() && connections.enter(None).is_ok());
        let his = connections.enter(Some(&b)).unwrap();
        assert!(!his.identify(Arc::new(a.clone())), "b says that it is a, who has enough");
        drop(guest);
        assert!(stranger.admit(&a) && !his.identify(Arc::new(a.clone())));
        assert!(
            first.identify(Arc::new(b.clone())) && his.identify(Arc::new(a.clone())),
            "they change places"
        );
        assert!(connections.enter(Some(&a)).is_err());
        drop((first, stranger, his));
        assert!(connections.enter(Some(&a)).is_ok() && connections.enter(Some(&b)).is_ok());
    }

    #[test]
    fn places_are_bounded_and_used_again() {
        let connections = Connections::new(2, 0, None);
        let first = connections.enter(None).unwrap();
        let second = connections.enter(None).unwrap();
        assert!(connections.enter(None).is_err());
        second.register(&noop_waker());
        drop(second);
        assert_eq!(connections.open(), 1);
        connections.set_max(1);
        assert!(connections.enter(None).is_err(), "fewer may be there from now on");
        connections.set_max(2);
        let third = connections.enter(None).unwrap();
        assert_eq!((third.index, connections.open()), (1, 2));
        connections.close_all();
        assert_eq!(
            (first.should_leave(), third.should_leave()),
            (Some(Leave::Stopping), Some(Leave::Stopping))
        );
        drop((first, third));
        assert!(connections.enter(None).is_err(), "nobody comes in any more");
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn one_is_told_to_leave_and_no_other() {
        let connections = Connections::new(3, 0, None);
        let places: Vec<Place> = (0..2).map(|_| connections.enter(None).unwrap()).collect();
        for (place, id) in places.iter().zip(7..) {
            place.introduce(Visitor {
                id: ConnId(id),
                peer: Peer::LIBRARY,
                since: UnixMicros(0),
                identity: None,
                kept: Kept::default(),
            });
        }
        assert!(connections.kick(ConnId(8)) && connections.kick(ConnId(8)) && !connections.kick(ConnId(9)));
        assert_eq!((places[0].should_leave(), places[1].should_leave()), (None, Some(Leave::Kicked)));
        assert_eq!(connections.visitors().len(), 2);
        drop(places);
        assert!(connections.visitors().is_empty() && !connections.kick(ConnId(8)));
        assert_eq!(
            connections.enter(None).unwrap().should_leave(),
            None,
            "the place of one who left is like any other"
        );
    }

    #[test]
    fn strangers_have_places_of_their_own_and_displace_each_other() {
        let connections = Connections::new(2, 3, None);
        let at = |last: u8| connections.enter_unknown(Some(IpAddr::from([10, 0, 0, last])));
        let (other, first, second) = (at(2).unwrap(), at(1).unwrap(), at(1).unwrap());
        let known: Vec<Place> = (0..2).map(|_| connections.enter(None).unwrap()).collect();
        assert!(connections.enter(None).is_err());
        assert_eq!((connections.strangers(), connections.open()), (3, 5));
        // The longest wait of those who come from where most come from, and not of all.
        let third = at(1).unwrap();
        let told: Vec<_> = [&other, &first, &second, &third].map(Place::should_leave).into();
        assert_eq!(told, [None, Some(Leave::Displaced), None, None]);
        assert!(!first.admit(&somebody("a")), "it was told already");
        assert!(!other.admit(&somebody("a")), "all places of those who are known are taken");
        drop(known);
        assert!(other.admit(&somebody("a")) && !other.admit(&somebody("a")));
        assert_eq!((connections.strangers(), connections.displaced()), (2, 1));
        let fourth = at(3).unwrap();
        let more: Vec<Place> = (0..2).map(|_| at(1).unwrap()).collect();
        assert!(at(1).is_none(), "as many are making room as may be there");
        assert_eq!(fourth.should_leave(), None);
        drop((first, second, third, more));
        assert_eq!((connections.strangers(), connections.open()), (1, 2));
        assert!(at(1).is_some());
        let rest = [connections.enter(None), connections.enter(None)];
        assert!(rest[0].is_ok() && rest[1].is_err(), "who was admitted counts");
    }

    #[tokio::test]
    async fn guests_take_places_and_nobody_waits_for_them() {
        let connections = Connections::new(2, 0, None);
        let (guest, other) = (connections.enter_as_guest(None).unwrap(), connections.enter(None).unwrap());
        assert!(connections.enter_as_guest(None).is_err());
        connections.close_all();
        assert!(guest.should_leave().is_some());
        let mut closed = std::pin::pin!(connections.all_closed());
        assert!(futures_util::poll!(closed.as_mut()).is_pending(), "somebody is still there");
        drop(other);
        closed.await;
        assert_eq!(connections.open(), 1);
        drop(guest);
        assert_eq!(connections.open(), 0);
    }
}
