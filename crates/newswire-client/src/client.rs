//! One server, spoken to over HTTP and WebSocket.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use url::Url;

use crate::problem::of_request;
use crate::stream;
use crate::tls::{self, Tls, TlsError};

/// The HTTP API is below this path.
const API: [&str; 2] = ["api", "v1"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server that broke a connection is given to say on another one that it wants no connection of ours.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to one Newswire server; cheap to clone, holds pooled connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    /// Where the address asks for TLS.
    tls: Option<Arc<ClientConfig>>,
    http: reqwest::Client,
    /// Sent with every request and upgrade. Marked as sensitive, so that it is in no debug output.
    authorization: Option<HeaderValue>,
}

/// Why a request has no answer.
pub(crate) enum Unanswered {
    /// The two sides do not trust, or do not understand, each other: asking again is in vain.
    Distrust(String),
    Unreachable(String),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no URL.
    #[error("{given:?} is no URL ({reason}); write it like http://127.0.0.1:8080")]
    BadUrl {
        /// As given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another scheme than `http` and `https`, or `ws` and `wss`.
    #[error("{given:?}: this client speaks http:// and https:// (and ws:// and wss:// beneath them) only")]
    BadScheme {
        /// As given.
        given: String,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that a token cannot have")]
    BadToken,
    /// There is no TLS to be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client could not be built.
    #[error("cannot set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:8080`; a path is kept as a prefix. A bare
    /// `host:port` is taken as `http://`, and `ws` and `wss` mean `http` and `https`. Over `https`, those are believed whom
    /// the system believes. Nothing is connected yet. Proxies of the environment are not used.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        Self::with_tls(base_url, &Tls::default())
    }

    /// [`Client::new`], with other authorities, or a certificate of its own. Over `http` they make no difference.
    pub fn with_tls(base_url: &str, tls: &Tls) -> Result<Self, ClientError> {
        let given = base_url.trim();
        let text = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        let mut base = Url::parse(&text)
            .map_err(|error| ClientError::BadUrl { given: given.to_owned(), reason: error.to_string() })?;
        let scheme = match base.scheme() {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            _ => return Err(ClientError::BadScheme { given: given.to_owned() }),
        };
        // Among these four the URL standard allows every change.
        let _always_allowed = base.set_scheme(scheme);
        let tls = if scheme == "https" { Some(Arc::new(tls.config()?)) } else { None };
        let http = builder(tls.as_deref()).build()?;
        Ok(Self { base, tls, http, authorization: None })
    }

    /// The same, showing this token or API key with everything it asks. It is read nowhere but from here, and in no error.
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token);
        let mut value = value.ok_or(ClientError::BadToken)?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.clone())]);
        let http = builder(self.tls.as_deref()).default_headers(headers).build()?;
        Ok(Self { http, authorization: Some(value), ..self })
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The address it was made with.
    pub const fn base_url(&self) -> &Url {
        &self.base
    }

    pub(crate) const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The URL of a path below the API, such as `events` or `events/17`.
    pub(crate) fn endpoint(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(API).extend(path.split('/'));
        }
        url
    }

    /// The URL of the WebSocket.
    pub(crate) fn websocket_endpoint(&self) -> Url {
        let mut url = self.endpoint("ws");
        let _always_allowed = url.set_scheme(if self.tls.is_some() { "wss" } else { "ws" });
        url
    }

    /// What to say of a request that failed. May take a connection of its own, and [`REFUSAL_TIMEOUT`].
    pub(crate) async fn unanswered(&self, error: &reqwest::Error) -> Unanswered {
        if let Some(reason) = tls::in_words(error) {
            return Unanswered::Distrust(reason);
        }
        let broke = error.is_request() && !error.is_connect() && !error.is_timeout();
        match if broke { self.refusal().await } else { None } {
            Some(reason) => Unanswered::Distrust(reason),
            None => Unanswered::Unreachable(of_request(error)),
        }
    }

    /// Why the server ends connections on which nothing was asked yet, if it says so. In TLS 1.3 it can look at this side's
    /// certificate only when this side takes the handshake for done, and where its word against it comes before the request is
    /// written, the HTTP client forgets the word.
    async fn refusal(&self) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let listen = async { stream::open(&self.base, Some(tls)).await?.read_u8().await };
        tls::in_words(&timeout(REFUSAL_TIMEOUT, listen).await.ok()?.err()?)
    }

    /// By what a WebSocket shakes hands; `None` where the server is spoken to without TLS.
    pub(crate) fn websocket_tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }
}

fn builder(tls: Option<&ClientConfig>) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    let builder = match tls {
        Some(config) => builder.tls_backend_preconfigured(config.clone()).https_only(true),
        // The system's authorities are not looked for, and need not be there.
        None => builder.tls_certs_only([]),
    };
    builder
        .user_agent(concat!("newswire/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        // The WebSocket goes straight to the server; the two must not end up at different places.
        .no_proxy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |base: &str| Client::new(base).unwrap().endpoint("events").to_string();
        assert_eq!(of("http://127.0.0.1:8080"), "http://127.0.0.1:8080/api/v1/events");
        assert_eq!(of("127.0.0.1:8080"), "http://127.0.0.1:8080/api/v1/events");
        assert_eq!(of("http://host/feed/"), "http://host/feed/api/v1/events");
        assert_eq!(of("http://host/feed?x=1#y"), "http://host/feed/api/v1/events");
        let socket = Client::new("http://[::1]:9").unwrap().websocket_endpoint();
        assert_eq!(socket.as_str(), "ws://[::1]:9/api/v1/ws");
        assert_eq!(of("ws://host:1"), "http://host:1/api/v1/events");
        assert!(matches!(Client::new("ftp://host"), Err(ClientError::BadScheme { .. })));
        assert!(matches!(Client::new("http://"), Err(ClientError::BadUrl { .. })));
    }
}
