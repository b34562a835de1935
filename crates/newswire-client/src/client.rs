//! One server, spoken to over HTTP and WebSocket.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use url::Url;

/// The HTTP API is below this path.
const API: [&str; 2] = ["api", "v1"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A handle to one Newswire server; cheap to clone, holds pooled connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    /// Sent with every request and upgrade. Marked as sensitive, so that it is in no debug output.
    authorization: Option<HeaderValue>,
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
    /// Another scheme than `http`.
    #[error("{given:?}: this client speaks http:// (and ws:// beneath it) only")]
    BadScheme {
        /// As given.
        given: String,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that a token cannot have")]
    BadToken,
    /// The HTTP client could not be built.
    #[error("cannot set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:8080`; a path is kept as a prefix. A bare
    /// `host:port` is taken as `http://`. Nothing is connected yet. Proxies of the environment are not used.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        let given = base_url.trim();
        let text = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        let base = Url::parse(&text)
            .map_err(|error| ClientError::BadUrl { given: given.to_owned(), reason: error.to_string() })?;
        if base.scheme() != "http" || base.cannot_be_a_base() {
            return Err(ClientError::BadScheme { given: given.to_owned() });
        }
        Ok(Self { base, http: builder().build()?, authorization: None })
    }

    /// The same, showing this token or API key with everything it asks. It is read nowhere but from here, and in no error.
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token);
        let mut value = value.ok_or(ClientError::BadToken)?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.clone())]);
        let http = builder().default_headers(headers).build()?;
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
        // http to ws is one of the changes of scheme that the URL standard allows.
        let _always_allowed = url.set_scheme("ws");
        url
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("newswire/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        // It speaks http alone: the system's authorities are not looked for, and need not be there.
        .tls_certs_only([])
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
        assert!(matches!(Client::new("https://host"), Err(ClientError::BadScheme { .. })));
        assert!(matches!(Client::new("http://"), Err(ClientError::BadUrl { .. })));
    }
}
