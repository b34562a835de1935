//! The shared vectors of `conformance/`, run against the live server where they can be seen from outside.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use newswire_street_tests::{Heard, Raw, Server, binary};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A vector's fields as raw JSON, because many are about digits that a parsed number would lose.
type Vector = HashMap<String, Box<RawValue>>;

fn vectors(file: &str) -> Vec<Vector> {
    let path = binary::workspace_root().join("conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn value(vector: &Vector, field: &str) -> Value {
    vector.get(field).map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap())
}

/// A text that may be given in pieces.
fn text(vector: &Vector, field: &str) -> String {
    match value(vector, field) {
        Value::String(text) => text,
        Value::Array(pieces) => pieces
            .iter()
            .map(|piece| piece[0].as_str().unwrap().repeat(piece[1].as_u64().unwrap() as usize))
            .collect(),
        other => panic!("{field} is no text: {other}"),
    }
}

fn open_server() -> Server {
    Server::options().set("arbitrary_channels_allowed", true).set("log.dedup_window", "0s").start()
}

#[tokio::test]
async fn commands_are_understood_or_refused_as_the_vectors_say() {
    let server = open_server();
    let mut refused = 0;
    for vector in vectors("commands.json") {
        if vector.contains_key("limits") {
            continue;
        }
        let (name, frame) = (value(&vector, "name"), text(&vector, "frame"));
        let mut socket = server.socket().await;
        socket.send_text(&frame).await;
        let answer = socket.next().await;
        let (means, error) = (value(&vector, "means"), value(&vector, "error"));
        let id = if error.is_null() { &means["id"] } else { &error["id"] };
        assert_eq!(&answer["id"], id, "{name}: {answer}");
        if !error.is_null() {
            let seen = json!([answer["action"], answer["error"], answer["code"]]);
            assert_eq!(seen, json!(["error", error["error"], error["code"]]), "{name}: {answer}");
            refused += 1;
            continue;
        }
        let action = match means["action"].as_str().unwrap() {
            "subscribe" => "subscribed",
            "unsubscribe" => "unsubscribed",
            "publish" => "published",
            "auth" => "auth_ok",
            "ping" => "pong",
            other => panic!("{name}: unknown action {other}"),
        };
        assert_eq!(answer["action"], action, "{name}: {answer}");
        if let Some(sub) = means.get("sub") {
            assert_eq!(&answer["sub"], sub, "{name}: {answer}");
        }
    }
    assert!(refused > 50, "the vectors hold errors");
}

#[tokio::test]
async fn events_are_passed_on_as_the_vectors_say() {
    let server = open_server();
    let mut socket = server.socket().await;
    socket.subscribe(&["*"]).await;
    for vector in vectors("events.json") {
        let (name, published) = (value(&vector, "name"), text(&vector, "published"));
        let answer = server.http().post_events("application/json", published).await;
        let result = answer.data()["results"][0].clone();
        let offset = result["offset"].as_u64().unwrap_or_else(|| panic!("{name}: {result}"));
        let Heard::Text(sent) = socket.hear().await else { panic!("{name}: the connection ended") };
        let stored = text(&vector, "stored");
        let parsed: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&sent).unwrap();
        let made_by_server = format!("\"event_id\":{}", parsed["event_id"].get());
        let clock = format!("\"timestamp\":{}", parsed["timestamp"].get());
        let wanted = stored
            .replace("\"event_id\":\"made-by-server\"", &made_by_server)
            .replace("\"timestamp\":\"2026-11-22T15:24:00.123456Z\"", &clock)
            .replace("\"offset\":1234,\"version\":1", &format!("\"offset\":{offset},\"version\":1"));
        assert_eq!(sent, wanted, "{name}");
        let history = server.http().get(&format!("/events/{offset}")).await.body;
        assert!(history.contains(&wanted), "{name}: history has it otherwise: {history:.300}");
    }
}

#[tokio::test]
async fn events_are_refused_as_the_vectors_say() {
    let server = open_server();
    let http = server.http();
    for vector in vectors("refused-events.json") {
        let (name, published) = (value(&vector, "name"), text(&vector, "published"));
        let wanted = (value(&vector, "error"), value(&vector, "code"));
        let line = published.replace(['\n', '\r'], " ");
        let answer = http.post_events("application/x-ndjson", line).await;
        if answer.status == 200 {
            let result = answer.data()["results"][0].clone();
            assert_eq!((result["error"].clone(), result["code"].clone()), wanted, "{name}, as a line");
        } else {
            // A body without a single readable event is refused as a whole.
            assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
        }
        if published.trim_start().starts_with('{') && published.len() < 65_000 {
            let mut socket = server.socket().await;
            let answer = socket.refused(&published.replacen('{', r#"{"action":"publish","#, 1)).await;
            // Syntax errors of a frame are the frame's, whatever it meant to be.
            assert_eq!((answer["error"].clone(), answer["code"].clone()), wanted, "{name}, over the socket");
        }
    }
    assert_eq!(http.history("channels=*").await.len(), 0, "nothing of it was stored");
}

#[tokio::test]
async fn filters_match_as_the_vectors_say() {
    let server = open_server();
    let http = server.http();
    let mut socket = server.socket().await;
    for (number, vector) in vectors("filters.json").into_iter().enumerate() {
        if number % 90 == 0 {
            socket = server.socket().await;
        }
        let name = value(&vector, "name");
        let results = http.publish_texts(&[vector["event"].get()]).await;
        let offset = results[0]["offset"].as_u64().unwrap_or_else(|| panic!("{name}: {}", results[0]));
        let command = format!(
            r#"{{"action":"subscribe","channels":["*"],"sub":"s{number}","after":{},"filters":{}}}"#,
            offset - 1,
            vector["filters"].get()
        );
        socket.send_text(&command).await;
        let replayed = socket.replayed_offsets().await;
        assert_eq!(replayed == [offset], value(&vector, "matches") == true, "{name}: {command}");
        let unsubscribe = json!({"action": "unsubscribe", "channels": ["*"], "sub": format!("s{number}")});
        assert_eq!(socket.ask(&unsubscribe).await["action"], "unsubscribed");
    }
}

#[tokio::test]
async fn numbers_are_equal_as_the_vectors_say() {
    let server = open_server();
    let classes: Vec<Vec<Box<RawValue>>> = vectors("numbers.json")
        .iter()
        .map(|vector| serde_json::from_str::<Vec<String>>(vector["written"].get()).unwrap())
        .map(|written| written.into_iter().map(|number| RawValue::from_string(number).unwrap()).collect())
        .collect();
    let mut members: Vec<Vec<u64>> = Vec::new();
    for class in &classes {
        let events: Vec<String> = class
            .iter()
            .map(|n| format!(r#"{{"channel":"tasks","event_type":"t","payload":{{"n":{}}}}}"#, n.get()))
            .collect();
        let results = server.http().publish_texts(&events).await;
        members.push(results.iter().map(|result| result["offset"].as_u64().unwrap()).collect());
    }
    for (class, wanted) in classes.iter().zip(members) {
        for number in class {
            let mut socket = server.socket().await;
            let command = format!(
                r#"{{"action":"subscribe","channels":["tasks"],"after":0,"filters":{{"n":{}}}}}"#,
                number.get()
            );
            socket.send_text(&command).await;
            assert_eq!(socket.replayed_offsets().await, wanted, "n = {}", number.get());
        }
    }
}

#[tokio::test]
async fn queries_are_understood_or_refused_as_the_vectors_say() {
    let server = open_server();
    for vector in vectors("queries.json") {
        let pairs: Vec<(String, String)> = serde_json::from_str(vector["query"].get()).unwrap();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&pairs);
        if value(&vector, "means")["channels"] == json!([]) {
            // A subscription needs channels; the vectors about other parameters leave them out.
            query.append_pair("channels", "*");
        }
        let query = query.finish();
        let mut request = String::new();
        write!(
            request,
            "GET /api/v1/ws?{query} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            server.addr
        )
        .unwrap();
        let (head, _) = Raw::request(server.addr, &request).await;
        let (name, error) = (value(&vector, "name"), value(&vector, "error"));
        let status = if error.is_null() { "HTTP/1.1 101" } else { "HTTP/1.1 400" };
        assert!(head.starts_with(status), "{name}: {head}");
        if !error.is_null() {
            let code = server.http().get(&format!("/events?{query}")).await;
            // `history` and `sub` mean nothing to the history call, which may ignore them.
            if code.status != 200 {
                assert_eq!(code.problem(400), error["code"].as_str().unwrap(), "{name}");
            }
        }
    }
}
