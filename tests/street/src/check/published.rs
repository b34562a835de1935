//! The publishers' side of a history.

use std::collections::HashMap;

use serde_json::Value;

use super::{Counts, Kind, Log, Report, stored};
use crate::history::{Answer, content};

/// One event that somebody asked for, once or several times.
pub(super) struct Event {
    pub(super) id: String,
    /// The line of the first ask.
    pub(super) line: usize,
    pub(super) event: Value,
    pub(super) content: String,
    /// Where the first answer says it is, and its line.
    pub(super) stored: Option<(u64, usize)>,
    /// The highest offset that anybody had been answered when it was first asked for, and the line of that answer.
    pub(super) behind: Option<(u64, usize)>,
    asks: usize,
}

/// All events that were asked for.
#[derive(Default)]
pub(super) struct Published {
    events: HashMap<String, Event>,
    /// Which line asked for an event in a request.
    asks: HashMap<(u64, String), usize>,
    highest: Option<(u64, usize)>,
    unanswered: usize,
    duplicates: usize,
}

impl Published {
    pub(super) fn asked(&mut self, line: usize, ask: u64, event: &Value, report: &mut Report) {
        let id = event["event_id"].as_str().unwrap_or_default().to_owned();
        let sum = content(event);
        self.asks.insert((ask, id.clone()), line);
        let known = self.events.entry(id.clone()).or_insert_with(|| Event {
            id,
            line,
            event: event.clone(),
            content: sum.clone(),
            stored: None,
            behind: self.highest,
            asks: 0,
        });
        known.asks += 1;
        if known.content != sum {
            report.add(
                Kind::Unsound,
                format!("{} is asked for as two events", known.id),
                &[known.line, line],
            );
        }
    }

    pub(super) fn answered(
        &mut self,
        line: usize,
        ask: u64,
        id: &str,
        answer: &Answer,
        new_epochs: bool,
        report: &mut Report,
    ) {
        let asked = self.asks.get(&(ask, id.to_owned())).copied();
        let (Some(asked), Some(event)) = (asked, self.events.get_mut(id)) else {
            report.add(Kind::Unsound, format!("{id} is answered and was not asked for"), &[line]);
            return;
        };
        let Some((offset, duplicate)) = stored(answer) else {
            self.unanswered += 1;
            return;
        };
        self.duplicates += usize::from(duplicate);
        match event.stored {
            Some((before, earlier)) if before != offset && !new_epochs => {
                report.add(Kind::Offset, format!("{id} is answered {before} and {offset}"), &[earlier, line]);
            }
            Some((before, earlier)) if !duplicate && earlier < asked && !new_epochs => {
                let what =
                    format!("{id} was answered {before}, and asking again is answered as if it were new");
                report.add(Kind::Offset, what, &[earlier, asked, line]);
            }
            Some(_) => {}
            None => event.stored = Some((offset, line)),
        }
        if self.highest.is_none_or(|(highest, _)| offset > highest) {
            self.highest = Some((offset, line));
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Event> {
        self.events.get(id)
    }

    /// All events, in the order in which they were first asked for.
    pub(super) fn in_order(&self) -> Vec<&Event> {
        let mut events: Vec<&Event> = self.events.values().collect();
        events.sort_by_key(|event| event.line);
        events
    }

    /// Acknowledged events that nobody saw in this log.
    pub(super) fn absent_from(&self, log: Option<&Log>) -> usize {
        let stored = self.events.values().filter(|event| event.stored.is_some());
        stored.filter(|event| log.is_none_or(|log| !log.by_id.contains_key(&event.id))).count()
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        counts.events = self.events.len();
        counts.acknowledged = self.events.values().filter(|event| event.stored.is_some()).count();
        counts.asked_again = self.events.values().filter(|event| event.asks > 1).count();
        counts.unanswered = self.unanswered;
        counts.duplicates = self.duplicates;
    }
}
