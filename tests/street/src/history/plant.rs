//! Spoils a sound history in one place, so that whoever judges histories can be judged.

use std::collections::HashMap;

use super::{Answer, Record};

/// Ways to spoil a history of one epoch. Each breaks a promise that its other lines can prove broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One subscriber does not get one event.
    Loss,
    /// One subscriber gets one event again, later.
    Repeat,
    /// One subscriber gets an event at a second offset as well.
    StoredTwice,
    /// One subscriber gets two events the other way round.
    Reorder,
    /// One subscriber sees one event at a neighbouring offset.
    WrongOffset,
    /// One publisher is answered a neighbouring offset.
    WrongAnswer,
    /// One subscriber sees another event at an offset than everybody else.
    Disagreement,
    /// One subscriber gets an event that nobody published.
    Invented,
    /// One subscriber is told of a gap.
    Gap,
}

impl Fault {
    /// All of them, with the names that the command line has for them.
    pub const ALL: &[(&str, Self)] = &[
        ("loss", Self::Loss),
        ("repeat", Self::Repeat),
        ("stored-twice", Self::StoredTwice),
        ("reorder", Self::Reorder),
        ("wrong-offset", Self::WrongOffset),
        ("wrong-answer", Self::WrongAnswer),
        ("disagreement", Self::Disagreement),
        ("invented", Self::Invented),
        ("gap", Self::Gap),
    ];
}

/// Spoils `records` in one random place and says which line; `None` where there is no place for it.
pub fn plant(records: &mut Vec<Record>, fault: Fault, random: &mut fastrand::Rng) -> Option<usize> {
    if fault == Fault::WrongAnswer {
        let lines = lines_where(records, |record| {
            matches!(record, Record::Answered { answer: Answer::Stored { .. }, .. })
        });
        let line = *random.choice(&lines)?;
        if let Record::Answered { answer: Answer::Stored { offset, .. }, .. } = &mut records[line] {
            *offset = beside(*offset, random);
        }
        return Some(line);
    }
    let mut lines = provable(records);
    if fault == Fault::Reorder {
        // The last delivery of a subscriber has no next one.
        random.shuffle(&mut lines);
        let (line, next) = lines.into_iter().find_map(|line| Some((line, next_delivery(records, line)?)))?;
        records.swap(line, next);
        return Some(line);
    }
    let line = *random.choice(&lines)?;
    let Record::Event { subscriber, offset, epoch, .. } = records[line].clone() else { return None };
    match fault {
        Fault::Loss => drop(records.remove(line)),
        Fault::Repeat => {
            let later = lines_where(&records[line..], |record| of(record) == Some(subscriber));
            let at = line + random.choice(&later)? + 1;
            records.insert(at, records[line].clone());
            return Some(at);
        }
        Fault::StoredTwice => {
            let end = records.iter().position(|record| is_done(record, subscriber))?;
            let above = highest(records) + 1;
            let mut again = records[line].clone();
            if let Record::Event { offset, .. } = &mut again {
                *offset = above;
            }
            records.insert(end, again);
            return Some(end);
        }
        Fault::WrongOffset => {
            if let Record::Event { offset, .. } = &mut records[line] {
                *offset = beside(*offset, random);
            }
        }
        Fault::Disagreement => {
            let others = lines_where(
                records,
                |record| matches!(record, Record::Event { offset: other, .. } if *other != offset),
            );
            let Record::Event { event_id: other, content: theirs, .. } =
                records[*random.choice(&others)?].clone()
            else {
                return None;
            };
            if let Record::Event { event_id, content, .. } = &mut records[line] {
                (*event_id, *content) = (other, theirs);
            }
        }
        Fault::Invented => {
            if let Record::Event { event_id, .. } = &mut records[line] {
                event_id.push_str("-invented");
            }
        }
        Fault::Gap => {
            let gap = Record::Gap {
                subscriber,
                from: offset,
                to: offset,
                reason: "epoch".to_owned(),
                epoch: Some(epoch),
            };
            records[line] = gap;
        }
        Fault::WrongAnswer | Fault::Reorder => unreachable!("done above"),
    }
    Some(line)
}

/// The delivery that the same subscriber has behind the one in this line.
fn next_delivery(records: &[Record], line: usize) -> Option<usize> {
    let Record::Event { subscriber, .. } = &records[line] else { return None };
    let is_theirs =
        |record: &Record| matches!(record, Record::Event { subscriber: other, .. } if other == subscriber);
    Some(line + 1 + records[line + 1..].iter().position(is_theirs)?)
}

/// Deliveries that another line confirms: an answer, or another subscriber's.
fn provable(records: &[Record]) -> Vec<usize> {
    let mut confirmed: HashMap<&str, usize> = HashMap::new();
    for record in records {
        match record {
            Record::Event { event_id, .. } => *confirmed.entry(event_id).or_default() += 1,
            Record::Answered { event_id, answer: Answer::Stored { .. }, .. } => {
                *confirmed.entry(event_id).or_default() += 1;
            }
            _ => {}
        }
    }
    lines_where(
        records,
        |record| matches!(record, Record::Event { event_id, .. } if confirmed[event_id.as_str()] > 1),
    )
}

fn lines_where(records: &[Record], wanted: impl Fn(&Record) -> bool) -> Vec<usize> {
    records.iter().enumerate().filter(|(_, record)| wanted(record)).map(|(line, _)| line).collect()
}

fn of(record: &Record) -> Option<u64> {
    match record {
        Record::Event { subscriber, .. }
        | Record::Position { subscriber, .. }
        | Record::Left { subscriber, .. } => Some(*subscriber),
        _ => None,
    }
}

fn is_done(record: &Record, who: u64) -> bool {
    matches!(record, Record::Done { subscriber, .. } if *subscriber == who)
}

fn highest(records: &[Record]) -> u64 {
    let offsets = records.iter().filter_map(|record| match record {
        Record::Event { offset, .. } | Record::Position { offset, .. } | Record::Done { offset, .. } => {
            Some(*offset)
        }
        _ => None,
    });
    offsets.max().unwrap_or(0)
}

fn beside(offset: u64, random: &mut fastrand::Rng) -> u64 {
    if offset > 1 && random.bool() { offset - 1 } else { offset + 1 }
}
