//! permessage-deflate over real sockets: every connection is read with one continuous inflater, as a strict client has
//! it, and all that comes must be whole.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::deflated::{COMPRESSED, Client, deflate, upgrade};
use newswire_street_tests::raw::Ending;
use newswire_street_tests::{Frame, Server};
use serde_json::{Value, json};

/// Events `first..=last`, which say their own offset; every third is of `budget`, agents take turns.
fn events(first: u64, last: u64) -> Vec<Value> {
    let event = |n: u64| {
        let agent = if n.is_multiple_of(2) { "ann" } else { "bob" };
        json!({
            "channel": if n.is_multiple_of(3) { "budget" } else { "tasks" },
            "event_type": "task.status_changed",
            "payload": {"n": n, "agent_id": agent, "status": "in_progress", "title": "Write it down"},
        })
    };
    (first..=last).map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_reads_everything_whenever_they_come() {
    let server = Server::with("fanout.shards", 1);
    let http = server.http();
    let mut all = Vec::new();
    for step in 0..40u64 {
        if step % 4 == 0 {
            all.push((step * 30, Client::open(server.addr, "/api/v1/ws?channels=*").await));
            let (_, client) = all.last_mut().unwrap();
            assert_eq!(client.next().await["action"], "subscribed");
        }
        http.publish(&events(step * 30 + 1, step * 30 + 30)).await;
        for (_, client) in all.iter_mut().skip(1) {
            // Answers stand between the events, and enter no window.
            client.send(&json!({"action": "ping", "id": format!("{step}")})).await;
        }
    }
    for (before, mut client) in all {
        assert_eq!(client.read_to(1200).await, (before + 1..=1200).collect::<Vec<u64>>());
        // The first has a segment from its start; the others at least what came behind the next ones.
        let least = if before == 0 { 1200 } else { (1200 - before as usize).saturating_sub(400) };
        assert!(client.compressed >= least, "{} compressed of those behind {before}", client.compressed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_sets_have_streams_of_their_own() {
    let server = Server::with("fanout.shards", 1);
    let http = server.http();
    let mut filtered = Client::open(server.addr, "/api/v1/ws?channels=tasks&agent=ann").await;
    let mut changing = Client::open(server.addr, "/api/v1/ws/tasks").await;
    let mut sets = Client::open(server.addr, "/api/v1/ws/tasks").await;
    sets.send(&json!({"action": "subscribe", "channels": ["b*"], "sub": "s", "filters": {"agent": "bob"}}))
        .await;
    for client in [&mut filtered, &mut changing, &mut sets] {
        assert_eq!(client.next().await["action"], "subscribed");
    }
    assert_eq!(sets.next().await["sub"], "s");
    http.publish(&events(1, 100)).await;
    changing.read_to(100).await;
    changing.send(&json!({"action": "subscribe", "channels": ["tasks"], "filters": {"agent": "ann"}})).await;
    while changing.next().await["action"] != "subscribed" {}
    http.publish(&events(101, 200)).await;
    let of = |keep: fn(u64) -> bool, first: u64| (first..=200).filter(|n| keep(*n)).collect::<Vec<u64>>();
    let ann = |n: u64| !n.is_multiple_of(3) && n.is_multiple_of(2);
    assert_eq!(filtered.read_to(200).await, of(ann, 1));
    assert_eq!(changing.read_to(200).await, of(ann, 101));
    assert_eq!(sets.read_to(200).await, of(|n| !n.is_multiple_of(3) || n % 2 == 1, 1));
    for client in [&filtered, &changing, &sets] {
        assert!(client.compressed > 30, "{}", client.compressed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_no_window_and_one_that_offers_nothing_get_plain_frames() {
    let server = Server::start();
    let (head, mut without) = upgrade(
        server.addr,
        "/api/v1/ws/tasks",
        "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_no_context_takeover",
    )
    .await;
    assert!(head.contains("client_no_context_takeover; server_no_context_takeover"), "{head}");
    let (head, mut nothing) = upgrade(server.addr, "/api/v1/ws/tasks", "permessage-deflate; what=ever").await;
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    for raw in [&mut without, &mut nothing] {
        assert!(raw.next_text().await.contains("subscribed"));
    }
    server.http().publish(&events(1, 2)).await;
    for raw in [&mut without, &mut nothing] {
        let frame = raw.next().await.unwrap();
        assert_eq!(
            (frame.rsv, serde_json::from_slice::<Value>(&frame.payload).unwrap()["offset"].as_u64()),
            (0, Some(1))
        );
    }
    // What one may send compressed, the other may not.
    let ping = Frame::text(deflate(r#"{"action":"ping"}"#)).rsv(COMPRESSED);
    without.send(&ping).await;
    while !without.next_text().await.contains("pong") {}
    nothing.send(&ping).await;
    assert_eq!(nothing.ending().await, Ending::Close(1002));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_inflated_or_grows_too_large_is_refused() {
    let server = Server::start();
    let mut client = Client::open(server.addr, "/api/v1/ws").await;
    client.send(&json!({"action": "ping", "pad": "x".repeat(100_000)})).await;
    assert_eq!(client.next().await["error"], "Message too large");
    client.send_frame(&Frame::text(deflate(&"a".repeat(2 << 20))).rsv(COMPRESSED)).await;
    assert_eq!(client.ending().await, Ending::Close(1009));
    let mut client = Client::open(server.addr, "/api/v1/ws").await;
    client.send_frame(&Frame::text("no deflate at all").rsv(COMPRESSED)).await;
    assert_eq!(client.ending().await, Ending::Close(1007));
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_nothing_is_agreed_on() {
    let server = Server::with("websocket.compression", "off");
    let (head, mut raw) = upgrade(server.addr, "/api/v1/ws", "permessage-deflate").await;
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    raw.send(&Frame::text(deflate(r#"{"action":"ping"}"#)).rsv(COMPRESSED)).await;
    assert_eq!(raw.ending().await, Ending::Close(1002));
}
