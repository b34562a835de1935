//! Hub and connections as an operator sees them.

use std::sync::Arc;

use crate::channel::ChannelPattern;
use crate::filter::Filter;
use crate::hub::ConnId;

/// Figures of the hub since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Predicates compared with events: the cost of matching.
    pub evaluated: u64,
    /// Events put into outboxes, or passed by because their connection reads from the log.
    pub deliveries: u64,
    /// Connections now.
    pub connections: usize,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Different predicates now.
    pub groups: usize,
    /// Variants of payloads, beside whole ones, that connections have now.
    pub variants: usize,
    /// Connections now that read from ring or log instead of being pushed to.
    pub lagging: usize,
    /// Bytes of the ring.
    pub ring_bytes: usize,
}

impl HubStats {
    /// Adds the figures of another hub of the same feed. The ring is the same for all: they share its batches.
    pub fn add(&mut self, other: &Self) {
        self.evaluated += other.evaluated;
        self.deliveries += other.deliveries;
        self.connections += other.connections;
        self.subscriptions += other.subscriptions;
        self.groups += other.groups;
        self.variants = self.variants.max(other.variants);
        self.lagging += other.lagging;
        self.ring_bytes = self.ring_bytes.max(other.ring_bytes);
    }
}

/// A connection as an operator sees it.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Which.
    pub id: ConnId,
    /// On whose behalf.
    pub principal: Arc<str>,
    /// Reads from ring or log instead of being pushed to.
    pub lagging: bool,
    /// Offset of the last event handed to its writer; 0 if none was.
    pub last_sent: u64,
    /// Offsets between what was dispatched and what has been matched for it: 0 on the live path.
    pub lag: u64,
    /// Bytes of events that wait.
    pub queued_bytes: usize,
    /// Events dropped by the backlog policy.
    pub dropped: u64,
    /// What it has subscribed.
    pub subscriptions: Vec<SubscriptionInfo>,
}

/// A subscription as an operator sees it.
#[derive(Clone, Debug)]
pub struct SubscriptionInfo {
    /// The set; `None` is the unnamed one.
    pub sub: Option<Arc<str>>,
    /// Channel or pattern.
    pub pattern: ChannelPattern,
    /// Its filter.
    pub filter: Arc<Filter>,
    /// Being replayed.
    pub replaying: bool,
}
