//! The audit of the real binary: what it says, and what it must never say.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::{Server, clients, data, eventually};
use serde_json::{Value, json};

/// The audit so far, an object a line.
fn audit(server: &Server) -> Vec<Value> {
    let lines = server.stderr();
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["target"] == "newswire::audit").collect()
}

async fn told(server: &Server, act: &str) -> Value {
    let find = || audit(server).into_iter().rev().find(|event| event["act"] == act);
    eventually(act, || async { find() }).await
}

fn audited() -> Server {
    // The audit is heard whatever the level of everything else.
    Server::options().set("audit.log", true).set("logging.format", "json").set("logging.level", "off").start()
}

#[tokio::test]
async fn the_audit_says_who_came_did_what_was_refused_and_left() {
    let server = audited();
    let socket = server.socket_at("/api/v1/ws?channels=tasks").await;
    let connected = told(&server, "connected").await;
    assert_eq!((&connected["identity"], &connected["kind"]), (&json!("anonymous"), &json!("websocket")));
    assert!(connected["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{connected}");

    server.http().publish(&[data::task(1), data::task(2)]).await;
    let published = told(&server, "published").await;
    let of = |event: &Value, keys: [&str; 3]| keys.map(|key| event[key].as_u64().unwrap());
    assert_eq!(of(&published, ["events", "first_offset", "last_offset"]), [2, 1, 2]);

    let bad = json!({"channel": "nowhere", "event_type": "task.created", "payload": {}});
    server.http().publish(&[data::task(3), bad]).await;
    let refused = told(&server, "publish refused").await;
    assert_eq!((&refused["reason"], &refused["events"]), (&json!("unknown_channel"), &json!(1)));

    let foreign = [("origin", "https://elsewhere.example")];
    let answer = server.http().send("GET", "/api/v1/events?agent=planted-in-query", &foreign, "").await;
    assert_eq!(answer.status, 403);
    let refused = told(&server, "request refused").await;
    assert_eq!((&refused["status"], &refused["path"]), (&json!(403), &json!("/api/v1/events")));
    assert_eq!(refused["request"], answer.headers["x-request-id"].to_str().unwrap());

    socket.close().await;
    let left = told(&server, "disconnected").await;
    assert_eq!(left["connection"], connected["connection"]);
    assert!(!server.stderr().contains("planted-in-query"), "{}", server.stderr());
}

#[tokio::test]
async fn the_audit_says_what_was_subscribed_and_what_not_and_why() {
    let server = audited();
    let mut socket = server.socket().await;
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks", "room-\n7"], "filters": {"agent": "planted-in-filter"}})).await;
    let subscribed = told(&server, "subscribed").await;
    assert_eq!((&subscribed["identity"], &subscribed["channels"]), (&json!("anonymous"), &json!("tasks")));
    let refused = told(&server, "subscribe refused").await;
    assert_eq!((&refused["channels"], &refused["reason"]), (&json!("room-\\n7"), &json!("unknown_channel")));
    socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks"]})).await;
    let unsubscribed = told(&server, "unsubscribed").await;
    assert_eq!(
        (&unsubscribed["connection"], &unsubscribed["channels"]),
        (&subscribed["connection"], &json!("tasks"))
    );
    let too_much: Vec<String> = (0..11).map(|n| format!("\"k{n}\":1")).collect();
    let filters = too_much.join(",");
    socket
        .send_text(&format!(r#"{{"action":"subscribe","channels":["budget"],"filters":{{{filters}}}}}"#))
        .await;
    socket.expect("error").await;
    // Of what cannot be read nothing is known but that it cannot: that is no subscription.
    assert!(!audit(&server).iter().any(|event| event["channels"] == "budget"));
    assert!(!server.stderr().contains("planted-in-filter"), "{}", server.stderr());
}

#[tokio::test]
async fn event_streams_are_audited_as_sockets_are() {
    let server = audited();
    let stream = server.http().open("/api/v1/events/stream?channels=tasks&agent=planted-in-query", &[]).await;
    let connected = told(&server, "connected").await;
    assert_eq!(connected["kind"], "stream");
    assert!(connected["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{connected}");
    let subscribed = told(&server, "subscribed").await;
    assert_eq!(
        (&subscribed["connection"], &subscribed["channels"]),
        (&connected["connection"], &json!("tasks"))
    );
    drop(stream);
    let left = told(&server, "disconnected").await;
    assert_eq!((&left["connection"], &left["why"]), (&connected["connection"], &json!("client left")));
    let unknown = server.http().get("/events/stream?channels=nowhere").await;
    assert_eq!(unknown.status, 404);
    let refused = told(&server, "subscribe refused").await;
    assert_eq!((&refused["channels"], &refused["reason"]), (&json!("nowhere"), &json!("unknown_channel")));
    assert!(!server.stderr().contains("planted-in-query"), "{}", server.stderr());
}

#[tokio::test]
async fn the_audit_says_whose_credentials_were_taken_and_whose_not() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "a-secret-of-the-tests-that-is-long-enough").unwrap();
    let server = Server::options()
        .set("audit.log", true)
        .set("logging.format", "json")
        .set("logging.level", "off")
        .set("auth.jwt.secret_file", secret.display())
        .start();
    let file = secret.display().to_string();
    let made =
        clients::run(&["token", "jwt", "--secret-file", &file, "--subject", "sarah", "--role", "admin"]);
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();

    let mut socket = server.socket().await;
    socket.send(&json!({"action": "auth", "token": token})).await;
    socket.expect("auth_ok").await;
    let taken = told(&server, "authenticated").await;
    assert_eq!((&taken["identity"], &taken["role"]), (&json!("sarah"), &json!("administrator")));

    let mut socket = server.socket().await;
    socket.send(&json!({"action": "auth", "token": "planted.secret.token"})).await;
    let not_taken = told(&server, "authentication refused").await;
    assert!(!not_taken["reason"].as_str().unwrap().is_empty());

    assert_eq!(server.http().get("/channels").await.status, 401);
    let refused = told(&server, "request refused").await;
    assert_eq!((&refused["status"], &refused["reason"]), (&json!(401), &json!("unauthorized")));

    let bearer = format!("Bearer {token}");
    let compacted =
        server.http().send("POST", "/api/v1/admin/compact", &[("authorization", &bearer)], "").await;
    assert_eq!(compacted.status, 200);
    let did = told(&server, "administered").await;
    assert_eq!((&did["identity"], &did["what"]), (&json!("sarah"), &json!("compact")));
    assert!(!server.stderr().contains("planted.secret") && !server.stderr().contains(&token));
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_audit() {
    let server = Server::options().set("logging.format", "json").set("logging.level", "debug").start();
    let socket = server.socket().await;
    server.http().publish_one(&data::task(1)).await;
    socket.close().await;
    let ended = || async { server.stderr().contains("connection ended").then_some(()) };
    eventually("it is told at debug that the connection ended", ended).await;
    assert_eq!(audit(&server), Vec::<Value>::new());
}

/// A secret in every place that a caller or the environment can put one in: it shows up in no output of the server.
#[tokio::test]
async fn what_is_secret_is_in_no_output() {
    const SECRET: &str = "planted-5f1c-secret";
    let server = Server::options()
        .set("audit.log", true)
        .set("logging.level", "trace")
        .set("telemetry.endpoint", "http://127.0.0.1:9")
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={SECRET}"))
        .start();
    let http = server.http();
    let bearer = format!("Bearer {SECRET}");
    let cookie = format!("session={SECRET}");
    let headers = [("authorization", &*bearer), ("cookie", &*cookie), ("content-type", "application/json")];
    let mut event = data::task(1);
    event["payload"]["secret"] = json!(SECRET);
    let mut said = Vec::new();
    for path in ["/api/v1/channels", "/api/v1/nowhere", "/api/v1/health", "/metrics"] {
        let answer = http.send("GET", path, &headers, "").await;
        said.push(answer.body);
        said.push(http.send("GET", &format!("{path}?ticket={SECRET}"), &[], "").await.body);
    }
    said.push(http.send("POST", "/api/v1/events", &headers, event.to_string()).await.body);
    said.push(
        http.send("POST", "/api/v1/events", &headers, format!("{{\"payload\":\"{SECRET}\"")).await.body,
    );
    let mut socket = server.socket_at(&format!("/api/v1/ws?ticket={SECRET}")).await;
    socket.send(&json!({"action": "auth", "token": SECRET})).await;
    drop(socket);
    said.push(http.send("GET", "/metrics", &[], "").await.body);
    for body in said {
        assert!(!body.contains(SECRET), "{body}");
    }
    eventually("the audit of it", || async { server.stderr().contains("newswire::audit").then_some(()) })
        .await;
    for line in server.stderr().lines() {
        assert!(!line.contains(SECRET), "{line}");
    }
}
