//! A browser signs in and out: the one-time address that `serve` prints, the cookie it is exchanged for, and who a request with
//! that cookie comes from.
//!
//! The cookie is a credential that a browser sends by itself, and not only for pages of ours: it knows neither ports nor who
//! asked. So it counts only where the browser says that a page of this very origin asks, and is named after the port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Form, Query, Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode};
use newswire::{AuthError, Feed, Identity, Problem};

use super::guard::requested_host;
use super::proxy::OverTls;
use crate::auth::Gate;

/// Where the address leads.
pub(crate) const PATH: &str = "/signin";
/// Where the code stands, in the query and the form alike.
pub(crate) const FIELD: &str = "code";
/// Where a session ends: a call of the feed's, described with all others.
const SIGN_OUT: &str = "/api/v1/auth/sign-out";

type Given = HashMap<String, String>;

/// What signing in needs to know of the server.
#[derive(Clone)]
pub(super) struct SignIn {
    pub(super) feed: Feed,
    /// Where callers have to say who they are.
    pub(super) gate: Option<Arc<Gate>>,
    /// All connections are encrypted.
    pub(super) tls: bool,
}

/// The server as the browser that asks sees it.
#[derive(Clone, Debug)]
struct Seen {
    host: Authority,
    /// It spoke TLS, to us or to a proxy of ours.
    over_tls: bool,
}

/// What a request says of the page that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Of the very origin that is asked.
    Ours,
    Foreign,
    /// Nothing: no page, or a browser that says nothing of it.
    Unsaid,
}

impl Seen {
    fn of(request: &Request, tls: bool) -> Option<Self> {
        let over_tls = tls || request.extensions().get::<OverTls>().is_some();
        Some(Self { host: requested_host(request.uri(), request.headers())?, over_tls })
    }

    /// Of this port alone, because cookies are not: two servers of one machine would take each other's away. Over TLS the
    /// browser itself sees to it that no other host and no page without TLS has set it.
    fn cookie(&self) -> String {
        let port = self.host.port_u16().unwrap_or(if self.over_tls { 443 } else { 80 });
        let prefix = if self.over_tls { "__Host-" } else { "" };
        format!("{prefix}newswire_session_{port}")
    }

    /// The header that gives the browser its cookie, or takes it away.
    fn set_cookie(&self, session: Option<&str>) -> Option<HeaderValue> {
        let secure = if self.over_tls { "; Secure" } else { "" };
        let gone = if session.is_none() { "; Max-Age=0" } else { "" };
        let (name, value) = (self.cookie(), session.unwrap_or_default());
        HeaderValue::try_from(format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{gone}")).ok()
    }

    fn page(&self, headers: &HeaderMap) -> Page {
        let is_near = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
        if !headers.get_all("sec-fetch-site").iter().all(is_near) {
            return Page::Foreign;
        }
        match headers.get(header::ORIGIN) {
            None => Page::Unsaid,
            Some(origin) if origin.to_str().is_ok_and(|origin| self.is_own(origin)) => Page::Ours,
            Some(_) => Page::Foreign,
        }
    }

    /// The same scheme, as far as that is known, and the same host and port. The guard is less strict: it lets pages of all
    /// ports of this machine ask, with credentials that no browser sends by itself.
    fn is_own(&self, origin: &str) -> bool {
        let Some((scheme, page)) = origin.split_once("://") else { return false };
        let Ok(page) = page.parse::<Authority>() else { return false };
        let default_port = match scheme {
            "https" => 443,
            // Somebody else may have ended TLS before us, and not said so.
            "http" if !self.over_tls => 80,
            _ => return false,
        };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
        page.host().eq_ignore_ascii_case(self.host.host()) && port(&page) == port(&self.host)
    }
}

/// `GET /signin` shows a button, `POST /signin` exchanges the code: what merely looks at an address (a preview, a scanner)
/// does not use it up.
pub(super) fn routes(sign_in: SignIn) -> Router {
    Router::new().route(PATH, get(page).post(exchange)).with_state(sign_in)
}

async fn page(signed_in: Option<Extension<Identity>>, Query(mut given): Query<Given>) -> Response {
    let is_code =
        |code: &str| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let code = given.remove(FIELD).filter(|code| is_code(code));
    let form = match (code, signed_in) {
        (None, Some(_)) => {
            format!("<form method=\"post\" action=\"{SIGN_OUT}\"><button>Sign out</button></form>")
        }
        (code, _) => format!(
            "<form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"{FIELD}\" value=\"{}\">\
             <button>Sign in</button></form>",
            code.unwrap_or_default()
        ),
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Newswire: sign in</title>\
         <body style=\"font:1rem system-ui;margin:4rem\"><h1>Newswire</h1>{form}</body></html>"
    );
    // The code in the address goes nowhere. Under `no-referrer` browsers would not say either whose page the button is on.
    ([(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "strict-origin")], Html(page))
        .into_response()
}

async fn exchange(
    State(SignIn { feed, gate, .. }): State<SignIn>,
    Extension(seen): Extension<Seen>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let Some(gate) = gate.filter(|_| seen.page(&headers) == Page::Ours) else {
        return foreign().into_response();
    };
    let code = given.get(FIELD).map_or("", String::as_str);
    let address = address.map(|address| address.0.0.ip());
    match feed.attempt(code, address, gate.sessions.exchange(code)).await {
        Ok(session) => {
            tracing::info!("a browser has signed in with the address that was printed");
            let Some(cookie) = seen.set_cookie(Some(&session)) else { return foreign().into_response() };
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

/// Gives a request with a good cookie its identity; one with any other, with a credential beside it, or of a foreign page
/// goes on as if it had no cookie. What changes something has to be said to come from a page of ours. Where a session is
/// ended, the browser is told to forget it.
pub(super) async fn layer(State(sign_in): State<SignIn>, mut request: Request, next: Next) -> Response {
    let (Some(gate), Some(seen)) = (&sign_in.gate, Seen::of(&request, sign_in.tls)) else {
        return next.run(request).await;
    };
    let headers = request.headers();
    if let Some(session) = session(headers, &seen.cookie())
        && !headers.contains_key(header::AUTHORIZATION)
    {
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let page = seen.page(headers);
        if changes && page != Page::Ours {
            return foreign().into_response();
        }
        // The cookie goes along whatever page opens a WebSocket, and whatever credential that one is about to show.
        let is_upgrade = headers.contains_key(header::UPGRADE);
        let counts = if is_upgrade { page == Page::Ours } else { page != Page::Foreign };
        if counts {
            let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
            let found = sign_in.feed.attempt(session, address, gate.by_session(session)).await;
            match found {
                Ok(identity) => {
                    request.extensions_mut().insert::<Identity>(identity);
                }
                Err(error @ AuthError::TooManyFailures { .. }) => {
                    return Problem::from(error).into_response();
                }
                Err(_) => {}
            }
        }
    }
    let signs_out = request.method() == Method::POST && request.uri().path() == SIGN_OUT;
    let forget = signs_out.then(|| seen.set_cookie(None)).flatten();
    request.extensions_mut().insert(seen);
    let mut response = next.run(request).await;
    if let Some(forget) = forget.filter(|_| response.status().is_success()) {
        response.headers_mut().insert(header::SET_COOKIE, forget);
    }
    response
}

fn session<'a>(headers: &'a HeaderMap, cookie: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut ours = values.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == cookie).then_some(value)
    });
    // Two of them: one was put there by somebody else.
    let only = ours.next()?;
    ours.next().is_none().then_some(only)
}

fn foreign() -> Problem {
    let detail = "a cookie counts only for pages of this very server";
    Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", "Forbidden origin", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(host: &'static str, over_tls: bool) -> Seen {
        Seen { host: Authority::from_static(host), over_tls }
    }

    #[test]
    fn one_cookie_of_our_name_counts() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            session(&headers, "newswire_session_80").map(str::to_owned)
        };
        assert_eq!(of(&["a=b; newswire_session_80=x; c=d"]).as_deref(), Some("x"));
        for none in [
            &[][..],
            &["newswire_session_8080=x"],
            &["newswire_session_80=x", "newswire_session_80=y"],
            &["x"],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_cookie_is_of_one_port_and_over_tls_of_one_host() {
        for (host, over_tls, expected) in [
            ("127.0.0.1:8080", false, "newswire_session_8080=x; Path=/; HttpOnly; SameSite=Strict"),
            ("feed.example", false, "newswire_session_80=x; Path=/; HttpOnly; SameSite=Strict"),
            (
                "feed.example",
                true,
                "__Host-newswire_session_443=x; Path=/; HttpOnly; SameSite=Strict; Secure",
            ),
        ] {
            assert_eq!(seen(host, over_tls).set_cookie(Some("x")).unwrap(), expected);
        }
        let gone = seen("feed.example", true).set_cookie(None).unwrap();
        assert_eq!(
            gone,
            "__Host-newswire_session_443=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0"
        );
    }

    #[test]
    fn only_pages_of_the_same_origin_are_ours() {
        let page = |seen: &Seen, origin: Option<&str>, site: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            seen.page(&headers)
        };
        let local = seen("127.0.0.1:8080", false);
        assert_eq!(page(&local, Some("http://127.0.0.1:8080"), None), Page::Ours);
        assert_eq!(page(&local, Some("http://127.0.0.1:8080"), Some("same-origin")), Page::Ours);
        assert_eq!(page(&local, None, None), Page::Unsaid);
        assert_eq!(page(&local, None, Some("none")), Page::Unsaid);
        for (origin, site) in [
            (Some("http://127.0.0.1:8081"), None),
            (Some("http://localhost:8080"), None),
            (Some("http://127.0.0.1:8080"), Some("same-site")),
            (Some("http://127.0.0.1:8080"), Some("cross-site")),
            (None, Some("same-site")),
            (Some("null"), None),
            (Some("http://127.0.0.1"), None),
        ] {
            assert_eq!(page(&local, origin, site), Page::Foreign, "{origin:?} {site:?}");
        }
        let tls = seen("feed.example", true);
        assert_eq!(page(&tls, Some("https://feed.example"), None), Page::Ours);
        assert_eq!(page(&tls, Some("https://FEED.example:443"), None), Page::Ours);
        assert_eq!(page(&tls, Some("http://feed.example"), None), Page::Foreign);
        // Somebody ends TLS before us whom nobody told us of.
        assert_eq!(page(&seen("feed.example", false), Some("https://feed.example"), None), Page::Ours);
    }
}
