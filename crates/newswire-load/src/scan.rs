//! Finds the events in what one subscriber receives, without parsing anything around them.
//!
//! An event is a marker, a number (when it was due), a few bytes, and a number (which it is): the marker is searched for
//! in the raw bytes, so that every system's own wrapping around the event costs the same: next to nothing.

use memchr::memmem::Finder;

use crate::event::Mark;

/// Bytes between the two numbers at most: `,\"n\":`.
const BETWEEN: usize = 8;
const DIGITS: usize = 16;

/// What was received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub received: u64,
    /// Numbers that were jumped over.
    pub lost: u64,
    /// Events whose number was not above the one before: repeated or out of order.
    pub misplaced: u64,
}

impl Tally {
    /// Adds another connection's tally.
    pub fn add(&mut self, other: Tally) {
        self.received += other.received;
        self.lost += other.lost;
        self.misplaced += other.misplaced;
    }
}

/// Follows the events of one connection.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The beginning of an event that the last piece ended in.
    carry: Vec<u8>,
    /// Where the last event of a message of its own began.
    hint: usize,
    next: u64,
    every: bool,
    tally: Tally,
}

/// What a search came to.
enum Found {
    Event {
        mark: Mark,
        end: usize,
    },
    /// An event may begin here; more must arrive.
    Unfinished(usize),
    Nothing,
}

impl Scanner {
    /// Expects events from this number on: each of them, or (filtered) rising ones.
    pub fn new(next: u64, every: bool) -> Self {
        Self { next, every, ..Self::default() }
    }

    /// The number it expects next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What was received so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The next event in the next piece of a stream, which is advanced behind it; `None` when the piece is used up.
    pub fn next_in_stream(&mut self, finder: &Finder<'_>, piece: &mut &[u8]) -> Option<Mark> {
        let mark = self.find(finder, piece)?;
        self.count(mark);
        Some(mark)
    }

    /// The one event of a message, in its next piece; `first` where the message begins. True when it was found, and the
    /// rest of the message need not be looked at.
    pub fn message(
        &mut self,
        finder: &Finder<'_>,
        piece: &[u8],
        first: bool,
        each: impl FnOnce(Mark),
    ) -> bool {
        if first {
            self.carry.clear();
            // Messages of one system look alike, so the event stands where the last one stood.
            let marker = finder.needle();
            if let Some(guess) = piece.get(self.hint..)
                && guess.starts_with(marker)
                && let Some((mark, _)) = parse(&guess[marker.len()..])
            {
                self.count(mark);
                each(mark);
                return true;
            }
        }
        let mut rest = piece;
        let Some(mark) = self.find(finder, &mut rest) else { return false };
        if first {
            self.hint = finder.find(piece).unwrap_or_default();
        }
        self.count(mark);
        each(mark);
        true
    }

    fn find(&mut self, finder: &Finder<'_>, rest: &mut &[u8]) -> Option<Mark> {
        if !self.carry.is_empty() {
            let carried = self.carry.len();
            let taken = rest.len().min(finder.needle().len() + 2 * DIGITS + BETWEEN + 1);
            self.carry.extend_from_slice(&rest[..taken]);
            match search(finder, &self.carry) {
                Found::Event { mark, end } => {
                    *rest = &rest[end.saturating_sub(carried)..];
                    self.carry.clear();
                    return Some(mark);
                }
                Found::Unfinished(start) if start < carried && taken == rest.len() => {
                    self.carry.drain(..start);
                    return None;
                }
                Found::Unfinished(_) | Found::Nothing => self.carry.clear(),
            }
        }
        match search(finder, rest) {
            Found::Event { mark, end } => {
                *rest = &rest[end..];
                Some(mark)
            }
            Found::Unfinished(start) => {
                self.carry.extend_from_slice(&rest[start..]);
                None
            }
            Found::Nothing => None,
        }
    }

    fn count(&mut self, mark: Mark) {
        self.tally.received += 1;
        if mark.number < self.next {
            self.tally.misplaced += 1;
            return;
        }
        if self.every {
            self.tally.lost += mark.number - self.next;
        }
        self.next = mark.number + 1;
    }
}

fn search(finder: &Finder<'_>, bytes: &[u8]) -> Found {
    let marker = finder.needle();
    let mut from = 0;
    while let Some(at) = finder.find(&bytes[from..]) {
        let start = from + at;
        let behind = start + marker.len();
        match parse(&bytes[behind..]) {
            Some((mark, length)) => return Found::Event { mark, end: behind + length },
            None if bytes.len() - behind < 2 * DIGITS + BETWEEN => return Found::Unfinished(start),
            // Something else that begins alike.
            None => from = behind,
        }
    }
    let tail = &bytes[from..];
    let partial =
        (1..marker.len().min(tail.len() + 1)).rev().find(|&length| tail.ends_with(&marker[..length]));
    partial.map_or(Found::Nothing, |length| Found::Unfinished(bytes.len() - length))
}

/// The two numbers and how many bytes they take; `None` when they are not there, or not ended by another byte.
fn parse(bytes: &[u8]) -> Option<(Mark, usize)> {
    let (time, time_end) = number(bytes)?;
    let gap = bytes[time_end..].iter().take(BETWEEN).take_while(|byte| !byte.is_ascii_digit()).count();
    let (number, length) = number(&bytes[time_end + gap..])?;
    Some((Mark::from_text(time, number)?, time_end + gap + length))
}

fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (length, byte) in bytes.iter().enumerate().take(DIGITS + 1) {
        if !byte.is_ascii_digit() {
            return (length > 0).then_some((value, length));
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventText, MARKER};

    fn stream(numbers: &[u64]) -> Vec<u8> {
        let mut text = EventText::new(200);
        let mut all = Vec::new();
        for &number in numbers {
            all.extend_from_slice(b"{\"t\": something else");
            all.extend_from_slice(text.write(Mark { due_us: number * 5, number }));
        }
        all
    }

    fn scan(bytes: &[u8], step: usize, marker: &[u8]) -> (Vec<Mark>, Tally) {
        let finder = Finder::new(marker);
        let (mut scanner, mut marks) = (Scanner::new(0, true), Vec::new());
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while let Some(mark) = scanner.next_in_stream(&finder, &mut rest) {
                marks.push(mark);
            }
        }
        (marks, scanner.tally())
    }

    #[test]
    fn events_are_found_across_any_boundary() {
        let bytes = stream(&(0..20).collect::<Vec<_>>());
        let expected: Vec<Mark> = (0..20).map(|number| Mark { due_us: number * 5, number }).collect();
        for step in 1..300 {
            let (marks, tally) = scan(&bytes, step, MARKER);
            assert_eq!(marks, expected, "in steps of {step}");
            assert_eq!(tally, Tally { received: 20, ..Tally::default() });
        }
    }

    #[test]
    fn escaped_events_are_found_by_their_own_marker() {
        let escaped = String::from_utf8(stream(&[0, 1, 2])).expect("text").replace('"', "\\\"");
        for step in [1, 7, 1000] {
            assert_eq!(scan(escaped.as_bytes(), step, b"{\\\"t\\\":").1.received, 3);
        }
    }

    #[test]
    fn lost_repeated_and_disordered_events_are_counted() {
        let (_, tally) = scan(&stream(&[0, 1, 4, 4, 3, 5]), 64, MARKER);
        assert_eq!(tally, Tally { received: 6, lost: 2, misplaced: 2 });
    }

    #[test]
    fn filtered_events_only_have_to_rise() {
        let finder = Finder::new(MARKER);
        let mut scanner = Scanner::new(0, false);
        let bytes = stream(&[3, 9, 9, 12]);
        let mut rest = &bytes[..];
        while scanner.next_in_stream(&finder, &mut rest).is_some() {}
        assert_eq!(scanner.tally(), Tally { received: 4, lost: 0, misplaced: 1 });
    }

    #[test]
    fn one_event_a_message_is_found_where_the_last_one_stood_or_elsewhere() {
        let finder = Finder::new(MARKER);
        let mut scanner = Scanner::new(0, true);
        let mut text = EventText::new(200);
        for number in 0..30u64 {
            let wrapping = "x".repeat(number as usize / 10);
            let message = [wrapping.as_bytes(), text.write(Mark { due_us: 1, number })].concat();
            let (before, behind) = message.split_at(if number % 3 == 0 { 90 } else { 150 });
            let found = scanner.message(&finder, before, true, |mark| assert_eq!(mark.number, number));
            let found =
                found || scanner.message(&finder, behind, false, |mark| assert_eq!(mark.number, number));
            assert!(found, "event {number}");
        }
        assert_eq!(scanner.tally(), Tally { received: 30, ..Tally::default() });
    }
}
