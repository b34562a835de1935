//! How long fan-out waits for more events before it dispatches those it has.
//!
//! A write costs its system call, whether it carries one event or sixty: [`WRITE_COST`] a connection. So when writing
//! would take more than [`BUSY_SHARE`] of the machine, events are held back just as long as it takes to bring it down to
//! that share, and never longer than the bound. Where hardly a further commit is to be expected within that time, waiting
//! would gain nothing and there is none: an idle system writes at once, however many connections it has.

use std::time::{Duration, Instant};

/// Processor time of one small write to one connection, its wake and its dispatch included: 4.5 to 7 µs were measured
/// (`docs/decisions/flush-bound.md`).
const WRITE_COST: Duration = Duration::from_micros(5);

/// The share of all processors that writing may take before events are held back.
const BUSY_SHARE: f64 = 0.25;

/// Further commits that must be expected within the linger: for less, waiting costs more than the writes it saves.
const WORTHWHILE: f64 = 2.0;

/// The weight of a new observation in its average.
const WEIGHT: f64 = 0.125;

/// A pause between two commits counts for at most this many times the bound: after it the very next commit finds an
/// average beyond the bound, and goes out at once, and yet the average forgets it within a few commits.
const LONGEST_PAUSE: u32 = 10;

/// What was observed, and the bound. Time is passed in.
#[derive(Debug)]
pub(super) struct Pace {
    max: Duration,
    cores: f64,
    last_commit: Option<Instant>,
    /// Average time between two commits, in seconds.
    interval: f64,
    /// Average of the connections that a dispatch concerns.
    reached: f64,
}

impl Pace {
    pub(super) fn new(max: Duration, cores: usize) -> Self {
        Self { max, cores: cores as f64, last_commit: None, interval: f64::INFINITY, reached: 0.0 }
    }

    /// A commit came.
    pub(super) fn committed(&mut self, now: Instant) {
        let longest = self.max * LONGEST_PAUSE;
        let pause = self.last_commit.map_or(longest, |last| now.saturating_duration_since(last).min(longest));
        self.last_commit = Some(now);
        self.interval = if self.interval.is_finite() {
            self.interval + (pause.as_secs_f64() - self.interval) * WEIGHT
        } else {
            pause.as_secs_f64()
        };
    }

    /// A dispatch concerned so many connections.
    pub(super) fn dispatched(&mut self, connections: usize) {
        self.reached += (connections as f64 - self.reached) * WEIGHT;
    }

    /// How long to wait for more.
    pub(super) fn linger(&self) -> Duration {
        let writing = WRITE_COST.as_secs_f64() * self.reached;
        let linger = (writing / (BUSY_SHARE * self.cores)).min(self.max.as_secs_f64());
        if linger >= WORTHWHILE * self.interval { Duration::from_secs_f64(linger) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(2);

    /// What the pace says behind `commits` that came every `interval` and concerned so many connections.
    fn after(commits: u32, interval: Duration, connections: usize, cores: usize) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::new(MAX, cores), Instant::now());
        for _ in 0..commits {
            now += interval;
            pace.committed(now);
            pace.dispatched(connections);
        }
        (pace, now)
    }

    #[test]
    fn a_quiet_feed_never_waits() {
        for connections in [0, 1, 500, 100_000] {
            let (pace, _) = after(1_000, Duration::from_millis(5), connections, 2);
            assert_eq!(pace.linger(), Duration::ZERO, "{connections}");
        }
        assert_eq!(Pace::new(MAX, 2).linger(), Duration::ZERO);
    }

    #[test]
    fn a_busy_feed_waits_as_long_as_it_takes_and_no_longer_than_the_bound() {
        let often = Duration::from_micros(100);
        let linger = |connections, cores| after(1_000, often, connections, cores).0.linger();
        assert_eq!(linger(500, 2), MAX);
        assert!(linger(100, 2).abs_diff(Duration::from_millis(1)) < Duration::from_micros(1));
        assert!(linger(100, 4).abs_diff(Duration::from_micros(500)) < Duration::from_micros(1));
        assert_eq!(linger(15, 2), Duration::ZERO, "writing to fifteen is little");
    }

    #[test]
    fn the_first_event_after_a_pause_goes_out_at_once() {
        let (mut pace, now) = after(1_000, Duration::from_micros(100), 500, 2);
        pace.committed(now + Duration::from_secs(1));
        assert_eq!(pace.linger(), Duration::ZERO);
        let mut now = now + Duration::from_secs(1);
        let mut commits = 1;
        while pace.linger().is_zero() {
            now += Duration::from_micros(100);
            pace.committed(now);
            commits += 1;
        }
        assert!(commits < 20, "{commits} commits until the load was noticed again");
    }

    #[test]
    fn no_bound_no_waiting() {
        let (mut pace, mut now) = (Pace::new(Duration::ZERO, 1), Instant::now());
        for _ in 0..100 {
            now += Duration::from_micros(10);
            pace.committed(now);
            pace.dispatched(10_000);
            assert_eq!(pace.linger(), Duration::ZERO);
        }
    }
}
