//! Everything the server answers: the feed below `/api/v1`, its documents at `/docs`, metrics at the root, the guard before
//! all of it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use newswire::{Feed, Principal, Problem};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;

use super::guard::{self, Guards};
use super::proxy::{self, Proxies};
use super::rate::{self, RequestRates};
use super::request::Refusals;
use super::sign_in::{self, SignIn};
use super::{encoding, request};

/// What stands before the routes.
pub(super) struct Front {
    pub(super) guards: Guards,
    pub(super) proxies: Proxies,
    pub(super) rates: RequestRates,
    pub(super) refusals: Refusals,
    /// For browsers; where callers have to say who they are.
    pub(super) sign_in: SignIn,
    /// Who a caller is of whom nothing is known.
    pub(super) anonymous: Principal,
}

/// Layers from the inside out: what panics is answered, bodies are unpacked and answers packed, and whoever may not be
/// here is turned away before any of that is done for them.
pub(super) fn router(feed: &Feed, front: Front) -> Router {
    let asks = front.sign_in.gate.is_some();
    let sign_in = if asks { sign_in::routes(front.sign_in.clone()) } else { Router::new() };
    // Who is anonymous here has every right where nobody is asked, and must not be put into a request where somebody is.
    let anonymous = (!asks).then_some(front.anonymous);
    Router::new()
        .route_service("/metrics", feed.router().into_service::<Body>())
        .merge(sign_in)
        .nest("/api/v1", feed.router())
        .nest("/docs", newswire::docs("api/v1"))
        .fallback(unknown_address)
        .layer(CatchPanicLayer::custom(request::panicked))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(middleware::from_fn(encoding::bound_windows))
        .layer(encoding::compression())
        .layer(middleware::from_fn(encoding::refuse_unknown))
        .layer(middleware::from_fn_with_state(front.rates.clone(), rate::of_identities))
        .layer(middleware::from_fn_with_state(feed.clone(), recognize))
        .layer(middleware::from_fn_with_state(front.sign_in, sign_in::layer))
        .layer(middleware::from_fn_with_state(front.rates, rate::of_addresses))
        .layer(middleware::from_fn_with_state(anonymous, as_anonymous))
        .layer(middleware::from_fn_with_state(front.guards, guard::layer))
        .layer(middleware::from_fn_with_state(front.proxies, proxy::layer))
        .layer(middleware::from_fn_with_state(front.refusals, request::layer))
}

/// Whose token it is, for what counts the requests of each.
async fn recognize(State(feed): State<Feed>, mut request: Request, next: Next) -> Response {
    feed.recognize(&mut request).await;
    next.run(request).await
}

/// Who asks, where nobody is asked who they are.
async fn as_anonymous(
    State(anonymous): State<Option<Principal>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(anonymous) = anonymous {
        request.extensions_mut().insert(anonymous);
    }
    next.run(request).await
}

async fn unknown_address(request: Request) -> Problem {
    let detail = format!("there is nothing at {}; the API is below /api/v1", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
}
