//! How far a publishing is: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use crate::terminal::{RED, YELLOW, counted, grouped, paint, spoken};

/// Without a terminal, so often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What became of the lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) published: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
}

impl Tally {
    pub(crate) const fn events(&self) -> u64 {
        self.published + self.duplicates + self.rejected
    }

    /// `8,421 published`, and the rest where there is any.
    pub(crate) fn in_words(&self) -> String {
        let mut words = format!("{} published", grouped(self.published));
        if self.duplicates > 0 {
            words += &format!(", {} there already", grouped(self.duplicates));
        }
        if self.rejected > 0 {
            words += &format!(", {} rejected", grouped(self.rejected));
        }
        words
    }
}

/// Shows progress on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// Lines to come in all, where that is known.
    lines: Option<u64>,
    begun: Instant,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(lines: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| Self::bar(lines));
        Self { bar, lines, begun: Instant::now(), last_line: Instant::now() }
    }

    fn bar(lines: Option<u64>) -> ProgressBar {
        let (bar, template) = match lines {
            Some(lines) => (
                ProgressBar::new(lines),
                "{bar:30.cyan/dim} {count}/{len_grouped} lines  {rate}  {eta} left  {msg}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner:.cyan} {count} lines  {rate}  {msg}"),
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
            .with_key("count", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _fmt = write!(out, "{}", HumanCount(state.pos()));
            })
            .with_key("len_grouped", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _fmt = write!(out, "{}", HumanCount(state.len().unwrap_or(0)));
            })
            .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let rate = state.per_sec();
                let decimals = if rate < 10.0 { 1 } else { 0 };
                let _fmt = if rate < 1_000.0 {
                    write!(out, "{rate:.decimals$}/s")
                } else {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only shown")]
                    let rate = rate as u64;
                    write!(out, "{}/s", HumanCount(rate))
                };
            });
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// All lines up to this one (counted from 1) are done.
    pub(crate) fn at(&mut self, line: u64, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_position(line);
            let words = Tally { published: 0, ..*tally }.in_words();
            bar.set_message(
                words.strip_prefix("0 published").unwrap_or_default().trim_start_matches(", ").to_owned(),
            );
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let of = self.lines.map_or(String::new(), |lines| format!(" of {}", grouped(lines)));
            anstream::eprintln!("line {}{of}: {}", grouped(line), tally.in_words());
        }
    }

    /// Where counting begins, so that what was skipped is not taken for speed.
    pub(crate) fn begin_at(&self, line: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(line);
            bar.reset_eta();
        }
    }

    /// A pause until the next event.
    pub(crate) fn waiting(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => anstream::eprintln!("{text}"),
        }
    }

    /// A line about a line.
    pub(crate) fn rejected(&self, line: u64, reason: &str) {
        self.say(&paint(RED, &format!("line {}: {reason}", grouped(line))));
    }

    /// A passing trouble, or its end.
    pub(crate) fn aside(&self, text: &str) {
        self.say(&paint(YELLOW, &format!("— {text}")));
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| anstream::eprintln!("{text}")),
            None => anstream::eprintln!("{text}"),
        }
    }

    /// Takes the bar away; how long it took.
    pub(crate) fn finish(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }
}

/// The last line: what became of everything.
pub(crate) fn summary(tally: &Tally, took: Duration) -> String {
    if tally.events() == 0 {
        return "Nothing to publish: no events in this input.".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = tally.events() as f64 / took.as_secs_f64().max(0.001);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only shown")]
    let rate = grouped(rate as u64);
    format!("{}: {} in {} ({rate}/s).", counted(tally.events(), "event"), tally.in_words(), spoken(took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_there_is_and_nothing_else() {
        let tally = Tally { published: 8_400, duplicates: 20, rejected: 1 };
        let took = Duration::from_secs(2);
        assert_eq!(
            summary(&tally, took),
            "8,421 events: 8,400 published, 20 there already, 1 rejected in 2.0 s (4,210/s)."
        );
        let clean = Tally { published: 1, ..Tally::default() };
        assert_eq!(summary(&clean, took), "1 event: 1 published in 2.0 s (0/s).");
        assert!(summary(&Tally::default(), took).starts_with("Nothing"));
    }
}
