//! Everything the server answers: the feed below `/api/v1`, metrics at the root, the guard before all of it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use http::{StatusCode, header};
use newswire::{Feed, METRICS_CONTENT_TYPE, Problem};

use super::guard::{self, Guards};

pub(super) fn router(feed: &Feed, guards: Guards) -> Router {
    Router::new()
        .route("/metrics", get(metrics).with_state(feed.clone()))
        .nest("/api/v1", feed.router())
        .fallback(unknown_address)
        .layer(middleware::from_fn_with_state(guards, guard::layer))
}

async fn metrics(State(feed): State<Feed>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], feed.metrics_text()).into_response()
}

async fn unknown_address(request: Request) -> Problem {
    let detail = format!("there is nothing at {}; the API is below /api/v1", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
}
