//! Server-Sent Events: what an EventSource receives, through restarts, gaps and its own slowness.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::data::{event, sized, task};
use newswire_street_tests::{EventStream, Raw, Server, eventually};
use serde_json::{Value, json};

async fn numbers(stream: &mut EventStream, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(stream.next_event().await.expect("the stream goes on")["payload"]["n"].as_u64().unwrap());
    }
    seen
}

#[tokio::test]
async fn replay_then_caught_up_then_live_with_an_id_each() {
    let server = Server::start();
    let http = server.http();
    http.publish(&[task(1), event("budget", "budget.alert", json!({})), task(2)]).await;
    let epoch = http.get("/events").await.json()["epoch"].as_str().unwrap().to_owned();
    let mut stream = EventStream::open(&http, "/events/stream?channels=tasks&after=0", None).await;
    for (id, n) in [(1, 1), (3, 2)] {
        let dispatched = stream.next().await.unwrap();
        assert_eq!((dispatched.event.as_str(), dispatched.id), ("message", format!("{epoch}:{id}")));
        let event: Value = serde_json::from_str(&dispatched.data).unwrap();
        assert_eq!((&event["payload"]["n"], &event["offset"]), (&json!(n), &json!(id)));
    }
    let caught_up = stream.next().await.unwrap();
    assert_eq!((caught_up.event.as_str(), caught_up.id), ("caught_up", format!("{epoch}:3")));
    let said: Value = serde_json::from_str(&caught_up.data).unwrap();
    assert_eq!(said, json!({"action": "caught_up", "channels": ["tasks"], "offset": 3}));
    http.publish_one(&task(3)).await;
    assert_eq!(numbers(&mut stream, 1).await, [3]);
}

#[tokio::test]
async fn an_event_is_the_very_text_that_was_stored() {
    let server = Server::start();
    let http = server.http();
    let text = "{\"channel\":\"tasks\",\"event_type\":\"a\",\"payload\":{\"n\": 1.10,\n  \"m\": 1e400}}";
    assert_eq!(http.post_events("application/json", text).await.status, 200);
    let mut stream = EventStream::open(&http, "/events/stream?after=0", None).await;
    let data = stream.next().await.unwrap().data;
    assert!(data.contains("{\"n\": 1.10,\n  \"m\": 1e400}"), "{data}");
}

#[tokio::test]
async fn filters_and_start_options_are_those_of_every_other_call() {
    let server = Server::start();
    let http = server.http();
    http.publish(&(1..=5).map(task).collect::<Vec<_>>()).await;
    let mut last = EventStream::open(&http, "/events/stream?history=2", None).await;
    assert_eq!(numbers(&mut last, 2).await, [4, 5]);
    let mut filtered = EventStream::open(&http, "/events/stream?channels=tasks&n=3,5&since=1h", None).await;
    assert_eq!(numbers(&mut filtered, 2).await, [3, 5]);
    http.get("/events/stream?channels=nowhere").await.problem(404);
    http.get("/events/stream?after=x").await.problem(400);
    let epoch = http.get("/events").await.json()["epoch"].as_str().unwrap().to_owned();
    for id in ["12".to_owned(), format!("{epoch}:{}", 1_u64 << 53), format!("{epoch}:{}", u64::MAX)] {
        let bad = http.send("GET", "/api/v1/events/stream", &[("last-event-id", &id)], "").await;
        assert_eq!(bad.problem(400), "bad_request", "{id}");
    }
}

#[tokio::test]
async fn a_stream_resumes_exactly_through_restarts() {
    let mut server = Server::start();
    let http = server.http();
    let mut seen = Vec::new();
    let mut published = 0;
    let mut id = None;
    for round in 0..4 {
        let http = if round == 0 { http.clone() } else { server.http() };
        let mut stream =
            EventStream::open(&http, "/events/stream?channels=tasks&after=0", id.as_deref()).await;
        for _ in 0..3 {
            published += 1;
            http.publish_one(&task(published)).await;
        }
        // Not all are read before the server goes: the rest has to come on the next connection.
        seen.extend(numbers(&mut stream, if round == 3 { published as usize - seen.len() } else { 2 }).await);
        id = Some(stream.last_id.clone());
        if round % 2 == 0 {
            server.kill();
        } else {
            assert!(server.stop().success());
        }
        server.restart();
    }
    assert_eq!(seen, (1..=published).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_cut_off_before_its_first_event_misses_nothing() {
    let mut server = Server::start();
    let http = server.http();
    http.publish_one(&task(1)).await;
    let mut stream = EventStream::open(&http, "/events/stream", None).await;
    // The head of the answer comes before its first bytes: killed in between, the server would not have said its place.
    stream.read_id().await;
    server.kill();
    assert!(stream.next().await.is_none());
    assert!(stream.last_id.ends_with(":1"), "{}", stream.last_id);
    server.restart();
    let http = server.http();
    http.publish_one(&task(2)).await;
    let mut stream = EventStream::open(&http, "/events/stream", Some(&stream.last_id)).await;
    assert_eq!(numbers(&mut stream, 1).await, [2]);
}

#[tokio::test]
async fn another_epoch_is_told_and_read_from_its_beginning() {
    let server = Server::start();
    let http = server.http();
    http.publish(&[task(1), task(2)]).await;
    let other = "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52:2";
    let mut stream = EventStream::open(&http, "/events/stream?channels=tasks", Some(other)).await;
    let gap = stream.next().await.unwrap();
    assert_eq!(gap.event, "gap");
    let gap: Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!((gap["action"].as_str(), gap["reason"].as_str()), (Some("gap"), Some("epoch")));
    assert_eq!(numbers(&mut stream, 2).await, [1, 2]);
}

#[tokio::test]
async fn a_quiet_stream_gets_its_place_without_data_and_signs_of_life() {
    let server =
        Server::options().set("checkpoint.interval", "200ms").set("heartbeat.interval", "1s").start();
    let http = server.http();
    let mut stream = EventStream::open(&http, "/events/stream?channels=tasks", None).await;
    http.publish_one(&event("budget", "budget.alert", json!({}))).await;
    let (_, mut raw) =
        Raw::request(server.addr, "GET /api/v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let text = raw.read_until("\r\n:\n\n\r\n").await;
    assert!(text.contains("retry: 2000\nid: "), "{text}");
    // The checkpoint dispatches nothing: it shows as the id that the next event finds.
    http.publish_one(&task(1)).await;
    assert_eq!(numbers(&mut stream, 1).await, [1]);
    assert!(stream.last_id.ends_with(":2"));
}

#[tokio::test]
async fn stopping_ends_a_stream_with_a_time_to_come_back() {
    let mut server = Server::with("shutdown.timeout", "60s");
    let http = server.http();
    let mut stream = EventStream::open(&http, "/events/stream", None).await;
    http.publish_one(&task(1)).await;
    assert_eq!(numbers(&mut stream, 1).await, [1]);
    assert!(server.stop().success(), "it does not wait for streams");
    assert!(stream.next().await.is_none());
    let retry = stream.retry.unwrap();
    assert!((100..=31_000).contains(&retry.as_millis()) && retry.as_millis() != 2000, "{retry:?}");
}

#[tokio::test]
async fn a_stream_counts_as_a_connection() {
    let server = Server::with("limits.connections", 2);
    let http = server.http();
    let stream = EventStream::open(&http, "/events/stream?channels=tasks", None).await;
    assert_eq!(http.subscribers("tasks").await, 1);
    drop(stream);
    eventually("the stream is forgotten", async || (http.subscribers("tasks").await == 0).then_some(()))
        .await;
    eventually("its end is counted", async || {
        (http.metric("newswire_event_streams_closed_total{reason=\"client left\"").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_and_costs_no_memory_before() {
    let server = Server::with("write.stall_timeout", "1s");
    let http = server.http();
    let texts: Vec<String> = (0..400).map(|_| sized("tasks", 60_000)).collect();
    for texts in texts.chunks(100) {
        http.publish_texts(texts).await;
    }
    let (_, mut raw) =
        Raw::request(server.addr, "GET /api/v1/events/stream?after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
    eventually("the peer is given up", async || {
        (http.metric("newswire_event_streams_closed_total{reason=\"stalled\"").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(http.subscribers("tasks").await, 0);
    // What the system had taken already comes; then the connection ends, and not by the end of the body.
    let text = raw.read_to_end().await;
    assert!(!text.ends_with("0\r\n\r\n"));
}
