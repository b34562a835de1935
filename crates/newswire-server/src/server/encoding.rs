//! Compressed bodies: which answers are worth it, and which requests can be read.
//!
//! What a body may unpack to is bounded where it is read. What a decoder remembers while it does is bounded here: a few bytes
//! can ask for a window of 128 MiB (zstd) or 1 GiB (brotli), which the layer that unpacks would give them.

use std::io;

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio_util::io::{ReaderStream, StreamReader};

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

/// 8 MiB, the least that every zstd decoder should have (RFC 8878), and the most that levels up to 19 use.
const ZSTD_WINDOW_LOG: u32 = 23;
/// How a brotli stream begins that asks for more than the 16 MiB of RFC 7932: seven bits, which are reserved there.
const BROTLI_LARGE_WINDOW: u8 = 0b001_0001;

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

/// Unpacks zstd, and lets brotli through that can be unpacked, with a window that is bounded.
pub(super) async fn bound_windows(request: Request, next: Next) -> Response {
    let encoding = request.headers().get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    let request = match encoding {
        Some(b"zstd") => {
            let (mut parts, body) = request.into_parts();
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            Request::from_parts(parts, unpack_zstd(body))
        }
        Some(b"br") => request.map(|body| Body::from_stream(refuse_large_window(body.into_data_stream()))),
        _ => request,
    };
    next.run(request).await
}

fn unpack_zstd(body: Body) -> Body {
    let packed = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut unpacked = ZstdDecoder::with_params(packed, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
    unpacked.multiple_members(true);
    Body::from_stream(ReaderStream::new(unpacked))
}

fn refuse_large_window(
    body: impl Stream<Item = Result<Bytes, axum::Error>>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    let mut begun = false;
    body.map(move |piece| {
        let piece = piece?;
        if let Some(first) = piece.first()
            && !std::mem::replace(&mut begun, true)
            && first & 0x7f == BROTLI_LARGE_WINDOW
        {
            let refused = "a brotli body may have a window of 16 MiB; pack it without --large_window";
            return Err(axum::Error::new(io::Error::new(io::ErrorKind::InvalidData, refused)));
        }
        Ok(piece)
    })
}
