//! The front door, as any client meets it: request ids, compressed bodies, limits on requests, problems everywhere.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use newswire_street_tests::data::{sized, task};
use newswire_street_tests::{Raw, Server, ServerOptions};

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
