//! A log that is moved to another engine is the same log there: offsets, frames, times, losses, epoch and repeats.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use newswire_core::{Direction, LogView};
use newswire_log::jetstream::{JetStream, JetStreamOptions};
use newswire_log::moving::{self, Compared, Doing, MoveError, Source};
use newswire_log::redis::{Redis, RedisOptions};
use newswire_log::testing::MemoryEngine;
use newswire_log::testing::events::{event, request, selector};
use newswire_log::{
    Appended, Clock, DedupOptions, EmbeddedLog, EmbeddedMeta, EmbeddedOptions, Entry, EventLog, ManualClock,
    MemoryMeta, Meta, NewEvents, OsDisk, RemoteError, RemoteLog, RemoteOptions, RetentionOptions, Sequencer,
    SystemClock, Trim,
};
use newswire_protocol::UnixMicros;
use newswire_street_tests::{NatsCluster, NatsServer, RedisServer};
use tempfile::TempDir;

/// Events of the log that is moved; more than two pages of the mover.
const EVENTS: u64 = 2600;
const PATIENCE: Duration = Duration::from_secs(5);

fn named(n: u64) -> NewEvents {
    let channel = ["tasks", "agents", "budget"][(n % 3) as usize];
    // Within the payload stands what could be taken for the offset.
    event(&format!(
        r#"{{"channel":"{channel}","event_type":"test.moved","event_id":"e{n}","payload":{{"n":{n},"offset":{n},"version":1}}}}"#
    ))
}

fn unbounded() -> EmbeddedOptions {
    EmbeddedOptions { retention: RetentionOptions::unbounded(), ..EmbeddedOptions::default() }
}

/// A log of some age: its begin is trimmed, one channel has lost its middle, and the newest event of all is gone.
async fn original(dir: &Path) {
    let now = SystemClock.now();
    let clock = Arc::new(ManualClock::at(UnixMicros(now.0 - (EVENTS + 100) * 1_000_000)));
    let options = EmbeddedOptions { clock: clock.clone(), segment_bytes: 64 << 10, ..unbounded() };
    let log = EmbeddedLog::open(dir, options, Arc::new(OsDisk)).unwrap();
    for n in 1..=EVENTS {
        clock.advance(Duration::from_secs(1));
        log.append(named(n)).await.unwrap();
    }
    let last = event(r#"{"channel":"gone","event_type":"test.gone","payload":{}}"#);
    log.append(last).await.unwrap();
    let trim = |channel: Option<&str>, up_to| Trim { channel: channel.map(Arc::from), up_to };
    log.trim(&trim(None, 40)).unwrap();
    log.trim(&trim(Some("budget"), 1500)).unwrap();
    log.trim(&trim(Some("gone"), EVENTS + 1)).unwrap();
    log.close();
}

/// Offset, time and JSON of everything, and what whoever has everything up to some offset has lost.
fn shown(log: &dyn EventLog) -> (Vec<(u64, u64, String)>, Vec<String>) {
    let mut asked = request(&selector(&["*"], &[]), Direction::Forward);
    let mut events = Vec::new();
    loop {
        let page = log.read(&asked).unwrap();
        for event in page.runs.iter().flat_map(newswire_core::Run::iter) {
            events.push((event.offset, event.stored_at.0, String::from_utf8(event.json.to_vec()).unwrap()));
        }
        if page.end {
            break;
        }
        asked.from = page.reached;
    }
    // Before the first event that is left everybody is told of a loss, whatever the channel.
    let lost = [41, 1000, 1499, 1500, 2000, EVENTS, EVENTS + 1];
    let told =
        |channel: &str, after| format!("{channel} {after} {:?}", log.lost(&selector(&[channel], &[]), after));
    let lost = ["tasks", "agents", "budget", "gone"]
        .iter()
        .flat_map(|channel| lost.map(|after| told(channel, after)));
    (events, lost.collect())
}

async fn mover(source: &Source, to: &To) -> Result<Compared, MoveError> {
    moving::into_engine(source, &*to.engine, &*to.meta, DedupOptions::default(), &state(), &mut |_, _| {})
        .await
}

/// An engine with its shared state.
#[derive(Clone)]
struct To {
    engine: Arc<dyn Sequencer>,
    meta: Arc<dyn Meta>,
}

impl To {
    async fn try_node(&self, dir: &Path) -> Result<RemoteLog, RemoteError> {
        let options = RemoteOptions {
            dir: dir.join("copies"),
            copy: unbounded(),
            patience: PATIENCE,
            start_patience: PATIENCE,
        };
        RemoteLog::open(self.engine.clone(), self.meta.clone(), options).await
    }

    async fn compared_with(&self, source: &Source) -> Result<Compared, MoveError> {
        let options = DedupOptions::default();
        moving::compare_with_engine(source, &*self.engine, &*self.meta, options, &mut |_, _| {}).await
    }

    async fn node(&self, dir: &TempDir) -> RemoteLog {
        self.try_node(dir.path()).await.unwrap()
    }
}

/// Moves a log there, breaking off once, and there it is what it was.
async fn is_the_same(to: &To, home: &TempDir) {
    let dir = home.path().join("from");
    original(&dir).await;
    let log = EmbeddedLog::open(&dir, unbounded(), Arc::new(OsDisk)).unwrap();
    let (epoch, tail, was) = (log.epoch(), log.tail(), shown(&log));
    assert!(matches!(Source::open(&dir), Err(MoveError::InUse(_))));
    log.close();
    assert_eq!(was.0.len() as u64, EVENTS - 40 - 487, "holes are part of the sample");
    let source = Source::open(&dir).unwrap();

    // It breaks off behind the first page.
    let (broke, broken) = tokio::sync::oneshot::channel();
    let mut broke = Some(broke);
    let mut told = |doing: Doing, _| {
        if doing == Doing::Moving {
            let _ = broke.take().map(|broke| broke.send(()));
        }
    };
    let state = state();
    tokio::select! {
        biased;
        _ = broken => {}
        moved = moving::into_engine(&source, &*to.engine, &*to.meta, DedupOptions::default(), &state, &mut told) => {
            panic!("{moved:?}");
        }
    }
    let reached = to.engine.extent().await.unwrap().last;
    assert!(reached > 40 && reached <= EVENTS + 1, "{reached}");
    let dir_of_node = tempfile::tempdir().unwrap();
    let refused = to.try_node(dir_of_node.path()).await.err().expect("a part of a log is none").to_string();
    assert!(refused.contains("not whole yet"), "{refused}");

    // Another log does not take its place.
    let other = home.path().join("other");
    original(&other).await;
    let other = Source::open(&other).unwrap();
    let refused = mover(&other, to).await;
    assert!(matches!(refused, Err(MoveError::Taken { there }) if there == epoch), "{refused:?}");

    let moved = mover(&source, to).await.unwrap();
    assert_eq!((moved.events, moved.tail), (was.0.len() as u64, tail));
    let again = mover(&source, to).await;
    assert!(matches!(again, Err(MoveError::Taken { there }) if there == epoch), "{again:?}");

    has_state(&*to.meta).await;
    let dir_of_node = tempfile::tempdir().unwrap();
    let node = to.node(&dir_of_node).await;
    assert_eq!(node.epoch(), epoch);
    assert_eq!(shown(&node).0, was.0);
    for (is, was) in shown(&node).1.iter().zip(&was.1) {
        assert_eq!(is, was);
    }
    assert!(node.settle(Some(epoch), tail - 1).await, "whoever saw the end of the log is not told otherwise");
    // A repeat of an event of before, of those that are young enough.
    let repeat = node.append(named(EVENTS - 7)).await.unwrap();
    assert_eq!(repeat, [Appended::Duplicate { offset: EVENTS - 7 }]);
    let fresh = node.append(named(EVENTS + 7)).await.unwrap();
    assert!(matches!(fresh[..], [Appended::Stored { offset }] if offset >= tail), "{fresh:?}");
    node.close();

    let compared = to.compared_with(&source).await.unwrap();
    assert_eq!(compared, moved, "what came since does not count");

    // And back, into files of its own.
    drop(source);
    let fetched = home.path().join("fetched");
    let fetched =
        moving::fetch(to.engine.clone(), to.meta.clone(), &fetched, DedupOptions::default(), PATIENCE);
    let fetched = fetched.await.unwrap();
    let source = Source::open(&fetched).unwrap();
    let back = home.path().join("back");
    moving::into_files(&source, &back, ("meta.redb", &state), &mut |_, _| {}).await.unwrap();
    drop(source);
    has_state(&EmbeddedMeta::open(&back.join("meta.redb"), Arc::new(SystemClock)).unwrap()).await;
    let log = EmbeddedLog::open(&back, unbounded(), Arc::new(OsDisk)).unwrap();
    assert_eq!(log.epoch(), epoch);
    let is = shown(&log);
    assert_eq!(is.0[..was.0.len()], was.0);
    assert_eq!(is.0.len(), was.0.len() + 1);
}

/// What goes along: for good, for a while, and what is over.
fn state() -> Vec<(Arc<str>, Entry)> {
    let until = |seconds: u64| Some(UnixMicros(SystemClock.now().0 + seconds * 1_000_000));
    let entry = |key: &str, expires_at| {
        (Arc::from(key), Entry { value: bytes::Bytes::from_static(b"{}"), version: 7, expires_at })
    };
    vec![entry("kept/a", None), entry("kept/b", until(600)), entry("kept/over", Some(UnixMicros(1)))]
}

async fn has_state(meta: &dyn Meta) {
    let kept = meta.list("kept/").await.unwrap();
    let kept: Vec<_> = kept.iter().map(|(key, entry)| (&**key, entry.expires_at.is_some())).collect();
    assert_eq!(kept, [("kept/a", false), ("kept/b", true)]);
}

fn meta() -> Arc<dyn Meta> {
    Arc::new(MemoryMeta::new(Arc::new(SystemClock)).unwrap())
}

async fn nats(servers: Vec<String>, replicas: usize, stream: &str) -> To {
    let options = JetStreamOptions {
        servers,
        stream: stream.to_owned(),
        timeout: PATIENCE,
        replicas,
        ..JetStreamOptions::default()
    };
    let engine = JetStream::connect(options).await.unwrap();
    let meta = engine.meta(Arc::new(SystemClock)).await.unwrap();
    To { engine: Arc::new(engine), meta: Arc::new(meta) }
}

async fn redis(server: &RedisServer, prefix: &str) -> To {
    let options = RedisOptions {
        url: server.url(),
        prefix: prefix.to_owned(),
        timeout: PATIENCE,
        ..RedisOptions::default()
    };
    let engine = Redis::connect(options).await.unwrap();
    let meta = engine.meta(Arc::new(SystemClock)).await.unwrap();
    To { engine: Arc::new(engine), meta: Arc::new(meta) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_into_memory_and_back() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (engine, home) = (MemoryEngine::new(clock, true), tempfile::tempdir().unwrap());
    let to = To { engine: Arc::new(engine.clone()), meta: meta() };
    is_the_same(&to, &home).await;
    let source = Source::open(&home.path().join("from")).unwrap();
    engine.trim_before(43);
    differs(&to, &source, 42, "by its own limits").await;
    engine.lose_beyond(2000);
    differs(&to, &source, EVENTS + 1, "ends at 2000").await;
    engine.make_anew();
    let refused = to.compared_with(&source).await;
    assert!(matches!(refused, Err(MoveError::Differs { .. })), "{refused:?}");
}

async fn differs(to: &To, source: &Source, at: u64, how: &str) {
    let compared = to.compared_with(source).await;
    let Err(MoveError::Differs { offset, what }) = compared else { panic!("{compared:?}") };
    assert!(offset == at && what.contains(how), "offset {offset} {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    original(&home.path().join("from")).await;
    let source = Source::open(&home.path().join("from")).unwrap();
    let engine = MemoryEngine::new(Arc::new(SystemClock), true);
    engine.intrude(b"somebody else's");
    let to = To { engine: Arc::new(engine), meta: meta() };
    let refused = mover(&source, &to).await;
    assert!(matches!(refused, Err(MoveError::NotEmpty { last: 1 })), "{refused:?}");
    assert_eq!(to.meta.list("").await.unwrap(), []);

    let full = home.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("a file"), "of somebody").unwrap();
    let refused = moving::into_files(&source, &full, ("meta.redb", &[]), &mut |_, _| {}).await;
    assert!(matches!(refused, Err(MoveError::Copy(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(full.join("a file")).unwrap(), "of somebody");
    assert!(!home.path().join("full.moving").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_not_stopped_in_order_does_not_move() {
    let home = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(home.path(), unbounded(), Arc::new(OsDisk)).unwrap();
    log.append(named(1)).await.unwrap();
    let killed = home.path().join("killed");
    std::fs::create_dir(&killed).unwrap();
    for file in std::fs::read_dir(home.path()).unwrap().flatten().filter(|file| file.path().is_file()) {
        std::fs::copy(file.path(), killed.join(file.file_name())).unwrap();
    }
    let refused = Source::open(&killed).err().unwrap();
    assert!(matches!(refused, MoveError::Unclean(_)), "{refused}");
    std::fs::create_dir(home.path().join("of something else")).unwrap();
    for nothing in ["nothing", "of something else"] {
        let refused = Source::open(&home.path().join(nothing)).err().unwrap();
        assert!(matches!(refused, MoveError::NoLog(_)), "{refused}");
    }
    assert_eq!(std::fs::read_dir(home.path().join("of something else")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_into_jetstream_and_back() {
    let server = NatsServer::start();
    let (to, home) =
        (nats(vec![format!("nats://{}", server.addr)], 1, "moved").await, tempfile::tempdir().unwrap());
    is_the_same(&to, &home).await;
    let source = Source::open(&home.path().join("from")).unwrap();
    let client = async_nats::connect(format!("nats://{}", server.addr)).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("moved").await.unwrap();
    stream.delete_message(777).await.unwrap();
    differs(&to, &source, 777, "is missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_into_a_cluster_and_back() {
    let cluster = NatsCluster::start(3);
    is_the_same(&nats(cluster.urls(), 3, "moved").await, &tempfile::tempdir().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_into_redis_and_back() {
    let server = RedisServer::start();
    let (to, home) = (redis(&server, "moved").await, tempfile::tempdir().unwrap());
    is_the_same(&to, &home).await;
    let source = Source::open(&home.path().join("from")).unwrap();
    server.run(&["XDEL", "{moved}:events", "777-0"]);
    differs(&to, &source, 777, "is missing").await;
}
