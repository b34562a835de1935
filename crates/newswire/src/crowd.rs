//! How many of something each of many has: connections of an address, of an identity.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Counts what is held, by whom, and lets nobody have more than a limit. No larger than what is held. Cloning gives the same
/// counts.
#[derive(Clone, Debug)]
pub struct Crowd<K: Eq + Hash>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K> {
    /// `usize::MAX` for no limit.
    most: AtomicUsize,
    held: Mutex<HashMap<K, usize>>,
}

/// One of what somebody holds; giving it back is dropping it.
pub struct Held<K: Eq + Hash> {
    by: K,
    shared: Arc<Shared<K>>,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// Begins with this limit for each.
    #[must_use]
    pub fn new(most: Option<usize>) -> Self {
        let most = AtomicUsize::new(most.unwrap_or(usize::MAX));
        Self(Arc::new(Shared { most, held: Mutex::default() }))
    }

    /// What is held stays, also where it is more.
    pub fn set_most(&self, most: Option<usize>) {
        self.0.most.store(most.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// The limit; `usize::MAX` for none.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// One more for this one, if it may have one.
    #[must_use]
    pub fn take(&self, by: &K) -> Option<Held<K>> {
        let mut held = self.0.held.lock();
        if held.get(by).copied().unwrap_or(0) >= self.most() {
            return None;
        }
        *held.entry(by.clone()).or_default() += 1;
        Some(Held { by: by.clone(), shared: Arc::clone(&self.0) })
    }
}

impl<K: Eq + Hash> Held<K> {
    /// By whom.
    pub fn by(&self) -> &K {
        &self.by
    }
}

impl<K: Eq + Hash + fmt::Debug> fmt::Debug for Held<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.by).finish()
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock();
        if let Some(count) = held.get_mut(&self.by) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_who_left_is_forgotten() {
        let crowd = Crowd::new(Some(2));
        let held = (crowd.take(&"one").unwrap(), crowd.take(&"one").unwrap());
        assert!(crowd.take(&"one").is_none() && crowd.take(&"other").is_some());
        drop(held.0);
        assert!(crowd.take(&"one").is_some());
        crowd.set_most(Some(0));
        assert!(crowd.take(&"other").is_none());
        crowd.set_most(None);
        let more: Vec<_> = (0..100).map(|_| crowd.take(&"one").unwrap()).collect();
        drop((held.1, more));
        assert!(crowd.0.held.lock().is_empty());
    }
}
