//! A log in memory: the promises of [`EventLog`] but for surviving the process. Bounded by its retention.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::{Batch, Direction, LogView, Lost, Page, ReadRequest, Selector};
use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::RwLock;

use crate::clock::{Clock, SystemClock};
use crate::dedup::DedupOptions;
use crate::event_log::{
    AppendError, Appended, ChannelStats, EventLog, LogHealth, LogStats, NewEvents, Observer, Place,
    ReadError, Trim, TrimError,
};
use crate::floors::{Floor, Floors};
use crate::follow::CommitReceiver;
use crate::page::{Bounds, PageBuilder};
use crate::retention::RetentionOptions;
use crate::shared::Shared;
use crate::writer::{BatchOptions, Engine, PersistError, Prepared, Stored, WriterHandle, Written};

/// How a [`MemoryLog`] behaves.
#[derive(Clone)]
pub struct MemoryOptions {
    /// How far back repeated ids are recognised.
    pub dedup: DedupOptions,
    /// What is kept. Sizes are those of the frames.
    pub retention: RetentionOptions,
    /// Bounds of one batch.
    pub batch: BatchOptions,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Hears of commits.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for MemoryOptions {
    /// Keeps 64 MiB.
    fn default() -> Self {
        let mut retention = RetentionOptions::default();
        retention.all.max_bytes = Some(64 << 20);
        Self {
            dedup: DedupOptions::default(),
            retention,
            batch: BatchOptions::default(),
            clock: Arc::new(SystemClock),
            observer: None,
        }
    }
}

/// A log that lives as long as the process. Its epoch is new each time.
pub struct MemoryLog {
    store: Arc<Store>,
    shared: Arc<Shared>,
    writer: WriterHandle,
}

struct Store {
    epoch: Epoch,
    kept: RwLock<Kept>,
    retention: RwLock<Arc<RetentionOptions>>,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Default)]
struct Kept {
    batches: VecDeque<Arc<Batch>>,
    channels: BTreeMap<Arc<str>, VecDeque<KeptEvent>>,
    floors: Floors,
    events: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct KeptEvent {
    offset: u64,
    stored_at: UnixMicros,
    bytes: u32,
}

impl MemoryLog {
    /// An empty log.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(options: MemoryOptions) -> std::io::Result<Self> {
        let MemoryOptions { dedup, retention, batch, clock, observer } = options;
        let epoch = Epoch(uuid::Uuid::new_v4());
        let shared = Arc::new(Shared::new(epoch, 1, dedup, clock.clone(), observer.clone()));
        let retention = RwLock::new(Arc::new(retention));
        let store = Arc::new(Store { epoch, kept: RwLock::default(), retention, clock, observer });
        let engine = MemoryEngine { store: store.clone(), retained_at: UnixMicros(0) };
        let writer = WriterHandle::spawn(engine, shared.clone(), UnixMicros(0), batch)?;
        Ok(Self { store, shared, writer })
    }

    /// Appends events that somebody else has stored, at the places they gave, as [`crate::EmbeddedLog::append_at`] does.
    ///
    /// # Panics
    /// If there are not as many places as events.
    pub fn append_at(
        &self,
        places: Vec<Place>,
        events: NewEvents,
    ) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        assert_eq!(places.len(), events.len(), "a place for each event");
        self.writer.append(events, Some(places))
    }
}

impl LogView for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.store.epoch
    }

    fn head(&self) -> u64 {
        let tail = self.tail();
        self.store.kept.read().head().unwrap_or(tail)
    }

    fn tail(&self) -> u64 {
        self.shared.tail()
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.store.kept.read().channels.keys().cloned().collect()
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.store.kept.read().floors.lost(selector, after)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.store.kept.read().floors.lost_since(selector, since)
    }
}

impl EventLog for MemoryLog {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        self.writer.append(events, None)
    }

    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError> {
        let tail = self.tail();
        let kept = self.store.kept.read();
        let bounds = Bounds::of(request, kept.head().unwrap_or(tail), tail);
        let lost = kept.floors.lost_to(request);
        let mut page = PageBuilder::new(request, &kept.floors, bounds);
        if !bounds.is_empty() {
            kept.fill(&mut page, bounds, request.direction);
        }
        Ok(page.finish(self.store.epoch, lost))
    }

    fn follow(&self) -> CommitReceiver {
        self.shared.followers.join(|| self.shared.tail())
    }

    fn trim(&self, trim: &Trim) -> Result<u64, TrimError> {
        Ok(self.store.trim(|kept, channel| {
            let meant = trim.channel.as_ref().is_none_or(|only| **only == *channel);
            let last = kept.channels[channel].back().map_or(0, |event| event.offset);
            if meant { trim.up_to.min(last) } else { 0 }
        }))
    }

    fn retain(&self) -> Result<u64, TrimError> {
        Ok(self.store.retain())
    }

    fn set_retention(&self, retention: RetentionOptions) -> bool {
        *self.store.retention.write() = Arc::new(retention);
        true
    }

    fn stats(&self) -> LogStats {
        let (head, tail) = (self.head(), self.tail());
        let kept = self.store.kept.read();
        self.shared.stats(self.store.epoch, head, tail, (kept.events, kept.bytes, 0))
    }

    fn channel_stats(&self) -> Vec<ChannelStats> {
        let kept = self.store.kept.read();
        let of = |(name, events): (&Arc<str>, &VecDeque<KeptEvent>)| {
            let (first, last) = (events.front()?.offset, events.back()?.offset);
            let bytes = events.iter().map(|event| u64::from(event.bytes)).sum();
            Some(ChannelStats { name: name.clone(), first, last, events: events.len() as u64, bytes })
        };
        kept.channels.iter().filter_map(of).collect()
    }

    fn health(&self) -> LogHealth {
        self.shared.health.lock().clone()
    }

    fn close(&self) {
        self.writer.close();
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        self.writer.close();
    }
}

impl Kept {
    fn head(&self) -> Option<u64> {
        self.channels.values().filter_map(|events| events.front()).map(|event| event.offset).min()
    }

    fn fill(&self, page: &mut PageBuilder<'_>, bounds: Bounds, direction: Direction) {
        let start = self.batches.partition_point(|batch| batch.last() < bounds.first);
        let end = self.batches.partition_point(|batch| batch.first() <= bounds.last);
        let meant = self.batches.range(start..end.max(start));
        let mut goes_on = |batch: &&Arc<Batch>| page.examine(batch) && page.scan(batch.frames().len() as u64);
        // Stops at the batch that fills the page.
        match direction {
            Direction::Forward => drop(meant.take_while(&mut goes_on).count()),
            Direction::Backward => drop(meant.rev().take_while(&mut goes_on).count()),
        }
    }

    fn add(&mut self, batch: &Arc<Batch>) {
        for event in batch.iter() {
            let kept = KeptEvent {
                offset: event.offset,
                stored_at: event.stored_at,
                bytes: u32::try_from(event.frame.len()).unwrap_or(u32::MAX),
            };
            self.events += 1;
            self.bytes += u64::from(kept.bytes);
            match self.channels.get_mut(event.channel) {
                Some(events) => events.push_back(kept),
                None => drop(self.channels.insert(event.channel.into(), VecDeque::from([kept]))),
            }
        }
        self.batches.push_back(batch.clone());
    }

    /// Drops a channel's events up to an offset; returns how many went.
    fn cut(&mut self, channel: &Arc<str>, up_to: u64) -> u64 {
        let Some(events) = self.channels.get_mut(channel) else { return 0 };
        let mut gone = 0;
        while let Some(event) = events.front().copied().filter(|event| event.offset <= up_to) {
            events.pop_front();
            self.floors.raise(channel, Floor { to: event.offset, stored_at: event.stored_at });
            self.events -= 1;
            self.bytes -= u64::from(event.bytes);
            gone += 1;
        }
        if events.is_empty() {
            self.channels.remove(channel);
        }
        gone
    }

    /// The offset up to which the channel's own bounds let events go.
    fn channel_cut(&self, channel: &str, retention: &RetentionOptions, now: UnixMicros) -> u64 {
        let events = &self.channels[channel];
        let mut surplus = 0;
        if let Some(max_age) = retention.max_age_of(channel) {
            let oldest = now.saturating_sub(max_age);
            surplus = events.partition_point(|event| event.stored_at < oldest);
        }
        let own = retention.channels.get(channel).copied().unwrap_or_default();
        if let Some(max) = own.max_events {
            surplus = surplus.max(events.len().saturating_sub(usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(max) = own.max_bytes {
            let mut room = max;
            let fitting = events.iter().rev().take_while(|event| {
                room.checked_sub(u64::from(event.bytes)).inspect(|left| room = *left).is_some()
            });
            surplus = surplus.max(events.len() - fitting.count());
        }
        surplus.checked_sub(1).map_or(0, |index| events[index].offset)
    }

    /// The offset up to which the bounds of the whole log let events go.
    fn whole_cut(&self, retention: &RetentionOptions, tail: u64) -> u64 {
        let mut cut = retention.all.max_events.map_or(0, |max| (tail - 1).saturating_sub(max));
        if let Some(max) = retention.all.max_bytes {
            let mut surplus = self.bytes.saturating_sub(max);
            for batch in &self.batches {
                if surplus == 0 {
                    break;
                }
                surplus = surplus.saturating_sub(batch.frames().len() as u64);
                cut = cut.max(batch.last());
            }
        }
        cut
    }
}

impl Store {
    fn trim(&self, cut_of: impl Fn(&Kept, &str) -> u64) -> u64 {
        let mut kept = self.kept.write();
        let channels: Vec<_> = kept.channels.keys().cloned().collect();
        let mut gone = 0;
        for channel in channels {
            let cut = cut_of(&kept, &channel);
            gone += kept.cut(&channel, cut);
        }
        let head = kept.head().unwrap_or(u64::MAX);
        while kept.batches.front().is_some_and(|batch| batch.last() < head) {
            kept.batches.pop_front();
        }
        drop(kept);
        if let Some(observer) = &self.observer
            && gone > 0
        {
            observer.on_trim(gone);
        }
        gone
    }

    fn retain(&self) -> u64 {
        let retention = self.retention();
        if retention.is_unbounded() {
            return 0;
        }
        let now = self.clock.now();
        let whole = {
            let kept = self.kept.read();
            let tail = kept.batches.back().map_or(1, |batch| batch.last() + 1);
            kept.whole_cut(&retention, tail)
        };
        self.trim(|kept, channel| whole.max(kept.channel_cut(channel, &retention, now)))
    }

    fn retention(&self) -> Arc<RetentionOptions> {
        self.retention.read().clone()
    }

    fn is_over_size(&self) -> bool {
        // A sixteenth of slack, so that not every commit trims.
        let slack = |max: u64| max + max / 16;
        let (kept, retention) = (self.kept.read(), self.retention());
        retention.all.max_bytes.is_some_and(|max| kept.bytes > slack(max))
            || retention.all.max_events.is_some_and(|max| kept.events > slack(max))
    }
}

struct MemoryEngine {
    store: Arc<Store>,
    retained_at: UnixMicros,
}

impl MemoryEngine {
    fn retain(&mut self, now: UnixMicros) {
        self.retained_at = now;
        self.store.retain();
    }
}

impl Engine for MemoryEngine {
    fn write(&mut self, prepared: &mut Prepared) -> Result<Written, PersistError> {
        Ok(Written { bytes: prepared.buffer.frames_len(), took: Duration::ZERO })
    }

    fn stage(&mut self, _stored: &Stored) {}

    fn sync(&mut self) -> Result<Duration, PersistError> {
        Ok(Duration::ZERO)
    }

    fn publish(&mut self, stored: &Stored) {
        self.store.kept.write().add(&stored.batch);
        let due = self.retained_at.saturating_add(self.store.retention().interval);
        if stored.now >= due || self.store.is_over_size() {
            self.retain(stored.now);
        }
    }

    fn idle_after(&self) -> Option<Duration> {
        (!self.store.retention().is_unbounded()).then_some(self.store.retention().interval)
    }

    fn idle(&mut self) -> Result<(), PersistError> {
        self.retain(self.store.clock.now());
        Ok(())
    }

    fn close(&mut self, _healthy: bool) -> Result<(), PersistError> {
        Ok(())
    }
}
