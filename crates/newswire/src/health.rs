//! Whether the feed moves, and why not.

use std::time::{Duration, Instant};

use newswire_log::LogHealth;
use parking_lot::Mutex;
use serde::Serialize;

/// How long a committed event may wait for the hub before the feed counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What `GET /health` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// `ok`, `degraded` (serves what it has, takes nothing new) or `stuck`.
    pub status: &'static str,
    /// In words, what does not work and what to look at; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// The log: where events are durable.
    pub log: LogState,
    /// The way from the log to the subscribers.
    pub feed: FeedState,
    /// The message bus; with the embedded log the log is the bus.
    pub bus: BusState,
}

/// The log's part of [`Health`].
#[derive(Clone, Debug, Serialize)]
pub struct LogState {
    /// `ok`, `full`, `stopped`, or `behind` the engine that keeps it.
    pub status: &'static str,
    /// What the offsets belong to.
    pub epoch: String,
    /// Oldest retained offset.
    pub head: u64,
    /// Last durable offset; 0 while the log is empty.
    pub offset: u64,
}

/// The fan-out's part of [`Health`].
#[derive(Clone, Debug, Serialize)]
pub struct FeedState {
    /// Whether committed events reach the subscribers' queues.
    pub moving: bool,
    /// Last offset handed to subscribers.
    pub dispatched: u64,
    /// Open WebSocket connections.
    pub connections: u64,
}

/// The bus's part of [`Health`].
#[derive(Clone, Debug, Serialize)]
pub struct BusState {
    /// Which engine is sequencer and truth.
    pub engine: &'static str,
    /// Its state.
    pub status: &'static str,
}

impl Health {
    /// Whether events are taken and delivered.
    pub fn works(&self) -> bool {
        self.why_not.is_none()
    }

    pub(crate) fn of(
        state: &LogHealth,
        engine: &'static str,
        log: LogState,
        feed: FeedState,
        stopping: bool,
    ) -> Self {
        let (status, why_not) = match state {
            _ if stopping => ("stopping", Some("the server is shutting down".to_owned())),
            LogHealth::Stopped { reason } => (
                "degraded",
                Some(format!("the log takes no events: {reason}; restart once the cause is mended")),
            ),
            LogHealth::Full => (
                "degraded",
                Some(
                    "the disk is full: publishing is refused until there is room, reading goes on".to_owned(),
                ),
            ),
            LogHealth::Behind { reason } => (
                "degraded",
                Some(format!(
                    "nothing new is shown, and publishing may fail: {reason}; it is tried again all the time"
                )),
            ),
            LogHealth::Ok if !feed.moving => (
                "stuck",
                Some(format!(
                    "events up to {} are durable but only those up to {} were handed to subscribers",
                    log.offset, feed.dispatched
                )),
            ),
            LogHealth::Ok => ("ok", None),
        };
        let bus = BusState { engine, status: log.status };
        Self { status, why_not, log, feed, bus }
    }
}

/// Watches the distance between what is durable and what was handed on.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    standstill: Mutex<Option<Standstill>>,
}

/// The hub is behind the log at this offset.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    dispatched: u64,
    since: Instant,
}

impl Progress {
    /// False once `dispatched` has stood still behind `durable` for [`STUCK_AFTER`].
    ///
    /// Called by whoever looks (health, metrics): the first look at a standstill starts its clock.
    pub(crate) fn moving(&self, durable: u64, dispatched: u64, now: Instant) -> bool {
        let mut standstill = self.standstill.lock();
        *standstill = match *standstill {
            _ if dispatched >= durable => None,
            Some(known) if known.dispatched == dispatched => Some(known),
            _ => Some(Standstill { dispatched, since: now }),
        };
        standstill.is_none_or(|known| now.duration_since(known.since) < STUCK_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standstill_that_lasts_is_one() {
        let (progress, start) = (Progress::default(), Instant::now());
        let looks = [
            (0, 5, 5, true),
            // Behind for the first time, long after the last look.
            (60, 6, 5, true),
            (64, 9, 5, true),
            (66, 9, 5, false),
            (67, 9, 6, true),
            (71, 9, 6, true),
            (73, 9, 6, false),
            (74, 9, 9, true),
            (99, 10, 9, true),
        ];
        for (seconds, durable, dispatched, moving) in looks {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(progress.moving(durable, dispatched, now), moving, "after {seconds} s");
        }
    }
}
