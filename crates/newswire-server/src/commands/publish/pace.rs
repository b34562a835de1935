//! When each event is due: as fast as possible, or as the events' own timestamps say.

use std::str::FromStr;
use std::time::Duration;

use newswire_protocol::UnixMicros;

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Without waiting.
    Max,
    /// So many times as fast as it happened.
    Times(f64),
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => return Ok(Self::Max),
            "real" => return Ok(Self::Times(1.0)),
            _ => {}
        }
        text.strip_suffix('x')
            .and_then(|times| times.parse::<f64>().ok())
            .filter(|times| (0.001..=1_000_000.0).contains(times))
            .map(Self::Times)
            .ok_or_else(|| "write max, real, or a factor like 10x or 0.5x".to_owned())
    }
}

/// Turns timestamps into times since the start of the playing.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    /// No pause is longer.
    longest: Duration,
    /// The latest timestamp so far, and when it was due.
    latest: Option<UnixMicros>,
    due: Duration,
}

impl Schedule {
    pub(crate) const fn new(pace: Pace, longest: Option<Duration>) -> Self {
        let longest = match longest {
            Some(longest) => longest,
            None => Duration::MAX,
        };
        Self { pace, longest, latest: None, due: Duration::ZERO }
    }

    /// When the next event is due, since the start; never before the one before it. An event without a timestamp, or with
    /// an earlier one than its predecessor's, is due with its predecessor. None: at once.
    pub(crate) fn due(&mut self, timestamp: Option<UnixMicros>) -> Option<Duration> {
        let Pace::Times(times) = self.pace else { return None };
        if let Some(timestamp) = timestamp {
            let latest = self.latest.unwrap_or(timestamp);
            #[expect(clippy::cast_precision_loss, reason = "a pause of centuries may be off by microseconds")]
            let micros = timestamp.0.saturating_sub(latest.0) as f64 / times;
            let pause = Duration::try_from_secs_f64(micros / 1e6).unwrap_or(Duration::MAX);
            self.due = self.due.saturating_add(pause.min(self.longest));
            self.latest = Some(latest.max(timestamp));
        }
        Some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(pace: Pace, longest: Option<u64>, seconds: &[Option<u64>]) -> Vec<Option<u64>> {
        let mut schedule = Schedule::new(pace, longest.map(Duration::from_millis));
        seconds
            .iter()
            .map(|second| schedule.due(second.map(|second| UnixMicros(second * 1_000_000))))
            .map(|due| due.map(|due| u64::try_from(due.as_millis()).unwrap()))
            .collect()
    }

    #[test]
    fn paces() {
        assert_eq!("max".parse(), Ok(Pace::Max));
        assert_eq!("real".parse(), Ok(Pace::Times(1.0)));
        assert_eq!("10x".parse(), Ok(Pace::Times(10.0)));
        assert_eq!("0.5x".parse(), Ok(Pace::Times(0.5)));
        for bad in ["", "x", "10", "0x", "-1x", "infx", "nanx", "fast"] {
            assert!(bad.parse::<Pace>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_event_is_due_at_once_and_pauses_are_scaled() {
        let times = [Some(1_000), Some(1_010), Some(1_040)];
        assert_eq!(dues(Pace::Times(1.0), None, &times), [Some(0), Some(10_000), Some(40_000)]);
        assert_eq!(dues(Pace::Times(10.0), None, &times), [Some(0), Some(1_000), Some(4_000)]);
        assert_eq!(dues(Pace::Times(0.5), None, &times), [Some(0), Some(20_000), Some(80_000)]);
        assert_eq!(dues(Pace::Max, None, &times), [None, None, None]);
    }

    #[test]
    fn time_never_goes_back_and_no_time_is_lost_by_it() {
        let times = [Some(100), Some(50), None, Some(105), Some(110)];
        assert_eq!(
            dues(Pace::Times(1.0), None, &times),
            [Some(0), Some(0), Some(0), Some(5_000), Some(10_000)]
        );
    }

    #[test]
    fn long_pauses_can_be_cut() {
        let times = [Some(0), Some(1), Some(90_000), Some(90_001)];
        assert_eq!(
            dues(Pace::Times(1.0), Some(2_000), &times),
            [Some(0), Some(1_000), Some(3_000), Some(4_000)]
        );
        // The cut counts in played time: what the reader of the screen waits.
        assert_eq!(
            dues(Pace::Times(10.0), Some(2_000), &times),
            [Some(0), Some(100), Some(2_100), Some(2_200)]
        );
    }
}
