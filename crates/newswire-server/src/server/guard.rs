//! Keeps web pages of other origins away from a server that asks nobody who they are.
//!
//! A browser lets any page send requests to `127.0.0.1` and open WebSockets there; it tells us where the page comes
//! from (`Origin`) and under which name it reached us (`Host`), which gives a page away whose own name was made to
//! resolve to loopback. Programs that are no browsers send no `Origin` and pass.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode, Uri};
use newswire::Problem;
use parking_lot::RwLock;

use crate::config::Config;

/// Who may talk to an open server, by the headers that browsers cannot be made to forge.
#[derive(Debug)]
pub struct Guard {
    /// Host names beside loopback, in lower case, IPv6 in brackets.
    hosts: Vec<String>,
    /// A server on all addresses is reached by any of them; an address, unlike a name, cannot be rebound.
    any_address: bool,
    /// Credentials count, and no browser shows any under a name that is not ours: any name will do.
    any_name: bool,
    /// Origins beside pages of the same host, in lower case.
    origins: Vec<String>,
}

/// The guard that stands at this moment. Cloning gives the same place.
#[derive(Clone, Debug)]
pub struct Guards(Arc<RwLock<Arc<Guard>>>);

impl Guards {
    /// Begins with this one.
    pub fn new(guard: Guard) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(guard))))
    }

    /// Puts another in its place, for requests from now on.
    pub fn replace(&self, guard: Guard) {
        *self.0.write() = Arc::new(guard);
    }

    fn current(&self) -> Arc<Guard> {
        self.0.read().clone()
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `forbidden_host`
    Host,
    /// `forbidden_origin`
    Origin,
}

/// Lets a request through [`Guard::check`], answers what it refuses, and adds CORS headers for listed origins.
///
/// A layer for [`axum::middleware::from_fn_with_state`]; what looks at a request before it must let refused ones be.
pub async fn layer(State(guard): State<Guards>, request: Request, next: Next) -> Response {
    let guard = guard.current();
    if let Err(refused) = guard.check(request.uri(), request.headers()) {
        tracing::debug!(?refused, host = ?request.headers().get(header::HOST),
            origin = ?request.headers().get(header::ORIGIN), "request refused");
        return refused.into_response();
    }
    let listed = guard.listed_origin(request.headers());
    if let Some(origin) = &listed
        && request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return preflight(origin.clone());
    }
    let mut response = next.run(request).await;
    guard.mark(response.headers_mut(), listed);
    response
}

impl Guard {
    /// The guard of an open server with this configuration.
    pub fn new(config: &Config) -> Self {
        let listen = &config.listen;
        let own = listen.ip().map_or_else(|| listen.host().to_owned(), bracketed);
        let lower = |items: &[String]| items.iter().map(|item| item.to_ascii_lowercase()).collect::<Vec<_>>();
        let mut hosts = lower(&config.allowed_hosts);
        hosts.push(own);
        Self {
            hosts,
            any_name: crate::auth::asks(&config.auth),
            any_address: listen.ip().is_some_and(|ip| ip.is_unspecified()),
            origins: lower(&config.cors.origins),
        }
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    /// [`Refused::Host`] where `Host` (or the HTTP/2 authority) is missing, repeated or not ours; [`Refused::Origin`]
    /// where an `Origin` is neither that host, nor a loopback page talking to loopback, nor listed.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host = requested_host(uri, headers).filter(|host| self.is_ours(host)).ok_or(Refused::Host)?;
        let origin = match single(headers, &header::ORIGIN) {
            Single::Absent => return Ok(()),
            Single::One(origin) => origin.to_ascii_lowercase(),
            Single::Unusable => return Err(Refused::Origin),
        };
        let allowed = self.origins.contains(&origin) || is_same_host(&origin, &host);
        if allowed { Ok(()) } else { Err(Refused::Origin) }
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let name = host.host().to_ascii_lowercase();
        self.any_name
            || is_loopback(&name)
            || self.hosts.contains(&name)
            || (self.any_address && address(&name).is_some())
    }

    fn listed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let lower = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.contains(&lower).then(|| origin.clone())
    }

    fn mark(&self, headers: &mut HeaderMap, listed: Option<HeaderValue>) {
        if self.origins.is_empty() {
            return;
        }
        // Whether listed or not: a cache must not hand one origin the answer made for another.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = listed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
    }
}

/// What a page may send beside what every page may: credentials, the forms of a body, the place to resume from, the
/// attributes of a CloudEvent that we read.
const ALLOWED_HEADERS: &str = "authorization, content-type, content-encoding, last-event-id, if-none-match, \
    traceparent, x-request-id, ce-specversion, ce-id, ce-source, ce-type, ce-time, ce-channel, ce-traceparent, \
    ce-correlationid, ce-causationid";
/// What a page may read of an answer beside what every page may.
const EXPOSED_HEADERS: &str = "etag, link, ratelimit, ratelimit-policy, retry-after, x-request-id, ce-specversion, \
    ce-id, ce-source, ce-type, ce-time, ce-channel, ce-traceparent, ce-correlationid, ce-causationid, ce-epoch, ce-offset";

fn preflight(origin: HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
        // Chrome asks before a public page may talk to a private address.
        (HeaderName::from_static("access-control-allow-private-network"), "true"),
        (header::VARY, "origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

enum Single<'a> {
    Absent,
    One(&'a str),
    /// Repeated or not text.
    Unusable,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => value.to_str().map_or(Single::Unusable, Single::One),
        (Some(_), Some(_)) => Single::Unusable,
    }
}

/// The host a request names. HTTP/2 carries it in the URI; where both are given they have to agree.
pub(super) fn requested_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let in_header = match single(headers, &header::HOST) {
        Single::Absent => None,
        Single::One(text) => Some(text.parse::<Authority>().ok()?),
        Single::Unusable => return None,
    };
    let named = match (uri.authority(), in_header) {
        (Some(in_uri), Some(in_header)) if *in_uri != in_header => return None,
        (Some(in_uri), _) => in_uri.clone(),
        (None, in_header) => in_header?,
    };
    (!named.as_str().contains('@')).then_some(named)
}

/// A page of the very host and port that was asked, or a page of this machine asking this machine.
fn is_same_host(origin: &str, host: &Authority) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    let (page, asked) = (authority.host().to_ascii_lowercase(), host.host().to_ascii_lowercase());
    (page == asked && port(&authority) == port(host)) || (is_loopback(&page) && is_loopback(&asked))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|ip| ip.is_loopback())
}

/// The address a host is written as, IPv6 in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, title, detail) = match self {
            Self::Host => (
                "forbidden_host",
                "Forbidden host",
                "this server is open and answers only under its own names; add the name to allowed_hosts if clients \
                 reach it that way",
            ),
            Self::Origin => (
                "forbidden_origin",
                "Forbidden origin",
                "this server is open and answers no web pages of other origins; add the origin to cors.origins if \
                 the page is yours",
            ),
        };
        Problem::new(StatusCode::FORBIDDEN, code, title, detail).into_response()
    }
}
