//! Clients that do not read: what the server keeps for them stays bounded, nobody else notices, and each policy does
//! what it promises once they read again.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::SocketAddr;
use std::time::Duration;

use newswire_street_tests::socket::offset_of;
use newswire_street_tests::{Heard, Http, Server, Socket, data, eventually, process};
use serde_json::{Value, json};

const BATCH: u64 = 500;

/// Publishes `count` tasks of `bytes` each, as fast as a few publishers can. Every tenth event goes to `budget` if
/// `mixed`, so that ranges of offsets are not ranges of matching events.
async fn flood(http: &Http, count: u64, bytes: usize, mixed: bool) {
    let channel = |n: u64| if mixed && n % 10 == 9 { "budget" } else { "tasks" };
    let batch: Vec<String> = (0..BATCH).map(|n| data::sized(channel(n), bytes)).collect();
    let body = format!("[{}]", batch.join(","));
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let (http, body) = (http.clone(), body.clone());
        publishers.spawn(async move {
            for _ in (publisher..count / BATCH).step_by(4) {
                let answer = http.post_events("application/json", body.clone()).await;
                assert!(answer.status == 200 && !answer.body.contains("\"error\""), "{:.300}", answer.body);
            }
        });
    }
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }
}

/// A subscriber of `tasks` that then leaves its socket alone.
async fn stalled(addr: SocketAddr) -> Socket {
    let mut socket = Socket::open_narrow(addr, "/api/v1/ws").await;
    socket.subscribe(&["tasks"]).await;
    socket
}

/// Subscribers that read everything; each ends once it has `1..=count` in order.
async fn others(addr: SocketAddr, count: u64) -> tokio::task::JoinSet<()> {
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut socket = Socket::open(addr, "/api/v1/ws").await;
        socket.subscribe(&["tasks"]).await;
        readers.spawn(async move {
            receive_in_order(&mut socket, 1, count).await;
            socket.close().await;
        });
    }
    readers
}

async fn receive_in_order(socket: &mut Socket, first: u64, last: u64) {
    let mut next = first;
    while next <= last {
        let Heard::Text(text) = socket.hear().await else { panic!("cut off at {next}") };
        if text.contains("\"checkpoint\"") {
            continue;
        }
        assert_eq!(offset_of(&text), Some(next), "{text:.200}");
        next += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_costs_little_and_catches_up() {
    const COUNT: u64 = 200_000;
    const BYTES: usize = 600;
    let server = Server::options().set("write.stall_timeout", "10m").start();
    let http = server.http();
    let mut idle = stalled(server.addr).await;
    let before = server.rss_bytes();
    let readers = others(server.addr, COUNT).await;
    flood(&http, COUNT, BYTES, false).await;
    readers.join_all().await;
    let peak = process::peak_rss_bytes(server.pid());
    let mib = |bytes: u64| bytes >> 20;
    eprintln!("RSS {} MiB before, {} MiB at most while {COUNT} events passed", mib(before), mib(peak));
    let published = COUNT * BYTES as u64;
    assert!(
        peak - before < published * 8 / 10,
        "{} MiB more: the backlog is kept in memory",
        mib(peak - before)
    );
    receive_in_order(&mut idle, 1, COUNT).await;
    http.publish_one(&data::task(1)).await;
    assert_eq!(idle.event().await["offset"], COUNT + 1, "it has rejoined");
    idle.nothing_more().await;
}

/// What a subscriber was told: events and gaps, in the order of the stream.
#[derive(Default)]
struct Told {
    received: Vec<u64>,
    gaps: Vec<(u64, u64)>,
}

impl Told {
    /// Reads until everything up to `end` was sent or declared missing.
    async fn read(socket: &mut Socket, end: u64) -> Self {
        let mut told = Self::default();
        let mut reached = 0;
        while reached < end {
            let Heard::Text(text) = socket.hear().await else { panic!("cut off at {reached}") };
            if text.contains("\"action\":\"gap\"") {
                let gap: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(
                    (&gap["reason"], &gap["channels"]),
                    (&json!("backlog"), &json!(["tasks"])),
                    "{gap}"
                );
                let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
                assert!(reached < from && from <= to, "{gap} after {reached}");
                told.gaps.push((from, to));
                reached = to;
            } else if !text.contains("\"checkpoint\"") {
                let offset = offset_of(&text).unwrap_or_else(|| panic!("no event: {text}"));
                assert!(offset > reached, "{offset} after {reached}");
                told.received.push(offset);
                reached = offset;
            }
        }
        told
    }

    fn in_a_gap(&self, offset: u64) -> bool {
        self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&offset))
    }
}

async fn dropping_policy(policy: &str) -> (Told, u64) {
    const COUNT: u64 = 40_000;
    let server = Server::options()
        .set("backlog.policy", policy)
        .set("backlog.max_bytes", "64KiB")
        .set("write.stall_timeout", "10m")
        .start();
    let http = server.http();
    let mut idle = stalled(server.addr).await;
    flood(&http, COUNT, 800, true).await;
    // The last of all is a task, so that the stream has an end to read to.
    let last = http.publish_one(&data::task(1)).await;
    assert_eq!(last, COUNT + 1);
    let told = Told::read(&mut idle, last).await;
    let log = http.history("channels=tasks").await;
    let matching = log.iter().map(|event| event["offset"].as_u64().unwrap());
    let mut received = told.received.iter().copied().peekable();
    for offset in matching {
        let has = received.next_if_eq(&offset).is_some();
        assert!(
            has != told.in_a_gap(offset),
            "{policy}: {offset} was {}",
            if has { "sent, and in a gap" } else { "lost without a word" }
        );
    }
    assert_eq!(received.next(), None, "{policy}: something that does not match was sent");
    assert!(!told.gaps.is_empty(), "{policy}: 32 MB do not fit into the sockets' buffers");
    assert!(http.metric("newswire_gaps_total").await >= 1.0, "{policy}: gaps are counted");
    let next = http.publish_one(&data::task(2)).await;
    assert_eq!(idle.event().await["offset"], next, "{policy}: it goes on live");
    idle.nothing_more().await;
    (told, last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_newest_tells_exactly_what_is_missing() {
    let (told, _) = dropping_policy("drop_newest").await;
    assert_eq!(told.received[0], 1, "the oldest are kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest_tells_exactly_what_is_missing() {
    let (told, last) = dropping_policy("drop_oldest").await;
    assert_eq!(told.received.last(), Some(&last), "the newest are kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_closes_the_slow_and_nobody_else() {
    let server = Server::options()
        .set("backlog.policy", "disconnect")
        .set("backlog.max_bytes", "64KiB")
        .set("write.stall_timeout", "10m")
        .start();
    let http = server.http();
    let mut idle = stalled(server.addr).await;
    // Somebody who keeps up beside it must not be taken for slow.
    let mut quick = server.socket().await;
    quick.subscribe(&["agents"]).await;
    let beside = tokio::spawn({
        let http = http.clone();
        async move {
            for n in 0..100 {
                let offset = http.publish_one(&data::event("agents", "t", json!({"n": n}))).await;
                assert_eq!(quick.event().await["offset"], offset);
            }
            quick.nothing_more().await;
        }
    });
    flood(&http, 20_000, 800, true).await;
    let Heard::Close(code, _) = idle.ending().await else { panic!("no close frame") };
    assert_eq!(code, 4008);
    beside.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_reads_is_closed_in_time() {
    let server = Server::with("write.stall_timeout", "1s");
    let http = server.http();
    let mut idle = stalled(server.addr).await;
    let readers = others(server.addr, 20_000).await;
    flood(&http, 20_000, 800, false).await;
    readers.join_all().await;
    eventually("the stalled subscriber is gone", || async {
        (http.subscribers("tasks").await == 0).then_some(())
    })
    .await;
    // The close frame stands behind everything that was on its way, if the system still had room for it.
    match idle.ending().await {
        Heard::Close(code, _) => assert_eq!(code, 4008),
        Heard::Broken(_) => {}
        Heard::Text(_) => unreachable!("a text is no ending"),
    }
    eventually("the metrics say why", || async {
        let metrics = http.send("GET", "/metrics", &[], "").await.body;
        metrics.lines().any(|line| line.contains("4008") && !line.ends_with(" 0")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_keeps_its_order_while_the_log_moves() {
    const COUNT: u64 = 30_000;
    let server =
        Server::options().set("write.stall_timeout", "10m").set("backlog.max_bytes", "64KiB").start();
    let http = server.http();
    let mut slow = stalled(server.addr).await;
    let publisher = tokio::spawn({
        let http = http.clone();
        async move { flood(&http, COUNT, 800, false).await }
    });
    // It reads in turns, resting while the feed runs away from it, so it leaves and rejoins the live path.
    let mut next = 1;
    while next <= COUNT {
        let turn = (next + 2999).min(COUNT);
        receive_in_order(&mut slow, next, turn).await;
        next = turn + 1;
        if !publisher.is_finished() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    publisher.await.unwrap();
    slow.nothing_more().await;
}
