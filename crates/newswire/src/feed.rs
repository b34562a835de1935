//! The feed: log, hub and everything that runs between them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use newswire_core::{Backlog, BacklogPolicy, Hub, HubConfig, HubStats, Now};
use newswire_log::{
    EmbeddedLog, EmbeddedOptions, EventLog, LogHealth, MemoryLog, MemoryOptions, Observer, OpenError, OsDisk,
};
use newswire_protocol::Start;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticate;
use crate::channels::Channels;
use crate::connections::Connections;
use crate::failures::Failures;
use crate::fanout::Shard;
use crate::health::{FeedState, Health, LogState, Progress};
use crate::http::publish::BODY_GRAIN;
use crate::metrics::{Counters, Metrics, Reason, raise};
use crate::rates::{Caller, Rates};
use crate::reader::LogReader;
use crate::reload::LiveSettings;
use crate::settings::Settings;
use crate::soon::Soon;
use crate::traces::Traces;
use crate::{fanout, http, ingest};

/// Bytes of HTTP publish bodies in memory at once, over all requests; one that finds no room is answered 503.
const BODIES_BYTES: usize = 256 << 20;

/// How long a subscribe waits for the hub to have what was durable before it.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// A running feed. Cloning is cheap and gives the same feed.
#[derive(Clone)]
pub struct Feed {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) log: Arc<dyn EventLog>,
    /// The hubs; each connection belongs to one. At least one.
    pub(crate) shards: Box<[Arc<Shard>]>,
    /// Counts connections, to give each its shard.
    next_shard: AtomicUsize,
    /// Somebody waits for what fan-out holds back.
    pub(crate) flush: Notify,
    pub(crate) channels: Channels,
    pub(crate) settings: Settings,
    pub(crate) live: LiveSettings,
    pub(crate) reader: LogReader,
    pub(crate) metrics: Counters,
    pub(crate) traces: Traces,
    all_metrics: Metrics,
    pub(crate) connections: Connections,
    pub(crate) failures: Failures,
    /// How often the audit tells of publishes that came too often.
    pub(crate) told: Rates<Caller>,
    /// Absent where everybody is who they are.
    pub(crate) authenticator: Option<Arc<dyn Authenticate>>,
    /// Room for bodies, in grains of [`BODY_GRAIN`]; never less than one request may have.
    pub(crate) body_room: Arc<Semaphore>,
    /// The zero of the session's clock.
    pub(crate) started: Instant,
    /// What is published without waiting.
    pub(crate) soon: Soon,
    progress: Progress,
    stopping: CancellationToken,
    /// Event streams over HTTP end; no new ones begin.
    pub(crate) streams_end: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Puts a [`Feed`] together.
#[must_use = "nothing happens before it is built"]
pub struct FeedBuilder {
    settings: Settings,
    log: Option<Arc<dyn EventLog>>,
    data_dir: Option<PathBuf>,
    metrics: Metrics,
    traces: Traces,
    authenticator: Option<Arc<dyn Authenticate>>,
}

/// Why a feed was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A declared channel has a name that cannot be one.
    #[error("channel {name:?} cannot be declared: a name has 1 to 128 characters of A-Z a-z 0-9 _ . : # @ -")]
    Channel {
        /// The name as given.
        name: String,
    },
    /// The log in the data directory did not open; the text says what to do.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system gives no thread for a log in memory.
    #[error("cannot start a log in memory: {0}")]
    Memory(#[source] io::Error),
}

impl FeedBuilder {
    /// All numbers and choices at once; what is called behind it changes single ones. See [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The channels that exist from the start, in place of the five that every feed has otherwise.
    pub fn channels<C: Into<String>>(mut self, channels: impl IntoIterator<Item = C>) -> Self {
        self.settings.channels = channels.into_iter().map(Into::into).collect();
        self
    }

    /// Lets publishers and subscribers name channels that nobody declared; at most `limits.channels` in all.
    pub fn arbitrary_channels(mut self) -> Self {
        self.settings.arbitrary_channels_allowed = true;
        self
    }

    /// What may wait for one subscriber, in bytes of matching events, and what happens beyond.
    pub fn backlog(mut self, policy: BacklogPolicy, max_bytes: usize) -> Self {
        self.settings.backlog_policy = policy;
        self.settings.backlog_max_bytes = max_bytes;
        self
    }

    /// Keeps events in files of this directory, which is made if it is not there: [`newswire_log::EmbeddedLog`] with its
    /// defaults, where an answered event is synced. For other options open the log yourself and call [`FeedBuilder::log`].
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// Keeps events in this log. Wins over [`FeedBuilder::data_dir`].
    ///
    /// Without either of the two, events live in memory ([`newswire_log::MemoryLog`] with its defaults) and are gone with the
    /// process.
    pub fn log(mut self, log: Arc<dyn EventLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// Metrics that the log reports to already; without them the feed has its own.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Makes spans of every publish, its commit and its fan-out with this tracer, as children of the trace context that the
    /// request, the event or the current [`opentelemetry::Context`] names. Without a tracer there are none.
    ///
    /// A span of fan-out is a child of the publish that its batch begins with and linked to the others of the batch; a log of
    /// your own that does not call [`OnStored`](newswire_log::OnStored) gives none.
    #[cfg(feature = "opentelemetry")]
    pub fn tracer<T>(mut self, tracer: T) -> Self
    where
        T: opentelemetry::trace::Tracer + Send + Sync + 'static,
        T::Span: Send + Sync + 'static,
    {
        self.traces = Traces::with(opentelemetry::global::BoxedTracer::new(Box::new(tracer)));
        self
    }

    /// Lets nobody in whose credentials this one does not take. Without it the feed is open.
    ///
    /// What is done in the process itself ([`Feed::publish`], [`Feed::subscribe`]) is not asked for credentials.
    pub fn authenticate(mut self, authenticator: Arc<dyn Authenticate>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Starts the feed on the current tokio runtime. Opening a data directory reads its log, and blocks meanwhile.
    ///
    /// End it with [`Feed::shutdown`]: its tasks keep it alive, however many of its clones are dropped.
    ///
    /// # Errors
    /// See [`BuildError`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<Feed, BuildError> {
        let log = match (self.log, self.data_dir) {
            (Some(log), _) => log,
            (None, Some(directory)) => open(&directory, self.metrics.observer())?,
            (None, None) => in_memory(self.metrics.observer())?,
        };
        let settings = self.settings;
        let channels = Channels::new(
            &settings.channels,
            settings.arbitrary_channels_allowed,
            settings.max_channels,
            &log.channels(),
        )
        .map_err(|name| BuildError::Channel { name })?;
        let metrics = self.metrics.counters.clone();
        let commits = log.follow();
        let dispatched = commits.start() - 1;
        let hub = |shard| {
            Hub::sharded(hub_config(&settings), log.epoch(), dispatched, shard, settings.fanout_shards.get())
        };
        let shards =
            (0..settings.fanout_shards.get()).map(|shard| Arc::new(Shard::new(hub(shard)))).collect();
        let feed = Feed {
            inner: Arc::new(Inner {
                reader: LogReader::new(Arc::clone(&log), settings.max_log_readers, metrics.clone()),
                connections: Connections::new(
                    settings.max_connections,
                    settings.max_unauthenticated,
                    settings.max_connections_per_identity,
                ),
                failures: Failures::new(settings.auth_failures),
                told: Rates::for_telling(),
                authenticator: self.authenticator,
                body_room: Arc::new(Semaphore::new(
                    BODIES_BYTES.max(settings.request_max_bytes).div_ceil(BODY_GRAIN),
                )),
                log,
                shards,
                next_shard: AtomicUsize::new(0),
                flush: Notify::new(),
                live: LiveSettings::new(&settings, channels.readable()),
                channels,
                metrics,
                traces: self.traces,
                started: Instant::now(),
                all_metrics: self.metrics,
                soon: Soon::default(),
                progress: Progress::default(),
                stopping: CancellationToken::new(),
                streams_end: CancellationToken::new(),
                tasks: TaskTracker::new(),
                settings,
            }),
        };
        fanout::start(&feed, commits);
        Ok(feed)
    }
}

fn open(directory: &Path, observer: Arc<dyn Observer>) -> Result<Arc<dyn EventLog>, BuildError> {
    let options = EmbeddedOptions { observer: Some(observer), ..EmbeddedOptions::default() };
    Ok(Arc::new(EmbeddedLog::open(directory, options, Arc::new(OsDisk))?))
}

fn in_memory(observer: Arc<dyn Observer>) -> Result<Arc<dyn EventLog>, BuildError> {
    let options = MemoryOptions { observer: Some(observer), ..MemoryOptions::default() };
    Ok(Arc::new(MemoryLog::new(options).map_err(BuildError::Memory)?))
}

fn hub_config(settings: &Settings) -> HubConfig {
    let backlog = Backlog { policy: settings.backlog_policy, max_bytes: settings.backlog_max_bytes };
    HubConfig { ring_bytes: settings.ring_max_bytes, backlog, ..HubConfig::default() }
}

impl Feed {
    /// Starts putting a feed together.
    pub fn builder() -> FeedBuilder {
        FeedBuilder {
            settings: Settings::default(),
            log: None,
            data_dir: None,
            metrics: Metrics::new(),
            traces: Traces::default(),
            authenticator: None,
        }
    }

    /// The routes of the feed: `/events`, `/channels`, `/health`, `/metrics`, `/ws`; nest them under `/api/v1`.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// A WebSocket route for every channel of the feed, on an address of your own: `base` and the channel's name. Whoever
    /// connects gets the last `history` events and then what comes, unless the query asks for another beginning or for
    /// filters. To be merged into an application, with its middleware around it.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let feed = newswire::Feed::builder().build()?;
    /// // ws://…/live/tasks, ws://…/live/agents, …
    /// let app: axum::Router = axum::Router::new().merge(feed.channel_routes("/live", 20));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn channel_routes(&self, base: &str, history: u64) -> Router {
        http::channel_router(self.clone(), base, history)
    }

    /// What the feed was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The log under the feed.
    #[must_use]
    pub fn log(&self) -> &dyn EventLog {
        &*self.inner.log
    }

    /// The hub for one more connection: each has as many as any other, give or take those that left.
    pub(crate) fn shard_for_connection(&self) -> Arc<Shard> {
        let shards = &self.inner.shards;
        Arc::clone(&shards[self.inner.next_shard.fetch_add(1, Ordering::Relaxed) % shards.len()])
    }

    /// Last offset handed to every hub.
    fn dispatched(&self) -> u64 {
        self.inner.shards.iter().map(|shard| *shard.dispatched.borrow()).min().unwrap_or(0)
    }

    /// What sessions take for now.
    pub(crate) fn now(&self) -> Now {
        Now { mono: self.inner.started.elapsed(), wall: ingest::now() }
    }

    /// Waits until everything that is durable now was handed to the shard's hub; what fan-out holds back to gather more
    /// is handed over at once.
    ///
    /// So a publisher that was answered and subscribes then finds its event behind the answer's offset. Gives up
    /// after [`SETTLE_PATIENCE`]: a hub that stands still is for health to tell, not for subscribers to hang on.
    /// Cancel-safe.
    pub(crate) async fn caught_up_with_log(&self, shard: &Shard) {
        let durable = self.inner.log.tail() - 1;
        let mut dispatched = shard.dispatched.subscribe();
        if *dispatched.borrow() < durable {
            self.inner.flush.notify_one();
        }
        let settled = dispatched.wait_for(|&dispatched| dispatched >= durable);
        let _ = tokio::time::timeout(SETTLE_PATIENCE, settled).await;
    }

    /// As [`Self::caught_up_with_log`], and first waits for what the subscriber may have seen on another node of the same log.
    /// `false` if that was not to be had in time.
    pub(crate) async fn caught_up_with(&self, start: &Start, shard: &Shard) -> bool {
        if let Start::After { offset, epoch } = start {
            let epoch = epoch.as_deref().and_then(|epoch| epoch.parse().ok());
            if !self.inner.log.settle(epoch, *offset).await {
                return false;
            }
        }
        self.caught_up_with_log(shard).await;
        true
    }

    /// State of the log and whether what it stores reaches the subscribers.
    #[must_use]
    pub fn health(&self) -> Health {
        let inner = &self.inner;
        let (head, durable) = (inner.log.head(), inner.log.tail() - 1);
        let dispatched = self.dispatched();
        let state = inner.log.health();
        let log = LogState {
            status: state_name(&state),
            epoch: inner.log.epoch().to_string(),
            head,
            offset: durable,
        };
        let feed = FeedState {
            moving: inner.progress.moving(durable, dispatched, Instant::now()),
            dispatched,
            connections: inner.connections.open() as u64,
        };
        Health::of(&state, inner.log.engine(), log, feed, self.is_stopping())
    }

    /// Everything counted, as Prometheus text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.sample();
        self.inner.all_metrics.text()
    }

    fn sample(&self) {
        let health = self.health();
        let log = self.inner.log.stats();
        let (mut hubs, mut connections) = (HubStats::default(), Vec::new());
        let (mut gaps, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for shard in &self.inner.shards {
            let hub = shard.hub.lock();
            hubs.add(&hub.stats());
            connections.extend(hub.connections());
            hub.gaps_told()
                .into_iter()
                .for_each(|(reason, told)| *gaps.entry(reason.text()).or_default() += told);
            hub.errors_told().into_iter().for_each(|(code, told)| *errors.entry(code).or_default() += told);
        }
        for connection in &connections {
            self.inner.metrics.lag_events.observe(connection.lag as f64);
        }
        let sampled = &self.inner.all_metrics.sampled;
        sampled.strangers.set(self.inner.connections.strangers() as u64);
        raise(&sampled.strangers_displaced, self.inner.connections.displaced());
        sampled.head.set(health.log.head);
        sampled.tail.set(health.log.offset + 1);
        sampled.dispatched.set(health.feed.dispatched);
        sampled.moving.set(u64::from(health.feed.moving));
        let is_behind = matches!(log.health, LogHealth::Stopped { .. } | LogHealth::Behind { .. });
        sampled.following.set(u64::from(!is_behind));
        raise(&sampled.interruptions, log.interruptions);
        sampled.disk_bytes.set(log.bytes);
        sampled.ring_bytes.set(hubs.ring_bytes as u64);
        sampled.cursors_on_ring.set((hubs.connections - hubs.lagging) as u64);
        sampled.cursors_on_log.set(hubs.lagging as u64);
        sampled.backlog_bytes.set(connections.iter().map(|connection| connection.queued_bytes as u64).sum());
        sampled.dropped_events.set(connections.iter().map(|connection| connection.dropped).sum());
        raise(&sampled.deliveries, hubs.deliveries);
        for (reason, total) in gaps {
            raise(&sampled.gaps.get_or_create(&Reason::new(reason)), total);
        }
        for (code, total) in errors {
            raise(&sampled.command_errors.get_or_create(&Reason::new(code)), total);
        }
        sampled.subscriptions.set(hubs.subscriptions as u64);
        sampled.channels.set(self.inner.channels.count() as u64);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    pub(crate) fn streams_are_ending(&self) -> bool {
        self.inner.streams_end.is_cancelled()
    }

    /// Ends every event stream over HTTP, telling its client when to come back. For servers that wait for the requests in
    /// flight before they call [`Feed::shutdown`]: streams are requests that end only when they are told to.
    pub fn end_streams(&self) {
        self.inner.streams_end.cancel();
    }

    /// Stops the feed: what was to be published soon is published, sessions get 1001 with `retry_after_ms`, subscriptions end, the fan-out ends, the log is
    /// closed cleanly.
    ///
    /// Returns whether every session ended within `grace`; those that did not are cut.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.inner.stopping.cancel();
        self.end_streams();
        self.inner.connections.close_all();
        let deadline = tokio::time::Instant::now() + grace;
        if let Some(publishing) = self.inner.soon.close() {
            // What is not published in time is refused by the closed log, which is counted and logged.
            let _ = tokio::time::timeout_at(deadline, publishing).await;
        }
        let drained = tokio::time::timeout_at(deadline, self.inner.connections.all_closed()).await.is_ok();
        let log = Arc::clone(&self.inner.log);
        // Closing syncs, which blocks; a panic there was reported by the panic hook already.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        self.inner.tasks.close();
        drained && tokio::time::timeout_at(deadline, self.inner.tasks.wait()).await.is_ok()
    }
}

fn state_name(state: &LogHealth) -> &'static str {
    match state {
        LogHealth::Ok => "ok",
        LogHealth::Full => "full",
        LogHealth::Stopped { .. } => "stopped",
        LogHealth::Behind { .. } => "behind",
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
