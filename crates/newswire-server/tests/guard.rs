//! Who may talk to an open server: every kind of `Host` and `Origin`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::body::Body;
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::{Method, Request, Response, StatusCode};
use newswire_server::config::{Config, Inputs, load};
use newswire_server::server::guard::{self, Guard, Guards};
use tower::ServiceExt;

fn config(set: &[&str]) -> Config {
    load(&Inputs { set: set.iter().map(ToString::to_string).collect(), ..Inputs::default() }).unwrap()
}

async fn answer(set: &[&str], method: Method, headers: &[(&str, &str)]) -> Response<Body> {
    let guard = Guards::new(Guard::new(&config(set)));
    let router = Router::new()
        .route("/", get(async || "news"))
        .route("/", post(async || "stored"))
        .layer(middleware::from_fn_with_state(guard, guard::layer));
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn verdict(set: &[&str], headers: &[(&str, &str)]) -> String {
    let response = answer(set, Method::GET, headers).await;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    if status == StatusCode::OK {
        return "passes".into();
    }
    assert_eq!(status, StatusCode::FORBIDDEN);
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn hosts_of_a_loopback_server() {
    for (host, expected) in [
        ("localhost", "passes"),
        ("LOCALHOST:8080", "passes"),
        ("127.0.0.1:8080", "passes"),
        ("127.0.0.1:1", "passes"),
        ("127.1.2.3", "passes"),
        ("[::1]:8080", "passes"),
        ("feed.example", "forbidden_host"),
        ("localhost.feed.example", "forbidden_host"),
        ("127.0.0.1.nip.io", "forbidden_host"),
        ("10.0.0.1:8080", "forbidden_host"),
        ("0.0.0.0:8080", "forbidden_host"),
        ("[::]", "forbidden_host"),
        ("user@localhost", "forbidden_host"),
        ("2130706433", "forbidden_host"),
        ("", "forbidden_host"),
        ("a b", "forbidden_host"),
    ] {
        assert_eq!(verdict(&[], &[("host", host)]).await, expected, "Host: {host}");
    }
    assert_eq!(verdict(&[], &[]).await, "forbidden_host", "no Host");
    assert_eq!(
        verdict(&[], &[("host", "localhost"), ("host", "evil.example")]).await,
        "forbidden_host",
        "two"
    );
}

#[tokio::test]
async fn hosts_of_a_server_beyond_loopback() {
    let one = ["listen=10.0.0.5:80", "auth.mode=none", "allowed_hosts=feed.example"];
    for (host, expected) in [
        ("10.0.0.5", "passes"),
        ("localhost", "passes"),
        ("Feed.example:443", "passes"),
        ("10.0.0.6", "forbidden_host"),
        ("other.example", "forbidden_host"),
    ] {
        assert_eq!(verdict(&one, &[("host", host)]).await, expected, "Host: {host}");
    }
    let all = ["listen=0.0.0.0:80", "auth.mode=none"];
    for (host, expected) in
        [("10.0.0.6:80", "passes"), ("[fd00::1]", "passes"), ("evil.example", "forbidden_host")]
    {
        assert_eq!(verdict(&all, &[("host", host)]).await, expected, "Host: {host}");
    }
}

#[tokio::test]
async fn origins_of_a_loopback_server() {
    let listed = ["cors.origins=https://app.example"];
    for (origin, expected) in [
        ("http://localhost:8080", "passes"),
        ("http://127.0.0.1:3000", "passes"),
        ("http://[::1]:8080", "passes"),
        ("https://localhost", "passes"),
        ("https://app.example", "passes"),
        ("HTTPS://APP.example", "passes"),
        ("http://app.example", "forbidden_origin"),
        ("https://app.example:444", "forbidden_origin"),
        ("https://app.example.evil.example", "forbidden_origin"),
        ("https://evil.example", "forbidden_origin"),
        ("http://localhost.evil.example", "forbidden_origin"),
        ("http://localhost@evil.example", "forbidden_origin"),
        ("file://localhost", "forbidden_origin"),
        ("chrome-extension://localhost", "forbidden_origin"),
        ("null", "forbidden_origin"),
        ("", "forbidden_origin"),
    ] {
        let headers = [("host", "127.0.0.1:8080"), ("origin", origin)];
        assert_eq!(verdict(&listed, &headers).await, expected, "Origin: {origin}");
    }
    let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "https://evil.example")];
    assert_eq!(verdict(&[], &twice).await, "forbidden_origin");
}

#[tokio::test]
async fn origins_of_a_server_beyond_loopback() {
    let set = ["listen=0.0.0.0:80", "auth.mode=none", "allowed_hosts=feed.example"];
    for (host, origin, expected) in [
        ("feed.example", "https://feed.example", "passes"),
        ("feed.example:80", "http://feed.example", "passes"),
        ("10.0.0.5:8080", "http://10.0.0.5:8080", "passes"),
        ("10.0.0.5:8080", "http://10.0.0.5:3000", "forbidden_origin"),
        ("10.0.0.5:8080", "http://localhost:8080", "forbidden_origin"),
        ("feed.example", "https://evil.example", "forbidden_origin"),
    ] {
        assert_eq!(
            verdict(&set, &[("host", host), ("origin", origin)]).await,
            expected,
            "{origin} to {host}"
        );
    }
}

#[tokio::test]
async fn a_listed_origin_gets_cors_headers_and_its_preflight_answered() {
    let set = ["cors.origins=https://app.example"];
    let page = [("host", "localhost"), ("origin", "https://app.example")];
    let response = answer(&set, Method::GET, &page).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(response.headers()["vary"], "origin");

    let asks = [page[0], page[1], ("access-control-request-method", "POST")];
    let response = answer(&set, Method::OPTIONS, &asks).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert!(response.headers()["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert!(response.headers()["access-control-allow-headers"].to_str().unwrap().contains("content-type"));

    let foreign = [page[0], ("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let response = answer(&set, Method::OPTIONS, &foreign).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_program_without_origin_gets_no_cors_headers() {
    let response =
        answer(&["cors.origins=https://app.example"], Method::POST, &[("host", "localhost")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    assert_eq!(response.headers()["vary"], "origin");
}
