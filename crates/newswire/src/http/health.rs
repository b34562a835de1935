//! `GET /health`, its short forms for probes, and `GET /metrics`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use newswire_core::Role;
use serde_json::json;

use super::Caller;
use super::problem::Problem;
use crate::Feed;

/// The state of the log and of the street behind it; 503 when publishing or fan-out does not work.
pub(super) async fn health(State(feed): State<Feed>) -> Response {
    let health = feed.health();
    let status = if health.works() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "data": health }))).into_response()
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

/// Prometheus text. Figures over all events are not for those who see only some, unless they operate the feed.
pub(super) async fn metrics(State(feed): State<Feed>, caller: Caller) -> Result<Response, Problem> {
    if !caller.0.sees_all_rows() {
        caller.0.require(Role::Operator)?;
    }
    Ok(([(header::CONTENT_TYPE, crate::METRICS_CONTENT_TYPE)], feed.metrics_text()).into_response())
}
