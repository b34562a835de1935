//! Compressed bodies: which answers are worth it, and which requests can be read.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header;
use newswire::Problem;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, SizeAbove};
use tower_http::compression::{CompressionLayer, Predicate};

/// Below this compressing costs more than it saves: an answer of one packet stays one packet.
const LEAST_BYTES: u64 = 1_024;

/// Compresses answers that are text and long enough, as the client asks (`gzip`, `br`, `zstd`).
pub(super) fn compression() -> CompressionLayer<And<SizeAbove, Worth>> {
    // The fastest level: JSON of events shrinks to a fifth with any, and the thread has others to serve.
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(LEAST_BYTES).and(Worth))
}

/// Text that is not sent bit by bit. What has a strong entity tag stays as it is, because the tag names its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth;

impl Predicate for Worth {
    fn should_compress<B: http_body::Body>(&self, response: &http::Response<B>) -> bool {
        let headers = response.headers();
        let media =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_text = media.starts_with("text/") || media.contains("json") || media.contains("openmetrics");
        is_text && !media.starts_with("text/event-stream") && !headers.contains_key(header::ETAG)
    }
}

/// Refuses a body in an encoding that nobody here can undo, before anything reads it.
pub(super) async fn refuse_unknown(request: Request, next: Next) -> Response {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let first = encodings.next().map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    let is_known = matches!(first.as_deref(), None | Some("identity" | "gzip" | "br" | "zstd"));
    if is_known && encodings.next().is_none() {
        return next.run(request).await;
    }
    let problem =
        Problem::unsupported_media_type("bodies are read as they are, or in one of gzip, br and zstd");
    let mut response = problem.into_response();
    response.headers_mut().insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip, br, zstd"));
    response
}
