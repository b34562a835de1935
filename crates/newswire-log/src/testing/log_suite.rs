//! What every [`EventLog`] must do, whatever it stands on. An implementation's tests call [`run`].

use std::sync::Arc;
use std::time::Duration;

use newswire_core::Direction;
use newswire_protocol::UnixMicros;
use parking_lot::Mutex;

use super::events::{append, event, numbered, offsets, read_all, request, selector, store, wait};
use crate::clock::ManualClock;
use crate::dedup::DedupOptions;
use crate::event_log::{AppendError, Appended, EventLog, LogHealth, NewEvents, OnStored, Trim};
use crate::follow::FOLLOW_QUEUE;
use crate::retention::{RetentionOptions, RetentionPolicy};

/// How a log under test is set up.
pub struct Setup {
    /// Its time; stands still unless the suite moves it.
    pub clock: Arc<ManualClock>,
    /// Its dedup window.
    pub dedup: DedupOptions,
    /// Its retention, to be applied only when asked for.
    pub retention: RetentionOptions,
}

impl Setup {
    pub(super) fn new() -> Self {
        let mut retention = RetentionOptions::unbounded();
        retention.interval = Duration::from_secs(3600);
        let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
        Self { clock, dedup: DedupOptions::default(), retention }
    }
}

/// Makes a fresh, empty log.
pub type Make<'a> = &'a dyn Fn(&Setup) -> Box<dyn EventLog>;

/// Runs every check, each on a fresh log that `make` returns.
///
/// # Panics
/// Where a promise is broken.
pub fn run(make: Make<'_>) {
    run_with_holes(make);
    let checks = [
        recognises_repeats,
        recognises_repeats_of_what_is_trimmed,
        tells_who_asked_once_it_is_stored,
        shares_commits_between_publishers,
    ];
    for check in checks {
        check(make);
    }
}

/// Runs every check but those in which a repeat must leave no hole, or offsets follow the order of the publishers: for logs
/// whose offsets are given elsewhere, which [`super::placed_suite`] asks about repeats.
///
/// # Panics
/// Where a promise is broken.
pub fn run_with_holes(make: Make<'_>) {
    let checks: [fn(Make<'_>); 13] = [
        begins_empty_at_one,
        keeps_one_epoch,
        appends_in_order_and_atomically,
        shows_what_is_answered,
        reads_both_ways_within_budgets,
        reads_by_filter_and_pattern,
        reads_by_time,
        hands_every_commit_to_followers,
        wakes_who_waits_at_the_tail,
        trims_channels_and_tells,
        keeps_by_age_and_number,
        takes_another_retention,
        closes,
    ];
    for check in checks {
        check(make);
    }
}

fn begins_empty_at_one(make: Make<'_>) {
    let log = make(&Setup::new());
    assert_eq!((log.head(), log.tail()), (1, 1));
    let all = selector(&["*"], &[]);
    for direction in [Direction::Forward, Direction::Backward] {
        let page = log.read(&request(&all, direction)).unwrap();
        assert!(page.end && page.runs.is_empty() && page.lost.is_empty());
    }
    assert_eq!(append(log.as_ref(), Vec::new()), Ok(Vec::new()));
    assert_eq!(store(log.as_ref(), vec![numbered("tasks", 1)]), [1]);
    assert_eq!((log.head(), log.tail(), log.channels()), (1, 2, vec!["tasks".into()]));
    assert_eq!(log.health(), LogHealth::Ok);
}

/// Offsets are comparable as long as the epoch is the same, so it stays while the log is open, and no two logs share one.
fn keeps_one_epoch(make: Make<'_>) {
    let (log, other) = (make(&Setup::new()), make(&Setup::new()));
    let epoch = log.epoch();
    assert_ne!(epoch, other.epoch());
    store(log.as_ref(), vec![numbered("tasks", 0), numbered("tasks", 1)]);
    assert_eq!(log.trim(&Trim { channel: None, up_to: 1 }).unwrap(), 1);
    let page = log.read(&request(&selector(&["*"], &[]), Direction::Forward)).unwrap();
    log.close();
    assert_eq!((log.epoch(), page.epoch, log.stats().epoch), (epoch, epoch, epoch));
}

fn appends_in_order_and_atomically(make: Make<'_>) {
    let log = make(&Setup::new());
    let three = (0..3).map(|n| numbered("tasks", n)).collect();
    assert_eq!(store(log.as_ref(), three), [1, 2, 3]);
    let page = log.read(&request(&selector(&["tasks"], &[]), Direction::Forward)).unwrap();
    let texts: Vec<String> = page
        .runs
        .iter()
        .flat_map(|run| {
            run.iter().map(|event| String::from_utf8(event.json.to_vec()).unwrap()).collect::<Vec<_>>()
        })
        .collect();
    for (n, text) in texts.iter().enumerate() {
        assert!(text.contains(&format!(r#""payload":{{"n":{n}}}"#)), "{text}");
        assert!(text.contains(&format!(r#""offset":{}"#, n + 1)), "{text}");
    }
    // Dropped before the first poll, it never happens.
    drop(log.append(numbered("tasks", 9)));
    assert_eq!(store(log.as_ref(), vec![numbered("tasks", 4)]), [4]);
}

/// Who was answered finds the event wherever it may be looked for, without waiting once more.
fn shows_what_is_answered(make: Make<'_>) {
    let setup = Setup::new();
    let log = make(&setup);
    let all = selector(&["*"], &[]);
    for n in 1..=20 {
        let mut follower = log.follow();
        assert_eq!(store(log.as_ref(), vec![numbered(&format!("c{n:02}"), n)]), [n]);
        assert_eq!(follower.try_recv().map(|batch| (batch.first(), batch.len())), Some((n, 1)));
        assert_eq!((log.tail(), log.channels().len() as u64), (n + 1, n));
        let mut newest = request(&all, Direction::Backward);
        newest.max_events = 1;
        assert_eq!(offsets(&log.read(&newest).unwrap()), [n]);
        let stats = log.stats();
        assert_eq!((stats.events, stats.last_commit_at), (n, Some(setup.clock_now())));
    }
}

fn recognises_repeats(make: Make<'_>) {
    let setup = Setup::new();
    let log = make(&setup);
    let first = r#"{"channel":"tasks","event_type":"a","event_id":"x"}"#;
    let other = r#"{"channel":"tasks","event_type":"b","event_id":"x"}"#;
    let both =
        append(log.as_ref(), vec![event(first), event(first), event(other), numbered("tasks", 1)]).unwrap();
    assert_eq!(
        both,
        [
            Appended::Stored { offset: 1 },
            Appended::Duplicate { offset: 1 },
            Appended::Conflict { offset: 1 },
            Appended::Stored { offset: 2 }
        ]
    );
    setup.clock.advance(setup.dedup.window - Duration::from_micros(1));
    assert_eq!(append(log.as_ref(), vec![event(first)]).unwrap(), [Appended::Duplicate { offset: 1 }]);
    setup.clock.advance(Duration::from_micros(1));
    assert_eq!(append(log.as_ref(), vec![event(other)]).unwrap(), [Appended::Stored { offset: 3 }]);
    assert_eq!(append(log.as_ref(), vec![event(first)]).unwrap(), [Appended::Conflict { offset: 3 }]);

    let few = Setup { dedup: DedupOptions { max_ids: 2, ..DedupOptions::default() }, ..Setup::new() };
    let log = make(&few);
    let named = |id: u64| event(&format!(r#"{{"channel":"tasks","event_type":"a","event_id":"id-{id}"}}"#));
    store(log.as_ref(), vec![named(1), named(2), named(3)]);
    assert_eq!(append(log.as_ref(), vec![named(2)]).unwrap(), [Appended::Duplicate { offset: 2 }]);
    assert_eq!(append(log.as_ref(), vec![named(1)]).unwrap(), [Appended::Stored { offset: 4 }]);
}

/// A publisher that repeats what it was not answered for is told the truth, whether or not the event is still there.
fn recognises_repeats_of_what_is_trimmed(make: Make<'_>) {
    let log = make(&Setup::new());
    let named = r#"{"channel":"tasks","event_type":"a","event_id":"x"}"#;
    let other = r#"{"channel":"tasks","event_type":"b","event_id":"x"}"#;
    store(log.as_ref(), vec![event(named), numbered("tasks", 1)]);
    assert_eq!(log.trim(&Trim { channel: None, up_to: u64::MAX }).unwrap(), 2);
    let repeated = append(log.as_ref(), vec![event(named), event(other)]).unwrap();
    assert_eq!(repeated, [Appended::Duplicate { offset: 1 }, Appended::Conflict { offset: 1 }]);
    assert_eq!((log.tail(), log.stats().events), (3, 0));
}

#[derive(Debug, Default)]
struct Told(Mutex<Vec<u64>>);

impl OnStored for Told {
    fn stored(&self, first: u64) {
        self.0.lock().push(first);
    }
}

fn tells_who_asked_once_it_is_stored(make: Make<'_>) {
    let log = make(&Setup::new());
    let told = Arc::new(Told::default());
    let named = event(r#"{"channel":"tasks","event_type":"a","event_id":"x"}"#);
    let ask = |events: Vec<NewEvents>| {
        let mut events: NewEvents = events.into_iter().collect();
        events.on_stored(told.clone());
        wait(log.append(events)).unwrap();
    };
    ask(vec![numbered("tasks", 1), named.clone()]);
    ask(vec![named.clone()]);
    ask(vec![named, numbered("tasks", 2), numbered("tasks", 3)]);
    assert_eq!(*told.0.lock(), [1, 3], "by the first event stored; not where only a repeat came");
}

fn reads_both_ways_within_budgets(make: Make<'_>) {
    let log = make(&Setup::new());
    for batch in 0..10 {
        store(log.as_ref(), (0..7).map(|n| numbered("tasks", batch * 7 + n)).collect());
    }
    let all = selector(&["tasks"], &[]);
    let forward: Vec<u64> = (1..=70).collect();
    let backward: Vec<u64> = (1..=70).rev().collect();
    for (max_events, max_bytes) in [(1, usize::MAX), (3, usize::MAX), (100, 700), (100, 1)] {
        for (direction, expected) in [(Direction::Forward, &forward), (Direction::Backward, &backward)] {
            let mut bounded = request(&all, direction);
            (bounded.max_events, bounded.max_bytes) = (max_events, max_bytes);
            assert_eq!(read_all(log.as_ref(), bounded), *expected, "{direction:?} {max_events} {max_bytes}");
        }
    }
    let mut some = request(&all, Direction::Forward);
    (some.from, some.until) = (10, 20);
    let page = log.read(&some).unwrap();
    assert_eq!((offsets(&page), page.reached, page.end), ((11..=20).collect(), 20, true));
    let mut some = request(&all, Direction::Backward);
    (some.from, some.until) = (20, 10);
    let page = log.read(&some).unwrap();
    assert_eq!((offsets(&page), page.reached, page.end), ((10..20).rev().collect(), 10, true));
    let mut last = request(&all, Direction::Backward);
    last.max_events = 3;
    assert_eq!(offsets(&log.read(&last).unwrap()), [70, 69, 68]);
    let mut end = request(&all, Direction::Forward);
    end.from = 70;
    let page = log.read(&end).unwrap();
    assert!(page.end && page.runs.is_empty() && page.reached == 70);
}

fn reads_by_filter_and_pattern(make: Make<'_>) {
    let log = make(&Setup::new());
    let of = |channel: &str, kind: &str, agent: &str| {
        event(&format!(
            r#"{{"channel":"{channel}","event_type":"{kind}","payload":{{"agent_id":"{agent}"}}}}"#
        ))
    };
    store(
        log.as_ref(),
        vec![
            of("tasks", "task.created", "ann"),
            of("tasks", "task.updated", "bob"),
            of("budget", "budget.alert", "ann"),
            of("team:a", "task.created", "ann"),
            of("team:b", "other", "cid"),
        ],
    );
    let read = |channels: &[&str], filter: &[(&str, &[&str])]| {
        let selector = selector(channels, filter);
        let forward = read_all(log.as_ref(), request(&selector, Direction::Forward));
        let mut backward = read_all(log.as_ref(), request(&selector, Direction::Backward));
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    };
    assert_eq!(read(&["tasks"], &[]), [1, 2]);
    assert_eq!(read(&["tasks", "budget"], &[("agent", &["ann"])]), [1, 3]);
    assert_eq!(read(&["team:*"], &[]), [4, 5]);
    assert_eq!(read(&["*"], &[("event_type", &["task.*"])]), [1, 2, 4]);
    assert_eq!(read(&["*"], &[("event_type", &["task.*"]), ("agent", &["bob", "cid"])]), [2]);
    assert_eq!(read(&["*"], &[("agent", &[])]), [0; 0]);
    assert_eq!(read(&["*"], &[("agent", &["nobody"])]), [0; 0]);
    assert_eq!(read(&["nothing"], &[]), [0; 0]);
    // The last ones of a filter, page by page, and bounded below.
    let selector = selector(&["*"], &[("agent", &["ann"])]);
    let mut last = request(&selector, Direction::Backward);
    last.max_events = 2;
    let page = log.read(&last).unwrap();
    assert_eq!((offsets(&page), page.end), (vec![4, 3], false));
    last.from = page.reached;
    assert_eq!(offsets(&log.read(&last).unwrap()), [1]);
    (last.from, last.until) = (u64::MAX, 2);
    assert_eq!(read_all(log.as_ref(), last), [4, 3]);
}

fn reads_by_time(make: Make<'_>) {
    let setup = Setup::new();
    let log = make(&setup);
    let begin = UnixMicros(1_700_000_000_000_000);
    for n in 0..20 {
        setup.clock.set(begin.saturating_add(Duration::from_secs(n)));
        store(log.as_ref(), vec![numbered("tasks", n)]);
    }
    let all = selector(&["tasks"], &[]);
    for (seconds, first) in [(0, 1), (7, 8), (19, 20), (20, 21)] {
        let expected: Vec<u64> = (first..=20).collect();
        let mut since = request(&all, Direction::Forward);
        since.since = Some(begin.saturating_add(Duration::from_secs(seconds)));
        assert_eq!(read_all(log.as_ref(), since.clone()), expected);
        since.direction = Direction::Backward;
        (since.from, since.until) = (u64::MAX, 0);
        assert_eq!(read_all(log.as_ref(), since), expected.into_iter().rev().collect::<Vec<_>>());
    }
    // A clock that goes back does not take append times with it.
    setup.clock.set(begin);
    store(log.as_ref(), vec![numbered("tasks", 21)]);
    let mut since = request(&all, Direction::Forward);
    since.since = Some(begin.saturating_add(Duration::from_secs(19)));
    assert_eq!(read_all(log.as_ref(), since), [20, 21]);
}

fn hands_every_commit_to_followers(make: Make<'_>) {
    let log = make(&Setup::new());
    store(log.as_ref(), vec![numbered("tasks", 0)]);
    let mut first = log.follow();
    assert_eq!(first.start(), 2);
    store(log.as_ref(), vec![numbered("tasks", 1), numbered("tasks", 2)]);
    let mut second = log.follow();
    store(log.as_ref(), vec![numbered("tasks", 3)]);
    // Each append resolved, so each batch is here already.
    let drain = |receiver: &mut crate::CommitReceiver| {
        let mut all = Vec::new();
        while let Some(batch) = receiver.try_recv() {
            all.extend(batch.iter().map(|event| event.offset));
        }
        all
    };
    assert_eq!(drain(&mut first), [2, 3, 4]);
    assert_eq!(drain(&mut second), [4]);
    drop(first);
    store(log.as_ref(), vec![numbered("tasks", 4)]);
    assert_eq!(drain(&mut second), [5]);
    log.close();
    assert!(wait(second.recv()).is_none());
}

/// A follower sleeps until something is committed, misses nothing while the writer has to wait for it, and hears of the end.
fn wakes_who_waits_at_the_tail(make: Make<'_>) {
    let log = make(&Setup::new());
    let mut follower = log.follow();
    let count = 3 * FOLLOW_QUEUE as u64;
    let publish = async {
        for n in 0..count {
            log.append(numbered("tasks", n)).await.unwrap();
        }
    };
    let follow = async {
        let mut all = Vec::new();
        while all.len() < count as usize {
            let batch = follower.recv().await.expect("the log is open");
            all.extend(batch.iter().map(|event| event.offset));
        }
        all
    };
    // The follower is polled first and finds nothing.
    let (all, ()) = wait(futures_util::future::join(follow, publish));
    assert_eq!(all, (1..=count).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| wait(follower.recv()).is_none());
        log.close();
        assert!(ended.join().unwrap());
    });
}

fn trims_channels_and_tells(make: Make<'_>) {
    let log = make(&Setup::new());
    for n in 0..10 {
        store(log.as_ref(), vec![numbered("tasks", n), numbered("budget", n)]);
    }
    store(log.as_ref(), vec![numbered("quiet", 0)]);
    let (tasks, budget, quiet) =
        (selector(&["tasks"], &[]), selector(&["budget"], &[]), selector(&["quiet"], &[]));
    let all = selector(&["*"], &[]);
    // Odd offsets are tasks, even ones budget.
    let trim = Trim { channel: Some("tasks".into()), up_to: 6 };
    assert_eq!(log.trim(&trim).unwrap(), 3);
    assert_eq!(log.trim(&trim).unwrap(), 0);
    assert_eq!(read_all(log.as_ref(), request(&tasks, Direction::Forward)), [7, 9, 11, 13, 15, 17, 19]);
    assert_eq!(read_all(log.as_ref(), request(&budget, Direction::Backward)).len(), 10);
    assert_eq!(log.head(), 2);
    let lost = |selector, after| log.lost(selector, after).iter().map(|lost| lost.to).collect::<Vec<_>>();
    assert_eq!((lost(&tasks, 0), lost(&tasks, 4), lost(&tasks, 5)), (vec![5], vec![5], vec![]));
    assert_eq!((lost(&budget, 0), lost(&all, 0)), (vec![], vec![5]));
    assert_eq!(log.trim(&Trim { channel: None, up_to: u64::MAX }).unwrap(), 18);
    assert_eq!((log.head(), log.tail()), (22, 22));
    assert_eq!((lost(&budget, 19), lost(&budget, 20), lost(&quiet, 20)), (vec![20], vec![], vec![21]));
    assert!(log.channels().is_empty() && log.channel_stats().is_empty());
    let page = log.read(&request(&all, Direction::Forward)).unwrap();
    assert!(page.runs.is_empty() && page.end && page.lost.len() == 3);
    assert_eq!(store(log.as_ref(), vec![numbered("tasks", 1)]), [22]);
    assert_eq!(log.head(), 22);
    let stats = log.channel_stats();
    assert_eq!((stats[0].first, stats[0].last, stats[0].events), (22, 22, 1));
}

fn keeps_by_age_and_number(make: Make<'_>) {
    let mut setup = Setup::new();
    setup.retention.all = RetentionPolicy {
        max_age: Some(Duration::from_secs(10)),
        max_events: Some(30),
        ..RetentionPolicy::default()
    };
    let long = RetentionPolicy { max_age: Some(Duration::from_secs(3600)), ..RetentionPolicy::default() };
    let two = RetentionPolicy { max_events: Some(2), ..RetentionPolicy::default() };
    setup.retention.channels = [("audit".to_owned(), long), ("state".to_owned(), two)].into();
    let log = make(&setup);
    for n in 0..10 {
        store(log.as_ref(), vec![numbered("tasks", n), numbered("audit", n), numbered("state", n)]);
        setup.clock.advance(Duration::from_secs(1));
    }
    let read = |name: &str| read_all(log.as_ref(), request(&selector(&[name], &[]), Direction::Forward));
    assert_eq!(log.retain().unwrap(), 8);
    assert_eq!((read("tasks").len(), read("audit").len(), read("state")), (10, 10, vec![27, 30]));
    setup.clock.advance(Duration::from_secs(5));
    log.retain().unwrap();
    assert_eq!((read("tasks"), read("audit").len()), (vec![16, 19, 22, 25, 28], 10));
    assert_eq!(log.lost(&selector(&["tasks"], &[]), 12).first().map(|lost| lost.to), Some(13));
    assert!(log.lost(&selector(&["audit"], &[]), 0).is_empty());
    let recently = setup.clock_now().saturating_sub(Duration::from_secs(10));
    assert!(log.lost_since(&selector(&["tasks"], &[]), recently).is_empty());
    assert_eq!(log.lost_since(&selector(&["tasks"], &[]), UnixMicros(0)).len(), 1);
    store(log.as_ref(), (0..20).map(|n| numbered("tasks", n)).collect());
    log.retain().unwrap();
    // Only the newest thirty offsets are left of anything.
    assert_eq!(read("audit").first(), Some(&23));
}

fn takes_another_retention(make: Make<'_>) {
    let setup = Setup::new();
    let log = make(&setup);
    store(log.as_ref(), (0..10).map(|n| numbered("tasks", n)).collect());
    assert_eq!(log.retain().unwrap(), 0);
    let mut retention = setup.retention.clone();
    retention.all.max_events = Some(4);
    assert!(log.set_retention(retention), "a log without retention is not tried here");
    assert_eq!((log.retain().unwrap(), log.head(), log.tail()), (6, 7, 11));
}

impl Setup {
    fn clock_now(&self) -> UnixMicros {
        use crate::clock::Clock;
        self.clock.now()
    }
}

fn shares_commits_between_publishers(make: Make<'_>) {
    let log = make(&Setup::new());
    let appends = (0..200).map(|n| log.append(numbered("tasks", n)));
    let results = wait(futures_util::future::join_all(appends));
    let offsets: Vec<_> = results.into_iter().map(|result| result.unwrap()[0]).collect();
    let expected: Vec<_> = (1..=200).map(|offset| Appended::Stored { offset }).collect();
    assert_eq!(offsets, expected);
    let stats = log.stats();
    assert!(stats.commits < 200, "{} commits for 200 events that came together", stats.commits);
    assert_eq!((stats.events, stats.committed_events, stats.tail), (200, 200, 201));
}

fn closes(make: Make<'_>) {
    let log = make(&Setup::new());
    store(log.as_ref(), vec![numbered("tasks", 0)]);
    log.close();
    log.close();
    assert_eq!(append(log.as_ref(), vec![numbered("tasks", 1)]), Err(AppendError::Closed));
    assert_eq!(read_all(log.as_ref(), request(&selector(&["tasks"], &[]), Direction::Forward)), [1]);
}
