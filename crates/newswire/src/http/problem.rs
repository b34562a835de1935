//! Errors over HTTP, as RFC 9457 `application/problem+json`.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use newswire_protocol::codes::{ErrorCode, Refusal};
use serde_json::json;

/// The `code` of the problem that a response is, in its extensions: for layers around it that keep a record.
#[derive(Clone, Debug)]
pub struct ProblemCode(pub Cow<'static, str>);

/// One problem: what went wrong with a request, and what to do about it.
///
/// Written as `{"type","title","status","detail","code"}`; `code` is the machine-readable name.
#[derive(Debug)]
pub struct Problem(Box<Details>);

#[derive(Debug)]
struct Details {
    status: StatusCode,
    code: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: String,
    /// A header that goes with it.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with its own `code` and `title`.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        let (code, title, detail) = (code.into(), title.into(), detail.into());
        Self(Box::new(Details { status, code, title, detail, header: None }))
    }

    /// 400 for a parameter or body that cannot be used.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail)
    }

    /// 401: without a reason nothing was shown, with one it was not taken.
    pub(crate) fn unauthorized(reason: Option<&str>) -> Self {
        let (detail, challenge) = match reason {
            None => (
                "this call needs credentials: send `Authorization: Bearer` and a token or key",
                "Bearer realm=\"newswire\"",
            ),
            Some(reason) => (reason, "Bearer realm=\"newswire\", error=\"invalid_token\""),
        };
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail);
        problem.0.header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        problem
    }

    /// 429 with `Retry-After`, in whole seconds.
    pub fn too_many_requests(detail: impl Into<String>, wait: Duration) -> Self {
        let code = ErrorCode::TooManyRequests;
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code.code(), code.text(), detail);
        problem.0.header = Some((header::RETRY_AFTER, seconds.into()));
        problem
    }

    /// 404 for something that is not there.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 405, naming what is allowed.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this address answers {allow}");
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail);
        problem.0.header = Some((header::ALLOW, HeaderValue::from_static(allow)));
        problem
    }

    /// 415, saying how a body may be written.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        let (code, title) = ("unsupported_media_type", "Unsupported media type");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, title, detail)
    }

    /// 426, naming the version that is spoken.
    pub(crate) fn upgrade_required(detail: &str) -> Self {
        let mut problem =
            Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "Upgrade required", detail);
        problem.0.header = Some((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        problem
    }

    /// 503 for one connection too many.
    pub(crate) fn too_many_connections(detail: impl Into<String>) -> Self {
        Self::crowded(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 429 for one too many of one identity.
    pub(crate) fn too_many_of_identity(detail: impl Into<String>) -> Self {
        Self::crowded(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    fn crowded(status: StatusCode, detail: impl Into<String>) -> Self {
        let (code, title) = ("too_many_connections", "Too many connections");
        let mut problem = Self::new(status, code, title, detail);
        problem.0.header = Some((header::RETRY_AFTER, HeaderValue::from_static("5")));
        problem
    }

    /// 503 for a part that cannot work now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable", detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            ErrorCode::UnknownChannel => StatusCode::NOT_FOUND,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::EventTooLarge | ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::IdConflict => StatusCode::CONFLICT,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        let detail = refusal.detail.clone().unwrap_or_else(|| refusal.code.text().to_owned());
        if let (ErrorCode::TooManyRequests, Some(wait)) = (refusal.code, refusal.retry_after) {
            return Self::too_many_requests(detail, wait);
        }
        Self::new(status, refusal.code.code(), refusal.code.text(), detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:newswire:problem:{}", self.0.code),
            "title": self.0.title,
            "status": self.0.status.as_u16(),
            "detail": self.0.detail,
            "code": self.0.code,
        });
        let mut response = (self.0.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        response.extensions_mut().insert(ProblemCode(self.0.code));
        response
    }
}
