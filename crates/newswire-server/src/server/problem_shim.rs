use axum::response::{IntoResponse, Response};
pub(crate) struct Problem(http::StatusCode, String);
impl Problem {
    pub(crate) fn new(s: http::StatusCode, c: &str, _: &str, d: &str) -> Self {
        Self(s, serde_json::json!({"code":c,"detail":d,"status":s.as_u16()}).to_string())
    }
}
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, [("content-type", "application/problem+json")], self.1).into_response()
    }
}
