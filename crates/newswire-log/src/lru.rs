//! A small cache bounded by weight. Evicting scans all entries, so it is for hundreds of entries, not for millions.

use std::hash::Hash;

use rustc_hash::FxHashMap;

pub(crate) struct Lru<K, V> {
    entries: FxHashMap<K, Entry<V>>,
    capacity: usize,
    weight: usize,
    tick: u64,
}

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Lru<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: FxHashMap::default(), capacity, weight: 0, tick: 0 }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.tick += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.tick;
        Some(entry.value.clone())
    }

    /// Adds or replaces a value, and returns the keys and weights of those that went for it. The new one stays even if it
    /// alone is over the capacity.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) -> Vec<(K, usize)> {
        let mut evicted = Vec::new();
        self.tick += 1;
        self.remove(&key);
        self.weight += weight;
        self.entries.insert(key, Entry { value, weight, used: self.tick });
        while self.weight > self.capacity && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            let weight = self.remove(&oldest).unwrap_or(0);
            evicted.push((oldest, weight));
        }
        evicted
    }

    /// Removes a value and returns its weight, if it was there.
    pub(crate) fn remove(&mut self, key: &K) -> Option<usize> {
        let entry = self.entries.remove(key)?;
        self.weight -= entry.weight;
        Some(entry.weight)
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        let mut gone = 0;
        self.entries.retain(|key, entry| {
            let kept = keep(key);
            if !kept {
                gone += entry.weight;
            }
            kept
        });
        self.weight -= gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Lru::new(10);
        cache.insert(1, "a", 5);
        cache.insert(2, "b", 5);
        assert_eq!(cache.get(&1), Some("a"));
        assert_eq!(cache.insert(3, "c", 5), [(2, 5)]);
        assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some("a"), None, Some("c")));
        cache.insert(4, "d", 50);
        assert_eq!((cache.get(&1), cache.get(&3), cache.get(&4)), (None, None, Some("d")));
    }
}
