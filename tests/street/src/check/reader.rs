//! One subscriber's side of a history.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde_json::Value;

use super::{Kind, Log, Published, Report};
use crate::history::Record;
use crate::naive;

/// What a subscriber received of one epoch.
#[derive(Default)]
struct Span {
    /// Everything wanted behind this offset is owed.
    owed_after: u64,
    /// The highest offset that was received or told to be passed.
    position: u64,
    by_offset: BTreeMap<u64, usize>,
    by_id: HashMap<String, usize>,
}

/// A subscriber as its lines tell of it.
#[derive(Default)]
pub(super) struct Reader {
    channels: Vec<String>,
    filters: Value,
    /// The position that the last `subscribe` resumed from, and its line.
    asked: Option<(Option<u64>, usize)>,
    epoch: Option<String>,
    spans: BTreeMap<String, Span>,
    done: Option<usize>,
    last_line: usize,
}

impl Reader {
    /// The epoch it was told of last.
    pub(super) fn epoch(&self) -> Option<&String> {
        self.epoch.as_ref()
    }

    /// The epochs it was told of.
    pub(super) fn epochs(&self) -> impl Iterator<Item = &str> {
        self.spans.keys().map(String::as_str)
    }

    /// Goes on by one of its lines.
    pub(super) fn take(
        &mut self,
        line: usize,
        record: &Record,
        new_epochs: bool,
        published: &Published,
        report: &mut Report,
    ) {
        let before = std::mem::replace(&mut self.last_line, line);
        match record {
            Record::Asks { channels, filters, after, .. } => {
                self.channels.clone_from(channels);
                self.filters = filters.clone();
                self.asked = Some((*after, line));
                let position = self.span().map(|span| span.position);
                if position.is_some() && *after != position {
                    let what = format!("it resumes from {after:?} and had come to {position:?}");
                    report.add(Kind::Unsound, what, &[before, line]);
                }
            }
            Record::Joined { offset, epoch, recovered, .. } => {
                let lines = [self.asked.map_or(line, |(_, asked)| asked), line];
                if *recovered == Some(false) && !new_epochs {
                    report.add(Kind::Gap, "it is told that not everything is there".to_owned(), &lines);
                }
                if self.epoch.as_ref().is_some_and(|known| known != epoch) && !new_epochs {
                    report.add(Kind::Gap, format!("the epoch became {epoch}"), &lines);
                }
                let resumed = self.epoch.is_some();
                let start = self.asked.and_then(|(after, _)| after).unwrap_or(*offset);
                // A new epoch is replayed from its beginning.
                let start = if resumed { 0 } else { start };
                self.spans.entry(epoch.clone()).or_insert_with(|| Span {
                    owed_after: start,
                    position: start,
                    ..Span::default()
                });
                self.epoch = Some(epoch.clone());
                report.counts.joins += 1;
                report.counts.resumes += usize::from(resumed);
            }
            Record::Event { .. } => self.event(line, record, published, report),
            Record::Position { offset, .. } => {
                if let Some(span) = self.span() {
                    span.position = span.position.max(*offset);
                }
                report.counts.positions += 1;
            }
            Record::Gap { from, to, reason, epoch, .. } => {
                report.counts.gaps += 1;
                if !(new_epochs && reason == "epoch") {
                    let what = format!("{from} to {to} are told to be missing: {reason}");
                    report.add(Kind::Gap, what, &[line]);
                }
                if let Some(epoch) = epoch {
                    self.epoch = Some(epoch.clone());
                    let span = Span { owed_after: *to, ..Span::default() };
                    self.spans.entry(epoch.clone()).or_insert(span);
                }
            }
            Record::Done { offset, .. } => {
                if let Some(span) = self.span() {
                    span.position = span.position.max(*offset);
                }
                self.done = Some(line);
            }
            _ => {}
        }
    }

    fn span(&mut self) -> Option<&mut Span> {
        self.spans.get_mut(self.epoch.as_ref()?)
    }

    fn event(&mut self, line: usize, record: &Record, published: &Published, report: &mut Report) {
        let Record::Event { subscriber, offset, epoch, event_id, content } = record else { return };
        report.counts.deliveries += 1;
        let who = format!("subscriber {subscriber}");
        match published.get(event_id) {
            Some(event) if event.content == *content => {
                if !self.wants(&event.event) {
                    report.add(Kind::Unwanted, format!("{who} received what it did not ask for"), &[line]);
                }
            }
            Some(event) => {
                let what = format!("{who} received {event_id} with another content");
                report.add(Kind::Invented, what, &[event.line, line]);
            }
            None => {
                let what = format!("{who} received {event_id}, which nobody has published by then");
                report.add(Kind::Invented, what, &[line]);
            }
        }
        let Some(span) = self.spans.get_mut(epoch).filter(|_| self.epoch.as_ref() == Some(epoch)) else {
            report.add(Kind::Unsound, format!("{who} is in no epoch {epoch}"), &[line]);
            return;
        };
        if let Some(earlier) = span.by_id.get(event_id).or_else(|| span.by_offset.get(offset)) {
            let what = format!("{who} received {event_id} at {offset} twice");
            report.add(Kind::Repeat, what, &[*earlier, line]);
        } else if *offset <= span.position {
            let what = format!("{who} received {offset} when it had come to {}", span.position);
            let above = span.by_offset.range(*offset..).next().map_or(line, |(_, above)| *above);
            report.add(Kind::Order, what, &[above, line]);
        }
        span.position = span.position.max(*offset);
        span.by_offset.insert(*offset, line);
        span.by_id.insert(event_id.clone(), line);
    }

    fn wants(&self, event: &Value) -> bool {
        let channels: Vec<&str> = self.channels.iter().map(String::as_str).collect();
        event["channel"].is_string() && naive::wants(&channels, &self.filters, event)
    }

    /// Looks for what it is owed and did not get.
    pub(super) fn finish(
        &self,
        number: u64,
        logs: &BTreeMap<String, Log>,
        published: &Published,
        report: &mut Report,
    ) {
        if self.done.is_none() {
            let what = format!("subscriber {number} has not come to the end");
            report.add(Kind::Unfinished, what, &[self.last_line]);
        }
        for (epoch, span) in &self.spans {
            let Some(log) = logs.get(epoch) else { continue };
            // What it was told to have passed is owed; of the epoch that it ended in, whatever was acknowledged besides.
            let last = self.epoch.as_ref() == Some(epoch);
            let behind = log.by_offset.range((Bound::Excluded(span.owed_after), Bound::Unbounded));
            for (offset, standing) in behind {
                let Some(event) = published.get(&standing.event_id) else { continue };
                if *offset > span.position && !(last && event.stored.is_some()) {
                    continue;
                }
                let received = span.by_offset.contains_key(offset);
                if !received && !self.wants(&event.event) {
                    continue;
                }
                report.counts.owed += 1;
                if received {
                    continue;
                }
                let passed = span.by_offset.range(offset..).next().map(|(_, line)| *line);
                let proof = [
                    Some(event.line),
                    event.stored.map(|(_, line)| line),
                    Some(standing.line),
                    passed.or(self.done),
                ];
                let mut lines: Vec<usize> = proof.into_iter().flatten().collect();
                lines.dedup();
                let how = if event.stored.is_some() { "acknowledged" } else { "seen by others" };
                let what =
                    format!("subscriber {number} never received {} at {offset}, which was {how}", event.id);
                report.add(Kind::Loss, what, &lines);
            }
        }
    }
}
