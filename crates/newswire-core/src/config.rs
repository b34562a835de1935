//! What a deployment chooses about hub and sessions.

use std::time::Duration;

use newswire_protocol::limits::MAX_SETS;
use newswire_protocol::{Limits, UnixMicros};

use crate::channel::ChannelPolicy;
use crate::heartbeat::HeartbeatConfig;

/// The time it is, as the shell reads it for every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some moment that the shell chose once (its start); never goes back.
    pub mono: Duration,
    /// The clock on the wall.
    pub wall: UnixMicros,
}

/// What happens when more than the bound waits for one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BacklogPolicy {
    /// The subscriber leaves the live path, reads on from the log at its own pace and rejoins. Nothing is lost.
    #[default]
    CatchUp,
    /// While the backlog is full, new events are dropped, and a gap says so.
    DropNewest,
    /// The oldest waiting events make room for new ones, and a gap says so.
    DropOldest,
    /// The connection is closed with 4008.
    Disconnect,
}

/// The bound on what waits for one subscriber on the live path.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// What happens beyond it.
    pub policy: BacklogPolicy,
    /// Bytes of matching frames that are not yet handed to the connection's writer.
    pub max_bytes: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { policy: BacklogPolicy::CatchUp, max_bytes: 1 << 20 }
    }
}

/// The hub's choices.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// Bytes of recent batches kept in memory for subscribers that are a little behind. The newest batch is always
    /// kept, however large.
    pub ring_bytes: usize,
    /// The bound for each connection.
    pub backlog: Backlog,
    /// Bytes of text after which a compressed stream begins anew, so that those who came later can read along; if there
    /// are any. Until then they are sent plain frames.
    pub segment_bytes: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { ring_bytes: 16 << 20, backlog: Backlog::default(), segment_bytes: 32 << 10 }
    }
}

/// The choices that all sessions share.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Sizes of commands and events.
    pub limits: Limits,
    /// Which channels may be subscribed.
    pub channels: ChannelPolicy,
    /// How often a checkpoint is sent at most; and at least, while the log moves past a subscriber.
    pub checkpoint_interval: Duration,
    /// Pings and the patience with silent peers.
    pub heartbeat: HeartbeatConfig,
    /// Channels and patterns subscribed at once, over all sets; more are an `Invalid control message`.
    pub max_subscriptions: usize,
    /// Sets (`sub`) that have subscriptions at once; more are one too. At most [`newswire_protocol::limits::MAX_SETS`] count.
    pub max_sets: usize,
    /// Bytes of the filters of all subscriptions; more are one too.
    pub max_filter_bytes: usize,
    /// Publishes of one connection that are not answered yet; at this many the session wants no more commands.
    pub max_publishes: usize,
    /// Bytes of frames in one page read for a replay or for a subscriber that catches up. A session holds at most two.
    pub page_bytes: usize,
    /// Bytes that one such read may look at.
    pub page_scan_bytes: usize,
    /// Bytes of frames that a replay's last step onto the live path may look at while it holds the hub's lock.
    pub hop_bytes: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            channels: ChannelPolicy::default(),
            checkpoint_interval: Duration::from_secs(10),
            heartbeat: HeartbeatConfig::default(),
            max_subscriptions: 10_000,
            max_sets: MAX_SETS,
            max_filter_bytes: 4 << 20,
            max_publishes: 64,
            page_bytes: 128 << 10,
            page_scan_bytes: 4 << 20,
            hop_bytes: 64 << 10,
        }
    }
}
