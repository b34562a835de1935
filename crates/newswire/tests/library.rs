//! A feed inside somebody else's axum application, over real sockets and over a stream that is no socket.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use newswire::log::{MemoryLog, MemoryOptions};
use newswire::{Feed, Settings};
use newswire_core::Principal;
use newswire_protocol::{Draft, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(20);

fn feed(settings: Settings) -> Feed {
    let log = Arc::new(MemoryLog::new(MemoryOptions::default()).unwrap());
    Feed::builder().settings(settings).log(log).build().unwrap()
}

fn draft(n: u64) -> Draft {
    let event = json!({"event_type": "task.created", "channel": "tasks", "payload": {"n": n}});
    Draft::parse(&event.to_string(), &Limits::default()).unwrap()
}

/// The feed beside a route of the application's own.
fn application(feed: &Feed) -> Router {
    Router::new().route("/own", get(|| async { "own" })).nest("/api/v1", feed.router())
}

async fn serve(feed: &Feed) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let application = application(feed);
    tokio::spawn(async move { axum::serve(listener, application).await });
    address
}

async fn connect(address: std::net::SocketAddr, path: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(format!("ws://{address}/api/v1{path}"), stream).await.unwrap().0
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, command: Value) {
    socket.send(Message::text(command.to_string())).await.unwrap();
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn an_application_publishes_and_a_browser_sees_it() {
    let feed = feed(Settings::default());
    let mut socket = connect(serve(&feed).await, "/ws").await;
    send(&mut socket, json!({"action": "subscribe", "channels": ["tasks"], "id": 7})).await;
    let answer = receive(&mut socket).await;
    assert_eq!((&answer["action"], &answer["id"]), (&json!("subscribed"), &json!(7)));
    for n in 0..100 {
        let results = feed.publish_drafts(&Principal::anonymous(), vec![draft(n)]).await;
        assert_eq!(results[0].as_ref().unwrap().offset, n + 1);
    }
    for n in 0..100 {
        let event = receive(&mut socket).await;
        assert_eq!((&event["offset"], &event["payload"]["n"]), (&json!(n + 1), &json!(n)));
    }
}

#[tokio::test]
async fn a_stream_that_is_no_socket_serves_as_well() {
    let feed = feed(Settings::default());
    let (near, far) = tokio::io::duplex(1 << 10);
    let service = TowerToHyperService::new(application(&feed));
    tokio::spawn(async move {
        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(far), service)
            .await
    });
    let mut socket = client_async("ws://localhost/api/v1/ws/tasks?history=2", near).await.unwrap().0;
    assert_eq!(receive(&mut socket).await["action"], "subscribed");
    assert_eq!(receive(&mut socket).await["action"], "caught_up");
    let drafts = (0..1_000).map(draft).collect();
    feed.publish_drafts(&Principal::anonymous(), drafts).await;
    for n in 0..1_000 {
        assert_eq!(receive(&mut socket).await["payload"]["n"], n);
    }
}

#[tokio::test]
async fn an_answered_publish_lies_before_a_later_subscription() {
    let feed = feed(Settings::default());
    let address = serve(&feed).await;
    let mut socket = connect(address, "/ws").await;
    for n in 0..50 {
        let results = feed.publish_drafts(&Principal::anonymous(), vec![draft(n)]).await;
        let offset = results[0].as_ref().unwrap().offset;
        send(&mut socket, json!({"action": "subscribe", "channels": ["tasks"], "sub": n.to_string()})).await;
        let answer = loop {
            let message = receive(&mut socket).await;
            if message["action"] == "subscribed" {
                break message;
            }
        };
        assert!(answer["offset"].as_u64().unwrap() >= offset, "{answer} does not cover {offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_every_hub_get_everything_in_order() {
    let feed = feed(Settings {
        fanout_shards: NonZeroUsize::new(3).unwrap(),
        fanout_max_linger: Duration::from_millis(20),
        ..Settings::default()
    });
    let address = serve(&feed).await;
    let mut sockets = Vec::new();
    for _ in 0..7 {
        let mut socket = connect(address, "/ws").await;
        send(&mut socket, json!({"action": "subscribe", "channels": ["tasks"]})).await;
        assert_eq!(receive(&mut socket).await["action"], "subscribed");
        sockets.push(socket);
    }
    let request = Request::get("/channels").body(Body::empty()).unwrap();
    let answer = feed.router().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let channels: Value = serde_json::from_slice(&body).unwrap();
    let tasks = channels["data"].as_array().unwrap().iter().find(|channel| channel["channel"] == "tasks");
    assert_eq!(tasks.unwrap()["subscribers"], 7);
    let mut publishing = tokio::task::JoinSet::new();
    for publisher in 0..10 {
        let feed = feed.clone();
        publishing.spawn(async move {
            for n in 0..50 {
                feed.publish_drafts(&Principal::anonymous(), vec![draft(publisher * 50 + n)])
                    .await
                    .remove(0)
                    .unwrap();
            }
        });
    }
    publishing.join_all().await;
    for socket in &mut sockets {
        for offset in 1..=500 {
            assert_eq!(receive(socket).await["offset"], offset);
        }
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let feed = feed(Settings { max_connections: 1, ..Settings::default() });
    let address = serve(&feed).await;
    let mut first = connect(address, "/ws").await;
    send(&mut first, json!({"action": "ping"})).await;
    assert_eq!(receive(&mut first).await["action"], "pong");
    let mut second = connect(address, "/ws").await;
    let Message::Close(Some(close)) = second.next().await.unwrap().unwrap() else { panic!("not closed") };
    assert_eq!(u16::from(close.code), 4029);
    assert!(close.reason.starts_with("retry_after_ms="), "{}", close.reason);
}

#[tokio::test]
async fn a_shutdown_answers_what_was_asked_and_says_when_to_return() {
    let feed = feed(Settings::default());
    let address = serve(&feed).await;
    let mut socket = connect(address, "/ws").await;
    send(&mut socket, json!({"action": "ping"})).await;
    assert_eq!(receive(&mut socket).await["action"], "pong");
    let closing = tokio::spawn({
        let feed = feed.clone();
        async move { feed.shutdown(Duration::from_secs(10)).await }
    });
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(close)) = message else { panic!("{message:?} instead of a close") };
    assert_eq!(u16::from(close.code), 1001);
    assert!(close.reason.starts_with("retry_after_ms="));
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    assert!(closing.await.unwrap(), "the session did not end in time");
    assert!(
        feed.publish_drafts(&Principal::anonymous(), vec![draft(1)]).await[0].is_err(),
        "the log is closed"
    );
}

#[tokio::test]
async fn the_routes_of_the_application_are_its_own() {
    let feed = feed(Settings::default());
    let address = serve(&feed).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /own HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("own"), "{answer}");
}

/// A middleware of the application's own, that knows who asks.
async fn who_asks(
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    if let Some(name) = request.headers().get("x-user").and_then(|name| name.to_str().ok()) {
        let principal = Principal { id: name.into(), ..Principal::anonymous() };
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

#[tokio::test]
async fn the_application_says_who_asks_over_any_stream() {
    let feed = feed(Settings::default());
    let application = application(&feed).layer(axum::middleware::from_fn(who_asks));
    let publish = async |user: &str| {
        let event =
            json!({"event_type": "a", "channel": "tasks", "event_id": "same", "payload": {"by": user}});
        let request = Request::post("/api/v1/events")
            .header("content-type", "application/json")
            .header("x-user", user)
            .body(Body::from(event.to_string()))
            .unwrap();
        let answer = application.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["data"]["results"][0].clone()
    };
    assert_eq!(publish("ada").await["offset"], 1);
    assert_eq!(publish("bob").await["offset"], 2, "an id is its publisher's own");
    assert_eq!(
        (&publish("ada").await["offset"], &publish("ada").await["duplicate"]),
        (&json!(1), &json!(true))
    );
    // Over a stream that could as well be TLS, through the same middleware.
    let (near, far) = tokio::io::duplex(1 << 10);
    let service = TowerToHyperService::new(application.clone());
    tokio::spawn(async move {
        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(far), service)
            .await
    });
    let request = "ws://localhost/api/v1/ws/tasks?after=0".into_client_request().unwrap();
    let mut socket = client_async(request, near).await.unwrap().0;
    assert_eq!(receive(&mut socket).await["action"], "subscribed");
    assert_eq!(receive(&mut socket).await["payload"]["by"], "ada");
    assert_eq!(receive(&mut socket).await["payload"]["by"], "bob");
}

#[tokio::test]
async fn channels_have_routes_of_the_application_with_history() {
    let feed = feed(Settings::default());
    feed.publish_drafts(&Principal::anonymous(), (0..10).map(draft).collect()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let application =
        Router::new().route("/own", get(|| async { "own" })).merge(feed.channel_routes("/live/", 3));
    tokio::spawn(async move { axum::serve(listener, application).await });
    let connect = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        client_async(format!("ws://{address}{path}"), stream).await.map(|(socket, _)| socket)
    };
    let mut socket = connect("/live/tasks").await.unwrap();
    assert_eq!(receive(&mut socket).await["action"], "subscribed");
    for n in 7..10 {
        assert_eq!(receive(&mut socket).await["payload"]["n"], n);
    }
    assert_eq!(receive(&mut socket).await["action"], "caught_up");
    feed.publish_drafts(&Principal::anonymous(), vec![draft(10)]).await;
    assert_eq!(receive(&mut socket).await["payload"]["n"], 10);
    let mut socket = connect("/live/tasks?after=10&n=10").await.unwrap();
    assert_eq!(receive(&mut socket).await["recovered"], true);
    assert_eq!(receive(&mut socket).await["payload"]["n"], 10);
    assert!(connect("/live/nowhere").await.is_err());
}

#[tokio::test]
async fn a_subscriber_in_the_process_counts_as_others_do() {
    let feed = feed(Settings::default());
    let subscription = feed.subscribe("ta*").await.unwrap();
    let mut socket = connect(serve(&feed).await, "/ws/tasks").await;
    assert_eq!(receive(&mut socket).await["action"], "subscribed");
    let subscribers = async || {
        let request = Request::get("/channels").body(Body::empty()).unwrap();
        let answer = feed.router().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let channels: Value = serde_json::from_slice(&body).unwrap();
        let tasks = channels["data"].as_array().unwrap().iter().find(|channel| channel["channel"] == "tasks");
        tasks.unwrap()["subscribers"].clone()
    };
    assert_eq!(subscribers().await, 2);
    drop(subscription);
    assert_eq!(subscribers().await, 1);
}

#[tokio::test]
async fn a_connection_keeps_the_limits_it_began_with_and_still_finds_its_own_events_behind() {
    let feed = feed(Settings::default());
    let address = serve(&feed).await;
    let mut socket = connect(address, "/ws").await;
    // Longer than what a later connection may send.
    let filters = json!({"agent": "x".repeat(200)});
    feed.reload(&Settings {
        limits: Limits { command_bytes: 128, ..Limits::default() },
        ..Settings::default()
    });
    for n in 1..=200 {
        let stored = feed.publish_drafts(&Principal::anonymous(), vec![draft(n)]).await;
        let offset = stored[0].as_ref().unwrap().offset;
        send(&mut socket, json!({"action": "subscribe", "channels": ["tasks"], "filters": filters})).await;
        let answer = loop {
            let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message {
                break serde_json::from_str::<Value>(&text).unwrap();
            }
        };
        assert_eq!(answer["action"], "subscribed", "{answer}");
        assert!(answer["offset"].as_u64().unwrap() >= offset, "{answer} behind {offset}");
    }
}
