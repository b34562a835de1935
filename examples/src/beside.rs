//! A feed beside an application that exists already: its own routes, its own middleware that knows who asks, its own end.
//!
//! `cargo run -p newswire-examples --bin beside -- 127.0.0.1:8080 ./events`, then
//! `curl -X POST localhost:8080/orders -H 'x-user: ada'` and `curl localhost:8080/feed/v1/events`. A line on the standard input
//! ends it.

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Json, Router};
use newswire::{Feed, NewEvent, Principal};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let directory = arguments.next().unwrap_or_else(|| "./events".to_owned());
    let feed = Feed::builder().channels(["orders"]).data_dir(directory).build()?;

    let app = Router::new()
        .route("/orders", post(order))
        .with_state(feed.clone())
        // The whole interface of a feed, at an address of this application …
        .nest("/feed/v1", feed.router())
        // … and a WebSocket for each channel: /live/orders, which begins with the last three orders.
        .merge(feed.channel_routes("/live", 3))
        // Whoever stands in front says who asks.
        .layer(middleware::from_fn(who_asks));

    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    // WebSockets are no requests that axum waits for: the feed says goodbye to them.
    axum::serve(listener, app)
        .with_graceful_shutdown({
            let feed = feed.clone();
            async move {
                let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
                let _ = line.await;
                feed.shutdown(Duration::from_secs(5)).await;
            }
        })
        .await?;
    println!("good bye");
    Ok(())
}

/// A handler of the application publishes what it did, and answers once that is durable.
async fn order(State(feed): State<Feed>, Extension(who): Extension<Principal>) -> Json<Value> {
    let placed = NewEvent::new("orders", "order.placed").payload(&json!({"by": &*who.id}));
    match feed.publish_as(&who, [placed]).await.remove(0) {
        Ok(stored) => Json(json!({"order": stored.offset})),
        Err(refusal) => Json(json!({"error": refusal.to_string()})),
    }
}

/// The application's own way to know people; the feed takes the [`Principal`] it is given.
async fn who_asks(mut request: Request, next: Next) -> Response {
    let name = request.headers().get("x-user").and_then(|name| name.to_str().ok()).unwrap_or("somebody");
    let principal = Principal { id: name.into(), ..Principal::anonymous() };
    request.extensions_mut().insert(principal);
    next.run(request).await
}
