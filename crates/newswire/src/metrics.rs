//! What a feed counts, in Prometheus text.
//!
//! Names are part of what operators rely on; `docs/operations.md` says what each is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use newswire_log::{Commit, Observer};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A label that says why.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: String,
}

impl Reason {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What a feed counts, and the registry it is read from. Made before the log, so that the log can report to it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    pub(crate) counters: Counters,
    pub(crate) sampled: Sampled,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics in a registry of their own, everything under the prefix `newswire_`.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (counters, sampled) = Counters::register(&mut registry);
        Self { registry: Arc::new(Mutex::new(registry)), counters, sampled }
    }

    /// Registers more beside what the feed counts.
    pub fn with_registry<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock())
    }

    /// To be given to the log, which then reports its commits here.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.counters.clone())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())
            .expect("writing to a string does not fail");
        text
    }
}

impl Observer for Counters {
    fn on_commit(&self, commit: &Commit) {
        self.sync_seconds.observe(commit.sync.as_secs_f64());
        self.commit_events.observe(commit.events as f64);
        self.commit_appends.observe(commit.appends as f64);
        self.commit_bytes.inc_by(commit.bytes as u64);
    }
}

/// The counters of one feed. Cheap to update from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(crate) publishes: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) refusals: Family<Reason, Counter>,
    pub(crate) commits: Counter,
    pub(crate) commit_events: Histogram,
    pub(crate) commit_appends: Histogram,
    pub(crate) commit_bytes: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) dispatch_seconds: Histogram,
    pub(crate) dispatch_commits: Histogram,
    pub(crate) sent_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) direct_writes: Counter,
    pub(crate) lag_events: Histogram,
    pub(crate) log_reads: Counter,
    pub(crate) log_read_bytes: Counter,
    pub(crate) connections: Gauge,
    pub(crate) subscribers: Gauge,
    pub(crate) streams_closed: Family<Reason, Counter>,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) closes: Family<Reason, Counter>,
    pub(crate) heartbeat_closes: Counter,
    pub(crate) auth_failures: Family<Reason, Counter>,
}

/// Values that are read when somebody scrapes, not when they change.
#[derive(Clone, Debug)]
pub(crate) struct Sampled {
    pub(crate) head: Gauge<u64, AtomicU64>,
    pub(crate) tail: Gauge<u64, AtomicU64>,
    pub(crate) dispatched: Gauge<u64, AtomicU64>,
    pub(crate) disk_bytes: Gauge<u64, AtomicU64>,
    pub(crate) ring_bytes: Gauge<u64, AtomicU64>,
    pub(crate) cursors_on_ring: Gauge<u64, AtomicU64>,
    pub(crate) cursors_on_log: Gauge<u64, AtomicU64>,
    pub(crate) backlog_bytes: Gauge<u64, AtomicU64>,
    pub(crate) dropped_events: Gauge<u64, AtomicU64>,
    pub(crate) strangers: Gauge<u64, AtomicU64>,
    pub(crate) strangers_displaced: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) gaps: Family<Reason, Counter>,
    pub(crate) command_errors: Family<Reason, Counter>,
    pub(crate) subscriptions: Gauge<u64, AtomicU64>,
    pub(crate) channels: Gauge<u64, AtomicU64>,
    pub(crate) moving: Gauge<u64, AtomicU64>,
    pub(crate) following: Gauge<u64, AtomicU64>,
    pub(crate) interruptions: Counter,
}

impl Counters {
    /// Registers everything under the prefix `newswire_`.
    pub(crate) fn register(root: &mut Registry) -> (Self, Sampled) {
        let registry = root.sub_registry_with_prefix("newswire");
        let metrics = Self {
            publishes: counter(registry, "publishes", "Events stored for publishers"),
            duplicates: counter(registry, "publish_duplicates", "Publishes answered from the dedup window"),
            refusals: family(registry, "publish_refusals", "Publishes refused, by error code"),
            commits: counter(registry, "commits", "Batches made durable"),
            commit_events: histogram(registry, "commit_batch_events", "Events a batch", 1.0, 2.0, 14),
            commit_appends: histogram(
                registry,
                "commit_batch_appends",
                "Appends that shared a commit",
                1.0,
                2.0,
                12,
            ),
            commit_bytes: counter(registry, "commit_bytes", "Bytes written by commits"),
            sync_seconds: seconds(registry, "log_sync", "Time of one log sync"),
            dispatch_seconds: seconds(registry, "dispatch", "Time to match one batch and queue it"),
            dispatch_commits: histogram(
                registry,
                "dispatch_batch_commits",
                "Commits gathered into one dispatch",
                1.0,
                2.0,
                10,
            ),
            sent_bytes: counter(registry, "sent_bytes", "Bytes written to subscribers"),
            writes: counter(registry, "socket_writes", "Write calls on subscriber sockets"),
            direct_writes: counter(registry, "direct_writes", "Those of them that woke no task"),
            lag_events: histogram(
                registry,
                "lag_events",
                "Distance of each subscriber from the tail, looked at with every scrape",
                1.0,
                4.0,
                12,
            ),
            log_reads: counter(registry, "log_reads", "Pages read from the log for replay and history"),
            log_read_bytes: counter(registry, "log_read_bytes", "Bytes of the log those reads touched"),
            connections: Gauge::default(),
            subscribers: Gauge::default(),
            streams_closed: family(
                registry,
                "event_streams_closed",
                "Event streams over HTTP that ended, by reason",
            ),
            connections_opened: counter(registry, "connections_opened", "WebSocket connections accepted"),
            connections_refused: counter(registry, "connections_refused", "Upgrades refused over the limit"),
            closes: family(registry, "connection_closes", "Connections the server closed, by close code"),
            heartbeat_closes: counter(registry, "heartbeat_closes", "Connections closed for silence"),
            auth_failures: family(registry, "auth_failures", "Credentials that were not taken, by reason"),
        };
        registry.register("connections", "WebSocket connections open now", metrics.connections.clone());
        registry.register("subscribers", "Subscribers in this process now", metrics.subscribers.clone());
        let sampled = Sampled {
            following: gauge(registry, "log_following", "1 while new events reach this node's log"),
            interruptions: counter(
                registry,
                "engine_interruptions",
                "Times that following the engine which keeps the log was interrupted",
            ),
            head: gauge(registry, "log_head_offset", "Oldest retained offset"),
            tail: gauge(registry, "log_tail_offset", "Offset the next event gets"),
            dispatched: gauge(registry, "dispatched_offset", "Last offset handed to subscribers"),
            disk_bytes: gauge(registry, "log_disk_bytes", "Bytes the log takes on disk"),
            ring_bytes: gauge(registry, "ring_bytes", "Bytes of recent frames in memory"),
            cursors_on_ring: gauge(registry, "cursors_on_ring", "Subscribers that keep up"),
            cursors_on_log: gauge(registry, "cursors_on_log", "Subscribers that read behind, from the log"),
            backlog_bytes: gauge(registry, "backlog_bytes", "Matching bytes not yet sent, all subscribers"),
            dropped_events: gauge(
                registry,
                "dropped_events",
                "Events dropped by the backlog policy for those connected now",
            ),
            strangers: gauge(
                registry,
                "connections_unauthenticated",
                "WebSockets open now that have not said who they are",
            ),
            strangers_displaced: counter(
                registry,
                "connections_displaced",
                "WebSockets closed before they said who they are, to make room for others",
            ),
            deliveries: counter(registry, "deliveries", "Events queued for subscribers on the live path"),
            gaps: family(registry, "gaps", "Gaps told to subscribers, by reason"),
            command_errors: family(registry, "command_errors", "Commands answered with an error, by code"),
            subscriptions: gauge(registry, "subscriptions", "Live subscriptions"),
            channels: gauge(registry, "channels", "Channels known"),
            moving: gauge(registry, "feed_moving", "1 while committed events reach the subscribers' queues"),
        };
        (metrics, sampled)
    }
}

impl Counters {
    pub(crate) fn refused(&self, code: &str) {
        self.refusals.get_or_create(&Reason::new(code)).inc();
    }
}

/// Brings a counter up to a total that somebody else counts.
pub(crate) fn raise(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn family(registry: &mut Registry, name: &str, help: &str) -> Family<Reason, Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge<u64, AtomicU64> {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn histogram(registry: &mut Registry, name: &str, help: &str, first: f64, factor: f64, n: u16) -> Histogram {
    let histogram = Histogram::new(exponential_buckets(first, factor, n));
    registry.register(name, help, histogram.clone());
    histogram
}

/// A histogram of durations from 20 µs to about 10 s.
fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(exponential_buckets(0.000_02, 2.5, 15));
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}
