//! What the check found, in words.

use std::fmt::Write;

use crate::history::Record;

/// How many violations are shown.
const SHOWN: usize = 10;

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody did not get what they are owed.
    Loss,
    /// Somebody got something twice.
    Repeat,
    /// Something came, or stands, before what it must follow.
    Order,
    /// An answer says another offset than an earlier one, or than subscribers saw.
    Offset,
    /// Two lines differ in what stands where.
    Disagreement,
    /// Somebody received what nobody published.
    Invented,
    /// Somebody received what they did not ask for.
    Unwanted,
    /// A gap was told, or another epoch, where the run allows none.
    Gap,
    /// A subscriber did not come to the end.
    Unfinished,
    /// The history contradicts itself, or shows nothing: whoever wrote it is at fault.
    Unsound,
}

/// One broken promise, with the lines that prove it.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// What happened.
    pub what: String,
    /// Numbers of lines, from 1.
    pub lines: Vec<usize>,
}

/// What was looked at.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Events that somebody asked for.
    pub events: usize,
    /// Of these, how many were answered with an offset.
    pub acknowledged: usize,
    /// Of these, how many were asked for more than once.
    pub asked_again: usize,
    /// Answers that name an earlier ask as the one that stored the event.
    pub duplicates: usize,
    /// Asks that got no answer or an error.
    pub unanswered: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Answered `subscribe`s.
    pub joins: usize,
    /// Of these, how many resumed.
    pub resumes: usize,
    /// Events received, over all subscribers.
    pub deliveries: usize,
    /// Events that were owed to a subscriber, over all subscribers.
    pub owed: usize,
    /// `caught_up` and `checkpoint`.
    pub positions: usize,
    /// Gaps told.
    pub gaps: usize,
    /// Epochs that subscribers saw.
    pub epochs: usize,
    /// Of several epochs: acknowledged events that nobody saw in the last one.
    pub lost_with_epochs: usize,
    /// Faults, and their mending.
    pub faults: usize,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// What was looked at.
    pub counts: Counts,
    /// What is wrong, in the order of the lines that show it.
    pub violations: Vec<Violation>,
}

impl Report {
    pub(super) fn add(&mut self, kind: Kind, what: String, lines: &[usize]) {
        self.violations.push(Violation { kind, what, lines: lines.to_vec() });
    }

    pub(super) fn sort(&mut self) {
        self.violations.sort_by_key(|violation| violation.lines.last().copied());
    }

    /// Whether every promise was kept.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    /// The report in words; `records` are the history that was checked.
    pub fn text(&self, records: &[Record]) -> String {
        let c = &self.counts;
        let mut text = format!(
            "{} events asked for ({} acknowledged, {} asked for again, {} answers as duplicates, {} asks unanswered or refused)\n\
             {} subscribers: {} deliveries owed and {} made, {} subscribes of which {} resumed, {} positions, {} gaps; {} epochs; {} lines of faults\n",
            c.events,
            c.acknowledged,
            c.asked_again,
            c.duplicates,
            c.unanswered,
            c.subscribers,
            c.owed,
            c.deliveries,
            c.joins,
            c.resumes,
            c.positions,
            c.gaps,
            c.epochs,
            c.faults
        );
        if c.epochs > 1 {
            let _ =
                writeln!(text, "{} acknowledged events were not seen in the last epoch", c.lost_with_epochs);
        }
        if self.is_sound() {
            text.push_str("sound: every promise was kept\n");
            return text;
        }
        let mut kinds: Vec<Kind> = self.violations.iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        let counted = kinds.chunk_by(|a, b| a == b).map(|same| format!("{} {:?}", same.len(), same[0]));
        let counted: Vec<String> = counted.collect();
        let _ = writeln!(text, "NOT SOUND: {} violations ({})", self.violations.len(), counted.join(", "));
        for violation in self.violations.iter().take(SHOWN) {
            let _ = writeln!(text, "{:?}: {}", violation.kind, violation.what);
            for &line in &violation.lines {
                let record = line.checked_sub(1).and_then(|index| records.get(index));
                let shown = record.and_then(|record| serde_json::to_string(record).ok()).unwrap_or_default();
                let _ = writeln!(text, "    line {line}: {shown:.400}");
            }
        }
        if self.violations.len() > SHOWN {
            let _ = writeln!(text, "… and {} more", self.violations.len() - SHOWN);
        }
        text
    }
}
