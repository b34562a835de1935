//! What is kept, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

/// Bounds on what is kept; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Events stored longer ago than this go. Counts from when the server stored them, not from their `timestamp`.
    pub max_age: Option<Duration>,
    /// The oldest events go while more bytes than this are stored. For the whole log these are the bytes of its files,
    /// to the grain of a segment; for one channel those of its records.
    pub max_bytes: Option<u64>,
    /// Only the newest so many events stay. For the whole log these are its newest offsets.
    pub max_events: Option<u64>,
}

impl RetentionPolicy {
    /// Whether nothing ever goes.
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }
}

/// The policy of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionOptions {
    /// For the whole log.
    pub all: RetentionPolicy,
    /// For single channels. Their `max_age` replaces that of the whole log, be it longer or shorter; their `max_bytes`
    /// and `max_events` hold beside those of the whole log, which stay the ceiling over everything.
    pub channels: BTreeMap<String, RetentionPolicy>,
    /// How often it is applied.
    pub interval: Duration,
}

impl Default for RetentionOptions {
    /// 10 GiB, no other bound, applied every ten seconds.
    fn default() -> Self {
        let all = RetentionPolicy { max_bytes: Some(10 << 30), ..RetentionPolicy::default() };
        Self { all, channels: BTreeMap::new(), interval: Duration::from_secs(10) }
    }
}

impl RetentionOptions {
    /// Keeps everything.
    pub fn unbounded() -> Self {
        Self { all: RetentionPolicy::default(), ..Self::default() }
    }

    /// The age bound of a channel.
    pub(crate) fn max_age_of(&self, channel: &str) -> Option<Duration> {
        self.channels.get(channel).and_then(|policy| policy.max_age).or(self.all.max_age)
    }

    pub(crate) fn is_unbounded(&self) -> bool {
        self.all.is_unbounded() && self.channels.values().all(RetentionPolicy::is_unbounded)
    }
}
