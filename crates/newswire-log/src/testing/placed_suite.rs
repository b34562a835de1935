//! What every log must do that takes the offsets somebody else gave: a copy of a log that is kept elsewhere. An
//! implementation's tests call [`run`], beside the suite for all logs.

use newswire_core::Direction;
use newswire_protocol::limits::MAX_OFFSET;

use super::events::{event, numbered, offsets, read_all, request, selector, store, wait};
use super::log_suite::Setup;
use crate::embedded::EmbeddedLog;
use crate::event_log::{AppendError, Appended, EventLog, NewEvents, Trim};
use crate::memory::MemoryLog;

/// A log that takes given offsets.
pub trait PlacedLog: EventLog {
    /// Appends events at these offsets and waits.
    ///
    /// # Errors
    /// Those of [`EventLog::append`], and [`AppendError::OffsetTaken`].
    fn place(&self, offsets: &[u64], events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError>;
}

impl PlacedLog for MemoryLog {
    fn place(&self, offsets: &[u64], events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
        wait(self.append_at(offsets.to_vec(), events.into_iter().collect()))
    }
}

impl PlacedLog for EmbeddedLog {
    fn place(&self, offsets: &[u64], events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
        wait(self.append_at(offsets.to_vec(), events.into_iter().collect()))
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
    ] {
        check(make(&Setup::new()).as_ref());
    }
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
