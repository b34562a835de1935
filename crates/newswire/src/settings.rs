//! What a feed can be told, with its defaults.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use newswire_core::BacklogPolicy;
use newswire_protocol::limits::Limits;

use crate::{FailureLimit, Rate};

/// Everything about a [`Feed`](crate::Feed) that is a number or a choice.
///
/// The defaults are those of `docs/configuration.md`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Channels that exist from the start.
    pub channels: Vec<String>,
    /// Whether a publish or subscription may name a channel nobody declared.
    pub arbitrary_channels_allowed: bool,
    /// How many distinct channels there may be in all.
    pub max_channels: usize,
    /// Sizes of events and commands, in bytes.
    pub limits: Limits,
    /// What happens to a subscriber whose backlog is full.
    pub backlog_policy: BacklogPolicy,
    /// Matching bytes that may wait for one subscriber on the live path.
    pub backlog_max_bytes: usize,
    /// Recent committed frames kept in memory for subscribers that keep up, in bytes.
    pub ring_max_bytes: usize,
    /// How long committed events may be held back to be written together with later ones, while writing keeps the
    /// machine busy; publishers do not wait for it. Zero for never. The timer ticks once a millisecond, which may come on
    /// top when commits cease.
    pub fanout_max_linger: Duration,
    /// Hubs that share the connections, each with a task of its own.
    pub fanout_shards: NonZeroUsize,
    /// Whether messages may be compressed for clients that offer permessage-deflate.
    pub websocket_compression: bool,
    /// How often the server pings a connection.
    pub heartbeat_interval: Duration,
    /// How long a peer may show no sign of life after a ping.
    pub heartbeat_timeout: Duration,
    /// How long bytes may wait for a peer that reads nothing.
    pub write_stall_timeout: Duration,
    /// The longest a quiet subscriber waits for a checkpoint while the log moves.
    pub checkpoint_interval: Duration,
    /// WebSocket connections, and subscribers in the process, at once; the next one is told to come back, or refused.
    pub max_connections: usize,
    /// WebSockets that have not said who they are, at once, beside `max_connections`: one more takes the place of the one that
    /// has waited longest, of the address that has most of them.
    pub max_unauthenticated: usize,
    /// Connections and subscribers, of those, that one identity may have; `None` for no limit. Only where credentials count.
    pub max_connections_per_identity: Option<usize>,
    /// Channels and patterns that one connection may have subscribed, over all of its sets.
    pub max_subscriptions: usize,
    /// Sets of subscriptions (`sub`) of one connection; 100 at most.
    pub max_sets: usize,
    /// Bytes of the filters of all subscriptions of one connection.
    pub max_filter_bytes: usize,
    /// Blocking log reads at once, over all connections and requests.
    pub max_log_readers: usize,
    /// How long a WebSocket that brought no credentials may take to send its `auth`, where credentials count.
    pub auth_timeout: Duration,
    /// The largest body of one HTTP publish, in bytes.
    pub request_max_bytes: usize,
    /// Commands over WebSockets, of one identity or, without credentials, one address; who sends more is closed with 4029.
    pub commands: Option<Rate>,
    /// How often an address may show credentials that are no good; beyond, what it shows is not looked at, but for what was good
    /// before. `None` for no limit.
    pub auth_failures: Option<FailureLimit>,
    /// Events published over WebSockets, as `commands`; one more is refused, and the connection stays.
    pub publishes: Option<Rate>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channels: ["tasks", "agents", "budget", "messages", "system"].map(String::from).to_vec(),
            arbitrary_channels_allowed: false,
            max_channels: 10_000,
            limits: Limits::default(),
            backlog_policy: BacklogPolicy::CatchUp,
            backlog_max_bytes: 1 << 20,
            ring_max_bytes: 16 << 20,
            websocket_compression: true,
            fanout_max_linger: Duration::from_millis(2),
            fanout_shards: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            heartbeat_interval: Duration::from_secs(25),
            heartbeat_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(60),
            checkpoint_interval: Duration::from_secs(10),
            max_connections: 20_000,
            max_unauthenticated: 1_000,
            max_connections_per_identity: None,
            max_subscriptions: 10_000,
            max_sets: 100,
            max_filter_bytes: 4 << 20,
            max_log_readers: 4,
            auth_timeout: Duration::from_secs(10),
            request_max_bytes: 16 << 20,
            auth_failures: Some(FailureLimit {
                per_minute: NonZeroU32::new(600).expect("not zero"),
                burst: NonZeroU32::new(100).expect("not zero"),
            }),
            commands: None,
            publishes: None,
        }
    }
}
