//! Signs of life: who answers stays, who does not is closed in time, and who merely does not read is not mistaken for dead.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::time::{Duration, Instant};

use newswire_street_tests::raw::{CLOSE, PING, PONG, TEXT};
use newswire_street_tests::{Frame, Heard, Server, ServerOptions, Socket, clients, data, eventually, within};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a loaded machine may add to a deadline before a test complains.
const SLACK: Duration = Duration::from_secs(5);

fn brisk() -> ServerOptions {
    Server::options().set("heartbeat.interval", "1s").set("heartbeat.timeout", "1s")
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_4009() {
    let server = brisk().start();
    let mut raw = server.raw().await;
    raw.send_text(r#"{"action":"subscribe","channels":["tasks"]}"#).await;
    assert!(raw.next_text().await.contains("subscribed"));
    let silent_since = Instant::now();
    let ping = raw.next().await.expect("the server asks first");
    assert_eq!(ping.opcode, PING, "{ping:?}");
    let close = loop {
        let frame = raw.next().await.expect("a close frame comes before the end");
        if frame.opcode != PING {
            break frame;
        }
    };
    assert_eq!((close.opcode, close.close_code()), (CLOSE, 4009));
    assert!(silent_since.elapsed() < INTERVAL + TIMEOUT + SLACK, "closed after {:?}", silent_since.elapsed());
    raw.shutdown().await;
    assert_eq!(raw.next().await, None);
    eventually("its subscription is gone", || async {
        (server.http().subscribers("tasks").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stopped_process_with_nothing_waiting_is_gone_in_time() {
    let server = brisk().start();
    let http = server.http();
    let url = format!("http://{}", server.addr);
    let tail = clients::start(&["tail", "tasks", "--json", "--url", &url]);
    let listening = || async { (http.subscribers("tasks").await == 1).then_some(()) };
    eventually("tail subscribes", listening).await;
    http.publish_one(&data::task(1)).await;
    tail.wait_for_lines(1).await;
    tail.signal("STOP");
    within(INTERVAL + TIMEOUT + SLACK, "the stopped process is gone", || async {
        (http.subscribers("tasks").await == 0).then_some(())
    })
    .await;
    http.publish_one(&data::task(2)).await;
    tail.signal("CONT");
    let lines = tail.wait_for_lines(2).await;
    assert!(lines[1].contains("\"offset\":2"), "it resumes where it was: {lines:?}");
    eventually("tail subscribes again", listening).await;
}

#[tokio::test]
async fn a_client_that_only_sends_ping_commands_stays() {
    let server = brisk().start();
    let mut raw = server.raw().await;
    raw.send_text(r#"{"action":"subscribe","channels":["tasks"]}"#).await;
    assert!(raw.next_text().await.contains("subscribed"));
    let started = Instant::now();
    // As a browser's code does: it sees no pings and cannot answer them.
    while started.elapsed() < (INTERVAL + TIMEOUT) * 3 {
        raw.send_text(r#"{"action":"ping"}"#).await;
        assert_eq!(raw.next_text().await, r#"{"action":"pong"}"#);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.http().publish_one(&data::task(1)).await;
    assert!(raw.next_text().await.contains("\"offset\":1"));
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let server = brisk().start();
    let mut raw = server.raw().await;
    for _ in 0..4 {
        let ping = loop {
            let frame = raw.next().await.expect("the connection is open");
            if frame.opcode != TEXT {
                break frame;
            }
        };
        assert_eq!(ping.opcode, PING, "{ping:?}");
        raw.send(&Frame::new(PONG, ping.payload)).await;
    }
    raw.send_text(r#"{"action":"ping"}"#).await;
    assert!(raw.next_text().await.contains("pong"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_rests_while_bytes_wait_for_a_peer_that_does_not_read() {
    const COUNT: u64 = 10_000;
    let server = brisk().set("write.stall_timeout", "10m").start();
    let http = server.http();
    let mut idle = Socket::open_narrow(server.addr, "/api/v1/ws").await;
    idle.subscribe(&["tasks"]).await;
    let batch: Vec<String> = (0..500).map(|_| data::sized("tasks", 2000)).collect();
    for _ in 0..COUNT / 500 {
        http.publish_texts(&batch).await;
    }
    tokio::time::sleep((INTERVAL + TIMEOUT) * 3).await;
    assert_eq!(http.subscribers("tasks").await, 1, "it was taken for dead while it only did not read");
    for next in 1..=COUNT {
        assert_eq!(idle.event().await["offset"], next);
    }
    // Now nothing waits, and it answers again, because somebody reads.
    let reading = tokio::spawn(async move {
        let heard = idle.hear_within((INTERVAL + TIMEOUT) * 2).await;
        (idle, heard)
    });
    let (_idle, heard) = reading.await.unwrap();
    assert!(!matches!(heard, Some(Heard::Close(..) | Heard::Broken(_))), "{heard:?}");
}
