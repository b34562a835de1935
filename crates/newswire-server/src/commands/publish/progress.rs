//! How far a publishing is: a bar on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

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
    /// Lines before the first that this run publishes: not to be taken for speed.
    skipped: Arc<AtomicU64>,
    /// Lines to come in all, where that is known.
    lines: Option<u64>,
    begun: Instant,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(lines: Option<u64>) -> Self {
        let skipped = Arc::new(AtomicU64::new(0));
        let bar = io::stderr().is_terminal().then(|| Self::bar(lines, &skipped));
        Self { bar, skipped, lines, begun: Instant::now(), last_line: Instant::now() }
    }

    fn bar(lines: Option<u64>, skipped: &Arc<AtomicU64>) -> ProgressBar {
        let (bar, template) = match lines {
            Some(lines) => (
                ProgressBar::new(lines),
                "{bar:30.cyan/dim} {count}/{all} lines  {pace}  {left} left  {wide_msg}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner:.cyan} {count} lines  {pace}  {wide_msg}"),
        };
        let (before, behind) = (Arc::clone(skipped), Arc::clone(skipped));
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
            .with_key("count", |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _fmt = out.write_str(&grouped(state.pos()));
            })
            .with_key("all", |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _fmt = out.write_str(&grouped(state.len().unwrap_or(0)));
            })
            .with_key("pace", move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _fmt = out.write_str(&per_second(rate(state, &before)));
            })
            .with_key("left", move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let lines = state.len().unwrap_or(0).saturating_sub(state.pos());
                #[expect(clippy::cast_precision_loss, reason = "only shown")]
                let left = Duration::try_from_secs_f64(lines as f64 / rate(state, &behind));
                let _fmt = out.write_str(&left.map_or_else(|_| "?".to_owned(), spoken));
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

    /// So many lines are not published by this run.
    pub(crate) fn skip(&mut self, lines: u64) {
        self.begun = Instant::now();
        self.skipped.store(lines, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.reset_elapsed();
            bar.set_position(lines);
        }
    }

    /// What is left of a pause; where there is no terminal, only at its beginning.
    pub(crate) fn waiting(&self, text: &str, begins: bool) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if begins => anstream::eprintln!("{text}"),
            None => {}
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

/// Lines a second of this run: the mean, which one slow answer does not shake.
#[expect(clippy::cast_precision_loss, reason = "only shown")]
fn rate(state: &ProgressState, skipped: &AtomicU64) -> f64 {
    let lines = state.pos().saturating_sub(skipped.load(Ordering::Relaxed));
    lines as f64 / state.elapsed().as_secs_f64().max(0.001)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only shown")]
fn per_second(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{}/s", grouped(rate as u64)) }
}

/// The last line: what became of everything.
pub(crate) fn summary(tally: &Tally, took: Duration) -> String {
    if tally.events() == 0 {
        return "Nothing to publish: no events in this input.".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "only shown")]
    let rate = tally.events() as f64 / took.as_secs_f64().max(0.001);
    let events = counted(tally.events(), "event");
    format!("{events}: {} in {} ({}).", tally.in_words(), spoken(took), per_second(rate))
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
        assert_eq!(summary(&clean, took), "1 event: 1 published in 2.0 s (0.5/s).");
        assert!(summary(&Tally::default(), took).starts_with("Nothing"));
    }
}
