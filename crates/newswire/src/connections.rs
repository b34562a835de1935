//! Who is connected: the limit, and how everybody is asked to leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The open connections of a feed.
#[derive(Debug)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: AtomicUsize,
    open: AtomicUsize,
    leaving: AtomicBool,
    bells: Mutex<Bells>,
    emptied: Notify,
}

/// Wakers of the connections, by place; a few words a connection, because idle ones are counted in kilobytes.
#[derive(Debug, Default)]
struct Bells {
    places: Vec<Option<Waker>>,
    free: Vec<u32>,
    /// Places of guests, for whom nobody waits.
    guests: usize,
}

/// A place among the open connections; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    index: u32,
    guest: bool,
    shared: Arc<Shared>,
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        let shared = Shared {
            max: AtomicUsize::new(max),
            open: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            bells: Mutex::default(),
            emptied: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn max(&self) -> usize {
        self.shared.max.load(Ordering::Relaxed)
    }

    /// Those that are there stay, also where they are more.
    pub(crate) fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Takes a place, or none when all are taken or everybody is leaving.
    pub(crate) fn enter(&self) -> Option<Place> {
        self.take_place(false)
    }

    /// Takes a place for one that is asked to leave like all others, but not waited for: it may be held by whoever waits.
    pub(crate) fn enter_as_guest(&self) -> Option<Place> {
        self.take_place(true)
    }

    fn take_place(&self, guest: bool) -> Option<Place> {
        let shared = &self.shared;
        let mut bells = shared.bells.lock();
        if bells.taken() >= self.max() || shared.leaving.load(Ordering::Acquire) {
            return None;
        }
        let index = bells.free.pop().unwrap_or_else(|| {
            bells.places.push(None);
            u32::try_from(bells.places.len() - 1).expect("connections are bounded far below four billion")
        });
        shared.open.store(bells.taken(), Ordering::Relaxed);
        bells.guests += usize::from(guest);
        Some(Place { index, guest, shared: Arc::clone(shared) })
    }

    /// Asks everybody to leave, and lets nobody in any more.
    pub(crate) fn close_all(&self) {
        self.shared.leaving.store(true, Ordering::Release);
        let wakers: Vec<Waker> = self.shared.bells.lock().places.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
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
    fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn only_guests(&self) -> bool {
        self.taken() == self.guests
    }
}

impl Place {
    /// Who is to be woken when everybody should leave. To be called before [`Place::should_leave`] is asked.
    pub(crate) fn register(&self, waker: &Waker) {
        self.shared.bells.lock().places[self.index as usize] = Some(waker.clone());
    }

    /// Whether this connection should leave.
    pub(crate) fn should_leave(&self) -> bool {
        self.shared.leaving.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker;
        let mut bells = self.shared.bells.lock();
        waker = bells.places[self.index as usize].take();
        bells.free.push(self.index);
        bells.guests -= usize::from(self.guest);
        self.shared.open.store(bells.taken(), Ordering::Relaxed);
        if bells.only_guests() {
            self.shared.emptied.notify_waiters();
        }
        drop(bells);
        // It may be the last thing that keeps its task: not to be dropped while others wait for the lock.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    #[test]
    fn places_are_bounded_and_used_again() {
        let connections = Connections::new(2);
        let first = connections.enter().unwrap();
        let second = connections.enter().unwrap();
        assert!(connections.enter().is_none());
        second.register(&noop_waker());
        drop(second);
        assert_eq!(connections.open(), 1);
        connections.set_max(1);
        assert!(connections.enter().is_none(), "fewer may be there from now on");
        connections.set_max(2);
        let third = connections.enter().unwrap();
        assert_eq!((third.index, connections.open()), (1, 2));
        connections.close_all();
        assert!(first.should_leave() && third.should_leave());
        drop((first, third));
        assert!(connections.enter().is_none(), "nobody comes in any more");
        assert_eq!(connections.open(), 0);
    }

    #[tokio::test]
    async fn guests_take_places_and_nobody_waits_for_them() {
        let connections = Connections::new(2);
        let (guest, other) = (connections.enter_as_guest().unwrap(), connections.enter().unwrap());
        assert!(connections.enter_as_guest().is_none());
        connections.close_all();
        assert!(guest.should_leave());
        let mut closed = std::pin::pin!(connections.all_closed());
        assert!(futures_util::poll!(closed.as_mut()).is_pending(), "somebody is still there");
        drop(other);
        closed.await;
        assert_eq!(connections.open(), 1);
        drop(guest);
        assert_eq!(connections.open(), 0);
    }
}
