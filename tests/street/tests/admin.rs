//! What administrators may: see who is connected, close one, trim and compact the log; and who is none.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::data::{event, task};
use newswire_street_tests::{Ending, EventStream, Raw, Server, ServerOptions, eventually};
use serde_json::{Value, json};

const JSON: &str = "application/json";

#[tokio::test]
async fn every_connection_is_listed_with_what_it_does() {
    let server = Server::start();
    let http = server.http();
    http.publish(&[task(1), task(2)]).await;
    let _socket = Raw::open(
        server.addr,
        "/api/v1/ws/tasks?agent=sarah_chen,tom&event_type=task.*&colour=red&sub=board",
    )
    .await;
    let mut stream = EventStream::open(&http, "/events/stream?channels=tasks&after=0", None).await;
    stream.next_event().await.unwrap();
    stream.next_event().await.unwrap();
    http.publish_one(&task(3)).await;
    stream.next_event().await.unwrap();
    let listed = eventually("both are there, and the stream has been sent its events", async || {
        let listed = http.get("/connections").await.data();
        let listed = listed.as_array().unwrap().clone();
        let sent = listed.iter().any(|connection| connection["last_offset"] == 3);
        (listed.len() == 2 && sent && listed[0]["subscriptions"] != json!([])).then_some(listed)
    })
    .await;
    let of = |kind: &str| listed.iter().find(|connection| connection["kind"] == kind).unwrap();
    let socket = of("websocket");
    assert_eq!(
        socket["subscriptions"],
        json!([{"channel": "tasks", "sub": "board", "state": "live",
            "filters": {"agent": ["sarah_chen", "tom"], "colour": ["red"], "event_type": ["task.*"]}}]),
        "{socket}"
    );
    let stream = of("stream");
    assert_eq!((&stream["identity"], &stream["last_offset"]), (&json!("anonymous"), &json!(3)));
    assert_eq!(stream["subscriptions"][0]["filters"], json!({}));
    for connection in &listed {
        assert!(connection["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{connection}");
        assert!(connection["since"].as_str().unwrap().ends_with('Z'));
        for figure in ["id", "lag", "queued_bytes", "dropped"] {
            assert!(connection[figure].is_u64(), "{figure}: {connection}");
        }
    }
    let first = http.get("/connections?limit=1").await.json();
    let rest = http.get(&format!("/connections?limit=1&after={}", first["next"])).await.json();
    assert_eq!((&first["data"][0]["id"], &rest["data"][0]["id"]), (&listed[0]["id"], &listed[1]["id"]));
    assert_eq!(rest["next"], Value::Null);
    assert_eq!(http.get("/connections?limit=0").await.problem(400), "bad_request");
}

#[tokio::test]
async fn one_is_closed_and_the_others_stay() {
    let server = Server::start();
    let http = server.http();
    let mut kicked = Raw::open(server.addr, "/api/v1/ws/budget").await;
    let mut stays = server.socket_at("/api/v1/ws/tasks").await;
    let id = eventually("it is there", async || {
        let listed = http.get("/connections").await.data();
        let subscribes = |connection: &&Value| connection["subscriptions"][0]["channel"] == "budget";
        listed.as_array().unwrap().iter().find(subscribes)?["id"].as_u64()
    })
    .await;
    let mut stream = EventStream::open(&http, "/events/stream", None).await;
    let answer = http.send("DELETE", &format!("/api/v1/connections/{id}"), &[], "").await;
    assert_eq!(answer.data(), json!({"id": id, "closed": true}));
    assert_eq!(kicked.ending().await, Ending::Close(4003));
    let listed = http.get("/connections").await.data();
    let streams: Vec<&Value> =
        listed.as_array().unwrap().iter().filter(|connection| connection["kind"] == "stream").collect();
    let path = format!("/api/v1/connections/{}", streams[0]["id"]);
    assert_eq!(http.send("DELETE", &path, &[], "").await.status, 200);
    assert!(stream.next().await.is_none(), "a stream ends");
    http.publish_one(&task(1)).await;
    stays.expect("subscribed").await;
    assert_eq!(stays.event().await["offset"], 1);
    eventually("they are forgotten", async || {
        (http.send("DELETE", &path, &[], "").await.status == 404).then_some(())
    })
    .await;
    http.send("DELETE", "/api/v1/connections/x", &[], "").await.problem(400);
    http.send("GET", "/api/v1/connections/1", &[], "").await.problem(405);
}

#[tokio::test]
async fn events_before_an_offset_are_trimmed() {
    let server = Server::start();
    let http = server.http();
    let other = event("budget", "budget.alert", json!({}));
    http.publish(&[task(1), other.clone(), task(2), other, task(3)]).await;
    let trim = async |body: Value| {
        http.send("POST", "/api/v1/admin/trim", &[("content-type", JSON)], body.to_string()).await
    };
    let of_one = trim(json!({"before": 4, "channels": ["tasks"]})).await.data();
    assert_eq!((&of_one["removed"], &of_one["events"]), (&json!(2), &json!(3)), "{of_one}");
    assert_eq!(
        http.history("").await.iter().map(|event| event["offset"].clone()).collect::<Vec<_>>(),
        [2, 4, 5]
    );
    let of_all = trim(json!({"before": 5})).await.data();
    assert_eq!((&of_all["removed"], &of_all["head"]), (&json!(2), &json!(5)), "{of_all}");
    http.get("/events/4").await.problem(404);
    assert_eq!(http.publish_one(&task(4)).await, 6);
    for (body, status) in [
        (json!({}), 400),
        (json!({"before": 0}), 400),
        (json!({"before": "5"}), 400),
        (json!({"before": 5, "channels": []}), 400),
        (json!({"before": 5, "channels": ["nowhere"]}), 404),
        (json!([]), 400),
    ] {
        trim(body).await.problem(status);
    }
    http.send("POST", "/api/v1/admin/trim", &[], "{\"before\":5}").await.problem(415);
    http.send("POST", "/api/v1/admin/trim", &[("content-type", JSON)], "{").await.problem(400);
    http.send("GET", "/api/v1/admin/trim", &[], "").await.problem(405);
}

#[tokio::test]
async fn compacting_applies_retention_now() {
    let server =
        ServerOptions::default().set("retention.max_events", 3).set("log.segment_bytes", "1MiB").start();
    let http = server.http();
    http.publish(&(1..=10).map(task).collect::<Vec<_>>()).await;
    let compacted = http.send("POST", "/api/v1/admin/compact", &[], "").await.data();
    assert!(compacted["removed"].is_u64() && compacted["bytes"].is_u64(), "{compacted}");
    assert_eq!(compacted["events"], 3, "{compacted}");
    assert_eq!(http.history("").await.len(), 3);
}

#[tokio::test]
async fn nobody_is_an_administrator_on_a_server_for_all() {
    let server = Server::with("auth.mode", "none");
    let http = server.http();
    for (method, path) in [
        ("GET", "/api/v1/connections"),
        ("DELETE", "/api/v1/connections/1"),
        ("POST", "/api/v1/admin/trim"),
        ("POST", "/api/v1/admin/compact"),
    ] {
        let answer = http.send(method, path, &[("content-type", JSON)], "{\"before\":1}").await;
        assert_eq!(answer.problem(403), "forbidden", "{method} {path}");
    }
    http.publish_one(&task(1)).await;
    let server = ServerOptions::default().set("auth.mode", "none").set("auth.anonymous_admin", true).start();
    assert_eq!(server.http().get("/connections").await.data(), json!([]));
}
