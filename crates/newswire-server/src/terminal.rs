//! What the commands show to people: numbers, times, colours, and troubles that pass.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};

/// Secondary text.
pub const DIM: Style = Style::new().dimmed();
/// What to look at.
pub const BOLD: Style = Style::new().bold();
/// Good news.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// To be watched.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Bad news.
pub const RED: Style = AnsiColor::Red.on_default();

/// `text` in a style; streams that are no terminal take the style out again.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The columns of the terminal behind standard output; None where lines are not for people.
pub fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let columns = console::Term::stdout().size_checked().map_or(80, |(_rows, columns)| usize::from(columns));
    Some(columns.max(40))
}

/// Text from elsewhere on one line: nothing in it moves the cursor, changes colours or reverses the reading direction.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Bidirectional embeddings, overrides and isolates can make a line read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {}
            _ if c.is_control() || c.is_whitespace() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            _ => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// At most `columns` wide, ended by `…` where something is cut.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    console::truncate_str(text, columns, "…")
}

/// How many columns a text takes.
pub fn width_of(text: &str) -> usize {
    console::measure_text_width(text)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3 events`, `1 event`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A span of time as people say it: `0.3 s`, `12 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
pub fn spoken(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => two_parts(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two_parts(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two_parts(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two_parts(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {small_unit}") }
}

/// Until somebody wants this process to stop: SIGINT (Ctrl-C), SIGTERM or SIGHUP.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate()).ok();
        let mut hung_up = signal(SignalKind::hangup()).ok();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            Some(()) = async { terminated.as_mut()?.recv().await } => {}
            Some(()) = async { hung_up.as_mut()?.recv().await } => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ctrl_c = tokio::signal::ctrl_c().await;
    }
}

/// A server that is away for a while, told without repeating every attempt.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    told: Option<String>,
}

impl Outage {
    /// What to say about a failed attempt, if anything: the first time, and when the reason changes.
    pub fn failed(&mut self, reason: &str) -> Option<String> {
        let begins = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        if self.told.as_deref() == Some(reason) {
            return None;
        }
        self.told = Some(reason.to_owned());
        let hope = if begins { "; trying again until it works (Ctrl-C stops)" } else { "; still trying" };
        Some(format!("{reason}{hope}"))
    }

    /// It works again: for how long it did not, if it had been told that it does not.
    pub fn over(&mut self) -> Option<Duration> {
        self.told = None;
        self.since.take().map(|since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "event"), counted(2_000, "event")), ("1 event".into(), "2,000 events".into()));
        let said = |millis| spoken(Duration::from_millis(millis));
        assert_eq!(said(340), "0.3 s");
        assert_eq!(said(59_900), "59 s");
        assert_eq!(said(60_000), "1 min");
        assert_eq!(said(6_610_000), "1 h 50 min");
        assert_eq!(said(90_000_000), "1 d 1 h");
    }

    #[test]
    fn text_from_elsewhere_cannot_draw_on_the_terminal() {
        assert_eq!(clean("a\n\n  b\tc\u{1b}[31mred\u{7}\r\n"), "a b c [31mred");
        assert_eq!(clean("\u{202e}evil\u{202c} ok\u{9b}1m"), "evil ok 1m");
        assert_eq!(clean("  naïve 日本 ☂  "), "naïve 日本 ☂");
    }

    #[test]
    fn long_text_is_cut_by_columns_not_by_characters() {
        assert_eq!(fit("日本語の行", 6), "日本…");
        assert_eq!(fit("short", 6), "short");
        assert_eq!(width_of("日本"), 4);
    }

    #[test]
    fn an_outage_is_told_once_a_reason() {
        let mut outage = Outage::default();
        assert!(outage.over().is_none());
        assert_eq!(outage.failed("refused").unwrap(), "refused; trying again until it works (Ctrl-C stops)");
        assert_eq!(outage.failed("refused"), None);
        assert_eq!(outage.failed("silent").unwrap(), "silent; still trying");
        assert!(outage.over().is_some());
        assert!(outage.failed("silent").unwrap().contains("until it works"));
    }
}
