//! Judges a recorded history, and knows nothing of who wrote it: what publishers were promised, subscribers must have got.
//!
//! - Every acknowledged event reached every subscriber who wants it, exactly once, in the order of offsets.
//! - What was never acknowledged was seen at most once by anybody, and if by anybody, by everybody who wants it.
//! - All agree what stands at an offset of an epoch, and the answer to the publisher says the same.
//! - What was asked for after another event had been answered stands behind it.
//! - Nobody received what nobody published, or what they did not ask for.
//! - A gap is a loss that was told; only a run that allows new epochs may have one, of that reason.

mod published;
mod reader;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use report::{Counts, Kind, Report, Violation};

use crate::history::{Answer, Record};
use published::Published;
use reader::Reader;

/// One event at one offset: its id, and the line that says so.
#[derive(Clone)]
struct Standing {
    event_id: String,
    line: usize,
}

/// What stands where in one epoch, as far as anybody was told.
#[derive(Default)]
struct Log {
    by_offset: BTreeMap<u64, Standing>,
    by_id: HashMap<String, (u64, usize)>,
}

impl Log {
    /// Notes that `event_id` stands at `offset`, as `line` says; gives what an earlier line says against it.
    fn note(&mut self, offset: u64, event_id: &str, line: usize) -> Option<(String, usize)> {
        if let Some(there) = self.by_offset.get(&offset)
            && there.event_id != event_id
        {
            return Some((format!("offset {offset} is {event_id} and {}", there.event_id), there.line));
        }
        if let Some((other, earlier)) = self.by_id.get(event_id)
            && *other != offset
        {
            return Some((format!("{event_id} stands at {offset} and at {other}"), *earlier));
        }
        let standing = Standing { event_id: event_id.to_owned(), line };
        self.by_offset.entry(offset).or_insert(standing);
        self.by_id.entry(event_id.to_owned()).or_insert((offset, line));
        None
    }
}

/// Judges a history. Lines are counted from 1.
pub fn check(records: &[Record]) -> Report {
    let mut report = Report::default();
    let mut new_epochs = false;
    let mut published = Published::default();
    let mut readers: BTreeMap<u64, Reader> = BTreeMap::new();
    let mut logs: BTreeMap<String, Log> = BTreeMap::new();
    for (line, record) in (1..).zip(records) {
        match record {
            Record::Run { new_epochs: allowed, .. } => new_epochs = *allowed,
            Record::Asked { ask, event, .. } => published.asked(line, *ask, event, &mut report),
            Record::Answered { ask, event_id, answer } => {
                published.answered(line, *ask, event_id, answer, new_epochs, &mut report);
            }
            Record::Fault { .. } => report.counts.faults += 1,
            Record::Event { epoch, offset, event_id, .. } => {
                if let Some((what, earlier)) =
                    logs.entry(epoch.clone()).or_default().note(*offset, event_id, line)
                {
                    report.add(Kind::Disagreement, what, &[earlier, line]);
                }
                reader(&mut readers, record).take(line, record, new_epochs, &published, &mut report);
            }
            _ => reader(&mut readers, record).take(line, record, new_epochs, &published, &mut report),
        }
    }
    let epochs: BTreeSet<&str> = readers.values().flat_map(Reader::epochs).collect();
    report.counts.epochs = epochs.len();
    report.counts.subscribers = readers.len();
    published.count(&mut report.counts);
    if epochs.len() <= 1 {
        let epoch = epochs.first().copied().unwrap_or_default();
        agree_with_answers(&published, logs.entry(epoch.to_owned()).or_default(), &mut report);
    } else {
        let last = readers.values().find_map(Reader::epoch).and_then(|epoch| logs.get(epoch));
        report.counts.lost_with_epochs = published.absent_from(last);
    }
    for (number, reader) in &readers {
        reader.finish(*number, &logs, &published, &mut report);
    }
    if report.counts.acknowledged == 0 || report.counts.deliveries == 0 {
        report.add(Kind::Unsound, "nothing was published, or nobody received anything".to_owned(), &[]);
    }
    report.sort();
    report
}

/// The subscriber whom a line is about.
fn reader<'a>(readers: &'a mut BTreeMap<u64, Reader>, record: &Record) -> &'a mut Reader {
    let number = match record {
        Record::Asks { subscriber, .. }
        | Record::Joined { subscriber, .. }
        | Record::Event { subscriber, .. }
        | Record::Position { subscriber, .. }
        | Record::Gap { subscriber, .. }
        | Record::Left { subscriber, .. }
        | Record::Done { subscriber, .. } => *subscriber,
        Record::Run { .. } | Record::Asked { .. } | Record::Answered { .. } | Record::Fault { .. } => {
            unreachable!("these lines are about no subscriber")
        }
    };
    readers.entry(number).or_default()
}

/// In a run of one epoch every answer speaks of that epoch: it must fit what subscribers saw, and is part of the log.
fn agree_with_answers(published: &Published, log: &mut Log, report: &mut Report) {
    for event in published.in_order() {
        if let Some((offset, line)) = event.stored
            && let Some((what, earlier)) = log.note(offset, &event.id, line)
        {
            report.add(Kind::Offset, format!("answered otherwise than seen: {what}"), &[earlier, line]);
        }
        let Some(&(offset, line)) = log.by_id.get(&event.id) else { continue };
        if let Some((before, answered)) = event.behind
            && offset <= before
        {
            let what = format!(
                "{} stands at {offset}, and was asked for when {before} had been answered already",
                event.id
            );
            report.add(Kind::Order, what, &[answered, event.line, line]);
        }
    }
}

/// Whether the answer says that the event is stored, and where.
fn stored(answer: &Answer) -> Option<(u64, bool)> {
    match answer {
        Answer::Stored { offset, duplicate } => Some((*offset, *duplicate)),
        Answer::Error(_) | Answer::Unknown(_) => None,
    }
}
