//! Fan-out writes to the sockets of those who have everything, their tasks to all others: whoever writes, it is one stream.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::time::Duration;

use newswire_street_tests::socket::offset_of;
use newswire_street_tests::{Heard, Http, Server, Socket, data};
use serde_json::json;

const COUNT: u64 = 4_000;

/// Publishes `COUNT` events of all sizes, a few at a time, and now and then rests so that everybody catches up.
async fn publish(http: Http) {
    let mut published = 0;
    while published < COUNT {
        let some = 1..=(published % 29).min(COUNT - published - 1) + 1;
        let batch: Vec<String> =
            some.map(|nth| data::sized("tasks", 200 + ((published + nth) * 37 % 2_800) as usize)).collect();
        http.publish_texts(&batch).await;
        published += batch.len() as u64;
        if published % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The texts of all events, which come in order; `answered` is told of everything else.
async fn receive(
    socket: &mut Socket,
    from: u64,
    to: u64,
    mut rest: impl FnMut(u64) -> Duration,
) -> Vec<String> {
    let mut texts = Vec::new();
    for offset in from..=to {
        let Heard::Text(text) = socket.hear().await else { panic!("cut off at {offset}") };
        assert_eq!(offset_of(&text), Some(offset), "{text:.200}");
        texts.push(text);
        let pause = rest(offset);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    texts
}

/// Reads everything and never stops asking: each answer comes, and once.
async fn talk(mut socket: Socket) -> Vec<String> {
    let (mut texts, mut asked) = (Vec::new(), 0_u64);
    while (texts.len() as u64) < COUNT {
        asked += 1;
        let (command, answer) = match asked % 3 {
            0 => (json!({"action": "ping", "id": asked}), "pong"),
            1 => (
                json!({"action": "subscribe", "sub": "s", "channels": ["budget"], "id": asked}),
                "subscribed",
            ),
            _ => (
                json!({"action": "unsubscribe", "sub": "s", "channels": ["budget"], "id": asked}),
                "unsubscribed",
            ),
        };
        socket.send(&command).await;
        loop {
            let Heard::Text(text) = socket.hear().await else { panic!("cut off at {}", texts.len()) };
            if offset_of(&text) == Some(texts.len() as u64 + 1) && !text.contains("\"action\"") {
                texts.push(text);
                continue;
            }
            let said: serde_json::Value = serde_json::from_str(&text).unwrap();
            if said["action"] != "checkpoint" {
                assert_eq!((&said["action"], &said["id"]), (&json!(answer), &json!(asked)), "{text:.200}");
                break;
            }
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_slow_and_talking_clients_get_one_stream() {
    let server = Server::options().set("log.sync", "os").set("backlog.max_bytes", "16MiB").start();
    let http = server.http();
    let mut quiet = server.socket().await;
    let mut slow = Socket::open_narrow(server.addr, "/api/v1/ws").await;
    let mut talking = server.socket().await;
    for socket in [&mut quiet, &mut slow, &mut talking] {
        socket.subscribe(&["tasks"]).await;
    }
    let readers = [
        tokio::spawn(async move { receive(&mut quiet, 1, COUNT, |_| Duration::ZERO).await }),
        // Its socket is full again and again, and empty again and again: writes end within frames.
        tokio::spawn(async move {
            let rest = |offset| Duration::from_millis(if offset % 100 == 0 { 10 } else { 0 });
            receive(&mut slow, 1, COUNT, rest).await
        }),
        tokio::spawn(talk(talking)),
    ];
    publish(http.clone()).await;
    let [quiet, slow, talking] = readers;
    let quiet = quiet.await.unwrap();
    assert!(quiet == slow.await.unwrap(), "the slow one got other bytes");
    assert!(quiet == talking.await.unwrap(), "the talking one got other bytes");
    let (writes, direct) = (
        http.metric("newswire_socket_writes_total").await,
        http.metric("newswire_direct_writes_total").await,
    );
    assert!(direct > 0.0 && direct < writes, "{direct} of {writes} writes were direct");
    assert!(
        http.metric("newswire_sent_bytes_total").await
            >= quiet.iter().map(String::len).sum::<usize>() as f64 * 3.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_is_written_to_takes_nobody_along() {
    let server = Server::with("log.sync", "os");
    let http = server.http();
    let mut stays = server.socket().await;
    stays.subscribe(&["tasks"]).await;
    let publisher = tokio::spawn(publish(http.clone()));
    let leaving = tokio::spawn(async move {
        // One says goodbye and one just goes, over and over.
        for round in 0..100 {
            let mut socket = server.socket().await;
            socket.subscribe(&["tasks"]).await;
            socket.event().await;
            if round % 2 == 0 { socket.close().await } else { drop(socket) }
        }
        server
    });
    receive(&mut stays, 1, COUNT, |_| Duration::ZERO).await;
    publisher.await.unwrap();
    let _server = leaving.await.unwrap();
    newswire_street_tests::eventually("only one is left", || async {
        (http.subscribers("tasks").await == 1).then_some(())
    })
    .await;
}
