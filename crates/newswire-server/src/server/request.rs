//! Around every request: its id, what it is logged as, and that a bug in a handler is answered like any other failure.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use newswire::{Caller, Problem, ProblemCode, Rates};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::Instrument;
use uuid::Uuid;

/// The header that names a request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a client.
const MAX_ID_BYTES: usize = 128;

/// Counts what is refused, and bounds what is told of it.
#[derive(Clone)]
pub(super) struct Refusals {
    /// By the code of the problem.
    pub(super) counted: Family<Code, Counter>,
    told: Rates<Caller>,
}

/// The code of a problem, as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Code {
    code: String,
}

impl Code {
    pub(super) fn of(code: &str) -> Self {
        Self { code: code.to_owned() }
    }
}

impl Refusals {
    pub(super) fn new(counted: Family<Code, Counter>) -> Self {
        Self { counted, told: Rates::for_telling() }
    }

    /// Whether the audit is to tell of one more of this address.
    fn may_tell(&self, address: Option<SocketAddr>) -> bool {
        self.told.allows(|| address.map_or(Caller::Unknown, |address| Caller::at(address.ip())))
    }
}

/// Takes the client's request id where it is one, or makes one; says it in the answer and in every message about it.
///
/// A layer for [`axum::middleware::from_fn`]; it has to be the outermost one, so that refusals have an id too.
pub(super) async fn layer(State(refusals): State<Refusals>, mut request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).filter(|id| is_sane(id)).cloned().unwrap_or_else(made);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let trace =
        request.headers().get("traceparent").and_then(|trace| trace.to_str().ok()).unwrap_or_default();
    let span = tracing::debug_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        traceparent = trace,
    );
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|address| address.0);
    let begin = Instant::now();
    let mut response = async {
        let response = next.run(request).await;
        tracing::debug!(
            status = response.status().as_u16(),
            elapsed_us = begin.elapsed().as_micros(),
            "answered"
        );
        response
    }
    .instrument(span)
    .await;
    if let Some(ProblemCode(code)) = response.extensions().get() {
        refusals.counted.get_or_create(&Code::of(code)).inc();
    }
    let is_too_many = response.status() == StatusCode::TOO_MANY_REQUESTS;
    if is_turned_away(response.status()) && (!is_too_many || refusals.may_tell(address)) {
        tracing::info!(
            target: "newswire::audit", act = "request refused", request = id.to_str().unwrap_or_default(),
            method = %method, path, address = address.map(tracing::field::display),
            status = response.status().as_u16(),
            reason = response.extensions().get::<ProblemCode>().map(|code| &*code.0),
        );
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Whether somebody was kept out by who they are, where they come from, or how often they ask.
fn is_turned_away(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

/// Short, and of characters that no log and no shell takes for anything else.
fn is_sane(id: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
}

fn made() -> HeaderValue {
    HeaderValue::try_from(Uuid::new_v4().to_string()).expect("hexadecimal digits are visible ASCII")
}

/// What is answered where a handler panicked; the panic hook has counted and logged it.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    let detail = "a bug of the server; its log has more under the request's id";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error", detail)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    async fn ask(id: Option<&str>, path: &str) -> Response {
        let broken = || async { assert!(std::hint::black_box(false), "broken on purpose") };
        let router = Router::new()
            .route("/", get(|| async {}))
            .route("/broken", get(broken))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(axum::middleware::from_fn_with_state(Refusals::new(Family::default()), layer));
        let mut request = Request::builder().uri(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn an_id_is_taken_if_it_is_sane() {
        assert_eq!(ask(Some("run-12/a.b:c"), "/").await.headers()[REQUEST_ID], "run-12/a.b:c");
        let long = "x".repeat(129);
        for other in [None, Some(""), Some("a b"), Some("a\"b"), Some(long.as_str())] {
            let response = ask(other, "/").await;
            let id = response.headers()[REQUEST_ID].to_str().unwrap();
            assert!(Uuid::parse_str(id).is_ok(), "{other:?}: {id}");
        }
    }

    #[tokio::test]
    async fn a_bug_is_answered_like_any_other_failure() {
        let response = ask(Some("mine"), "/broken").await;
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[http::header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[REQUEST_ID], "mine");
    }
}
