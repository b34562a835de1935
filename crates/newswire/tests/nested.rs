//! A feed below a path of the application's choice, behind its middleware: every address that an answer names leads there.

#![cfg(feature = "docs")]
#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use axum::middleware::{self, Next};
use futures_util::StreamExt;
use newswire::Feed;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tower::ServiceExt;
use url::Url;

const FEED: &str = "http://app.example/tools/live/feed";
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever does not show the header gets nothing, and every answer has passed the application's hands.
async fn members_only(request: Request<Body>, next: Next) -> Response<Body> {
    let mut response = if request.headers().contains_key("x-member") {
        next.run(request).await
    } else {
        Response::builder().status(StatusCode::FORBIDDEN).body(Body::empty()).unwrap()
    };
    response.headers_mut().insert("x-application", "here".parse().unwrap());
    response
}

fn application() -> Router {
    let feed = Feed::builder().build().unwrap();
    Router::new()
        .nest("/tools/live/feed", feed.router())
        .nest("/tools/docs", newswire::docs("live/feed"))
        .layer(middleware::from_fn(members_only))
}

/// The answer, of which the body may have no end.
async fn ask(app: &Router, address: &Url, accept: &str) -> Response<Body> {
    let target = &address[url::Position::BeforePath..];
    let request = Request::get(target).header("x-member", "yes").header(header::ACCEPT, accept);
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["x-application"], "here");
    response
}

async fn get(app: &Router, address: &Url, accept: &str) -> (Response<()>, Vec<u8>) {
    let (parts, body) = ask(app, address, accept).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (Response::from_parts(parts, ()), body.to_vec())
}

async fn publish(app: &Router, events: u64) {
    let event = |n| json!({"channel": "tasks", "event_type": "task.created", "payload": {"n": n}});
    let body = Value::from((0..events).map(event).collect::<Vec<_>>()).to_string();
    let request = Request::post("/tools/live/feed/events")
        .header("x-member", "yes")
        .header(header::CONTENT_TYPE, "application/json");
    let response = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
}

#[tokio::test]
async fn nobody_passes_the_application_by() {
    let app = application();
    for path in ["/tools/live/feed/events", "/tools/live/feed/channels", "/tools/live/feed/ws", "/tools/docs"]
    {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn pages_lead_on_to_one_another() {
    let app = application();
    publish(&app, 5).await;
    let mut address = Url::parse(&format!("{FEED}/events?channels=tasks&after=0&limit=2")).unwrap();
    let mut seen = Vec::new();
    // Two, two, one, and perhaps a last page with nothing on it.
    for _ in 0..4 {
        let (response, body) = get(&app, &address, "application/cloudevents-batch+json").await;
        assert_eq!(response.status(), StatusCode::OK, "{address}");
        let page: Vec<Value> = serde_json::from_slice(&body).unwrap();
        seen.extend(page.iter().map(|event| event["data"]["n"].as_u64().unwrap()));
        let Some(link) = response.headers().get(header::LINK) else { break };
        let (target, _) = link.to_str().unwrap().strip_prefix('<').unwrap().split_once('>').unwrap();
        address = address.join(target).unwrap();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_the_documents_link_to_is_there() {
    let app = application();
    for page in ["http://app.example/tools/docs", "http://app.example/tools/docs/live"] {
        let page = Url::parse(page).unwrap();
        let (response, body) = get(&app, &page, "text/html").await;
        assert_eq!(response.status(), StatusCode::OK);
        let text = String::from_utf8(body).unwrap();
        let named: Vec<&str> = ["href=\"", "src=\"", "data-openapi=\""]
            .iter()
            .flat_map(|attribute| text.split(attribute).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .filter(|link| !link.starts_with("data:") && !link.starts_with('#'))
            .collect();
        assert!(named.len() > 4, "{named:?}");
        for link in named {
            let target = page.join(link).unwrap();
            assert_eq!(target.host_str(), page.host_str(), "nothing comes from elsewhere: {link}");
            assert_eq!(ask(&app, &target, "*/*").await.status(), StatusCode::OK, "{link} on {page}");
        }
    }
}

#[tokio::test]
async fn the_description_names_the_server_it_came_from() {
    let app = application();
    let description = Url::parse(&format!("{FEED}/openapi.json")).unwrap();
    let (_, body) = get(&app, &description, "*/*").await;
    let document: Value = serde_json::from_slice(&body).unwrap();
    let server = description.join(document["servers"][0]["url"].as_str().unwrap()).unwrap();
    assert_eq!(server.as_str(), format!("{FEED}/"));
    let calls = document["paths"].as_object().unwrap();
    let plain = calls.keys().filter(|path| !path.contains('{') && calls[*path].get("get").is_some());
    for path in plain {
        let target = server.join(path.trim_start_matches('/')).unwrap();
        let status = ask(&app, &target, "application/json").await.status();
        // An upgrade is missing or nobody asked for a channel; but it is there.
        assert_ne!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn sockets_open_below_it() {
    let app = application();
    publish(&app, 3).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut request =
        format!("ws://{address}/tools/live/feed/ws/tasks?history=1").into_client_request().unwrap();
    request.headers_mut().insert("x-member", "yes".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["x-application"], "here");
    let last = loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").unwrap().unwrap();
        let value: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if value.get("offset").is_some() && value.get("payload").is_some() {
            break value;
        }
    };
    assert_eq!(last["payload"]["n"], 2);
}
