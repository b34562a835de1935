//! The headers of answers: the OpenAPI description names each that is served, and none that is not.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::{BTreeMap, BTreeSet};

use newswire_street_tests::data::{self, event};
use newswire_street_tests::raw::Raw;
use newswire_street_tests::sign_in::{named, sign_in};
use newswire_street_tests::{Answer, Http, Server, ServerOptions};
use serde_json::{Value, json};

/// Of HTTP itself: a description of an API has no word on them.
const OF_HTTP: [&str; 5] = ["connection", "content-length", "content-type", "date", "transfer-encoding"];

/// What the description says, and what was seen of it.
struct Described {
    openapi: Value,
    seen: BTreeSet<String>,
}

impl Described {
    async fn by(http: &Http) -> Self {
        Self { openapi: http.get("/openapi.json").await.json(), seen: BTreeSet::new() }
    }

    /// The headers of this answer: whether each is always there.
    fn of(&self, method: &str, path: &str, status: u16) -> BTreeMap<String, bool> {
        let responses = &self.openapi["paths"][path][method.to_lowercase()]["responses"];
        let response = match &responses[status.to_string()] {
            Value::Null => self.resolve(&responses["default"]),
            described => described,
        };
        let headers = response["headers"].as_object().unwrap_or_else(|| panic!("{method} {path}: {status}"));
        let described = headers
            .iter()
            .map(|(name, header)| (name.to_lowercase(), self.resolve(header)["required"].as_bool().unwrap()));
        described.collect()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        self.openapi.pointer(reference.trim_start_matches('#')).unwrap()
    }

    /// Compares the headers of an answer with the description.
    fn check(&mut self, call: (&str, &str), status: u16, served: impl IntoIterator<Item = String>) {
        let (method, path) = call;
        let described = self.of(method, path, status);
        let served: BTreeSet<String> =
            served.into_iter().filter(|name| !OF_HTTP.contains(&name.as_str())).collect();
        for name in &served {
            assert!(
                described.contains_key(name),
                "{method} {path} {status}: {name} is served, not described"
            );
        }
        for (name, _) in described.iter().filter(|(_, always)| **always) {
            assert!(served.contains(name), "{method} {path} {status}: {name} is described as always there");
        }
        self.seen.extend(served);
    }

    fn answer(&mut self, call: (&str, &str), expected: u16, answer: &Answer) {
        assert_eq!(answer.status, expected, "{call:?}: {answer:?}");
        self.check(call, answer.status, answer.headers.keys().map(|name| name.as_str().to_owned()));
    }

    /// One call below the API, whose description is at `path`.
    async fn call(&mut self, http: &Http, call: (&str, &str), address: &str, more: Request<'_>) -> Answer {
        let address = format!("/api/v1{address}");
        let answer = http.send(call.0, &address, more.headers, more.body).await;
        self.answer(call, more.status, &answer);
        answer
    }

    /// A handshake, and what it is answered.
    async fn upgrade(&mut self, server: &Server, call: (&str, &str), address: &str) {
        let request = format!(
            "GET /api/v1{address} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n\r\n"
        );
        let (head, _socket) = Raw::request(server.addr, &request).await;
        let mut lines = head.lines();
        assert!(lines.next().unwrap().contains("101"), "{head}");
        let names = lines.filter_map(|line| Some(line.split_once(':')?.0.trim().to_lowercase()));
        self.check(call, 101, names.collect::<Vec<_>>());
    }
}

/// A request, but for its address.
struct Request<'a> {
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
    status: u16,
}

const PLAIN: Request<'static> = Request { headers: &[], body: "", status: 200 };
const JSON_BODY: &[(&str, &str)] = &[("content-type", "application/json")];

/// Every call that can be answered well on an open server, and the ways in which some answer otherwise.
async fn all_is_well(described: &mut Described, server: &Server) {
    let http = server.http();
    let body = json!({"channel": "tasks", "event_type": "t", "payload": {"pad": "x".repeat(2_000)},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "correlation_id": "c", "causation_id": "d"})
    .to_string();
    let publish = ("POST", "/events");
    described.call(&http, publish, "/events", Request { headers: JSON_BODY, body: &body, ..PLAIN }).await;
    http.publish(&(1..=20).map(data::task).collect::<Vec<_>>()).await;
    let packed = Request { headers: &[("accept-encoding", "br")], ..PLAIN };
    let answer = described.call(&http, ("GET", "/events"), "/events", packed).await;
    assert_eq!(answer.headers["content-encoding"], "br");
    let batch = Request { headers: &[("accept", "application/cloudevents-batch+json")], ..PLAIN };
    let answer = described.call(&http, ("GET", "/events"), "/events?limit=2", batch).await;
    assert!(answer.headers.contains_key("link"));
    let one = ("GET", "/events/{offset}");
    let answer = described.call(&http, one, "/events/1", PLAIN).await;
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    let known = [("if-none-match", &*tag)];
    described.call(&http, one, "/events/1", Request { headers: &known, status: 304, ..PLAIN }).await;
    described.call(&http, one, "/events/1?cloudevents=binary", PLAIN).await;
    described.call(&http, one, "/events/9999", Request { status: 404, ..PLAIN }).await;
    for path in [
        "/channels",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/connections",
        "/openapi.json",
        "/asyncapi.json",
    ] {
        described.call(&http, ("GET", path), path, PLAIN).await;
    }
    let trim = Request { headers: JSON_BODY, body: r#"{"before":2}"#, ..PLAIN };
    described.call(&http, ("POST", "/admin/trim"), "/admin/trim", trim).await;
    described.call(&http, ("POST", "/admin/compact"), "/admin/compact", PLAIN).await;
    described.call(&http, ("POST", "/auth/ws-ticket"), "/auth/ws-ticket", PLAIN).await;
    let gone = Request { status: 404, ..PLAIN };
    described.call(&http, ("DELETE", "/connections/{id}"), "/connections/999999", gone).await;
    let odd = Request { headers: &[("content-encoding", "compress")], body: "x", status: 415 };
    described.call(&http, publish, "/events", odd).await;
    let no_method = Request { status: 405, ..PLAIN };
    // No operation is described for it, so its answer is what any call's `default` says.
    let answer = http.send("PUT", "/api/v1/channels", no_method.headers, "").await;
    described.answer(("GET", "/channels"), 405, &answer);
    described.call(&http, ("GET", "/ws"), "/ws", Request { status: 426, ..PLAIN }).await;
    let stream = http.open("/api/v1/events/stream", &[]).await;
    let names = stream.headers().keys().map(|name| name.as_str().to_owned());
    described.check(("GET", "/events/stream"), stream.status().as_u16(), names.collect::<Vec<_>>());
    described.upgrade(server, ("GET", "/ws"), "/ws").await;
    described.upgrade(server, ("GET", "/ws/{channel}"), "/ws/tasks").await;
}

#[tokio::test]
async fn headers_that_are_served_are_described_and_the_other_way_round() {
    let options = || ServerOptions::default().set("limits.requests_per_second", 1_000);
    let server = options().set("auth.anonymous_admin", true).start();
    let mut described = Described::by(&server.http()).await;
    all_is_well(&mut described, &server).await;

    // Who has no request left.
    let busy = options().set("limits.requests_per_second", 1).set("limits.requests_burst", 1).start();
    let http = busy.http();
    loop {
        let answer = http.get("/channels").await;
        described.answer(("GET", "/channels"), answer.status, &answer);
        if answer.status == 429 {
            break;
        }
    }

    // Who does not say who they are.
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "a-secret-of-the-tests-that-is-long-enough").unwrap();
    let closed = Server::with("auth.jwt.secret_file", secret.display());
    let answer =
        closed.http().post_events("application/json", event("tasks", "t", json!({})).to_string()).await;
    described.answer(("POST", "/events"), 401, &answer);

    // A browser that signs out.
    let origin = format!("http://{}", closed.addr);
    let cookie = sign_in(&closed, &origin, "").await;
    let own = [("cookie", named(&cookie)), ("origin", &*origin)];
    let sign_out = ("POST", "/auth/sign-out");
    described.call(&closed.http(), sign_out, "/auth/sign-out", Request { headers: &own, ..PLAIN }).await;

    let all = described.openapi["components"]["headers"].as_object().unwrap();
    let all: BTreeSet<String> = all.keys().map(|name| name.to_lowercase()).collect();
    assert_eq!(described.seen, all, "left was seen, right is described");
}
