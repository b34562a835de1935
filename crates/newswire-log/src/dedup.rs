//! The dedup window: which publisher's ids were stored lately, and where.

use std::collections::VecDeque;
use std::time::Duration;

use newswire_protocol::UnixMicros;
use rustc_hash::FxHashMap;

/// Identity of a publisher's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// A cryptographic hash of publisher and event id.
    pub key: [u8; 16],
    /// A hash of what must be the same when the id comes again.
    pub fingerprint: [u8; 16],
}

impl Dedup {
    /// The identity of an event that this publisher calls `event_id`.
    pub fn of(publisher: &str, event_id: &str, fingerprint: [u8; 16]) -> Self {
        let mut hasher = blake3::Hasher::new();
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hasher.update(&(publisher.len() as u64).to_le_bytes());
        hasher.update(publisher.as_bytes());
        hasher.update(event_id.as_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self { key, fingerprint }
    }
}

/// How far back a repeated id is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupOptions {
    /// For how long after it was stored. Zero switches recognition off, but for repeats inside one append.
    pub window: Duration,
    /// At most so many ids; the oldest leave first.
    pub max_ids: usize,
}

impl Default for DedupOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), max_ids: 1_000_000 }
    }
}

/// A stored id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredId {
    pub(crate) dedup: Dedup,
    pub(crate) offset: u64,
    pub(crate) stored_at: UnixMicros,
}

impl StoredId {
    fn compare(&self, dedup: &Dedup) -> Seen {
        if self.dedup.fingerprint == dedup.fingerprint {
            Seen::Same(self.offset)
        } else {
            Seen::Other(self.offset)
        }
    }
}

/// What the window knows of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    Same(u64),
    Other(u64),
}

/// Entries by age, and a table from key to the entry's number: 100 bytes an id at most.
pub(crate) struct DedupWindow {
    options: DedupOptions,
    entries: VecDeque<StoredId>,
    /// Number of the oldest entry.
    first: u64,
    by_key: FxHashMap<[u8; 16], u64>,
}

impl DedupWindow {
    pub(crate) fn new(options: DedupOptions) -> Self {
        Self { options, entries: VecDeque::new(), first: 0, by_key: FxHashMap::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest append time that still counts at `now`.
    pub(crate) fn oldest(&self, now: UnixMicros) -> UnixMicros {
        now.saturating_sub(self.options.window)
    }

    /// `coming` newer ids are about to enter.
    pub(crate) fn look_up(&self, dedup: &Dedup, now: UnixMicros, coming: usize) -> Seen {
        let Some(number) = self.by_key.get(&dedup.key) else { return Seen::New };
        let index = (number - self.first) as usize;
        let Some(entry) = self.entries.get(index) else { return Seen::New };
        if self.counts(entry, now, self.entries.len() - index + coming) {
            entry.compare(dedup)
        } else {
            Seen::New
        }
    }

    /// Whether an id, with which so many are no older, is still recognised.
    fn counts(&self, id: &StoredId, now: UnixMicros, younger: usize) -> bool {
        id.stored_at > self.oldest(now) && younger <= self.options.max_ids
    }

    /// Adds a stored id; ids come by ascending append time. Drops what is too old or too many.
    pub(crate) fn insert(&mut self, id: StoredId) {
        self.by_key.insert(id.dedup.key, self.first + self.entries.len() as u64);
        self.entries.push_back(id);
        self.expire(id.stored_at);
    }

    /// Drops what is too old or too many.
    pub(crate) fn expire(&mut self, now: UnixMicros) {
        let oldest = self.oldest(now);
        while let Some(front) = self.entries.front() {
            if front.stored_at > oldest && self.entries.len() <= self.options.max_ids {
                break;
            }
            // A newer entry may have taken over the key after this one expired.
            if self.by_key.get(&front.dedup.key) == Some(&self.first) {
                self.by_key.remove(&front.dedup.key);
            }
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The ids stored at offsets below `end` that still count at `now`.
    pub(crate) fn below(&self, end: u64, now: UnixMicros) -> impl Iterator<Item = &StoredId> {
        let oldest = self.oldest(now);
        self.entries.iter().take_while(move |id| id.offset < end).filter(move |id| id.stored_at > oldest)
    }
}

/// Ids met while one batch is put together: they count for the events behind them in the batch, and enter the window
/// only when the batch is durable.
pub(crate) struct BatchIds<'a> {
    window: &'a DedupWindow,
    new: Vec<StoredId>,
    by_key: FxHashMap<[u8; 16], usize>,
}

impl<'a> BatchIds<'a> {
    pub(crate) fn new(window: &'a DedupWindow) -> Self {
        Self { window, new: Vec::new(), by_key: FxHashMap::default() }
    }

    /// Whether an event that is stored at `now`, as all of its batch are, repeats one before it.
    pub(crate) fn look_up(&self, dedup: &Dedup, now: UnixMicros) -> Seen {
        let Some(index) = self.by_key.get(&dedup.key) else { return self.window.look_up(dedup, now, 0) };
        self.new[*index].compare(dedup)
    }

    /// Whether an event that was stored at `at` repeats one before it. Where batches begin and end makes no difference.
    pub(crate) fn look_up_given(&self, dedup: &Dedup, at: UnixMicros) -> Seen {
        let Some(index) = self.by_key.get(&dedup.key) else {
            return self.window.look_up(dedup, at, self.new.len());
        };
        let id = &self.new[*index];
        if self.window.counts(id, at, self.new.len() - index) { id.compare(dedup) } else { Seen::New }
    }

    pub(crate) fn insert(&mut self, id: StoredId) {
        self.by_key.insert(id.dedup.key, self.new.len());
        self.new.push(id);
    }

    pub(crate) fn into_new(self) -> Vec<StoredId> {
        self.new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u8, offset: u64, at: u64) -> StoredId {
        StoredId {
            dedup: Dedup { key: [key; 16], fingerprint: [key; 16] },
            offset,
            stored_at: UnixMicros(at),
        }
    }

    #[test]
    fn ids_leave_by_age_and_by_number_oldest_first() {
        let options = DedupOptions { window: Duration::from_micros(100), max_ids: 2 };
        let mut window = DedupWindow::new(options);
        window.insert(id(1, 1, 1000));
        window.insert(id(2, 2, 1010));
        assert_eq!(window.look_up(&id(1, 0, 0).dedup, UnixMicros(1099), 0), Seen::Same(1));
        assert_eq!(window.look_up(&id(1, 0, 0).dedup, UnixMicros(1100), 0), Seen::New);
        window.insert(id(3, 3, 1020));
        assert_eq!(window.look_up(&id(1, 0, 0).dedup, UnixMicros(1020), 0), Seen::New);
        assert_eq!(window.look_up(&id(2, 0, 0).dedup, UnixMicros(1020), 0), Seen::Same(2));
        let other = Dedup { key: [3; 16], fingerprint: [9; 16] };
        assert_eq!(window.look_up(&other, UnixMicros(1020), 0), Seen::Other(3));
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn an_expired_id_that_comes_again_counts_from_its_new_place() {
        let mut window = DedupWindow::new(DedupOptions { window: Duration::from_micros(100), max_ids: 10 });
        window.insert(id(1, 1, 1000));
        window.insert(id(1, 2, 1200));
        window.expire(UnixMicros(1200));
        assert_eq!(window.look_up(&id(1, 0, 0).dedup, UnixMicros(1250), 0), Seen::Same(2));
    }
}
