//! What every log must do that takes the offsets and times somebody else gave: a copy of a log that is kept elsewhere. An
//! implementation's tests call [`run`], beside the suite for all logs.

use std::time::Duration;

use newswire_core::Direction;
use newswire_protocol::UnixMicros;
use newswire_protocol::limits::MAX_OFFSET;

use super::events::{event, numbered, offsets, read_all, request, selector, store, wait};
use super::log_suite::Setup;
use crate::dedup::DedupOptions;
use crate::embedded::EmbeddedLog;
use crate::event_log::{AppendError, Appended, EventLog, NewEvents, Place, Trim};
use crate::memory::MemoryLog;

/// When the events of the suite were stored, long before they are copied.
const LONG_AGO: UnixMicros = UnixMicros(1_600_000_000_000_000);

/// A log that takes given places.
pub trait PlacedLog: EventLog {
    /// Appends events at these places and waits.
    ///
    /// # Errors
    /// Those of [`EventLog::append`], and [`AppendError::OffsetTaken`].
    fn place_at(&self, places: Vec<Place>, events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError>;
}

impl dyn PlacedLog {
    /// [`PlacedLog::place_at`] one time.
    fn place(&self, offsets: &[u64], events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
        let place = |offset: &u64| Place { offset: *offset, stored_at: LONG_AGO };
        self.place_at(offsets.iter().map(place).collect(), events)
    }
}

impl PlacedLog for MemoryLog {
    fn place_at(&self, places: Vec<Place>, events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
        wait(self.append_at(places, events.into_iter().collect()))
    }
}

impl PlacedLog for EmbeddedLog {
    fn place_at(&self, places: Vec<Place>, events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
        wait(self.append_at(places, events.into_iter().collect()))
    }
}

/// Makes a fresh, empty log.
pub type Make<'a> = &'a dyn Fn(&Setup) -> Box<dyn PlacedLog>;

/// Runs every check, each on a fresh log that `make` returns.
///
/// # Panics
/// Where a promise is broken.
pub fn run(make: Make<'_>) {
    for check in [
        keeps_holes,
        refuses_offsets_that_go_back_and_stores_nothing_of_them,
        leaves_a_hole_where_a_repeat_was,
        trims_between_holes,
        hands_given_offsets_to_followers,
        keeps_given_times,
    ] {
        check(make(&Setup::new()).as_ref());
    }
    decides_alike_however_events_are_grouped(make);
}

fn numbers(count: u64) -> Vec<NewEvents> {
    (0..count).map(|n| numbered("tasks", n)).collect()
}

/// A hole is no loss: nobody ever was to see an event there.
fn keeps_holes(log: &dyn PlacedLog) {
    let stored = log.place(&[5, 9], numbers(2)).unwrap();
    assert_eq!(stored, [Appended::Stored { offset: 5 }, Appended::Stored { offset: 9 }]);
    for n in 0..10 {
        log.place(&[100 + n * 7], numbers(1)).unwrap();
    }
    let tasks = selector(&["tasks"], &[]);
    let mut expected: Vec<u64> = [5, 9].into_iter().chain((0..10).map(|n| 100 + n * 7)).collect();
    assert_eq!(read_all(log, request(&tasks, Direction::Forward)), expected);
    assert_eq!((log.head(), log.tail(), log.stats().events), (5, 164, 12));
    assert!(log.lost(&tasks, 0).is_empty() && log.lost(&tasks, 50).is_empty());
    expected.reverse();
    assert_eq!(read_all(log, request(&tasks, Direction::Backward)), expected);
    let mut middle = request(&tasks, Direction::Forward);
    (middle.from, middle.until) = (50, 121);
    let page = log.read(&middle).unwrap();
    assert_eq!((offsets(&page), page.reached, page.end), (vec![100, 107, 114, 121], 121, true));
    // Both bounds in holes.
    (middle.from, middle.until) = (10, 90);
    let page = log.read(&middle).unwrap();
    assert_eq!((offsets(&page), page.reached, page.end), (vec![], 90, true));
    assert_eq!(store(log, numbers(1)), [164], "without given offsets it goes on behind the last");
}

fn refuses_offsets_that_go_back_and_stores_nothing_of_them(log: &dyn PlacedLog) {
    log.place(&[3, 7], numbers(2)).unwrap();
    for (given, offset, expected) in
        [(vec![7], 7, 8), (vec![1], 1, 8), (vec![9, 9], 9, 10), (vec![12, 11], 11, 13)]
    {
        let refused = log.place(&given, numbers(given.len() as u64));
        assert_eq!(refused, Err(AppendError::OffsetTaken { offset, expected }), "{given:?}");
    }
    assert_eq!(log.place(&[MAX_OFFSET + 1], numbers(1)), Err(AppendError::OutOfOffsets));
    assert_eq!(log.tail(), 8);
    assert_eq!(log.place(&[MAX_OFFSET], numbers(1)), Ok(vec![Appended::Stored { offset: MAX_OFFSET }]));
    assert_eq!(wait(log.append(numbered("tasks", 0))), Err(AppendError::OutOfOffsets));
    let all = selector(&["*"], &[]);
    assert_eq!(read_all(log, request(&all, Direction::Forward)), [3, 7, MAX_OFFSET]);
}

fn leaves_a_hole_where_a_repeat_was(log: &dyn PlacedLog) {
    let named = r#"{"channel":"tasks","event_type":"a","event_id":"x"}"#;
    let other = r#"{"channel":"tasks","event_type":"b","event_id":"x"}"#;
    let placed =
        log.place(&[10, 20, 30, 40], vec![event(named), event(named), event(other), numbered("tasks", 1)]);
    assert_eq!(
        placed.unwrap(),
        [
            Appended::Stored { offset: 10 },
            Appended::Duplicate { offset: 10 },
            Appended::Conflict { offset: 10 },
            Appended::Stored { offset: 40 }
        ]
    );
    assert_eq!(log.place(&[50], vec![event(named)]), Ok(vec![Appended::Duplicate { offset: 10 }]));
    assert_eq!(log.place(&[60], numbers(1)), Ok(vec![Appended::Stored { offset: 60 }]));
    assert_eq!(read_all(log, request(&selector(&["*"], &[]), Direction::Forward)), [10, 40, 60]);
}

fn trims_between_holes(log: &dyn PlacedLog) {
    let both = vec![numbered("tasks", 0), numbered("budget", 0), numbered("tasks", 1), numbered("budget", 1)];
    log.place(&[10, 20, 30, 40], both).unwrap();
    assert_eq!(log.trim(&Trim { channel: None, up_to: 25 }).unwrap(), 2);
    assert_eq!(log.head(), 30);
    let (tasks, budget) = (selector(&["tasks"], &[]), selector(&["budget"], &[]));
    let lost = |selector, after| log.lost(selector, after).iter().map(|lost| lost.to).collect::<Vec<_>>();
    // A floor is an event that was there, not the hole that was named.
    assert_eq!((lost(&tasks, 0), lost(&tasks, 10), lost(&budget, 10)), (vec![10], vec![], vec![20]));
    assert_eq!(read_all(log, request(&selector(&["*"], &[]), Direction::Forward)), [30, 40]);
    assert_eq!(log.trim(&Trim { channel: None, up_to: u64::MAX }).unwrap(), 2);
    assert_eq!((log.head(), log.tail()), (41, 41));
}

fn hands_given_offsets_to_followers(log: &dyn PlacedLog) {
    log.place(&[5], numbers(1)).unwrap();
    let mut follower = log.follow();
    assert_eq!(follower.start(), 6);
    log.place(&[70, 90], numbers(2)).unwrap();
    let batch = follower.try_recv().expect("it was handed over before the answer");
    assert_eq!(batch.iter().map(|event| event.offset).collect::<Vec<_>>(), [70, 90]);
    for event in batch.iter() {
        let json = std::str::from_utf8(event.json).unwrap();
        assert!(json.contains(&format!(r#""offset":{}"#, event.offset)), "{json}");
    }
}

fn after(micros: u64) -> UnixMicros {
    LONG_AGO.saturating_add(Duration::from_micros(micros))
}

/// Offsets and times of all events.
fn places(log: &dyn PlacedLog) -> Vec<(u64, UnixMicros)> {
    let page = log.read(&request(&selector(&["*"], &[]), Direction::Forward)).unwrap();
    let of = |run: &newswire_core::Run| {
        run.iter().map(|event| (event.offset, event.stored_at)).collect::<Vec<_>>()
    };
    page.runs.iter().flat_map(of).collect()
}

fn keeps_given_times(log: &dyn PlacedLog) {
    let given = [(5, 10), (6, 10), (7, 500), (9, 30), (10, 501)];
    let place = |(offset, at)| Place { offset, stored_at: after(at) };
    let mut follower = log.follow();
    log.place_at(given.map(place).to_vec(), numbers(5)).unwrap();
    // Never back, or reading by time would miss some.
    let kept = [(5, 10), (6, 10), (7, 500), (9, 500), (10, 501)].map(|(offset, at)| (offset, after(at)));
    assert_eq!(places(log), kept);
    let batch = follower.try_recv().expect("it was handed over before the answer");
    assert_eq!(batch.iter().map(|event| (event.offset, event.stored_at)).collect::<Vec<_>>(), kept);
    let mut since = request(&selector(&["*"], &[]), Direction::Forward);
    for (at, expected) in [(11, vec![7, 9, 10]), (501, vec![10]), (502, vec![])] {
        since.since = Some(after(at));
        assert_eq!(read_all(log, since.clone()), expected, "{at}");
    }
    log.place_at(vec![place((20, 1))], numbers(1)).unwrap();
    assert_eq!(places(log).last(), Some(&(20, after(501))), "nor from one append to the next");
}

/// One copy follows event by event, another catches up with all of them at once: both must have the same holes.
fn decides_alike_however_events_are_grouped(make: Make<'_>) {
    let by_age = DedupOptions { window: Duration::from_micros(40), max_ids: 1000 };
    let by_number = DedupOptions { window: Duration::from_secs(1), max_ids: 4 };
    let off = DedupOptions { window: Duration::ZERO, max_ids: 1000 };
    for dedup in [by_age, by_number, off] {
        let copy = |group: usize| {
            let log = make(&Setup { dedup, ..Setup::new() });
            let numbers: Vec<u64> = (0..200).collect();
            let mut answers = Vec::new();
            for group in numbers.chunks(group) {
                let place = |n: &u64| Place { offset: n + 1, stored_at: after(n * 3 - n % 4) };
                // Some ids come again soon, some late, some with another content.
                let named = |n: &u64| {
                    let (id, kind) = (n * n % 17, n % 23 / 20);
                    event(&format!(r#"{{"channel":"tasks","event_type":"t{kind}","event_id":"id-{id}"}}"#))
                };
                let placed =
                    log.place_at(group.iter().map(place).collect(), group.iter().map(named).collect());
                answers.extend(placed.unwrap());
            }
            (answers, places(log.as_ref()))
        };
        let one_by_one = copy(1);
        for group in [2, 7, 50, 200] {
            assert!(copy(group) == one_by_one, "{dedup:?} in groups of {group}");
        }
        let stored = one_by_one.1.len();
        let (least, most) = if dedup == off { (200, 200) } else { (18, 199) };
        assert!((least..=most).contains(&stored), "{dedup:?} stored {stored}: both ways must occur");
    }
}
