//! `GET /health`, its short forms for probes, and `GET /metrics`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use newswire_core::{Principal, Role};
use newswire_protocol::Refusal;
use serde_json::json;

use super::Caller;
use super::problem::Problem;
use crate::Feed;

/// What [`health`] counts, and whose part it is.
const FIGURES: [(&str, &str); 4] =
    [("log", "head"), ("log", "offset"), ("feed", "dispatched"), ("feed", "connections")];

/// The state of the log and of the street behind it; 503 when publishing or fan-out does not work.
pub(super) async fn health(State(feed): State<Feed>, caller: Caller) -> Response {
    let health = feed.health();
    let status = if health.works() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut data = json!(health);
    if may_see_figures(&caller.0).is_err() {
        for (part, figure) in FIGURES {
            data[part].as_object_mut().and_then(|part| part.remove(figure));
        }
    }
    (status, Json(json!({ "data": data }))).into_response()
}

/// Figures over all events are not for those who see only some, unless they operate the feed.
fn may_see_figures(caller: &Principal) -> Result<(), Refusal> {
    if caller.sees_all_rows() { Ok(()) } else { caller.require(Role::Operator) }
}

/// Whether the process answers at all.
pub(super) async fn live() -> Response {
    Json(json!({ "data": { "status": "ok" } })).into_response()
}

/// Whether traffic should come here.
pub(super) async fn ready(State(feed): State<Feed>) -> Result<Response, Problem> {
    let health = feed.health();
    match health.why_not {
        None => Ok(Json(json!({ "data": { "status": "ok" } })).into_response()),
        Some(why_not) => Err(Problem::unavailable(why_not)),
    }
}

/// Prometheus text.
pub(super) async fn metrics(State(feed): State<Feed>, caller: Caller) -> Result<Response, Problem> {
    may_see_figures(&caller.0)?;
    Ok(([(header::CONTENT_TYPE, crate::METRICS_CONTENT_TYPE)], feed.metrics_text()).into_response())
}
