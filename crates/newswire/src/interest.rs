//! What a subscriber in this process wants: channels, filters, where to begin, and on whose behalf.

use std::sync::Arc;

use newswire_core::{Backlog, BacklogPolicy, Principal};
use newswire_protocol::{
    Epoch, ErrorCode, FilterChange, FilterSpec, Query, Refusal, Scalar, SinceSpec, Start, Subscribe,
};

use crate::auth::Identity;

/// Channels with the same filters and the same start, to be given to [`Feed::subscribe`](crate::Feed::subscribe).
///
/// ```
/// use newswire::Interest;
///
/// let interest = Interest::in_channels(["tasks", "agent.*"])
///     .filter("agent", "sarah_chen") // any of these agents …
///     .filter("agent", "tom")
///     .filter("event_type", "task.*") // … and this type
///     .history(20);
/// ```
#[derive(Clone, Debug)]
#[must_use = "an interest does nothing before it is given to a feed"]
pub struct Interest {
    pub(crate) channels: Vec<String>,
    pub(crate) filters: FilterSpec,
    pub(crate) start: Start,
    pub(crate) principal: Principal,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) backlog: Option<Backlog>,
    /// The first thing that was wrong with it.
    refusal: Option<Refusal>,
}

impl Interest {
    /// Interest in these channels; a name ending in `*` stands for all channels so named, now and later.
    pub fn in_channels<C: Into<String>>(channels: impl IntoIterator<Item = C>) -> Self {
        Self {
            channels: channels.into_iter().map(Into::into).collect(),
            filters: FilterSpec::default(),
            start: Start::Live,
            principal: Principal::anonymous(),
            identity: None,
            backlog: None,
            refusal: None,
        }
    }

    /// Interest in everything there is and will be.
    pub fn in_everything() -> Self {
        Self::in_channels(["*"])
    }

    /// Only events whose `key` is `value`: a string, an integer or a boolean. Values of one key are ORed, keys ANDed.
    ///
    /// `event_type`, `source`, `correlation_id` and `causation_id` mean the envelope, `agent` and `project` the payload's
    /// well-known fields, and every other key the payload's top-level field of that name. At most 10 keys with 64 values
    /// each, of 256 characters; more are refused by [`Feed::subscribe`](crate::Feed::subscribe).
    pub fn filter(mut self, key: &str, value: impl Into<Scalar>) -> Self {
        if let Err(refusal) = self.filters.accept(key, value.into()) {
            self.refusal.get_or_insert(refusal);
        }
        self
    }

    /// Where to begin; without any of these four at the end of the log.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Begins behind this offset, of this epoch.
    pub fn after(self, epoch: Epoch, offset: u64) -> Self {
        self.start(Start::After { offset, epoch: Some(epoch.to_string()) })
    }

    /// Begins at the first event stored at or after this time.
    pub fn since(self, since: SinceSpec) -> Self {
        self.start(Start::Since(since))
    }

    /// Begins with the last so many matching events of each channel.
    pub fn history(self, events: u64) -> Self {
        self.start(Start::History(events))
    }

    /// On whose behalf: sees what they may see, and is counted as theirs. Anonymous where this is not called.
    pub fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// On whose behalf, and for how long: the subscription ends when this identity expires or is revoked
    /// ([`Feed::revoke`](crate::Feed::revoke)).
    pub fn identity(mut self, identity: impl Into<Arc<Identity>>) -> Self {
        let identity = identity.into();
        self.principal = identity.principal.clone();
        self.identity = Some(identity);
        self
    }

    /// What may wait for this subscriber, in bytes of matching events, and what happens beyond; that of the feed where this is
    /// not called.
    pub fn backlog(mut self, policy: BacklogPolicy, max_bytes: usize) -> Self {
        self.backlog = Some(Backlog { policy, max_bytes });
        self
    }

    /// Everything, where no channel was named.
    pub(crate) fn or_everything(mut self) -> Self {
        if self.channels.is_empty() {
            self.channels.push("*".to_owned());
        }
        self
    }

    /// The subscribe that it is.
    pub(crate) fn ask(&self) -> Result<Subscribe, Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if self.channels.is_empty() {
            return Err(Refusal::because(ErrorCode::InvalidControlMessage, "channels: name at least one"));
        }
        Ok(Subscribe {
            channels: self.channels.clone(),
            filters: FilterChange::Replace(self.filters.clone()),
            start: self.start.clone(),
            sub: None,
        })
    }
}

impl From<Query> for Interest {
    /// What the query of a request asks for, as the WebSocket routes read it.
    fn from(query: Query) -> Self {
        let start = query.start();
        Self { filters: query.filters, ..Self::in_channels(query.channels).start(start) }
    }
}

impl From<&str> for Interest {
    /// One channel or pattern, live.
    fn from(channel: &str) -> Self {
        Self::in_channels([channel])
    }
}

impl<const N: usize> From<[&str; N]> for Interest {
    /// These channels and patterns, live.
    fn from(channels: [&str; N]) -> Self {
        Self::in_channels(channels)
    }
}
