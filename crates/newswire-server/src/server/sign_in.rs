//! A browser signs in: the one-time address that `serve` prints, the cookie it is exchanged for, and who a request with that
//! cookie comes from.
//!
//! The cookie is a credential that a browser sends by itself, so it counts only where the page that asks is ours: it is
//! `SameSite=Strict`, and whatever changes something, and every upgrade, must come with an `Origin` of the very host asked.
//! (The guard before it has refused foreign ones already; this refuses those without any.)

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use newswire::{Identity, Problem};

use crate::auth::{COOKIE, Gate};

/// Where the address leads.
pub(crate) const PATH: &str = "/signin";

/// Where the code stands, in the query and the form alike.
pub(crate) const FIELD: &str = "code";
type Given = HashMap<String, String>;

/// `GET /signin` shows a button, `POST /signin` exchanges the code: what merely looks at an address (a preview, a scanner)
/// does not use it up.
pub(super) fn routes(gate: Arc<Gate>) -> Router {
    Router::new().route(PATH, get(page).post(exchange)).with_state(gate)
}

async fn page(Query(mut given): Query<Given>) -> Response {
    let is_code =
        |code: &str| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let code = given.remove(FIELD).filter(|code| is_code(code)).unwrap_or_default();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Newswire: sign in</title>\
         <body style=\"font:1rem system-ui;margin:4rem\"><h1>Newswire</h1><form method=\"post\" action=\"{PATH}\">\
         <input type=\"hidden\" name=\"{FIELD}\" value=\"{code}\"><button>Sign in</button></form></body></html>"
    );
    ([(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")], Html(page))
        .into_response()
}

async fn exchange(State(gate): State<Arc<Gate>>, headers: HeaderMap, Form(given): Form<Given>) -> Response {
    if !has_origin(&headers) {
        return foreign().into_response();
    }
    let code = given.get(FIELD).map_or("", String::as_str);
    match gate.sessions.exchange(code).await {
        Ok(session) => {
            tracing::info!("a browser has signed in with the address that was printed");
            let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
            let Ok(cookie) = HeaderValue::try_from(cookie) else { return foreign().into_response() };
            let headers =
                [(header::SET_COOKIE, cookie), (header::LOCATION, HeaderValue::from_static("/docs"))];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) => {
            tracing::info!(%error, "a browser did not sign in");
            Problem::from(error).into_response()
        }
    }
}

/// Gives a request with a good cookie its identity; one with any other, or with a credential beside it, goes on as if it had
/// no cookie.
pub(super) async fn layer(
    State(gate): State<Option<Arc<Gate>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if let (Some(gate), Some(session)) = (gate, session(headers))
        && !headers.contains_key(header::AUTHORIZATION)
    {
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
            || headers.contains_key(header::UPGRADE);
        if changes && !has_origin(headers) {
            return foreign().into_response();
        }
        if let Ok(identity) = gate.by_session(session).await {
            request.extensions_mut().insert::<Identity>(identity);
        }
    }
    next.run(request).await
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut ours = values.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    // Two of them: one was put there by somebody else.
    let only = ours.next()?;
    ours.next().is_none().then_some(only)
}

/// Whose origin it is, the guard has seen to.
fn has_origin(headers: &HeaderMap) -> bool {
    let same_site = |value: &HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
    headers.contains_key(header::ORIGIN) && headers.get("sec-fetch-site").is_none_or(same_site)
}

fn foreign() -> Problem {
    let detail = "a cookie counts only for pages of this very server";
    Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", "Forbidden origin", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_of_our_name_counts() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            session(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["a=b; newswire_session=x; c=d"]).as_deref(), Some("x"));
        for none in [&[][..], &["newswire_sessions=x"], &["newswire_session=x", "newswire_session=y"], &["x"]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
