//! How many connections each address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use newswire::network;

/// Counts connections by address, of IPv6 by network. No larger than there are connections. Cloning gives the same counts.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `usize::MAX` for no limit.
    most: AtomicUsize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct OfAddress {
    address: IpAddr,
    shared: Arc<Shared>,
}

impl Addresses {
    /// Begins with this limit.
    pub fn new(most: Option<usize>) -> Self {
        let most = AtomicUsize::new(most.unwrap_or(usize::MAX));
        Self(Arc::new(Shared { most, open: Mutex::default() }))
    }

    /// Those that are there stay, also where they are more.
    pub fn set_most(&self, most: Option<usize>) {
        self.0.most.store(most.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Lets one more in, if there may be one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<OfAddress> {
        let address = network(address);
        let mut open = self.0.open.lock();
        if open.get(&address).copied().unwrap_or(0) >= self.0.most.load(Ordering::Relaxed) {
            return None;
        }
        *open.entry(address).or_default() += 1;
        Some(OfAddress { address, shared: Arc::clone(&self.0) })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_and_who_left_is_forgotten() {
        let addresses = Addresses::new(Some(2));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held = (addresses.enter(one).unwrap(), addresses.enter(one).unwrap());
        assert!(addresses.enter(one).is_none() && addresses.enter(other).is_some());
        drop(held.0);
        assert!(addresses.enter(one).is_some());
        addresses.set_most(Some(0));
        assert!(addresses.enter(other).is_none());
        addresses.set_most(None);
        let more: Vec<_> = (0..100).map(|_| addresses.enter(one).unwrap()).collect();
        drop((held.1, more));
        assert!(addresses.0.open.lock().is_empty());
    }
}
