//! How far a copy is: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use newswire_log::moving::Doing;

use crate::terminal::grouped;

/// Without a terminal, so often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows progress on standard error; gone when it is dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    last: u64,
    told: Instant,
}

impl Progress {
    /// Of something that goes up to this offset.
    pub(super) fn up_to(last: u64) -> Self {
        Self {
            bar: bar(last, "{bar:30.cyan/dim} offset {human_pos} of {human_len}  {eta} left  {wide_msg}"),
            last,
            told: Instant::now(),
        }
    }

    /// Of a log that an engine sends; how much that is, nobody says.
    pub(super) fn fetching() -> Self {
        let bar = bar(0, "{spinner:.cyan} {elapsed}  {wide_msg}");
        bar.set_message("fetching the log");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, last: 0, told: Instant::now() }
    }

    /// Everything up to this offset is done.
    pub(super) fn at(&mut self, doing: Doing, offset: u64) {
        let doing = match doing {
            Doing::Moving => "copying",
            Doing::Comparing => "reading back",
        };
        self.bar.set_message(doing);
        self.bar.set_position(offset);
        if self.bar.is_hidden() && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            anstream::eprintln!("{doing}: offset {} of {}", grouped(offset), grouped(self.last));
        }
    }

    /// Takes it away.
    pub(super) fn end(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(len: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}
