//! The world around the sessions: events, a log in memory that can trim and begin anew, and the hubs.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use newswire_core::{
    Backlog, BacklogPolicy, Batch, BatchBuilder, ChannelPolicy, Direction, EventHead, Hub, HubConfig,
    LogView, Lost, Now, Page, ReadRequest, Run, Selector, SessionConfig, Wakes,
};
use newswire_protocol::{Draft, Epoch, Limits, UnixMicros};
use parking_lot::Mutex;

/// Every client's own, as they all have one name: no pattern stands for it.
pub const OWN_CHANNEL: &str = "user:somebody";
pub const CHANNELS: [&str; 5] = ["tasks", "tests", "agents", "a.b", OWN_CHANNEL];
pub const TYPES: [&str; 3] = ["task.created", "task.updated", "other"];
pub const AGENTS: [&str; 4] = ["ann", "bob", "cy", "dee"];

/// An event as the model knows it.
#[derive(Clone, Debug)]
pub struct Event {
    pub offset: u64,
    pub channel: &'static str,
    pub event_type: &'static str,
    pub agent: &'static str,
    pub number: u8,
    pub stored_at: u64,
}

/// What is to be published: indexes into the lists above.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    pub channel: u8,
    pub event_type: u8,
    pub agent: u8,
    pub number: u8,
    pub size: u16,
    /// Offsets left out before it.
    pub hole: u8,
}

/// One incarnation of the log: everything that was ever in it.
pub struct Era {
    pub id: Epoch,
    pub events: Vec<Event>,
    pub trimmed: BTreeMap<&'static str, u64>,
    /// Oldest retained offset and last offset not pushed, when it began.
    pub began: (u64, u64),
    batches: Vec<Arc<Batch>>,
    tail: u64,
}

impl Era {
    fn new(number: u8, tail: u64) -> Self {
        Self {
            id: Epoch::from_bytes([number; 16]),
            events: Vec::new(),
            trimmed: BTreeMap::new(),
            began: (tail, tail - 1),
            batches: Vec::new(),
            tail,
        }
    }

    pub fn is_trimmed(&self, event: &Event) -> bool {
        self.trimmed.get(event.channel).is_some_and(|to| event.offset <= *to)
    }

    pub fn find(&self, offset: u64) -> Option<&Event> {
        self.events.binary_search_by_key(&offset, |event| event.offset).ok().map(|at| &self.events[at])
    }
}

/// Hubs that share the connections.
const SHARDS: usize = 2;

pub struct World {
    pub eras: Vec<Era>,
    pub hubs: [Mutex<Hub>; SHARDS],
    pub config: Arc<SessionConfig>,
    pub now: Now,
    /// Batches that are durable and not yet handed to each hub.
    pending: [Vec<Arc<Batch>>; SHARDS],
    /// Who is still to be roused for what each hub was handed.
    wakes: [VecDeque<Wakes>; SHARDS],
    connected: Cell<usize>,
}

impl World {
    pub fn new(policy: BacklogPolicy, tight: bool) -> Self {
        let era = Era::new(1, 1);
        let size = if tight { 1 } else { 3 };
        let config = HubConfig {
            ring_bytes: 2_500 * size,
            backlog: Backlog { policy, max_bytes: 700 * size },
            segment_bytes: 1_500,
        };
        let session = SessionConfig {
            channels: ChannelPolicy { arbitrary_allowed: true, ..ChannelPolicy::default() },
            page_bytes: 400 * size,
            page_scan_bytes: 900 * size,
            hop_bytes: 300 * size,
            checkpoint_interval: Duration::from_secs(10),
            heartbeat: newswire_core::HeartbeatConfig {
                interval: Duration::from_secs(1_000_000),
                ..newswire_core::HeartbeatConfig::default()
            },
            ..SessionConfig::default()
        };
        Self {
            hubs: std::array::from_fn(|shard| Mutex::new(Hub::sharded(config, era.id, 0, shard, SHARDS))),
            eras: vec![era],
            config: Arc::new(session),
            now: Now { mono: Duration::ZERO, wall: UnixMicros(1_000_000_000) },
            pending: Default::default(),
            wakes: Default::default(),
            connected: Cell::new(0),
        }
    }

    /// Whether the connection that was just given a shard reads compressed events: every other one, in each shard.
    pub fn is_compressed(&self) -> bool {
        self.connected.get() / SHARDS % 2 == 1
    }

    /// The shard of the next connection.
    pub fn next_shard(&self) -> usize {
        self.connected.replace(self.connected.get() + 1) % SHARDS
    }

    pub fn era(&self) -> &Era {
        self.eras.last().unwrap()
    }

    fn era_mut(&mut self) -> &mut Era {
        self.eras.last_mut().unwrap()
    }

    /// Makes events durable in one commit.
    pub fn append(&mut self, seeds: &[Seed]) {
        let stored_at = self.now.wall;
        let era = self.eras.last_mut().unwrap();
        let mut builder = BatchBuilder::new();
        for seed in seeds {
            let offset = era.tail + u64::from(seed.hole);
            era.tail = offset + 1;
            let event = Event {
                offset,
                channel: CHANNELS[usize::from(seed.channel) % CHANNELS.len()],
                event_type: TYPES[usize::from(seed.event_type) % TYPES.len()],
                agent: AGENTS[usize::from(seed.agent) % AGENTS.len()],
                number: seed.number % 4,
                stored_at: stored_at.0,
            };
            let text = format!(
                r#"{{"channel":"{}","event_type":"{}","payload":{{"agent_id":"{}","n":{},"pad":"{}"}}}}"#,
                event.channel,
                event.event_type,
                event.agent,
                event.number,
                "p".repeat(usize::from(seed.size % 200)),
            );
            let draft = Draft::parse(&text, &Limits::default()).unwrap();
            let encoded = draft.encode("id", stored_at);
            builder.push_encoded(offset, stored_at, &EventHead::of(&draft, &encoded), &encoded);
            era.events.push(event);
        }
        let batch = Arc::new(builder.finish());
        era.batches.push(Arc::clone(&batch));
        self.pending.iter_mut().for_each(|pending| pending.push(Arc::clone(&batch)));
    }

    /// Hands what is durable to every hub, commit by commit.
    pub fn dispatch(&mut self) {
        (0..SHARDS).for_each(|shard| self.dispatch_to(shard, 1));
    }

    /// Hands what is durable to one hub, so many commits gathered into one batch.
    pub fn dispatch_to(&mut self, shard: usize, gathered: usize) {
        for commits in std::mem::take(&mut self.pending[shard]).chunks(gathered) {
            let mut builder = BatchBuilder::new();
            for commit in commits {
                (0..commit.len()).for_each(|index| builder.push_event(commit, index));
            }
            let wakes = self.hubs[shard].lock().publish(Arc::new(builder.finish()));
            self.wakes[shard].push_back(wakes);
        }
    }

    /// Sees to those for whom something came from one hub, until so many sockets were written to for one batch; of 0, leaves
    /// one batch to the tasks.
    pub fn flush(&mut self, shard: usize, writes: usize) {
        if writes == 0 {
            drop(self.wakes[shard].pop_front());
        }
        while let Some(wakes) = self.wakes[shard].front_mut() {
            let flushed = wakes.flush(writes);
            assert!(flushed.writes <= writes as u64 && flushed.bytes >= flushed.writes);
            if !wakes.is_done() {
                return;
            }
            self.wakes[shard].pop_front();
        }
    }

    pub fn flush_all(&mut self) {
        for shard in 0..SHARDS {
            self.flush(shard, usize::MAX);
            assert!(self.wakes[shard].is_empty());
        }
    }

    /// The last offset that every hub has.
    pub fn dispatched(&self) -> u64 {
        self.hubs.iter().map(|hub| hub.lock().dispatched()).min().unwrap()
    }

    pub fn advance(&mut self, duration: Duration) {
        self.now.mono += duration;
        self.now.wall = self.now.wall.saturating_add(duration);
    }

    /// Trims all channels, or one, up to a share of what there is. Only what was dispatched is ever trimmed.
    pub fn trim(&mut self, channel: Option<&'static str>, share: u8) {
        let dispatched = self.dispatched();
        let era = self.era_mut();
        let up_to = dispatched * u64::from(share) / 255;
        for event in era.events.iter().filter(|event| event.offset <= up_to) {
            if channel.is_none_or(|channel| channel == event.channel) {
                let to = era.trimmed.entry(event.channel).or_default();
                *to = event.offset.max(*to);
            }
        }
    }

    /// The log loses everything and begins anew at some other offset, with a few events that nobody is pushed.
    pub fn begin_epoch(&mut self, seeds: &[Seed], at: u8) {
        self.pending = Default::default();
        let number = u8::try_from(self.eras.len() + 1).unwrap();
        self.eras.push(Era::new(number, u64::from(at) + 1));
        if !seeds.is_empty() {
            self.append(seeds);
            self.pending = Default::default();
        }
        let (head, tail) = (self.head(), self.era().tail);
        self.era_mut().began = (head, tail - 1);
        for hub in &self.hubs {
            drop(hub.lock().epoch_changed(self.era().id, head, tail));
        }
    }

    pub fn read(&self, request: &ReadRequest) -> Page {
        let era = self.era();
        let events = era.batches.iter().flat_map(|batch| (0..batch.len()).map(move |index| (batch, index)));
        let mut page = Page {
            epoch: era.id,
            runs: Vec::new(),
            reached: 0,
            end: true,
            lost: Vec::new(),
            scanned_bytes: 0,
        };
        let retained: Vec<_> = events
            .filter(|(batch, index)| !era.is_trimmed(era.find(batch.offset(*index)).unwrap()))
            .collect();
        let (mut bytes, mut count) = (0, 0);
        let mut look = |page: &mut Page, batch: &Arc<Batch>, index: usize| {
            let view = batch.get(index);
            let wanted =
                request.since.is_none_or(|since| view.stored_at >= since) && request.selector.matches(&view);
            let size = view.frame.len();
            let full = count >= request.max_events || (count > 0 && bytes + size > request.max_bytes);
            if page.scanned_bytes as usize >= request.max_scan_bytes || (wanted && full) {
                page.end = false;
                return false;
            }
            page.scanned_bytes += size as u64;
            if wanted {
                bytes += size;
                count += 1;
                let run = Run::of_indexes(batch, &[u32::try_from(index).unwrap()]);
                page.runs.extend(run.map(|run| run.shown(&request.selector.principal().variant)));
            }
            true
        };
        match request.direction {
            Direction::Forward => {
                page.reached = request.from;
                page.lost = self.lost(&request.selector, request.from);
                for (batch, index) in retained {
                    let offset = batch.offset(index);
                    if offset <= request.from || offset > request.until {
                        continue;
                    }
                    if !look(&mut page, batch, index) {
                        break;
                    }
                    page.reached = offset;
                }
                if page.end {
                    page.reached = request.until.min(era.tail - 1).max(request.from);
                }
            }
            Direction::Backward => {
                page.reached = request.from;
                for (batch, index) in retained.into_iter().rev() {
                    let offset = batch.offset(index);
                    if offset >= request.from || offset < request.until {
                        continue;
                    }
                    if !look(&mut page, batch, index) {
                        break;
                    }
                    page.reached = offset;
                }
            }
        }
        page
    }
}

impl World {
    /// As the logs do it: what the selector makes of the channels' newest trimmed offsets.
    fn lost_of(&self, selector: &Selector, after: u64, counts: impl Fn(u64) -> bool) -> Vec<Lost> {
        let trimmed = self.era().trimmed.iter().filter(|(_, to)| counts(**to));
        let trims: Vec<(Arc<str>, u64)> = trimmed.map(|(channel, to)| (Arc::from(*channel), *to)).collect();
        selector.lost(trims.iter().map(|(channel, to)| (channel, *to)), after)
    }
}

impl LogView for World {
    fn epoch(&self) -> Epoch {
        self.era().id
    }

    fn head(&self) -> u64 {
        let era = self.era();
        era.events.iter().find(|event| !era.is_trimmed(event)).map_or(era.tail, |event| event.offset)
    }

    fn tail(&self) -> u64 {
        self.era().tail
    }

    fn channels(&self) -> Vec<Arc<str>> {
        let era = self.era();
        let mut channels: Vec<Arc<str>> = era
            .events
            .iter()
            .filter(|event| !era.is_trimmed(event))
            .map(|event| Arc::from(event.channel))
            .collect();
        channels.sort();
        channels.dedup();
        channels
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.lost_of(selector, after, |_| true)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        let era = self.era();
        let stored_since = |to: u64| era.find(to).is_some_and(|event| event.stored_at >= since.0);
        self.lost_of(selector, 0, stored_since)
    }
}
