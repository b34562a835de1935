//! Points in time, RFC 3339, and the ways people write durations and sizes.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds. Displays as `2026-11-22T15:24:00.123456Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub u64);

/// The last microsecond that four digits of year can write.
const LAST_WRITABLE: u64 = 253_402_300_799_999_999;

impl UnixMicros {
    /// This much earlier, not before 1970.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This much later.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl From<SystemTime> for UnixMicros {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.min(LAST_WRITABLE);
        let seconds = i64::try_from(micros / 1_000_000).map_err(|_| fmt::Error)?;
        write_seconds(f, seconds)?;
        write!(f, ".{:06}Z", micros % 1_000_000)
    }
}

/// `2026-11-22T15:24:00`
fn write_seconds(f: &mut fmt::Formatter<'_>, unix_seconds: i64) -> fmt::Result {
    let (year, month, day) = civil_from_days(unix_seconds.div_euclid(86_400));
    let of_day = unix_seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Where a replay by time starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceSpec {
    /// At this time.
    At(UnixMicros),
    /// This long before now.
    Ago(Duration),
}

impl SinceSpec {
    /// Reads an RFC 3339 time or a duration such as `10m`.
    pub fn parse(text: &str) -> Option<Self> {
        match Rfc3339::parse(text) {
            Some(time) => Some(Self::At(time.micros_ceil())),
            None => parse_duration(text).map(Self::Ago),
        }
    }

    /// The time it means, given the time it is now.
    pub fn resolve(self, now: UnixMicros) -> UnixMicros {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.saturating_sub(duration),
        }
    }
}

/// An RFC 3339 time with its offset taken off and its sub-second digits kept as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339<'a> {
    /// Seconds since 1970, negative before.
    pub unix_seconds: i64,
    /// The digits behind the point, at most 9, possibly none.
    pub fraction: &'a str,
}

impl<'a> Rfc3339<'a> {
    /// Reads `2026-11-22T16:24:00.123+01:00`: an offset is required, more than 9 sub-second digits are refused, and
    /// so is a time that lies outside the years 0–9999 in UTC.
    ///
    /// A leap second (`23:59:60` in UTC) is read as the second before it: readers down the line know no other.
    pub fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 20 || !text.is_ascii() {
            return None;
        }
        let two = |at: usize| number(&bytes[at..at + 2]);
        let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        let punctuated =
            [bytes[4], bytes[7], bytes[13], bytes[16]] == *b"--::" && matches!(bytes[10], b'T' | b't');
        if !punctuated
            || !(1..=days_in(year, month)?).contains(&day)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        let digits = match &text[19..] {
            rest if rest.starts_with('.') => {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                Some(digits).filter(|digits| (1..=9).contains(digits))?
            }
            _ => 0,
        };
        let zone = if digits == 0 { 19 } else { 20 + digits };
        let east = offset_seconds(&bytes[zone..])?;
        let fraction = &text[zone - digits..zone];
        let at = |second: i64| {
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - east
        };
        let unix_seconds = if second == 60 {
            Some(at(59)).filter(|last| last.rem_euclid(86_400) == 86_399)?
        } else {
            at(second)
        };
        let years = days_from_civil(0, 1, 1) * 86_400..days_from_civil(10_000, 1, 1) * 86_400;
        years.contains(&unix_seconds).then_some(Self { unix_seconds, fraction })
    }

    /// Whether this text, which was read as this time, is how the time is written.
    pub fn is_written_so(&self, text: &str) -> bool {
        let second = text.as_bytes().get(17..19);
        text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T') && second != Some(b"60")
    }

    /// The first microsecond that is not before it; times before 1970 are taken as 1970.
    pub fn micros_ceil(&self) -> UnixMicros {
        let Ok(seconds) = u64::try_from(self.unix_seconds) else {
            return UnixMicros(0);
        };
        let nanos: u64 = format!("{:0<9}", self.fraction).parse().unwrap_or(0);
        UnixMicros(seconds * 1_000_000 + nanos.div_ceil(1000))
    }
}

impl fmt::Display for Rfc3339<'_> {
    /// In UTC with `Z` and the digits as given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(f, self.unix_seconds)?;
        let point = if self.fraction.is_empty() { "" } else { "." };
        write!(f, "{point}{}Z", self.fraction)
    }
}

/// `Z`, `+01:00` → seconds east of UTC.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let &[sign, h1, h2, b':', m1, m2] = zone else {
        return matches!(zone, b"Z" | b"z").then_some(0);
    };
    let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day
/// is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Reads `250ms`, `10s`, `5m`, `2h`, `7d`: a whole number and a unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (count, unit) = count_and_unit(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `65536`, `64KiB`, `1GiB`: a whole number of bytes, or of powers of 1024 (`KiB`, `MiB`, `GiB`, `TiB`) or of
/// 1000 (`kB`, `KB`, `MB`, `GB`, `TB`).
pub fn parse_size(text: &str) -> Option<u64> {
    let (count, unit) = count_and_unit(text)?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    count.checked_mul(bytes)
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| millis > 0 && millis.is_multiple_of(*size)).unwrap_or((1, "ms"));
    format!("{}{unit}", millis / size)
}

/// Writes a size so that [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size)).unwrap_or((1, "B"));
    format!("{}{unit}", bytes / size)
}

fn count_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_their_digits() {
        let cases = [
            ("2026-11-22T15:24:00Z", "2026-11-22T15:24:00Z"),
            ("2026-11-22t16:24:00.120+01:00", "2026-11-22T15:24:00.120Z"),
            ("2026-11-22T00:00:00.000000001-23:59", "2026-11-22T23:59:00.000000001Z"),
            ("2026-01-01T00:30:00+05:45", "2025-12-31T18:45:00Z"),
            ("2024-02-29T23:59:59z", "2024-02-29T23:59:59Z"),
            ("2000-02-29T00:00:00-00:00", "2000-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            // Leap seconds, which are at the end of a day in UTC, become the second before.
            ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59.5Z"),
            ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:59Z"),
        ];
        for (given, written) in cases {
            assert_eq!(
                Rfc3339::parse(given).map(|time| time.to_string()).as_deref(),
                Some(written),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_no_rfc_3339_time() {
        let bad = [
            "",
            "2026-11-22",
            "2026-11-22T15:24:00",
            "2026-11-22 15:24:00Z",
            "2026-11-22T15:24Z",
            "2026-11-22T15:24:00.Z",
            "2026-11-22T15:24:00.1234567890Z",
            "2026-11-22T15:24:00,5Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T15:60:00Z",
            "2026-11-22T15:24:61Z",
            "2026-11-22T15:24:60Z",
            "2026-13-22T15:24:00Z",
            "2026-00-22T15:24:00Z",
            "2026-11-31T15:24:00Z",
            "2026-11-00T15:24:00Z",
            "2025-02-29T15:24:00Z",
            "1900-02-29T15:24:00Z",
            "2026-11-22T15:24:00+0100",
            "2026-11-22T15:24:00+01",
            "2026-11-22T15:24:00+24:00",
            "2026-11-22T15:24:00+01:60",
            "2026-11-22T15:24:00Z ",
            " 2026-11-22T15:24:00Z",
            "+026-11-22T15:24:00Z",
            "12026-11-22T15:24:00Z",
            "2026-11-22T15:24:0éZ",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ];
        for text in bad {
            assert_eq!(Rfc3339::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_goes_there_and_back() {
        let first = days_from_civil(0, 1, 1);
        let last = days_from_civil(10_000, 1, 1);
        assert_eq!((days_from_civil(1970, 1, 1), last - first), (0, 3_652_425));
        for days in first..last {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=days_in(year, month).unwrap()).contains(&day));
        }
    }

    #[test]
    fn micros_display_and_round_up() {
        assert_eq!(UnixMicros(1_795_361_040_123_456).to_string(), "2026-11-22T15:24:00.123456Z");
        assert_eq!(UnixMicros(u64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        let micros = |text| Rfc3339::parse(text).unwrap().micros_ceil().0;
        assert_eq!(micros("1970-01-01T00:00:01.5Z"), 1_500_000);
        assert_eq!(micros("1970-01-01T00:00:00.000000001Z"), 1);
        assert_eq!(micros("1970-01-01T00:00:00.999999999Z"), 1_000_000);
        assert_eq!(micros("1969-12-31T23:59:59Z"), 0);
    }

    #[test]
    fn durations_and_sizes() {
        let millis = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(
            [millis("10s"), millis("5m"), millis("2h")],
            [Some(10_000), Some(300_000), Some(7_200_000)]
        );
        assert_eq!(millis("7d"), Some(604_800_000));
        for bad in [
            "",
            "s",
            "10",
            "1.5s",
            "-1s",
            "+1s",
            "10 s",
            "10S",
            "1w",
            "99999999999999999999s",
            "300000000000000d",
        ] {
            assert_eq!(millis(bad), None, "{bad}");
        }
        assert_eq!(
            [parse_size("65536"), parse_size("64KiB"), parse_size("1GiB")],
            [Some(65_536), Some(65_536), Some(1 << 30)]
        );
        assert_eq!([parse_size("5MB"), parse_size("0B")], [Some(5_000_000), Some(0)]);
        for bad in ["", "KiB", "1.5GiB", "-1", "1 KiB", "1gib", "99999999999TiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn written_durations_and_sizes_are_read_back() {
        for millis in [0, 1, 250, 1000, 10_000, 90_000, 3_600_000, 604_800_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(604_800)), "7d");
        for bytes in [0, 1, 1000, 1024, 65_536, 10 << 30, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        assert_eq!(SinceSpec::parse("10m"), Some(SinceSpec::Ago(Duration::from_secs(600))));
        let at = SinceSpec::parse("1970-01-01T00:00:01Z").unwrap();
        assert_eq!(at, SinceSpec::At(UnixMicros(1_000_000)));
        assert_eq!(at.resolve(UnixMicros(5)), UnixMicros(1_000_000));
        assert_eq!(SinceSpec::Ago(Duration::from_micros(3)).resolve(UnixMicros(5)), UnixMicros(2));
        assert_eq!(SinceSpec::Ago(Duration::MAX).resolve(UnixMicros(5)), UnixMicros(0));
        assert_eq!(SinceSpec::parse("soon"), None);
    }
}
