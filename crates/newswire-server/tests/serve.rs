//! `newswire serve` as a process: what it prints, whom it refuses, how it stops.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures_util::StreamExt;
use support::{PATIENCE, Served, answer, publish_request, run, short_answer, stderr};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const EVENT: &str = r#"{"channel":"tasks","event_type":"task.created","payload":{"id":"task-1"}}"#;

#[tokio::test]
async fn one_line_on_standard_output_names_the_port_that_was_free() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(&home.path().join("data"), &[]);
    assert_eq!(server.first_line, format!("newswire listening on http://{}\n", server.address));
    assert_ne!(server.address.port(), 0);
    assert_eq!(server.get("/api/v1/health/live").await.0, 200);
    server.signal("TERM");
    let (status, rest, log) = server.ended();
    assert!(status.success(), "{status} {log}");
    assert_eq!(rest, "", "nothing else on standard output");
    assert!(log.contains("open on loopback"), "{log}");
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Served::start(&data, &[]);
    let directory = data.display().to_string();
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &directory]);
    assert_eq!(second.status.code(), Some(3), "{}", stderr(&second));
    assert!(second.stdout.is_empty());
    let said = stderr(&second);
    assert!(said.contains(&format!("{directory} is in use by another Newswire")), "{said}");
    assert_eq!(server.publish(EVENT).await.0, 200);
}

#[test]
fn an_address_that_is_taken_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data").display().to_string();
    let refused = run(&["serve", "--listen", &address, "--data-dir", &data]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains(&format!("cannot listen on {address}; choose another address with --listen")),
        "{said}"
    );
    assert!(!home.path().join("data").exists(), "the directory was made for nothing");
}

#[test]
fn an_open_server_beyond_loopback_is_refused_before_anything_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data").display().to_string();
    let refused = run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", &data]);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("(flag --listen)") && said.contains("--set auth.mode=none"), "{said}");
    assert!(!home.path().join("data").exists());
}

#[test]
fn a_wrong_configuration_ends_with_its_own_code() {
    let refused = run(&["serve", "--set", "log.snyc=os"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        stderr(&refused),
        "newswire: configuration: unknown key `log.snyc` (flag --set); did you mean `log.sync`?\n"
    );
}

#[tokio::test]
async fn a_stop_tells_every_session_when_to_come_back_and_keeps_what_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Served::start(&data, &[]);
    assert_eq!(server.publish(EVENT).await.0, 200);
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let url = format!("ws://{}/api/v1/ws/tasks?after=0", server.address);
        let (mut session, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        while !session.next().await.unwrap().unwrap().to_text().unwrap().contains("caught_up") {}
        sessions.push(session);
    }
    server.signal("TERM");
    let mut delays = Vec::new();
    for mut session in sessions {
        let last = async {
            loop {
                if let Some(Ok(Message::Close(frame))) = session.next().await {
                    return frame.unwrap();
                }
            }
        };
        let frame = tokio::time::timeout(PATIENCE, last).await.expect("no close frame");
        assert_eq!(u16::from(frame.code), 1001);
        let delay = frame.reason.strip_prefix("retry_after_ms=").expect("the reason says when to come back");
        delays.push(delay.parse::<u64>().unwrap());
    }
    delays.dedup();
    assert!(delays.len() > 1, "all are to come back at the same moment: {delays:?}");
    let (status, _, log) = server.ended();
    assert!(status.success(), "{status} {log}");

    let again = Served::start(&data, &[]);
    let (status, body) = again.get("/api/v1/events/1").await;
    assert!(status == 200 && body.contains("task-1"), "{body}");
}

#[tokio::test]
async fn a_publish_in_flight_is_answered_while_stopping() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Served::start(&data, &["--set", "shutdown.timeout=60s"]);
    let request = publish_request(server.address, EVENT);
    let (first, second) = request.split_at(request.len() - 10);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    // Answered on another connection: the first one was accepted before it, and is being served.
    assert_eq!(server.get("/api/v1/health/live").await.0, 200);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;

    server.signal("TERM");
    server.closed().await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let (status, body) = answer(&mut stream).await;
    assert!(status == 200 && body.contains(r#""offset":1"#), "{status} {body}");
    let (status, _, log) = server.ended();
    assert!(status.success(), "{status} {log}");
    let again = Served::start(&data, &[]);
    assert_eq!(again.get("/api/v1/events/1").await.0, 200);
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Served::start(&data, &["--set", "shutdown.timeout=1h"]);
    let request = publish_request(server.address, EVENT);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request.as_bytes()[..request.len() - 10]).await.unwrap();
    assert_eq!(server.get("/api/v1/health/live").await.0, 200);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.signal("TERM");
    server.closed().await;
    server.signal("INT");
    let (status, _, log) = server.ended();
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(log.contains("second signal"), "{log}");
    Served::start(&data, &[]);
}

#[tokio::test]
async fn what_cannot_be_finished_in_time_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(&home.path().join("data"), &["--set", "shutdown.timeout=200ms"]);
    let request = publish_request(server.address, EVENT);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request.as_bytes()[..request.len() - 10]).await.unwrap();
    assert_eq!(server.get("/api/v1/health/live").await.0, 200);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.signal("TERM");
    let (status, _, log) = server.ended();
    assert!(status.success() && log.contains("some peers were cut"), "{status} {log}");
}

#[tokio::test]
async fn a_foreign_page_reaches_neither_the_api_nor_the_socket() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(&home.path().join("data"), &[]);
    for upgrade in [
        "",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        for (headers, code) in [
            ("host: localhost\r\norigin: https://evil.example\r\n", "forbidden_origin"),
            ("host: evil.example\r\n", "forbidden_host"),
        ] {
            let request = format!("GET /api/v1/ws HTTP/1.1\r\n{headers}{upgrade}\r\n");
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let (status, body) = short_answer(&mut stream).await;
            assert!(status == 403 && body.contains(&format!("\"code\":\"{code}\"")), "{status} {body}");
        }
    }
}

#[tokio::test]
async fn every_metric_stands_on_the_operations_page() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(&home.path().join("data"), &[]);
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let page = include_str!("../../../docs/operations.md");
    let names: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(
        names.contains(&"process_resident_memory_bytes") && names.contains(&"newswire_connections"),
        "{text}"
    );
    let stands =
        |name: &&str| ["", "_total", "_info"].iter().any(|end| page.contains(&format!("`{name}{end}`")));
    let missing: Vec<_> = names.iter().filter(|name| !stands(name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not mention {missing:?}");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let metrics = rows.filter(|(name, _)| name.starts_with("newswire_") || name.starts_with("process_"));
    // A family with a label shows nothing before its first value.
    let plain = metrics.filter(|(name, about)| {
        !["by `reason`", "by its `code`"].iter().any(|by| about.contains(by)) && !name.contains(' ')
    });
    let base = |name: &str| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let gone: Vec<_> = plain.filter(|(name, _)| !names.contains(&base(name).as_str())).collect();
    assert!(gone.is_empty(), "docs/operations.md has what is no metric: {gone:?}");
}

#[tokio::test]
async fn a_server_out_of_file_descriptors_serves_again_once_there_are_some() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start_with_few_files(&home.path().join("data"), 48);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The system took the connections; the server could accept only some of them.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(crowd);
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let errors = metrics.lines().find_map(|line| line.strip_prefix("newswire_http_accept_errors_total "));
    assert!(errors.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    assert_eq!(server.publish(EVENT).await.0, 200, "the log has kept its files");
}

#[test]
fn a_log_in_memory_leaves_no_directory_behind() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = Served::start(&data, &["--set", "log.backend=memory"]);
    server.signal("TERM");
    let (status, _, log) = server.ended();
    assert!(status.success() && log.contains("log.backend = memory"), "{log}");
    assert!(!data.exists());
}

#[test]
fn logs_are_json_when_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(&home.path().join("data"), &["--set", "logging.format=json"]);
    server.signal("TERM");
    let (_, _, log) = server.ended();
    assert!(!log.is_empty());
    for line in log.lines() {
        let said: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(said["message"].is_string() && said["level"].is_string(), "{line}");
    }
}
