//! Subscriptions over real sockets, against a server that plays a script.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use newswire_client::{Client, GapCause, Interest, Item, Patience, Start, SubscribeError, Subscription};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const EPOCH: &str = "0197a6b0-0000-4000-8000-000000000000";
const OTHER_EPOCH: &str = "0197a6b0-0000-4000-8000-000000000001";
const SOON: Duration = Duration::from_secs(10);

struct Server {
    listener: TcpListener,
}

struct Connection {
    socket: WebSocketStream<TcpStream>,
}

impl Server {
    async fn start() -> (Self, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (Self { listener }, client)
    }

    async fn accept(&self) -> Connection {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.expect("a connection").unwrap();
        Connection { socket: tokio_tungstenite::accept_async(stream).await.unwrap() }
    }
}

impl Connection {
    async fn hear(&mut self) -> Message {
        timeout(SOON, self.socket.next()).await.expect("a frame").expect("open").unwrap()
    }

    async fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    async fn answer(&mut self, offset: u64, epoch: &str, recovered: &str) {
        self.say(format!(
            r#"{{"action":"subscribed","channels":["tasks"],"offset":{offset},"epoch":"{epoch}"{recovered},"id":0}}"#
        ))
        .await;
    }

    async fn event(&mut self, offset: u64) {
        self.say(event(offset, "")).await;
    }

    async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.socket.close(Some(frame)).await.unwrap();
    }
}

fn event(offset: u64, filling: &str) -> String {
    format!(
        r#"{{"event_type":"t","channel":"tasks","timestamp":"2026-11-22T15:24:00Z","payload":{{"x":"{filling}"}},"event_id":"e{offset}","offset":{offset},"version":1}}"#
    )
}

fn quick() -> Patience {
    Patience { backoff: (Duration::from_millis(20), Duration::from_millis(50)), ..Patience::default() }
}

fn subscribe(client: &Client, start: Start) -> Subscription {
    client.subscribe_with([Interest::in_channels(["tasks"]).start(start)], quick())
}

async fn next(feed: &mut Subscription) -> Result<Item, SubscribeError> {
    timeout(SOON, feed.next()).await.expect("an item").expect("not over")
}

/// A short word for each item, up to and with `last`.
async fn story_until(feed: &mut Subscription, last: &str) -> Vec<String> {
    let mut story = Vec::new();
    while story.last().is_none_or(|word| word != last) {
        story.push(match next(feed).await.unwrap() {
            Item::Connected { connection } => format!("connected {connection}"),
            Item::Subscribed { offset, .. } => format!("subscribed {offset}"),
            Item::Event(received) => {
                assert_eq!(received.text, event(received.event.offset, ""));
                format!("event {}", received.event.offset)
            }
            Item::CaughtUp { offset, .. } => format!("caught up {offset}"),
            Item::Checkpoint { offset } => format!("checkpoint {offset}"),
            Item::Gap(gap) => format!("gap {}-{} {:?}", gap.from, gap.to, gap.cause),
            Item::Disconnected { .. } => "disconnected".to_owned(),
        });
    }
    story
}

#[tokio::test]
async fn a_lost_connection_is_resumed_without_repeating() {
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::Live);
    let script = async {
        let mut first = server.accept().await;
        let command = first.hear().await;
        assert_eq!(command.to_text().unwrap(), r#"{"action":"subscribe","id":0,"channels":["tasks"]}"#);
        first.answer(4, EPOCH, "").await;
        first.event(5).await;
        first.event(6).await;
        drop(first);
        let mut second = server.accept().await;
        let command = second.hear().await;
        let expected =
            format!(r#"{{"action":"subscribe","id":0,"channels":["tasks"],"after":6,"epoch":"{EPOCH}"}}"#);
        assert_eq!(command.to_text().unwrap(), expected);
        second.answer(7, EPOCH, r#","recovered":true"#).await;
        second.event(6).await;
        second.event(7).await;
        second.say(r#"{"action":"caught_up","channels":["tasks"],"offset":7,"id":0}"#).await;
        second.event(8).await;
        second
    };
    let (_open, story) = tokio::join!(script, story_until(&mut feed, "event 8"));
    let expected = [
        "connected 1",
        "subscribed 4",
        "event 5",
        "event 6",
        "disconnected",
        "connected 2",
        "subscribed 7",
        "event 7",
        "caught up 7",
        "event 8",
    ];
    assert_eq!(story, expected);
    assert_eq!(feed.position().unwrap().offset, 8);
}

#[tokio::test]
async fn a_new_epoch_is_told_and_taken_over() {
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::After { offset: 500, epoch: EPOCH.parse().ok() });
    let script = async {
        let mut first = server.accept().await;
        assert!(
            first.hear().await.to_text().unwrap().ends_with(&format!(r#""after":500,"epoch":"{EPOCH}"}}"#))
        );
        first.answer(2, OTHER_EPOCH, r#","recovered":false"#).await;
        first
            .say(format!(
                r#"{{"action":"gap","channels":["tasks"],"from":0,"to":0,"reason":"epoch","epoch":"{OTHER_EPOCH}"}}"#
            ))
            .await;
        first.event(1).await;
        drop(first);
        let mut second = server.accept().await;
        let command = second.hear().await;
        assert!(command.to_text().unwrap().ends_with(&format!(r#""after":1,"epoch":"{OTHER_EPOCH}"}}"#)));
        second.answer(2, OTHER_EPOCH, r#","recovered":true"#).await;
        second.event(2).await;
        second
    };
    let (_open, story) = tokio::join!(script, story_until(&mut feed, "event 2"));
    let cause = GapCause::Epoch(OTHER_EPOCH.parse().ok());
    assert_eq!(story[2], format!("gap 0-0 {cause:?}"));
    assert_eq!(story.iter().filter(|word| word.starts_with("event")).count(), 2);
}

#[tokio::test]
async fn a_server_that_shuts_down_says_when_to_come_back() {
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::Live);
    let script = async {
        let mut first = server.accept().await;
        first.hear().await;
        first.close(1001, "retry_after_ms=137").await;
        server.accept().await.hear().await
    };
    let told = async {
        loop {
            if let Item::Disconnected { retry_in, .. } = next(&mut feed).await.unwrap() {
                return retry_in;
            }
        }
    };
    let (_again, retry_in) = tokio::join!(script, told);
    assert_eq!(retry_in, Duration::from_millis(137));
}

#[tokio::test]
async fn refused_credentials_end_the_subscription() {
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::Live);
    let script = async {
        let mut first = server.accept().await;
        first.hear().await;
        first.close(4001, "").await;
    };
    let last = async {
        loop {
            if let Err(error) = next(&mut feed).await {
                return error;
            }
        }
    };
    let ((), error) = tokio::join!(script, last);
    assert!(matches!(error, SubscribeError::NotAdmitted { .. }), "{error:?}");
    assert!(feed.next().await.is_none());
    let again = timeout(Duration::from_millis(300), server.listener.accept()).await;
    assert!(again.is_err(), "it came back");
}

#[tokio::test]
async fn a_silent_server_is_asked_and_then_left() {
    let (server, client) = Server::start().await;
    let patience =
        Patience { silence: Duration::from_millis(100), answer: Duration::from_millis(100), ..quick() };
    let mut feed = client.subscribe_with([Interest::in_channels(["tasks"])], patience);
    let script = async {
        let mut first = server.accept().await;
        first.hear().await;
        assert_eq!(first.hear().await.to_text().unwrap(), r#"{"action":"ping"}"#);
        // An answer in time keeps it.
        first.say(r#"{"action":"pong"}"#).await;
        assert_eq!(first.hear().await.to_text().unwrap(), r#"{"action":"ping"}"#);
        // Silence, with the connection open.
        server.accept().await.hear().await;
        drop(first);
    };
    let reason = async {
        loop {
            if let Item::Disconnected { reason, .. } = next(&mut feed).await.unwrap() {
                return reason;
            }
        }
    };
    let ((), reason) = tokio::join!(script, reason);
    assert_eq!(reason, "the server fell silent");
}

#[tokio::test]
async fn pings_of_the_server_are_answered_while_nothing_else_happens() {
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::Live);
    let script = async {
        let mut first = server.accept().await;
        first.hear().await;
        first.socket.send(Message::Ping("are you there".into())).await.unwrap();
        assert_eq!(first.hear().await, Message::Pong("are you there".into()));
        first.answer(0, EPOCH, "").await;
        first
    };
    let (_open, _story) = tokio::join!(script, story_until(&mut feed, "subscribed 0"));
}

#[tokio::test]
async fn a_consumer_that_stops_taking_stops_the_reading_and_loses_nothing() {
    const EVENTS: u64 = 40_000;
    let (server, client) = Server::start().await;
    let mut feed = subscribe(&client, Start::Live);
    let filling = "x".repeat(1_000);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = sent.clone();
    let script = tokio::spawn(async move {
        let mut first = server.accept().await;
        first.hear().await;
        first.answer(0, EPOCH, "").await;
        for offset in 1..=EVENTS {
            first.say(event(offset, &filling)).await;
            counter.store(offset, std::sync::atomic::Ordering::Relaxed);
        }
        first
    });
    // Until the server has not got on for a while.
    let mut before = u64::MAX;
    while before != sent.load(std::sync::atomic::Ordering::Relaxed) || before == 0 {
        before = sent.load(std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < EVENTS, "the client took all {before} events in without a consumer");
    let mut expected = 1;
    while expected <= EVENTS {
        if let Item::Event(received) = next(&mut feed).await.unwrap() {
            assert_eq!(received.event.offset, expected);
            expected += 1;
        }
    }
    script.await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&format!("http://{address}")).unwrap();
    let mut feed = subscribe(&client, Start::Live);
    let Item::Disconnected { reason, .. } = next(&mut feed).await.unwrap() else {
        panic!("connected to nothing")
    };
    assert!(reason.contains("nobody answers there"), "{reason}");
    let server = Server { listener: TcpListener::bind(address).await.unwrap() };
    let script = async {
        let mut first = server.accept().await;
        first.hear().await;
        first.answer(0, EPOCH, "").await;
        first
    };
    let (_open, _story) = tokio::join!(script, story_until(&mut feed, "subscribed 0"));
}
