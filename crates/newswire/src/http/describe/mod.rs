//! What describes the API to programs: OpenAPI and AsyncAPI, made once from the table of operations and the shapes of
//! the protocol, and served as bytes that never change while the process lives.

mod asyncapi;
#[cfg(feature = "docs")]
pub(crate) mod docs;
mod headers;
mod openapi;
mod operations;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::is_known;

/// The version of the API, and of the protocol.
const VERSION: &str = "1.0.0";

/// A body that is made once and never changes, with the tag that says so.
#[derive(Debug)]
struct Fixed {
    bytes: Bytes,
    tag: HeaderValue,
    content_type: &'static str,
}

impl Fixed {
    fn new(bytes: Bytes, content_type: &'static str) -> Self {
        let sum = blake3::hash(&bytes).to_hex();
        let tag =
            HeaderValue::from_str(&format!("\"{}\"", &sum[..32])).expect("hexadecimal digits are visible");
        Self { bytes, tag, content_type }
    }

    fn json(document: &Value) -> Self {
        Self::new(Bytes::from(document.to_string()), "application/json")
    }

    /// The body, or 304 where the caller has it. `no-cache`: it may be kept, and is to be asked about.
    fn response(&self, headers: &HeaderMap) -> Response {
        let fixed =
            [(header::ETAG, self.tag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        if is_known(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, fixed).into_response();
        }
        (fixed, [(header::CONTENT_TYPE, self.content_type)], self.bytes.clone()).into_response()
    }
}

/// `GET /openapi.json`
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    static DOCUMENT: LazyLock<Fixed> = LazyLock::new(|| Fixed::json(&openapi::document()));
    DOCUMENT.response(&headers)
}

/// `GET /asyncapi.json`
pub(super) async fn asyncapi(headers: HeaderMap) -> Response {
    static DOCUMENT: LazyLock<Fixed> = LazyLock::new(|| Fixed::json(&asyncapi::document()));
    DOCUMENT.response(&headers)
}

/// Every file that describes this version to programs: its path, and the document.
///
/// The JSON Schemas of the protocol, `openapi.json` and `asyncapi.json`: what `schemas/` of the repository holds.
pub fn descriptions() -> Vec<(String, Value)> {
    let schemas =
        newswire_protocol::schema::files().into_iter().map(|(path, schema)| (format!("{path}.json"), schema));
    let services = [("openapi.json", openapi::document()), ("asyncapi.json", asyncapi::document())];
    schemas.chain(services.map(|(path, document)| (path.to_owned(), document))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A route that is served and not described, or described and not served, fails here.
    #[test]
    fn routes_and_operations_are_the_same() {
        let served: BTreeSet<(String, String)> = super::super::routes()
            .iter()
            .flat_map(|(path, allow, ..)| {
                allow.split(", ").map(|method| (path.to_string(), method.to_owned()))
            })
            .filter(|(_, method)| method != "HEAD")
            .collect();
        let described: BTreeSet<(String, String)> = operations::OPERATIONS
            .iter()
            .map(|operation| (operation.path.to_owned(), operation.method.to_uppercase()))
            .collect();
        assert_eq!(served, described, "left is served, right is described in http/describe/operations.rs");
    }

    #[test]
    fn a_tag_is_known_alone_in_a_list_and_weak() {
        let fixed = Fixed::new(Bytes::from_static(b"{}"), "application/json");
        let tag = fixed.tag.to_str().unwrap();
        let asked = |value: &str| {
            let headers =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap())]);
            fixed.response(&headers).status()
        };
        assert_eq!(fixed.response(&HeaderMap::new()).status(), StatusCode::OK);
        for known in [tag, "*", &format!("\"x\", W/{tag}")] {
            assert_eq!(asked(known), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"x\"", "W/\"x\"", &tag[1..]] {
            assert_eq!(asked(other), StatusCode::OK, "{other}");
        }
    }
}
