//! SIGKILL at random moments under load: whatever was acknowledged is there, offsets have no holes, the epoch stays,
//! resumed subscribers have everything once, and a publisher that asks again learns the first offset.
//!
//! `NEWSWIRE_CRASH_ROUNDS` sets the number of kills (default 10), `NEWSWIRE_CRASH_SEED` repeats a run's choices.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use newswire_street_tests::{Heard, Http, Server, Socket, eventually, naive};
use serde_json::{Value, json};

const PUBLISHERS: u64 = 8;
const CHANNELS: [&str; 3] = ["tasks", "agents", "budget"];

/// What the tasks of one run share.
struct Shared {
    addr: SocketAddr,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// An event that says who published it and which of theirs it is; its id makes every retry the same publish.
fn event(publisher: u64, sequence: u64) -> Value {
    json!({
        "channel": CHANNELS[((publisher + sequence) % 3) as usize],
        "event_type": format!("crash.p{publisher}"),
        "event_id": format!("{publisher}-{sequence}"),
        "payload": {"agent_id": format!("agent-{}", sequence % 5), "n": sequence, "pad": "x".repeat((sequence % 97) as usize * 5)},
    })
}

/// Publishes small batches over HTTP, each again and again until it is answered; gives the offset of every event.
async fn publish_over_http(shared: Arc<Shared>, publisher: u64) -> Vec<u64> {
    let http = Http::new(shared.addr);
    let mut offsets: Vec<u64> = Vec::new();
    while !shared.stopped() {
        let next = offsets.len() as u64;
        let batch: Vec<Value> =
            (next..next + 1 + publisher % 4 * 5).map(|sequence| event(publisher, sequence)).collect();
        let body = Value::Array(batch).to_string().into_bytes();
        loop {
            let headers = [("content-type", "application/json")];
            let answer = http.try_send("POST", "/api/v1/events", &headers, body.clone()).await;
            if let Ok(answer) = answer
                && answer.status == 200
            {
                let results = answer.data()["results"].clone();
                let before = offsets.len();
                offsets.extend(results.as_array().unwrap().iter().map(|result| {
                    result["offset"].as_u64().unwrap_or_else(|| panic!("a good event is refused: {result}"))
                }));
                shared.acknowledged.fetch_add((offsets.len() - before) as u64, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    offsets
}

/// Publishes over a WebSocket with a few publishes on the way; what is not answered is published again.
async fn publish_over_socket(shared: Arc<Shared>, publisher: u64) -> Vec<u64> {
    const ON_THE_WAY: u64 = 8;
    let mut offsets: Vec<u64> = Vec::new();
    'connect: loop {
        let Ok(mut socket) = Socket::try_open(shared.addr, "/api/v1/ws").await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut sent = offsets.len() as u64;
        loop {
            while !shared.stopped() && sent < offsets.len() as u64 + ON_THE_WAY {
                let mut command = event(publisher, sent);
                command["action"] = json!("publish");
                command["id"] = json!(sent);
                if socket.try_send(&command.to_string()).await.is_err() {
                    continue 'connect;
                }
                sent += 1;
            }
            if sent == offsets.len() as u64 {
                return offsets;
            }
            let Ok(answer) = socket.try_next().await else { continue 'connect };
            assert_eq!(answer["action"], "published", "{answer}");
            assert_eq!(answer["id"], offsets.len(), "answers keep the order of the commands");
            offsets.push(answer["offset"].as_u64().unwrap());
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Follows the feed through every crash by resuming from the last offset; ends once it is stopped and has reached
/// the end of the log.
async fn follow(shared: Arc<Shared>, channels: Vec<&'static str>, filters: Value) -> Vec<(u64, String)> {
    let mut received: Vec<(u64, String)> = Vec::new();
    let mut epoch = Value::Null;
    'connect: loop {
        let Ok(mut socket) = Socket::try_open(shared.addr, "/api/v1/ws").await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let after = received.last().map_or(0, |(offset, _)| *offset);
        let command = json!({"action": "subscribe", "channels": channels, "filters": filters, "after": after, "epoch": epoch});
        if socket.try_send(&command.to_string()).await.is_err() {
            continue;
        }
        let (mut caught_up, mut fenced) = (false, false);
        loop {
            let heard = tokio::time::timeout(Duration::from_millis(50), socket.try_next()).await;
            let message = match heard {
                Err(_) if !shared.stopped() || !caught_up => continue,
                Err(_) if !fenced => {
                    fenced = true;
                    let fence = json!({"action": "subscribe", "channels": ["system"], "sub": "fence"});
                    if socket.try_send(&fence.to_string()).await.is_err() {
                        continue 'connect;
                    }
                    continue;
                }
                Err(_) => continue,
                Ok(Err(Heard::Close(code, _))) => {
                    panic!("a killed server says nothing, this one said {code}")
                }
                Ok(Err(_)) => continue 'connect,
                Ok(Ok(message)) => message,
            };
            match message["action"].as_str() {
                None => {
                    let offset = message["offset"].as_u64().unwrap();
                    received.push((offset, message["event_id"].as_str().unwrap().to_owned()));
                }
                Some("subscribed") if message["sub"] == "fence" => return received,
                Some("subscribed") => {
                    assert_eq!(message["recovered"], true, "everything is still there: {message}");
                    assert!(epoch.is_null() || epoch == message["epoch"], "the epoch changed: {message}");
                    epoch = message["epoch"].clone();
                }
                Some("caught_up") => caught_up = true,
                _ => panic!("unexpected: {message}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_a_crash() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("NEWSWIRE_CRASH_ROUNDS").unwrap_or(10);
    let seed = number("NEWSWIRE_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{rounds} rounds; NEWSWIRE_CRASH_SEED={seed} repeats their choices");
    let mut random = fastrand::Rng::with_seed(seed);

    let mut server = Server::options().set("log.segment_bytes", "1MiB").start();
    let shared =
        Arc::new(Shared { addr: server.addr, stop: AtomicBool::new(false), acknowledged: AtomicU64::new(0) });
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let shared = Arc::clone(&shared);
            if publisher % 2 == 0 {
                tokio::spawn(publish_over_http(shared, publisher))
            } else {
                tokio::spawn(publish_over_socket(shared, publisher))
            }
        })
        .collect();
    let interests = [
        (vec!["*"], json!(null)),
        (vec!["tasks"], json!({"agent": ["agent-1", "agent-4"]})),
        (vec!["agents", "budget"], json!({"event_type": ["crash.p1", "crash.p6"]})),
        (vec!["b*"], json!({"n": (0..64).collect::<Vec<_>>()})),
    ];
    let followers: Vec<_> = interests
        .iter()
        .map(|(channels, filters)| {
            tokio::spawn(follow(Arc::clone(&shared), channels.clone(), filters.clone()))
        })
        .collect();

    let epoch = server.http().get("/events?limit=1").await.json()["epoch"].clone();
    for round in 0..rounds {
        let before = shared.acknowledged.load(Ordering::Relaxed);
        eventually("publishers make progress", || async {
            (shared.acknowledged.load(Ordering::Relaxed) > before + 20).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
        tokio::task::block_in_place(|| server.restart());
        let now = server.http().get("/events?limit=1").await.json()["epoch"].clone();
        assert_eq!(now, epoch, "the epoch changed in round {round}");
    }
    shared.stop.store(true, Ordering::Relaxed);
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for (publisher, task) in (0..).zip(publishers) {
        for (sequence, offset) in (0u64..).zip(task.await.unwrap()) {
            acknowledged.insert(format!("{publisher}-{sequence}"), offset);
        }
    }
    assert_eq!(acknowledged.len() as u64, shared.acknowledged.load(Ordering::Relaxed));

    let log = server.http().history("channels=*").await;
    let offsets: Vec<u64> = log.iter().map(|event| event["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (1..=log.len() as u64).collect::<Vec<_>>(), "offsets have no holes");
    let stored: HashMap<&str, u64> = log
        .iter()
        .map(|event| (event["event_id"].as_str().unwrap(), event["offset"].as_u64().unwrap()))
        .collect();
    assert_eq!(stored.len(), log.len(), "an event id is stored twice");
    for (id, offset) in &acknowledged {
        assert_eq!(stored.get(id.as_str()), Some(offset), "{id} was acknowledged");
    }
    for (follower, (channels, filters)) in followers.into_iter().zip(interests) {
        let received = follower.await.unwrap();
        let wanted: Vec<(u64, String)> = log
            .iter()
            .filter(|event| naive::wants(&channels, &filters, event))
            .map(|event| (event["offset"].as_u64().unwrap(), event["event_id"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(received.len(), wanted.len(), "{channels:?} {filters}");
        assert!(received == wanted, "{channels:?} {filters} received other events, or in another order");
    }
    check_retries(&server.http(), &acknowledged, &mut random).await;
    eprintln!("{} events acknowledged, {} stored, through {rounds} kills", acknowledged.len(), log.len());
}

/// A publisher that never got its answer asks again, and is told where its event has been all the time.
async fn check_retries(http: &Http, acknowledged: &HashMap<String, u64>, random: &mut fastrand::Rng) {
    let mut ids: Vec<(&String, &u64)> = acknowledged.iter().collect();
    ids.sort();
    for _ in 0..50 {
        let (id, offset) = ids[random.usize(..ids.len())];
        let (publisher, sequence) = id.split_once('-').unwrap();
        let again = event(publisher.parse().unwrap(), sequence.parse().unwrap());
        let result = &http.publish(&[again]).await[0];
        assert_eq!(
            (&result["offset"], &result["duplicate"]),
            (&json!(offset), &json!(true)),
            "{id}: {result}"
        );
    }
}
