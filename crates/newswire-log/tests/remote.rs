//! A log that an engine keeps, as its nodes show it: what the engine may do to them, and what they must not believe.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use newswire_core::{Direction, LogView};
use newswire_log::testing::events::{event, numbered, read_all, request, selector};
use newswire_log::testing::{MemoryEngine, log_suite};
use newswire_log::{
    AppendError, Appended, Clock, EmbeddedOptions, EventLog, LogHealth, ManualClock, MemoryMeta, NewEvents,
    RemoteError, RemoteLog, RemoteOptions, RetentionOptions, SystemClock,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// In which nodes live.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// How long publishers, subscribers and nodes that start wait for the engine.
const PATIENCE: Duration = Duration::from_secs(5);

/// An engine and what stands beside it.
struct Deployment {
    engine: MemoryEngine,
    meta: Arc<MemoryMeta>,
}

impl Deployment {
    fn new(knows_ids: bool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let meta = Arc::new(MemoryMeta::new(clock.clone()).unwrap());
        Self { engine: MemoryEngine::new(clock, knows_ids), meta }
    }

    fn node(&self, dir: &TempDir) -> RemoteLog {
        self.try_node(dir, PATIENCE).unwrap()
    }

    fn try_node(&self, dir: &TempDir, start_patience: Duration) -> Result<RemoteLog, RemoteError> {
        let copy = EmbeddedOptions { retention: RetentionOptions::unbounded(), ..EmbeddedOptions::default() };
        let options =
            RemoteOptions { dir: dir.path().join("copies"), copy, patience: PATIENCE, start_patience };
        RUNTIME.block_on(RemoteLog::open(Arc::new(self.engine.clone()), self.meta.clone(), options))
    }
}

fn append(log: &RemoteLog, events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
    RUNTIME.block_on(log.append(events.into_iter().collect()))
}

fn store(log: &RemoteLog, n: u64) -> u64 {
    match append(log, vec![numbered("tasks", n)]).unwrap()[..] {
        [Appended::Stored { offset }] => offset,
        ref other => panic!("not stored: {other:?}"),
    }
}

fn named(id: &str, n: u64) -> NewEvents {
    event(&format!(
        r#"{{"channel":"tasks","event_type":"test.named","event_id":"{id}","payload":{{"n":{n}}}}}"#
    ))
}

/// Offsets and JSON of everything a node shows.
fn shown(log: &RemoteLog) -> Vec<(u64, String)> {
    let everything = request(&selector(&["*"], &[]), Direction::Forward);
    let page = log.read(&everything).unwrap();
    let events = page.runs.iter().flat_map(|run| {
        run.iter()
            .map(|event| (event.offset, String::from_utf8(event.json.to_vec()).unwrap()))
            .collect::<Vec<_>>()
    });
    events.collect()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    newswire_log::testing::events::eventually(what, holds);
}

#[test]
fn it_is_a_log_like_any_other() {
    log_suite::run_with_holes(&|setup| {
        let clock: Arc<ManualClock> = setup.clock.clone();
        let engine = MemoryEngine::new(clock.clone(), true);
        let meta = Arc::new(MemoryMeta::new(clock.clone()).unwrap());
        let dir = tempfile::tempdir().unwrap().keep();
        let copy = EmbeddedOptions {
            clock,
            dedup: setup.dedup,
            retention: setup.retention.clone(),
            ..EmbeddedOptions::default()
        };
        let options = RemoteOptions { dir, copy, patience: PATIENCE, start_patience: PATIENCE };
        Box::new(RUNTIME.block_on(RemoteLog::open(Arc::new(engine), meta, options)).unwrap())
    });
}

#[test]
fn two_nodes_show_the_same_at_the_same_offsets_and_repeats_cross_nodes() {
    for knows_ids in [true, false] {
        let (deployment, dirs) = (Deployment::new(knows_ids), [tempfile::tempdir(), tempfile::tempdir()]);
        let [one, other] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
        assert_eq!(one.epoch(), other.epoch());
        let first = append(&one, vec![named("a", 1), numbered("agents", 2), named("b", 3)]).unwrap();
        assert_eq!(first, [1, 2, 3].map(|offset| Appended::Stored { offset }));
        assert_eq!(append(&other, vec![named("b", 3)]).unwrap(), [Appended::Duplicate { offset: 3 }]);
        assert_eq!(append(&other, vec![named("a", 9)]).unwrap(), [Appended::Conflict { offset: 1 }]);
        let twice = append(&other, vec![named("c", 4), named("c", 4)]).unwrap();
        let Appended::Stored { offset } = twice[0] else { panic!("{twice:?}") };
        assert_eq!(twice[1], Appended::Duplicate { offset });
        store(&one, 5);
        eventually("both show it", || one.tail() == other.tail());
        assert_eq!(shown(&one), shown(&other));
        assert_eq!(shown(&one).len(), 5);
    }
}

#[test]
fn a_node_that_comes_back_fetches_what_it_missed() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let [stays, leaves] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
    (1..=10).for_each(|n| assert!(store(&stays, n) > 0));
    eventually("the other has it", || leaves.tail() == 11);
    let epoch = leaves.epoch();
    drop(leaves);
    (11..=3000).for_each(|n| assert!(store(&stays, n) > 0));
    let back = deployment.node(dirs[1].as_ref().unwrap());
    assert_eq!((back.epoch(), back.tail()), (epoch, 3001), "before it is served");
    assert_eq!(shown(&back), shown(&stays));
}

#[test]
fn a_node_that_starts_rides_out_an_engine_that_is_away_for_a_moment() {
    let (deployment, dir) = (Deployment::new(true), tempfile::tempdir().unwrap());
    store(&deployment.node(&dir), 1);
    deployment.engine.set_down(true);
    let refused = deployment.try_node(&dir, Duration::from_millis(100)).err();
    assert!(matches!(refused, Some(RemoteError::Engine(_))), "its patience has an end: {refused:?}");
    let engine = deployment.engine.clone();
    let back = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        engine.set_down(false);
    });
    assert_eq!(shown(&deployment.node(&dir)).len(), 1);
    back.join().unwrap();
}

#[test]
fn an_engine_that_has_not_caught_up_with_itself_is_not_taken_at_its_word() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let [one, other] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
    store(&one, 1);
    eventually("both show it", || other.tail() == 2);
    deployment.engine.know_until(1);
    std::thread::scope(|scope| {
        scope.spawn(|| store(&one, 2));
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(250));
            deployment.engine.know_until(u64::MAX);
        });
        // Somebody has seen it already.
        assert!(RUNTIME.block_on(other.settle(Some(other.epoch()), 2)));
        assert_eq!(other.tail(), 3, "so it is waited for");
    });
}

#[test]
fn a_lost_answer_is_no_success_and_the_repeat_finds_the_first() {
    let (deployment, dir) = (Deployment::new(true), tempfile::tempdir().unwrap());
    let node = deployment.node(&dir);
    deployment.engine.swallow_answers(1);
    let refused = append(&node, vec![named("a", 1)]);
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    assert_eq!(append(&node, vec![named("a", 1)]).unwrap(), [Appended::Duplicate { offset: 1 }]);
    assert_eq!(shown(&node).len(), 1);
}

#[test]
fn an_interruption_is_told_and_leaves_no_hole() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let [node, other] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
    let mut follower = node.follow();
    store(&node, 1);
    deployment.engine.set_down(true);
    eventually("it says so", || matches!(node.health(), LogHealth::Behind { .. }));
    let refused = append(&node, vec![numbered("tasks", 2)]);
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    deployment.engine.set_down(false);
    store(&other, 3);
    eventually("it follows again", || node.health() == LogHealth::Ok && node.tail() == 3);
    assert!(node.stats().interruptions > 0);
    let firsts = [(); 2].map(|()| RUNTIME.block_on(follower.recv()).unwrap().first());
    assert_eq!(firsts, [1, 2], "the follower stayed");
}

#[test]
fn an_engine_that_lost_what_was_shown_begins_a_new_epoch_on_every_node() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let [one, other] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
    (1..=5).for_each(|n| assert!(store(&one, n) > 0));
    eventually("both show it", || other.tail() == 6);
    let epoch = one.epoch();
    let mut follower = other.follow();
    deployment.engine.lose_beyond(3);
    eventually("a new epoch", || one.epoch() != epoch && other.epoch() == one.epoch());
    assert_eq!((one.tail(), other.tail()), (4, 4));
    assert!(RUNTIME.block_on(follower.recv()).is_none(), "the old epoch is over");
    let mut follower = other.follow();
    assert_eq!((follower.epoch(), follower.start(), follower.is_over()), (one.epoch(), 4, false));
    assert_eq!(store(&one, 6), 4, "the offset is given again, in another epoch");
    assert_eq!(RUNTIME.block_on(follower.recv()).unwrap().first(), 4);
    assert_eq!(shown(&one), shown(&other));
}

#[test]
fn an_engine_that_put_something_else_in_the_place_is_found_out() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let leaver = deployment.node(dirs[0].as_ref().unwrap());
    (1..=5).for_each(|n| assert!(store(&leaver, n) > 0));
    let epoch = leaver.epoch();
    drop(leaver);
    deployment.engine.lose_beyond(3);
    // It never saw what was lost, so the epoch stays: the one who did comes later.
    let other = deployment.node(dirs[1].as_ref().unwrap());
    (6..=9).for_each(|n| assert!(store(&other, n) > 0));
    assert_eq!((other.epoch(), other.tail()), (epoch, 8));
    let back = deployment.node(dirs[0].as_ref().unwrap());
    assert_ne!(back.epoch(), epoch);
    deployment.engine.cut();
    eventually("the other learns of it", || other.epoch() == back.epoch());
    assert_eq!(shown(&back), shown(&other));
}

#[test]
fn a_log_made_anew_is_another_epoch() {
    let (deployment, dir) = (Deployment::new(true), tempfile::tempdir().unwrap());
    let node = deployment.node(&dir);
    (1..=5).for_each(|n| assert!(store(&node, n) > 0));
    let epoch = node.epoch();
    deployment.engine.make_anew();
    eventually("a new epoch", || node.epoch() != epoch);
    assert_eq!((node.tail(), store(&node, 1)), (1, 1));
}

#[test]
fn a_node_that_was_away_for_longer_than_the_engine_keeps_tells_what_is_lost() {
    let (deployment, dirs) = (Deployment::new(true), [tempfile::tempdir(), tempfile::tempdir()]);
    let [stays, leaves] = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
    (1..=10).for_each(|n| assert!(store(&stays, n) > 0));
    drop(leaves);
    (11..=30).for_each(|n| assert!(store(&stays, n) > 0));
    deployment.engine.trim_before(21);
    for dir in [dirs[1].as_ref().unwrap(), &tempfile::tempdir().unwrap()] {
        let node = deployment.node(dir);
        assert_eq!((node.epoch(), node.head(), node.tail()), (stays.epoch(), 21, 31));
        for (names, told) in
            [(["tasks"], vec!["tasks"]), (["agents"], vec!["agents"]), (["*"], vec!["*", "tasks"])]
        {
            let names = selector(&names, &[]);
            let lost = |after| node.lost(&names, after);
            assert!(lost(20).is_empty() && lost(25).is_empty());
            let lost = lost(5);
            assert_eq!(lost.iter().map(|lost| &*lost.channel).collect::<Vec<_>>(), told);
            assert!(lost.iter().all(|lost| lost.to == 20));
        }
        let all = request(&selector(&["tasks"], &[]), Direction::Forward);
        assert_eq!(read_all(&node, all), (21..=30).collect::<Vec<_>>());
    }
}

#[test]
fn what_no_node_wrote_is_a_hole() {
    let (deployment, dir) = (Deployment::new(true), tempfile::tempdir().unwrap());
    let node = deployment.node(&dir);
    store(&node, 1);
    deployment.engine.intrude(b"{\"channel\":\"tasks\"}");
    assert_eq!(store(&node, 2), 3);
    assert_eq!(shown(&node).len(), 2);
}

#[test]
fn who_knows_more_than_a_node_waits_until_it_has_it() {
    let (deployment, dir) = (Deployment::new(true), tempfile::tempdir().unwrap());
    let node = deployment.node(&dir);
    (1..=3).for_each(|n| assert!(store(&node, n) > 0));
    let settle = |epoch, offset| RUNTIME.block_on(node.settle(epoch, offset));
    assert!(settle(None, 3) && settle(Some(node.epoch()), 2));
    assert!(settle(None, 99), "there is no such offset, so nobody has seen it");
    assert!(settle(Some(newswire_protocol::Epoch::from_bytes([7; 16])), 1), "nor such an epoch");
    deployment.engine.set_down(true);
    assert!(!settle(None, 4), "nobody knows");
}

/// What publishers ask of two nodes while the engine is cut, forgets answers and goes away for moments.
#[test]
fn whatever_the_engine_does_what_is_answered_stands_once_on_every_node() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (deployment, dirs) = (Deployment::new(seed % 2 == 0), [tempfile::tempdir(), tempfile::tempdir()]);
        let mut nodes = dirs.each_ref().map(|dir| deployment.node(dir.as_ref().unwrap()));
        let mut answered = Vec::new();
        for step in 0..150_u64 {
            match random.u8(..20) {
                0 => deployment.engine.cut(),
                1 => deployment.engine.swallow_answers(1),
                2 => {
                    deployment.engine.set_down(true);
                    let _ = append(&nodes[0], vec![numbered("tasks", step)]);
                    deployment.engine.set_down(false);
                }
                3 => {
                    let which = random.usize(..2);
                    nodes[which].close();
                    nodes[which] = deployment.node(dirs[which].as_ref().unwrap());
                }
                _ => {
                    let node = &nodes[random.usize(..2)];
                    let ids: Vec<_> = (0..random.u64(1..4)).map(|_| random.u64(..40)).collect();
                    let events = ids.iter().map(|id| named(&id.to_string(), *id)).collect();
                    if let Ok(outcomes) = append(node, events) {
                        answered.extend(ids.into_iter().zip(outcomes));
                    }
                }
            }
        }
        let last = append(&nodes[0], vec![named("end", 0)]);
        assert!(last.is_ok() || append(&nodes[0], vec![named("end", 0)]).is_ok());
        eventually("both are at the end", || nodes[0].tail() == nodes[1].tail());
        let everything = shown(&nodes[0]);
        assert_eq!(everything, shown(&nodes[1]), "seed {seed}");
        for (id, outcome) in answered {
            let (Appended::Stored { offset } | Appended::Duplicate { offset }) = outcome else {
                panic!("the same id is always the same event: {outcome:?}");
            };
            let wanted = format!("\"event_id\":\"{id}\"");
            let places: Vec<_> = everything
                .iter()
                .filter(|(_, json)| json.contains(&wanted))
                .map(|(offset, _)| *offset)
                .collect();
            assert_eq!(places, [offset], "seed {seed}: event {id}");
        }
    }
}
