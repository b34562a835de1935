//! How long to wait before trying again: full jitter, so that a crowd that lost one server does not come back as one.

use std::time::Duration;

/// Exponential backoff with full jitter: each wait is uniform between [`Backoff::FLOOR`] and a bound that doubles.
///
/// The random source is passed in, so that a test can say what happens.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// No wait is shorter: a full-jitter draw near zero would hammer a server that refuses at once.
    pub const FLOOR: Duration = Duration::from_millis(50);

    /// Waits drawn below `first`, then `2 × first`, … and never above `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// How many waits were handed out since the last [`Backoff::reset`].
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait.
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let bound = self.first.saturating_mul(2_u32.saturating_pow(self.attempts)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(random.f64()).max(Self::FLOOR)
    }

    /// Something worked: the next wait is a short one again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    /// Half a second at first, half a minute at most.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_stays_within_its_doubling_bound_and_the_jitter_is_full() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut shortest_share = 1.0_f64;
        let mut longest_share = 0.0_f64;
        for _ in 0..200 {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
            for bound in [1, 2, 4, 8, 8, 8] {
                let wait = backoff.next(&mut random);
                assert!(wait <= Duration::from_secs(bound), "{wait:?} over {bound} s");
                assert!(wait >= Backoff::FLOOR);
                let share = wait.as_secs_f64() / f64::from(u32::try_from(bound).unwrap());
                shortest_share = shortest_share.min(share);
                longest_share = longest_share.max(share);
            }
        }
        assert!(shortest_share < 0.1 && longest_share > 0.9, "{shortest_share}..{longest_share}");
    }

    #[test]
    fn success_starts_over_and_many_failures_do_not_overflow() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.next(&mut random) <= Duration::from_secs(30));
        }
        assert_eq!(backoff.attempts(), 100);
        backoff.reset();
        assert!(backoff.next(&mut random) <= Duration::from_millis(500));
    }
}
