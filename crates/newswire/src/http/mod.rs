//! The HTTP surface: everything below `/api/v1`.

mod admin;
mod channels;
mod cloudevents;
mod connections;
pub(crate) mod describe;
mod health;
mod history;
pub(crate) mod problem;
pub(crate) mod publish;
pub(crate) mod stream;
pub(crate) mod websocket;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query as Pairs, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use http::{Uri, header};
use newswire_core::Principal;
use newswire_protocol::query::Query;

use crate::Feed;
use problem::Problem;

/// The routes of a feed, to be nested under `/api/v1`.
///
/// Errors of every route, unknown addresses and methods included, are `application/problem+json`.
pub(crate) fn router(feed: Feed) -> Router {
    let routes = routes().into_iter();
    routes
        .fold(Router::new(), |router, (path, allow, methods)| router.route(path, answers(allow, methods)))
        .fallback(unknown_address)
        .layer(middleware::from_fn(identify))
        .with_state(feed)
}

/// `base/{channel}`: the WebSocket of one channel, with so many events of its past unless the query says where to begin.
pub(crate) fn channel_router(feed: Feed, base: &str, history: u64) -> Router {
    let path = format!("{}/{{channel}}", base.trim_end_matches('/'));
    let handler = move |feed, caller, channel, request| {
        websocket::one_channel_with_history(feed, caller, channel, history, request)
    };
    Router::new()
        .route(&path, answers("GET", get(handler)))
        .layer(middleware::from_fn(identify))
        .with_state(feed)
}

/// Each address, the methods it allows, and who answers. `describe/operations.rs` says the same to programs, which a test
/// compares.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Feed>)> {
    vec![
        ("/events", "GET, HEAD, POST", get(history::events).post(publish::publish)),
        ("/events/stream", "GET, HEAD", get(stream::stream)),
        ("/events/{offset}", "GET, HEAD", get(history::event)),
        ("/connections", "GET, HEAD", get(connections::list)),
        ("/connections/{id}", "DELETE", delete(connections::kick)),
        ("/admin/trim", "POST", post(admin::trim)),
        ("/admin/compact", "POST", post(admin::compact)),
        ("/channels", "GET, HEAD", get(channels::channels)),
        ("/health", "GET, HEAD", get(health::health)),
        ("/health/live", "GET, HEAD", get(health::live)),
        ("/health/ready", "GET, HEAD", get(health::ready)),
        ("/metrics", "GET, HEAD", get(health::metrics)),
        ("/openapi.json", "GET, HEAD", get(describe::openapi)),
        ("/asyncapi.json", "GET, HEAD", get(describe::asyncapi)),
        ("/ws", "GET", get(websocket::all)),
        ("/ws/{channel}", "GET", get(websocket::one_channel)),
    ]
}

fn answers(allow: &'static str, methods: MethodRouter<Feed>) -> MethodRouter<Feed> {
    methods.fallback(move || async move { Problem::method_not_allowed(allow) })
}

async fn unknown_address(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

/// The one place where a request gets its principal; an outer layer may have given it one already.
async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Principal>().is_none() {
        request.extensions_mut().insert(Principal::anonymous());
    }
    next.run(request).await
}

/// Extractor shorthand used by the handlers.
type Caller = Extension<Principal>;

/// The variable part of an address, if it can be decoded.
type Segment = Result<Path<String>, PathRejection>;

fn segment(segment: Segment) -> Result<String, Problem> {
    match segment {
        Ok(Path(segment)) => Ok(segment),
        Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
    }
}

/// The query of a request, decoded and read; 400 naming the parameter that is wrong.
fn read_query(uri: &Uri) -> Result<Query, Problem> {
    let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
    Ok(Query::parse(pairs)?)
}

/// JSON that is written already.
fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
