//! The front door over real sockets: the limit, the peer's address, how it closes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use newswire_server::config::ServerConfig;
use newswire_server::server::DoorMetrics;
use newswire_server::server::accept::{Bounds, Door};

use newswire_server::server::proxy::Proxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Opened {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    serving: tokio::task::JoinHandle<()>,
}

async fn open(max_connections: usize, router: Router) -> Opened {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let door = Door {
        max_connections: Arc::new(max_connections.into()),
        addresses: newswire::Crowd::new(None),
        proxies: Proxies::new(&ServerConfig::default()),
        bounds: Bounds {
            handshake_timeout: Duration::from_millis(300),
            header_timeout: Duration::from_millis(300),
            header_bytes: 64 << 10,
            body_timeout: Duration::from_millis(300),
        },
        tls: None,
        metrics: DoorMetrics::default(),
    };
    let serving = tokio::spawn({
        let (stop, tasks) = (stop.clone(), tasks.clone());
        async move { door.serve(listener, router, &tasks, stop).await }
    });
    Opened { address, stop, tasks, serving }
}

/// Sends a request on an open connection and reads up to the end of a short answer.
async fn request(stream: &mut TcpStream, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("no answer").unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

async fn whoami(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

#[tokio::test]
async fn handlers_learn_the_address_of_the_peer() {
    let opened = open(10, Router::new().route("/", get(whoami))).await;
    let mut stream = TcpStream::connect(opened.address).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    assert!(request(&mut stream, "/").await.ends_with(&own));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_a_free_place_is_given_again() {
    let opened = open(2, Router::new().route("/", get(whoami))).await;
    let mut first = TcpStream::connect(opened.address).await.unwrap();
    let mut second = TcpStream::connect(opened.address).await.unwrap();
    assert!(request(&mut first, "/").await.starts_with("HTTP/1.1 200"));
    assert!(request(&mut second, "/").await.starts_with("HTTP/1.1 200"));

    let mut third = TcpStream::connect(opened.address).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(PATIENCE, third.read_to_string(&mut said)).await.expect("left waiting").unwrap();
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(said.contains("\r\nretry-after: 5\r\n") && said.contains("too_many_connections"), "{said}");
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{said}");
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{said}");

    drop(first);
    let served_again = async {
        loop {
            let mut again = TcpStream::connect(opened.address).await.unwrap();
            if request(&mut again, "/").await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, served_again)
        .await
        .expect("the place of the one who left is not given again");
}

#[tokio::test]
async fn closing_lets_a_request_in_flight_finish_and_idle_connections_go() {
    let (entered, mut enters) = mpsc::channel(1);
    let release = CancellationToken::new();
    let slow = {
        let release = release.clone();
        get(move || async move {
            entered.send(()).await.unwrap();
            release.cancelled().await;
            "finished"
        })
    };
    let opened = open(10, Router::new().route("/slow", slow).route("/", get(whoami))).await;
    let mut idle = TcpStream::connect(opened.address).await.unwrap();
    assert!(request(&mut idle, "/").await.starts_with("HTTP/1.1 200"));
    let mut busy = TcpStream::connect(opened.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    enters.recv().await.unwrap();

    opened.stop.cancel();
    tokio::time::timeout(PATIENCE, opened.serving).await.expect("still accepting").unwrap();
    assert!(TcpStream::connect(opened.address).await.is_err(), "takes connections after the stop");
    assert_eq!(read_answer(&mut idle).await, "", "an idle connection is closed");
    release.cancel();
    assert!(read_answer(&mut busy).await.ends_with("finished"));
    opened.tasks.close();
    tokio::time::timeout(PATIENCE, opened.tasks.wait()).await.expect("a connection outlives its request");
}

#[tokio::test]
async fn a_panic_in_a_handler_costs_one_connection() {
    async fn faulty() -> &'static str {
        panic!("a bug")
    }
    let opened = open(10, Router::new().route("/bug", get(faulty)).route("/", get(whoami))).await;
    let mut unlucky = TcpStream::connect(opened.address).await.unwrap();
    assert_eq!(request(&mut unlucky, "/bug").await, "");
    let mut next = TcpStream::connect(opened.address).await.unwrap();
    assert!(request(&mut next, "/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    async fn length(body: Result<axum::body::Bytes, axum::extract::rejection::BytesRejection>) -> String {
        body.map_or_else(|_| "gave up".into(), |body| body.len().to_string())
    }
    let opened = open(10, Router::new().route("/", post(length))).await;
    for (sent, answered) in [("0123456789", "10"), ("01234", "gave up"), ("", "gave up")] {
        let mut stream = TcpStream::connect(opened.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.ends_with(answered), "after {sent:?}");
    }
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_headers_is_let_go() {
    let opened = open(10, Router::new().route("/", get(whoami))).await;
    for part in ["", "P", "GET / HTTP/1.1\r\nhost: loc"] {
        let mut stream = TcpStream::connect(opened.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap_or_else(|_| panic!("still waiting after {part:?}"))
            .unwrap();
    }
}
