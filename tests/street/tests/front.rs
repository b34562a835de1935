//! The front door, as any client meets it: request ids, compressed bodies, limits on requests, problems everywhere.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use newswire_street_tests::data::{sized, task};
use newswire_street_tests::{Ending, Raw, Server, ServerOptions, eventually};

const JSON: &str = "application/json";

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = Server::with("logging.level", "debug");
    let http = server.http();
    for (path, status) in [("/api/v1/channels", 200), ("/api/v1/nothing", 404), ("/", 404)] {
        let answer = http.send("GET", path, &[("x-request-id", "run-12.7")], "").await;
        assert_eq!((answer.status, &answer.headers["x-request-id"]), (status, &"run-12.7".parse().unwrap()));
    }
    let made = http.send("GET", "/api/v1/channels", &[("x-request-id", "not one;")], "").await;
    assert_eq!(made.headers["x-request-id"].len(), 36);
    let refused = http.send("GET", "/api/v1/channels", &[("origin", "https://evil.example")], "").await;
    assert!(refused.headers.contains_key("x-request-id"));
    assert_eq!(refused.problem(403), "forbidden_origin");
    assert!(server.stderr().contains("run-12.7"), "the log says it too: {}", server.stderr());
}

#[tokio::test]
async fn answers_are_compressed_where_it_is_worth_it() {
    let server = Server::start();
    let http = server.http();
    http.publish(&(1..=50).map(task).collect::<Vec<_>>()).await;
    let plain = http.get("/events").await.body;
    for encoding in ["gzip", "br", "zstd"] {
        let (head, body) = raw_get(&server, "/api/v1/events", encoding).await;
        assert!(head.contains(&format!("content-encoding: {encoding}")), "{head}");
        assert!(head.contains("vary:") && head.contains("accept-encoding"), "{head}");
        assert!(body.len() * 3 < plain.len(), "{encoding}: {} of {}", body.len(), plain.len());
        if encoding == "gzip" {
            let mut text = String::new();
            GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
            assert_eq!(text, plain);
        }
    }
    for (path, why) in
        [("/api/v1/channels?limit=1", "it is short"), ("/api/v1/events/1", "its entity tag names its bytes")]
    {
        let (head, _) = raw_get(&server, path, "gzip").await;
        assert!(!head.contains("content-encoding"), "{why}: {head}");
    }
    let (head, _) = Raw::request(
        server.addr,
        "GET /api/v1/events/stream?after=0 HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip\r\n\r\n",
    )
    .await;
    assert!(!head.to_ascii_lowercase().contains("content-encoding"), "streams are not: {head}");
}

/// Head in lower case, and the bytes of the body, chunks put together.
async fn raw_get(server: &Server, path: &str, encoding: &str) -> (String, Vec<u8>) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {encoding}\r\nconnection: close\r\n\r\n"
    );
    let (head, mut raw) = Raw::request(server.addr, &request).await;
    let head = head.to_ascii_lowercase();
    let bytes = raw.read_bytes_to_end().await;
    if !head.contains("transfer-encoding: chunked") {
        return (head, bytes);
    }
    let (mut body, mut rest) = (Vec::new(), &bytes[..]);
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return (head, body);
        }
        body.extend_from_slice(&rest[end + 2..][..size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

#[tokio::test]
async fn compressed_requests_are_read_within_the_same_bounds() {
    let server = Server::with("limits.request_bytes", "1MiB");
    let http = server.http();
    let post = async |encoding: &str, body: Vec<u8>| {
        let headers = [("content-type", JSON), ("content-encoding", encoding)];
        http.send("POST", "/api/v1/events", &headers, body).await
    };
    let stored = post("gzip", gzipped(task(1).to_string().as_bytes())).await.data();
    assert_eq!(stored["results"][0]["offset"], 1);
    let bomb = gzipped(format!("[{}]", vec![sized("tasks", 60_000); 40].join(",")).as_bytes());
    assert!(bomb.len() < 100_000, "small as it comes");
    assert_eq!(post("gzip", bomb).await.problem(413), "request_too_large");
    assert_eq!(post("gzip", b"no gzip".to_vec()).await.problem(400), "bad_request");
    // One event in zstd: a header of two bytes, the size of what follows, one raw block.
    let raw = task(2).to_string().into_bytes();
    let block = |last: u32| ((raw.len() as u32) << 3 | last).to_le_bytes()[..3].to_vec();
    let magic = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    let zstd = |window: u8| [&magic[..], &[0, window], &block(1), &raw].concat();
    assert_eq!(post("zstd", zstd(0)).await.data()["results"][0]["offset"], 2);
    // 2^(10+13) = 8 MiB, the same and an eighth more, 128 MiB, 2 GiB.
    assert_eq!(post("zstd", zstd(13 << 3)).await.data()["results"][0]["offset"], 3);
    for window in [(13 << 3) + 1, 17 << 3, 21 << 3] {
        let refused = post("zstd", zstd(window)).await;
        assert_eq!(refused.problem(400), "bad_request", "{window}");
    }
    let several = [zstd(0), zstd(17 << 3)].concat();
    assert_eq!(post("zstd", several).await.problem(400), "bad_request", "nor may a second frame");
    assert_eq!(post("br", vec![0x11, 30, 0, 0, 0]).await.problem(400), "bad_request");
    let large = post("br", vec![0x91, 30]).await;
    assert!(large.json()["detail"].as_str().unwrap().contains("window"), "{large:?}");
    let unknown = post("compress", b"x".to_vec()).await;
    assert_eq!(unknown.problem(415), "unsupported_media_type");
    assert_eq!(unknown.headers["accept-encoding"], "gzip, br, zstd");
    assert_eq!(http.history("").await.len(), 3);
}

#[tokio::test]
async fn requests_over_the_limit_are_told_when_to_come_back() {
    let server = ServerOptions::default()
        .set("limits.requests_per_second", 1)
        .set("limits.requests_burst", 20)
        .start();
    let http = server.http();
    let first = http.get("/channels").await;
    assert_eq!(first.headers["ratelimit-policy"], "\"default\";q=20;w=20");
    assert!(first.headers["ratelimit"].to_str().unwrap().starts_with("\"default\";r="), "{first:?}");
    let mut refused = None;
    // Tokens come back while this runs, however fast it is: so as many as it takes, and not forever.
    for _ in 0..1_000 {
        let answer = http.get("/channels").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("nobody has a thousand requests");
    assert_eq!(refused.problem(429), "too_many_requests");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(refused.headers["ratelimit"].to_str().unwrap().starts_with("\"default\";r=0;"), "{refused:?}");
    for _ in 0..30 {
        assert_eq!(http.get("/health").await.status, 200, "probes are never refused");
    }
    assert!(http.metric("newswire_http_requests_limited_total").await >= 1.0);
    let unlimited = Server::start();
    assert!(!unlimited.http().get("/channels").await.headers.contains_key("ratelimit"), "off by default");
}

/// A connection that was answered and stays; those that left before may still be counted for a moment.
async fn keep_one(server: &Server) -> Raw {
    let ask = "GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    eventually("there is room", async || {
        let (head, raw) = Raw::request(server.addr, ask).await;
        head.starts_with("HTTP/1.1 200").then_some(raw)
    })
    .await
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_websocket_is_one() {
    let server = Server::with("limits.connections_per_address", 3);
    let mut socket = Raw::open(server.addr, "/api/v1/ws/tasks").await;
    let (watching, other) = (keep_one(&server).await, keep_one(&server).await);
    let ask = "GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (refused, mut rest) = Raw::request(server.addr, ask).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    let body = rest.read_bytes_to_end().await;
    assert!(String::from_utf8_lossy(&body).contains("limits.connections_per_address"));
    drop((watching, other));
    eventually("they have left", async || {
        Raw::request(server.addr, ask).await.0.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    // The WebSocket still counts, though HTTP has ended on its connection.
    let held = (keep_one(&server).await, keep_one(&server).await);
    assert!(Raw::request(server.addr, ask).await.0.starts_with("HTTP/1.1 429"));
    drop(held);
    socket.send_text(r#"{"action":"ping"}"#).await;
    eventually("the metric counts them", async || {
        let http = server.http();
        (http.metric("newswire_http_connections_refused_total").await >= 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_counts_only_from_the_mouth_of_a_trusted_proxy() {
    let options =
        || ServerOptions::default().set("limits.requests_per_second", 1).set("limits.requests_burst", 5);
    let ask = async |http: &newswire_street_tests::Http, from: &str| {
        http.send("GET", "/api/v1/channels", &[("x-forwarded-for", from), ("forwarded", "for=6.6.6.6")], "")
            .await
            .status
    };
    let straight = options().start();
    let http = straight.http();
    let mut answers = Vec::new();
    for n in 0..250 {
        answers.push(ask(&http, &format!("198.51.100.{n}")).await);
    }
    assert!(answers.contains(&429), "whatever it says, it is one address");

    let behind = options().set("server.trusted_proxies", "127.0.0.0/8,10.0.0.0/8").start();
    let http = behind.http();
    for n in 0..250 {
        // What the client wrote itself stands to the left of what the proxy wrote.
        assert_eq!(ask(&http, &format!("203.0.113.7, 198.51.100.{n}, 10.0.0.9")).await, 200, "{n}");
    }
    let mut answers = Vec::new();
    for n in 0..250 {
        answers.push(ask(&http, &format!("198.51.100.{n}, 192.0.2.1")).await);
    }
    assert!(answers.contains(&429), "an address that a client makes up buys nothing");
}

#[tokio::test]
async fn headers_that_trickle_or_swell_end_their_connection_and_nobody_elses() {
    let server = ServerOptions::default()
        .set("limits.header_timeout", "300ms")
        .set("limits.header_bytes", "8KiB")
        .start();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(server.http().get("/health").await.status, 200);
    for mut stream in slow {
        let mut said = Vec::new();
        // Ends by itself: a hang would be the test's timeout.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said).await;
        assert!(!String::from_utf8_lossy(&said).starts_with("HTTP/1.1 200"));
    }
    eventually("the metric counts them", async || {
        (server.http().metric("newswire_http_connections_timed_out_total").await >= 50.0).then_some(())
    })
    .await;
    let swollen = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    assert!(Raw::request(server.addr, &swollen).await.0.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn what_is_too_large_is_counted_by_what_it_is() {
    let server = ServerOptions::default()
        .set("limits.request_bytes", "64KiB")
        .set("limits.header_bytes", "16KiB")
        .start();
    let http = server.http();
    let body = " ".repeat(65 << 10);
    let headers = [("content-type", "application/json")];
    assert_eq!(http.send("POST", "/api/v1/events", &headers, body).await.problem(413), "request_too_large");
    let ask = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(17 << 10));
    let (refused, _) = Raw::request(server.addr, &ask).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    for code in ["request_too_large", "headers_too_large"] {
        eventually("it is counted", async || {
            let counted = http.metric(&format!("newswire_http_problems_total{{code=\"{code}\"}}")).await;
            (counted == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_audit_tells_of_some_that_come_too_often_and_counts_all() {
    let server = ServerOptions::default()
        .set("limits.requests_per_second", 1)
        .set("limits.requests_burst", 1)
        .set("limits.publishes_per_second", 1)
        .set("limits.publishes_burst", 1)
        .set("audit.log", true)
        .start();
    let mut socket = Raw::open(server.addr, "/api/v1/ws").await;
    let http = server.http();
    for n in 0..200 {
        http.get("/channels").await;
        let publish = format!(r#"{{"action":"publish","id":{n},"channel":"tasks","event_type":"t"}}"#);
        socket.send_text(&publish).await;
        socket.next_text().await;
    }
    assert!(http.metric("newswire_http_requests_limited_total").await >= 150.0);
    assert!(http.metric("newswire_publish_refusals_total{reason=\"too_many_requests\"}").await >= 150.0);
    let log = server.stderr();
    for act in ["request refused", "publish refused"] {
        let told = log.lines().filter(|line| line.contains(act)).count();
        assert!((1..100).contains(&told), "{told} lines of {act:?}");
    }
}

#[tokio::test]
async fn commands_and_publishes_over_a_websocket_have_a_rate() {
    let server = ServerOptions::default()
        .set("limits.commands_per_second", 1)
        .set("limits.commands_burst", 40)
        .set("limits.publishes_per_second", 1)
        .set("limits.publishes_burst", 5)
        .start();
    let mut socket = Raw::open(server.addr, "/api/v1/ws").await;
    for n in 0..12 {
        socket
            .send_text(&format!(r#"{{"action":"publish","id":{n},"channel":"tasks","event_type":"t"}}"#))
            .await;
    }
    let refused = loop {
        let answer = socket.next_text().await;
        if answer.contains("\"error\"") {
            break serde_json::from_str::<serde_json::Value>(&answer).unwrap();
        }
    };
    assert_eq!(refused["code"], "too_many_requests", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|wait| (1..=1_000).contains(&wait)), "{refused}");
    assert!(
        server.http().metric("newswire_publish_refusals_total{reason=\"too_many_requests\"}").await >= 1.0
    );
    for _ in 0..2_000 {
        socket.send_text(r#"{"action":"ping"}"#).await;
    }
    assert_eq!(socket.ending().await, Ending::Close(4029));
    let http = server.http();
    let stored = http.history("").await.len();
    assert!((5..12).contains(&stored), "{stored} of twelve are stored");
    assert!(http.metric("newswire_connection_closes_total{reason=\"4029\"}").await >= 1.0);
}
