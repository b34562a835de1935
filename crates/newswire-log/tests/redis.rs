//! The engine on Redis keeps its promises: while the server dies, loses everything, stands still or lets nobody in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use newswire_log::redis::{Redis, RedisError, RedisMeta, RedisOptions, RedisRetention};
use newswire_log::testing::sequencer_suite::{self, Rig, append, ends, numbered, take};
use newswire_log::{Change, Expect, Meta, SequenceError, Sequencer, SystemClock};
use newswire_street_tests::RedisServer;
use tokio::sync::Mutex;

const LIMIT: Duration = Duration::from_secs(3);

fn options(url: &str, prefix: &str) -> RedisOptions {
    RedisOptions { url: url.to_owned(), prefix: prefix.to_owned(), timeout: LIMIT, ..RedisOptions::default() }
}

async fn open(server: &RedisServer, prefix: &str) -> Redis {
    Redis::connect(options(&server.url(), prefix)).await.expect("it opens")
}

async fn meta(server: &RedisServer) -> RedisMeta {
    open(server, "n").await.meta(Arc::new(SystemClock)).await.expect("it opens")
}

/// A server that can be killed and started from a shared reference.
struct Shared {
    url: String,
    server: Mutex<RedisServer>,
}

impl Shared {
    fn start() -> Self {
        let server = RedisServer::start();
        Self { url: server.url(), server: Mutex::new(server) }
    }
}

impl Rig for Shared {
    fn open<'a>(&'a self, log: &'a str) -> BoxFuture<'a, Arc<dyn Sequencer>> {
        Box::pin(async move {
            Arc::new(Redis::connect(options(&self.url, log)).await.expect("it opens")) as Arc<dyn Sequencer>
        })
    }

    fn remove_up_to<'a>(&'a self, log: &'a str, offset: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (key, least) = (format!("{{{log}}}:events"), format!("{}-0", offset + 1));
            self.server.lock().await.run(&["XTRIM", &key, "MINID", &least]);
        })
    }

    fn delete<'a>(&'a self, log: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.server.lock().await.run(&["DEL", &format!("{{{log}}}:events"), &format!("{{{log}}}:log")]);
        })
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.server.lock().await.kill() })
    }

    fn start(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut server = self.server.lock().await;
            tokio::task::block_in_place(|| server.restart());
        })
    }

    fn limit(&self) -> Duration {
        LIMIT
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_of_a_sequencer() {
    let rig = Shared::start();
    sequencer_suite::run(&rig).await;
    sequencer_suite::run_with_outages(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_everything_is_another_log() {
    let server = RedisServer::start();
    let node = open(&server, "n").await;
    append(&node, 1).await.expect("it is stored");
    let before = node.extent().await.expect("it answers");
    let mut following = node.follow(1).await.expect("it follows");
    server.run(&["FLUSHALL"]);
    // The same message is new there, and nobody follows as if nothing had been.
    let again = append(&node, 1).await.expect("it is stored");
    assert_eq!((again.first, again.repeated), (1, false));
    append(&node, 2).await.expect("it is stored");
    ends(&mut following, LIMIT * 2).await;
    let after = node.extent().await.expect("it answers");
    assert_ne!(after.incarnation, before.incarnation);
    // Where only what stands beside the stream was lost, it is another one too, and no offset is given twice.
    server.run(&["DEL", "{n}:log"]);
    let third = node.extent().await.expect("it answers");
    assert_ne!(third.incarnation, after.incarnation);
    assert_eq!((third.first, third.last), (1, 2));
    assert_eq!(append(&node, 3).await.map(|accepted| accepted.first), Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_are_known_where_they_are() {
    let server = RedisServer::start();
    let (a, b) = (open(&server, "n").await, open(&server, "n").await);
    let first = append(&a, 1).await.expect("it is stored");
    let again = append(&b, 1).await.expect("it is known");
    assert_eq!((again.first, again.repeated), (first.first, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_goes() {
    let server = RedisServer::start();
    let retention = RedisRetention { max_events: Some(3), ..RedisRetention::default() };
    let node =
        Redis::connect(RedisOptions { retention, ..options(&server.url(), "n") }).await.expect("it opens");
    node.append((0..10).map(numbered).collect()).await.expect("they are stored");
    let asked = Instant::now();
    while node.extent().await.expect("it answers").first != 8 {
        assert!(asked.elapsed() < LIMIT, "what is too much goes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.extent().await.expect("it answers").last, 10);
    assert_eq!(take(&mut node.follow(0).await.expect("it follows"), 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_use_it_is_told_why() {
    let server = RedisServer::with_password("right");
    let with = |password: Option<&str>| RedisOptions {
        password: password.map(str::to_owned),
        ..options(&server.url(), "n")
    };
    assert!(Redis::connect(with(Some("right"))).await.is_ok());
    for (password, part) in [(None, "NOAUTH"), (Some("wrong"), "assword")] {
        let Err(RedisError::Refused { server: at, reason }) = Redis::connect(with(password)).await else {
            panic!("it opened");
        };
        assert!(at.contains(&server.addr.to_string()) && reason.contains(part), "{at}: {reason}");
        assert!(!reason.contains("wrong"), "no secret is told: {reason}");
    }
    let asked = Instant::now();
    let Err(error) = Redis::connect(options("redis://127.0.0.1:1", "n")).await else { panic!("it opened") };
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(asked.elapsed() < LIMIT * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_said() {
    let server = RedisServer::start();
    let node = open(&server, "n").await;
    append(&node, 1).await.expect("it is stored");
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    for messages in [vec![numbered(2)], vec![numbered(3), numbered(4)]] {
        let refused = node.append(messages).await;
        assert!(matches!(refused, Err(SequenceError::Full { .. })), "{refused:?}");
    }
    assert_eq!(node.extent().await.map(|extent| extent.last), Ok(1), "nothing was stored");
    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(append(&node, 2).await.map(|accepted| accepted.first), Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_still_is_waited_for_or_given_up() {
    let server = RedisServer::start();
    let node = open(&server, "n").await;
    append(&node, 1).await.expect("it is stored");
    let mut following = node.follow(1).await.expect("it follows");
    server.pause();
    let (asked, refused) = (Instant::now(), append(&node, 2).await);
    let silent = ends(&mut following, LIMIT * 2).await;
    server.resume();
    assert!(matches!(refused, Err(SequenceError::Unanswered { .. })), "{refused:?}");
    assert!(asked.elapsed() < LIMIT * 3, "{silent}");
    // Whether it was stored meanwhile or not, it is there once.
    let again = append(&node, 2).await.expect("it is stored");
    assert_eq!(again.first, 2);
    assert_eq!(node.extent().await.map(|extent| extent.last), Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_its_state() {
    let mut server = RedisServer::start();
    let (a, b) = (meta(&server).await, meta(&server).await);
    let mut watch = b.watch("revoked/");
    let text = Bytes::from_static(b"1");
    for n in 0..50 {
        let key = format!("ticket/{n}");
        let version = a.put(&key, text.clone(), Expect::Absent, None).await.expect("it is stored");
        let taken =
            tokio::join!(a.delete(&key, Expect::Version(version)), b.delete(&key, Expect::Version(version)));
        assert_eq!([taken.0.is_ok(), taken.1.is_ok()].iter().filter(|ok| **ok).count(), 1, "{taken:?}");
    }
    let told = Instant::now();
    a.put("revoked/x", text.clone(), Expect::Any, None).await.expect("it is stored");
    assert!(matches!(watch.next().await, Ok(Change::Put { key, .. }) if &*key == "revoked/x"));
    assert!(told.elapsed() < Duration::from_secs(1), "every node knows within a second");
    tokio::task::block_in_place(|| server.restart());
    // A write on a connection that broke is in doubt, and said to be.
    while a.put("revoked/y", text.clone(), Expect::Any, None).await.is_err() {}
    assert!(
        matches!(watch.next().await, Ok(Change::Put { key, .. }) if &*key == "revoked/y"),
        "nothing is missed"
    );
    server.run(&["FLUSHALL"]);
    assert!(tokio::time::timeout(LIMIT * 2, watch.next()).await.expect("it ends in time").is_err());
    assert!(b.list("").await.expect("it can be read").is_empty());
}
