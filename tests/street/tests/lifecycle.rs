//! Starts, stops and what they leave behind: epochs, retention under a reader's feet, connection limits, a stop under
//! load.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use newswire_street_tests::data::{self, event, task};
use newswire_street_tests::socket::offset_of;
use newswire_street_tests::{Heard, Http, Server, Socket, eventually};
use serde_json::{Value, json};

async fn publish_tasks(server: &Server, count: u64) {
    server.http().publish(&(1..=count).map(task).collect::<Vec<_>>()).await;
}

async fn epoch_of(server: &Server) -> Value {
    server.http().get("/events?limit=1").await.json()["epoch"].clone()
}

fn offsets(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["offset"].as_u64().unwrap()).collect()
}

/// Resumes after offset 5 of an older epoch and gives the answer, the gap, and what was replayed.
async fn resume_across(server: &Server, old: &Value) -> (Value, Value, Vec<u64>) {
    let mut socket = server.socket().await;
    let command = json!({"action": "subscribe", "channels": ["tasks"], "after": 5, "epoch": old});
    let answer = socket.ask(&command).await;
    let gap = socket.expect("gap").await;
    let (replayed, _) = socket.until("caught_up").await;
    (answer, gap, offsets(&replayed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weaker_sync_keeps_the_epoch_only_over_a_clean_stop() {
    for sync in ["os", "interval"] {
        let mut server = Server::with("log.sync", sync);
        publish_tasks(&server, 5).await;
        let first = epoch_of(&server).await;
        assert!(tokio::task::block_in_place(|| server.stop()).success());
        server.restart();
        assert_eq!(epoch_of(&server).await, first, "{sync}: a clean stop proves that nothing was lost");
        publish_tasks(&server, 1).await;
        // SIGKILL, then a start: the log cannot know what the machine kept.
        server.restart();
        let second = epoch_of(&server).await;
        assert_ne!(second, first, "{sync}: an unclean stop begins a new epoch");
        let (answer, gap, replayed) = resume_across(&server, &first).await;
        assert_eq!((&answer["recovered"], &answer["epoch"]), (&json!(false), &second), "{sync}");
        assert_eq!((&gap["reason"], &gap["epoch"]), (&json!("epoch"), &second), "{sync}: {gap}");
        assert_eq!(replayed, [1, 2, 3, 4, 5, 6], "{sync}: from the oldest retained");
        let next = server.http().publish_one(&task(7)).await;
        assert!(next > 6, "{sync}: an offset is not given twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_memory_begins_anew() {
    let mut server = Server::with("log.backend", "memory");
    publish_tasks(&server, 9).await;
    let first = epoch_of(&server).await;
    server.restart();
    assert_ne!(epoch_of(&server).await, first);
    publish_tasks(&server, 2).await;
    let (answer, gap, replayed) = resume_across(&server, &first).await;
    assert_eq!((&answer["recovered"], &gap["reason"]), (&json!(false), &json!("epoch")));
    assert_eq!(replayed, [1, 2]);
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let server = Server::with("limits.connections", 3);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = server.socket().await;
        socket.subscribe(&["tasks"]).await;
        sockets.push(socket);
    }
    let mut fourth = server.socket().await;
    let Heard::Close(4029, reason) = fourth.ending().await else { panic!("no close frame with 4029") };
    let millis = reason.strip_prefix("retry_after_ms=").expect("the reason says when");
    millis.parse::<u64>().expect("milliseconds");
    drop(sockets.pop());
    let mut again = eventually("there is room again", || async {
        let mut socket = server.socket().await;
        socket.try_send(r#"{"action":"ping"}"#).await.ok()?;
        matches!(socket.hear().await, Heard::Text(_)).then_some(socket)
    })
    .await;
    again.subscribe(&["tasks"]).await;
    publish_tasks(&server, 1).await;
    for mut socket in sockets.into_iter().chain([again]) {
        assert_eq!(socket.event().await["offset"], 1, "those inside are not disturbed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_trimmed_before_a_slow_reader_came_to_it_is_a_gap() {
    const COUNT: u64 = 20_000;
    let server = Server::options()
        .set("retention.max_bytes", "4MiB")
        .set("log.segment_bytes", "1MiB")
        .set("ring.max_bytes", "1MiB")
        .set("write.stall_timeout", "10m")
        .start();
    let http = server.http();
    let mut slow = Socket::open_narrow(server.addr, "/api/v1/ws").await;
    slow.subscribe(&["tasks"]).await;
    let batch: Vec<String> = (0..500).map(|_| data::sized("tasks", 1000)).collect();
    for _ in 0..COUNT / 500 {
        http.publish_texts(&batch).await;
    }
    eventually("most of it is trimmed", || async {
        let oldest = http.get("/events?order=asc&limit=1").await.data()[0]["offset"].as_u64()?;
        (oldest > COUNT / 2).then_some(())
    })
    .await;
    let (mut reached, mut missing, mut received) = (0, 0, 0);
    while reached < COUNT {
        let Heard::Text(text) = slow.hear().await else { panic!("cut off at {reached}") };
        if text.contains("\"action\":\"gap\"") {
            let gap: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&gap["reason"], &gap["channels"]), (&json!("retention"), &json!(["tasks"])), "{gap}");
            let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
            assert!(from == reached + 1 && to >= from, "{gap} after {reached}");
            missing += to - from + 1;
            reached = to;
        } else if !text.contains("\"checkpoint\"") {
            assert_eq!(
                offset_of(&text),
                Some(reached + 1),
                "lost without a word, or sent twice: {text:.200}"
            );
            (received, reached) = (received + 1, reached + 1);
        }
    }
    assert_eq!(received + missing, COUNT);
    assert!(missing > 0 && received > 0, "{received} received, {missing} missing");
    let next = http.publish_one(&task(1)).await;
    assert_eq!(slow.event().await["offset"], next, "it goes on live");
    slow.nothing_more().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_what_it_took() {
    let mut server = Server::start();
    let addr = server.addr;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..6u64)
        .map(|publisher| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let http = Http::new(addr);
                let mut acknowledged = Vec::new();
                for sequence in 0u64.. {
                    let mut event = task(sequence);
                    event["event_id"] = json!(format!("{publisher}-{sequence}"));
                    let headers = [("content-type", "application/json")];
                    let body = event.to_string().into_bytes();
                    let Ok(answer) = http.try_send("POST", "/api/v1/events", &headers, body).await else {
                        break;
                    };
                    if answer.status == 503 || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    acknowledged.push(answer.data()["results"][0]["offset"].as_u64().unwrap());
                }
                acknowledged
            })
        })
        .collect();
    let mut reader = server.socket().await;
    reader.subscribe(&["tasks"]).await;
    // Publishers may have been faster than the subscription.
    let mut last = reader.events(200).await.last().unwrap()["offset"].as_u64().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            match reader.hear().await {
                Heard::Text(text) => {
                    last += 1;
                    assert_eq!(offset_of(&text), Some(last));
                }
                ending => return (ending, last),
            }
        }
    });
    let status = tokio::task::block_in_place(|| server.stop());
    stop.store(true, Ordering::Relaxed);
    assert!(status.success(), "{status:?}\n{}", server.stderr());
    let (ending, last) = closing.await.unwrap();
    assert!(matches!(ending, Heard::Close(1001, _)), "{ending:?}");
    server.restart();
    let log = offsets(&server.http().history("channels=tasks").await);
    assert_eq!(log, (1..=log.len() as u64).collect::<Vec<_>>());
    assert!(last <= log.len() as u64, "{last} were shown, {} are there", log.len());
    for publisher in publishers {
        for offset in publisher.await.unwrap() {
            assert!(offset <= log.len() as u64, "{offset} was acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_and_readers_find_everything_after_many_clean_restarts() {
    let mut server = Server::with("log.segment_bytes", "1MiB");
    let mut socket_position = 0;
    for round in 0..6u64 {
        let pad = "x".repeat(3000);
        let events: Vec<Value> =
            (0..100).map(|n| event("tasks", "t", json!({"n": round * 100 + n, "pad": pad}))).collect();
        server.http().publish(&events).await;
        let mut socket = server.socket().await;
        let command = json!({"action": "subscribe", "channels": ["tasks"], "after": socket_position});
        assert_eq!(socket.ask(&command).await["recovered"], true);
        let (replayed, caught_up) = socket.until("caught_up").await;
        assert_eq!(offsets(&replayed), (socket_position + 1..=(round + 1) * 100).collect::<Vec<_>>());
        socket_position = caught_up["offset"].as_u64().unwrap();
        if round % 2 == 0 {
            assert!(tokio::task::block_in_place(|| server.stop()).success());
        }
        server.restart();
    }
    let channel = server.http().channel("tasks").await;
    assert_eq!(
        (&channel["events"], &channel["first_offset"], &channel["last_offset"]),
        (&json!(600), &json!(1), &json!(600))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_safe_to_resume_every_set_from() {
    let server = Server::with("checkpoint.interval", "100ms");
    let http = server.http();
    let mut socket = server.socket().await;
    let sets =
        [("one", json!({"n": [1, 2, 3]})), ("two", json!({"agent": "ann"})), ("three", json!({"n": [3, 4]}))];
    let subscribe = |sub: &str, filters: &Value, after: Option<u64>| json!({"action": "subscribe", "channels": ["tasks", "budget"], "filters": filters, "sub": sub, "after": after});
    for (sub, filters) in &sets {
        assert_eq!(socket.ask(&subscribe(sub, filters, None)).await["action"], "subscribed");
    }
    let publisher = tokio::spawn({
        let http = http.clone();
        async move {
            for batch in 0..40u64 {
                let one = |n: u64| {
                    let agent = if n.is_multiple_of(7) { "ann" } else { "bob" };
                    event(
                        ["tasks", "budget", "agents"][(n % 3) as usize],
                        "t",
                        json!({"n": n % 9, "agent": agent}),
                    )
                };
                http.publish(&(0..25).map(|n| one(batch * 25 + n)).collect::<Vec<_>>()).await;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
    // What arrives up to the first checkpoint in the middle of the stream, and what a resume from it brings.
    let (mut before, mut checkpoint) = (Vec::new(), 0);
    while checkpoint < 300 {
        let Heard::Text(text) = socket.hear().await else { panic!("the connection ended") };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["action"] == "checkpoint" {
            checkpoint = message["offset"].as_u64().unwrap();
        } else {
            before.push(message["offset"].as_u64().unwrap());
        }
    }
    drop(socket);
    publisher.await.unwrap();
    let log = http.history("channels=*").await;
    let mut resumed = server.socket().await;
    for (sub, filters) in &sets {
        resumed.ask(&subscribe(sub, filters, Some(checkpoint))).await;
        let after = offsets(&resumed.until("caught_up").await.0);
        let wanted = log
            .iter()
            .filter(|event| newswire_street_tests::naive::wants(&["tasks", "budget"], filters, event));
        for offset in offsets(&wanted.cloned().collect::<Vec<_>>()) {
            assert!(
                before.contains(&offset) || after.contains(&offset),
                "{offset} of {sub} is lost at {checkpoint}"
            );
        }
    }
}
