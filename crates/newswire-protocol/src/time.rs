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
        units.into_iter().find(|(size, _)| millis > 0 && millis % size == 0).unwrap_or((1, "ms"));
    format!("{}{unit}", millis / size)
}

/// Writes a size so that [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (size, unit) = units.into_iter().find(|(size, _)| bytes > 0 && bytes % size == 0).unwrap_or((1, "B"));
    format!("{}{unit}", bytes / size)
}

fn count_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}
