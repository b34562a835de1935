//! What a connection that only waits may weigh.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::{Raw, Server};

/// Connections at the start, which pay for what the process sets up once.
const FIRST: usize = 100;
/// Few enough for the usual limit of 1,024 open files.
const MORE: usize = 600;
/// Resident bytes of one connection: what is promised of user memory.
const MOST: u64 = 4_500;

#[tokio::test]
async fn an_idle_subscribed_connection_weighs_little() {
    let server = Server::start();
    let mut connections = Vec::new();
    connect(&server, &mut connections, FIRST).await;
    let before = server.rss_bytes();
    connect(&server, &mut connections, MORE).await;
    let each = server.rss_bytes().saturating_sub(before) / MORE as u64;
    assert!(each <= MOST, "{each} bytes a connection");
}

async fn connect(server: &Server, connections: &mut Vec<Raw>, count: usize) {
    for _ in 0..count {
        let mut raw = server.raw().await;
        raw.send_text(r#"{"action":"subscribe","channels":["tasks"]}"#).await;
        assert!(raw.next_text().await.contains("subscribed"));
        connections.push(raw);
    }
}
