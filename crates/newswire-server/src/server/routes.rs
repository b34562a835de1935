//! Everything the server answers: the feed below `/api/v1`, its documents at `/docs`, metrics at the root, the guard before
//! all of it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use http::{StatusCode, header};
use newswire::{Feed, METRICS_CONTENT_TYPE, Principal, Problem};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;

use super::guard::{self, Guards};
use super::rate::{self, Rates};
use super::{encoding, request};

/// What stands before the routes.
pub(super) struct Front {
    pub(super) guards: Guards,
    pub(super) rates: Option<Rates>,
    /// Who a caller is of whom nothing is known.
    pub(super) anonymous: Principal,
}

/// Layers from the inside out: what panics is answered, bodies are unpacked and answers packed, and whoever may not be
/// here is turned away before any of that is done for them.
pub(super) fn router(feed: &Feed, front: Front) -> Router {
    Router::new()
        .route("/metrics", get(metrics).with_state(feed.clone()))
        .nest("/api/v1", feed.router())
        .nest("/docs", newswire::docs("api/v1"))
        .fallback(unknown_address)
        .layer(CatchPanicLayer::custom(request::panicked))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(encoding::compression())
        .layer(middleware::from_fn(encoding::refuse_unknown))
        .layer(middleware::from_fn_with_state(front.rates, rate::layer))
        .layer(Extension(front.anonymous))
        .layer(middleware::from_fn_with_state(front.guards, guard::layer))
        .layer(middleware::from_fn(request::layer))
}

async fn metrics(State(feed): State<Feed>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], feed.metrics_text()).into_response()
}

async fn unknown_address(request: Request) -> Problem {
    let detail = format!("there is nothing at {}; the API is below /api/v1", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
}
