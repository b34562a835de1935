//! The HTTP surface: everything below `/api/v1`.

mod admin;
mod auth;
mod channels;
mod cloudevents;
mod connections;
pub(crate) mod describe;
mod health;
mod history;
pub(crate) mod identify;
pub(crate) mod problem;
pub(crate) mod publish;
pub(crate) mod stream;
pub(crate) mod websocket;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query as Pairs, Request};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, Uri, header};
use newswire_core::Principal;
use newswire_protocol::query::Query;

use crate::Feed;
use crate::history::MAX_HISTORY_EVENTS;
use identify::Admission;
use problem::Problem;

/// The routes of a feed, to be nested under `/api/v1`.
///
/// Errors of every route, unknown addresses and methods included, are `application/problem+json`.
pub(crate) fn router(feed: Feed) -> Router {
    let add = |router: Router<Feed>, (path, allow, admission, methods)| {
        let who = middleware::from_fn_with_state((feed.clone(), admission), identify::identify);
        router.route(path, answers(allow, methods).layer(who))
    };
    let routes = routes().into_iter().fold(Router::new(), add);
    routes.fallback(unknown_address).with_state(feed)
}

/// `base/{channel}`: the WebSocket of one channel, with so many events of its past unless the query says where to begin.
pub(crate) fn channel_router(feed: Feed, base: &str, history: u64) -> Router {
    let path = format!("{}/{{channel}}", base.trim_end_matches('/'));
    let handler =
        move |feed, channel, request| websocket::one_channel_with_history(feed, channel, history, request);
    let who = middleware::from_fn_with_state((feed.clone(), Admission::FirstFrame), identify::identify);
    Router::new().route(&path, answers("GET", get(handler)).layer(who)).with_state(feed)
}

/// Each address, the methods it allows, whom it lets in, and who answers. `describe/operations.rs` says the same to
/// programs, which a test compares.
fn routes() -> Vec<(&'static str, &'static str, Admission, MethodRouter<Feed>)> {
    use Admission::{Credentials, FirstFrame, Public, Ticket};
    vec![
        ("/events", "GET, HEAD, POST", Credentials, get(history::events).post(publish::publish)),
        ("/events/stream", "GET, HEAD", Ticket, get(stream::stream)),
        ("/events/{offset}", "GET, HEAD", Credentials, get(history::event)),
        ("/connections", "GET, HEAD", Credentials, get(connections::list)),
        ("/connections/{id}", "DELETE", Credentials, delete(connections::kick)),
        ("/admin/trim", "POST", Credentials, post(admin::trim)),
        ("/admin/compact", "POST", Credentials, post(admin::compact)),
        ("/admin/revoke", "POST", Credentials, post(auth::revoke)),
        ("/auth/ws-ticket", "POST", Credentials, post(auth::ticket)),
        ("/auth/sign-out", "POST", Credentials, post(auth::sign_out)),
        ("/channels", "GET, HEAD", Credentials, get(channels::channels)),
        ("/health", "GET, HEAD", Credentials, get(health::health)),
        ("/health/live", "GET, HEAD", Public, get(health::live)),
        ("/health/ready", "GET, HEAD", Public, get(health::ready)),
        ("/metrics", "GET, HEAD", Credentials, get(health::metrics)),
        ("/openapi.json", "GET, HEAD", Public, get(describe::openapi)),
        ("/asyncapi.json", "GET, HEAD", Public, get(describe::asyncapi)),
        ("/ws", "GET", FirstFrame, get(websocket::all)),
        ("/ws/{channel}", "GET", FirstFrame, get(websocket::one_channel)),
    ]
}

fn answers(allow: &'static str, methods: MethodRouter<Feed>) -> MethodRouter<Feed> {
    methods.fallback(move || async move { Problem::method_not_allowed(allow) })
}

async fn unknown_address(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
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
    Ok(Query::parse(query_pairs(uri)?)?)
}

/// The parameters of a request, decoded.
fn query_pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Pairs(pairs) = Pairs::try_from_uri(uri)
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
    Ok(pairs)
}

/// Items of a page where nobody says how many.
const DEFAULT_LIMIT: u64 = 100;
/// Items of a page, at most.
const MAX_LIMIT: u64 = MAX_HISTORY_EVENTS as u64;

/// How many items a page may have.
fn page_limit(query: &Query) -> Result<usize, Problem> {
    match query.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        limit => Err(Problem::bad_request(format!("limit must be from 1 to {MAX_LIMIT}, not {limit}"))),
    }
}

/// The cursor of a page as JSON.
fn next_json(next: Option<u64>) -> String {
    next.map_or_else(|| "null".to_owned(), |next| next.to_string())
}

/// Whether `If-None-Match` names the tag, also one that a compressing layer made weak.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let listed = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = listed.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
}

/// JSON that is written already.
fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
