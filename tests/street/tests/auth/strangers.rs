//! Those who have not said who they are, and those who say it wrong again and again: neither keeps anybody out who is known.

use newswire_street_tests::{EventStream, Heard, Server, Socket, eventually};
use serde_json::{Value, json};

use crate::support::*;

/// Comes from another address, as the proxy of these tests says.
fn from(address: &'static str) -> (&'static str, &'static str) {
    ("x-forwarded-for", address)
}

async fn silent(server: &Server, address: &'static str) -> Socket {
    Socket::try_open_with(server.addr, "/api/v1/ws", &[from(address)]).await.unwrap()
}

async fn is_told_to_come_back(socket: &mut Socket) {
    let Heard::Close(4029, reason) = socket.ending().await else { panic!("not closed with 4029") };
    let wait: u64 = reason.strip_prefix("retry_after_ms=").unwrap().parse().unwrap();
    assert!(wait > 0);
}

async fn is_there(socket: &mut Socket) {
    assert_eq!(socket.ask(&json!({"action": "ping"})).await["action"], "pong");
}

#[tokio::test]
async fn strangers_take_no_places_of_those_who_are_known_and_displace_each_other() {
    let home = tempfile::tempdir().unwrap();
    let options = options(&home).set("limits.connections", 2).set("limits.unauthenticated", 3);
    let options = options.set("auth.timeout", "1h").set("server.trusted_proxies", "127.0.0.1");
    let server = options.set("limits.auth_failures_per_minute", "none").start();
    let token = good("sarah", "admin");
    let mut patient = silent(&server, "10.0.0.2").await;
    let mut first = silent(&server, "10.0.0.1").await;
    let mut second = silent(&server, "10.0.0.1").await;
    let (mut one, mut two) = (socket_as(&server, &token).await, socket_as(&server, &token).await);
    for known in [&mut one, &mut two] {
        known.subscribe(&["tasks"]).await;
    }
    let metrics = get_as(&server, &token, "/metrics").await.body;
    assert!(metrics.contains("newswire_connections_unauthenticated 3"), "{metrics}");
    // Whoever opens many makes room for itself, and for nobody else.
    let mut third = silent(&server, "10.0.0.1").await;
    is_told_to_come_back(&mut first).await;
    let metrics = get_as(&server, &token, "/metrics").await.body;
    assert!(metrics.contains("newswire_connections_displaced_total 1"), "{metrics}");
    // All places of those who are known are taken.
    is_told_to_come_back(&mut socket_as(&server, &token).await).await;
    third.send(&json!({"action": "auth", "token": token})).await;
    is_told_to_come_back(&mut third).await;
    drop(two);
    let gone = async || {
        let connected = get_as(&server, &token, "/api/v1/connections").await.data();
        (connected.as_array().unwrap().iter().filter(|one| one["identity"] == "sarah").count() == 1)
            .then_some(())
    };
    eventually("one has left", gone).await;
    for action in
        [json!({"action": "auth", "token": token}), json!({"action": "subscribe", "channels": ["tasks"]})]
    {
        patient.send(&action).await;
    }
    patient.expect("auth_ok").await;
    patient.expect("subscribed").await;
    is_there(&mut one).await;
    second.send(&json!({"action": "auth", "token": "nonsense"})).await;
    assert!(matches!(second.ending().await, Heard::Close(4001, _)), "it was there all the time");
}

#[tokio::test]
async fn an_identity_has_so_many_connections_by_whatever_way_they_come() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("limits.connections_per_identity", 2).start();
    let (sarah, other) = (good("sarah", "observer"), good("other", "admin"));
    let first = socket_as(&server, &sarah).await;
    let stream = [("authorization", bearer(&sarah))];
    let stream = stream.each_ref().map(|(name, value)| (*name, value.as_str()));
    let path = "/events/stream?channels=tasks";
    let streaming = EventStream::open_with(&server.http(), path, &stream).await;
    is_told_to_come_back(&mut socket_as(&server, &sarah).await).await;
    let mut late = server.socket().await;
    late.send(&json!({"action": "auth", "token": sarah})).await;
    is_told_to_come_back(&mut late).await;
    let refused = server.http().send("GET", &format!("/api/v1{path}"), &stream, "").await;
    assert_eq!(refused.problem(429), "too_many_connections");
    assert!(refused.body.contains("limits.connections_per_identity"), "{}", refused.body);
    assert_eq!(get_as(&server, &sarah, "/api/v1/events").await.status, 200, "requests are none of them");
    socket_as(&server, &other).await.subscribe(&["tasks"]).await;
    let metrics = get_as(&server, &other, "/metrics").await.body;
    assert!(metrics.contains("newswire_connections_refused_total 3"), "{metrics}");
    drop((first, streaming));
    eventually("there is room again", async || {
        let mut again = socket_as(&server, &sarah).await;
        again.try_send(r#"{"action":"ping"}"#).await.ok()?;
        matches!(again.hear().await, Heard::Text(answer) if answer.contains("pong")).then_some(())
    })
    .await;
}

/// How this is answered from there.
async fn status(server: &Server, address: &'static str, token: &str) -> u16 {
    let headers = [("authorization", bearer(token)), (from(address).0, address.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.http().send("GET", "/api/v1/events", &headers, "").await.status
}

#[tokio::test]
async fn whoever_fails_too_often_is_not_looked_at_and_whoever_is_known_goes_on() {
    const HERE: &str = "10.0.0.1";
    let home = tempfile::tempdir().unwrap();
    let options =
        options(&home).set("server.trusted_proxies", "127.0.0.1").set("auth.keys.ci.hash", KEY_HASH);
    let options = options.set("limits.auth_failures_per_minute", 1).set("limits.auth_failures_burst", 6);
    let server = options.start();
    let (known, new) = (good("sarah", "observer"), good("tom", "observer"));
    assert_eq!(status(&server, HERE, &known).await, 200);
    let as_known = [("authorization", bearer(&known)), ("x-forwarded-for", HERE.to_owned())];
    let as_known = as_known.each_ref().map(|(name, value)| (*name, value.as_str()));
    let ticket = server.http().send("POST", "/api/v1/auth/ws-ticket", &as_known, "").await.data();
    // By header, in an upgrade, in a first frame, as ticket, as cookie: all of it counts, once each.
    assert_eq!(status(&server, HERE, "nonsense").await, 401);
    assert_eq!(status(&server, HERE, "nw_ci_wrong").await, 401);
    let bad = [("authorization", "Bearer nonsense"), from(HERE)];
    let refused = Socket::try_open_with(server.addr, "/api/v1/ws", &bad).await.err().unwrap();
    assert!(refused.contains("401"), "{refused}");
    let mut socket = silent(&server, HERE).await;
    socket.send(&json!({"action": "auth", "token": "nonsense"})).await;
    assert!(matches!(socket.ending().await, Heard::Close(4001, _)));
    let by_ticket = "/api/v1/ws?ticket=nwt_0123456789abcdef0123456789abcdef_0_x";
    let refused = Socket::try_open_with(server.addr, by_ticket, &[from(HERE)]).await.err().unwrap();
    assert!(refused.contains("401"), "{refused}");
    let cookie = format!("newswire_session_{}=x", server.addr.port());
    let with_cookie = [("cookie", cookie.as_str()), from(HERE)];
    assert_eq!(server.http().send("GET", "/api/v1/events", &with_cookie, "").await.status, 401);

    let headers = [("authorization", "Bearer nonsense"), from(HERE)];
    let answer = server.http().send("GET", "/api/v1/events", &headers, "").await;
    assert_eq!(answer.problem(429), "too_many_requests");
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let refused = Socket::try_open_with(server.addr, "/api/v1/ws", &bad).await.err().unwrap();
    assert!(refused.contains("429"), "{refused}");
    let mut socket = silent(&server, HERE).await;
    socket.send(&json!({"action": "auth", "token": "nonsense"})).await;
    is_told_to_come_back(&mut socket).await;
    assert_eq!(server.http().send("GET", "/api/v1/events", &with_cookie, "").await.status, 429);
    // What was good before is looked at, and so is a ticket that was given; what is new is not, but elsewhere.
    assert_eq!(status(&server, HERE, &known).await, 200);
    let mut socket = silent(&server, HERE).await;
    socket.send(&json!({"action": "auth", "ticket": ticket["ticket"]})).await;
    socket.expect("auth_ok").await;
    assert_eq!(status(&server, HERE, &new).await, 429);
    assert_eq!(status(&server, "10.0.0.2", &new).await, 200);
    // Whoever shows nothing is told to show something.
    assert_eq!(server.http().send("GET", "/api/v1/events", &[from(HERE)], "").await.status, 401);
    let metrics = get_as(&server, &good("boss", "admin"), "/metrics").await.body;
    let count = |reason: &str| {
        let name = format!("newswire_auth_failures_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map(|count| count.parse::<u64>().unwrap())
    };
    assert_eq!(count("invalid"), Some(6), "{metrics}");
    assert!(count("limited") >= Some(5), "{metrics}");
}

#[tokio::test]
async fn a_credential_that_was_good_and_is_no_more_counts_like_any_other() {
    let home = tempfile::tempdir().unwrap();
    let options =
        options(&home).set("limits.auth_failures_per_minute", 1).set("limits.auth_failures_burst", 2);
    let server = options.start();
    let (sarah, boss) = (good("sarah", "observer"), good("boss", "admin"));
    assert_eq!(get_as(&server, &sarah, "/api/v1/events").await.status, 200);
    post_as(&server, &boss, "/api/v1/admin/revoke", &json!({"identity": "sarah"})).await.data();
    let mut statuses: Vec<u16> = Vec::new();
    for _ in 0..4 {
        statuses.push(get_as(&server, &sarah, "/api/v1/events").await.status);
    }
    assert_eq!(statuses, [401, 401, 429, 429]);
    let _: Value = get_as(&server, &boss, "/api/v1/connections").await.data();
}
