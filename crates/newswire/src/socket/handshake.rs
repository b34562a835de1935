//! The WebSocket opening handshake, server side (RFC 6455, section 4.2).
//!
//! Pure: looks at headers, says yes or why not. The upgrade itself happens in [`crate::http::websocket`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use newswire_protocol::deflate::{Agreed, negotiate};
use sha1::{Digest, Sha1};

use crate::http::problem::Problem;

const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` value for a request that is a valid opening handshake.
///
/// # Errors
/// 405 for another method, 426 for a request that asks for no WebSocket or another version, 400 for a bad key.
pub(crate) fn accept(method: &Method, version: Version, headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    if method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    if version != Version::HTTP_11 {
        return Err(Problem::upgrade_required("a WebSocket needs HTTP/1.1"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket")
    {
        return Err(Problem::upgrade_required(
            "this is a WebSocket: connect with ws:// (headers Connection: Upgrade and Upgrade: websocket)",
        ));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Problem::upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16))
        .ok_or_else(|| Problem::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    Ok(accept_value(key))
}

/// What is agreed on of the compression that the request offers.
pub(crate) fn compression(headers: &HeaderMap) -> Option<Agreed> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    negotiate(offers.iter().filter_map(|value| value.to_str().ok()))
}

fn accept_value(key: &HeaderValue) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_SUFFIX);
    HeaderValue::from_str(&STANDARD.encode(hash.finalize())).expect("base64 is visible ASCII")
}

/// Whether a comma-separated header, possibly repeated, holds `token` in any case.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(changes: &[(&'static str, Option<&'static str>)]) -> Result<HeaderValue, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in changes {
            match value {
                Some(value) => headers.insert(*name, HeaderValue::from_static(value)),
                None => headers.remove(*name),
            };
        }
        accept(&Method::GET, Version::HTTP_11, &headers)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(handshake(&[]).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn offers_may_stand_in_several_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(compression(&headers), None);
        for value in ["x-other", "permessage-deflate; server_max_window_bits=9", "permessage-deflate"] {
            headers.append("sec-websocket-extensions", HeaderValue::from_static(value));
        }
        assert!(compression(&headers).unwrap().keeps_context);
    }

    #[test]
    fn each_missing_or_wrong_header_is_refused() {
        for change in [
            ("connection", Some("close")),
            ("upgrade", None),
            ("sec-websocket-version", Some("8")),
            ("sec-websocket-key", Some("c2hvcnQ=")),
            ("sec-websocket-key", None),
        ] {
            assert!(handshake(&[change]).is_err(), "{change:?} was accepted");
        }
    }
}
