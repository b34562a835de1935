//! Where a request comes from: the peer of its connection or, where that is one of our own proxies, whom the proxy names.
//!
//! A header that names an address can be written by anybody. So nothing is believed that did not come through a trusted
//! proxy, and of a list the entries are gone through from the right, where our proxies write, up to the first that is none
//! of theirs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::{self, HeaderName};
use ipnet::IpNet;
use parking_lot::RwLock;

use crate::config::{ForwardedHeader, ServerConfig};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// In the extensions of a request that came to a trusted proxy over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverTls;

/// Which peers are proxies, and where they write whom they serve.
#[derive(Debug)]
struct Trust {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// Who is trusted at this moment. Cloning gives the same place.
#[derive(Clone, Debug)]
pub struct Proxies(Arc<RwLock<Arc<Trust>>>);

impl Proxies {
    /// Begins with what the configuration says.
    pub fn new(config: &ServerConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Trust::of(config)))))
    }

    /// For requests from now on.
    pub fn replace(&self, config: &ServerConfig) {
        *self.0.write() = Arc::new(Trust::of(config));
    }

    /// Whether many stand behind this address.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.0.read().is_proxy(address)
    }
}

/// Puts the address of the client in the place of the proxy's. A layer for [`axum::middleware::from_fn_with_state`]; has to
/// stand before everything that asks for the address.
pub(super) async fn layer(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    let trust = Arc::clone(&proxies.0.read());
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() {
        let client = trust.client(peer, request.headers());
        if trust.is_over_tls(peer, request.headers()) {
            request.extensions_mut().insert(OverTls);
        }
        request.extensions_mut().insert(ConnectInfo(client));
    }
    next.run(request).await
}

impl Trust {
    fn of(config: &ServerConfig) -> Self {
        let networks = config.trusted_proxies.iter().filter_map(|text| network(text)).collect();
        Self { networks, header: config.forwarded_header }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The rightmost address that is no proxy. Where an entry cannot be read, the proxy that wrote it.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.is_proxy(peer.ip()) {
            return peer;
        }
        let entries: Vec<Option<SocketAddr>> = match self.header {
            ForwardedHeader::XForwardedFor => texts(headers, &X_FORWARDED_FOR)
                .flat_map(|text| text.split(','))
                .map(|entry| address(entry.trim()))
                .collect(),
            ForwardedHeader::Forwarded => texts(headers, &header::FORWARDED)
                .flat_map(|text| text.split(','))
                .map(|element| address(parameter(element, "for")?))
                .collect(),
        };
        let mut nearest = peer;
        for entry in entries.into_iter().rev() {
            let Some(entry) = entry else { break };
            nearest = entry;
            if !self.is_proxy(entry.ip()) {
                break;
            }
        }
        nearest
    }

    /// Whether the client spoke TLS, as a trusted proxy says: of several the one that the client spoke to or, where only the
    /// last of them says it, that one.
    fn is_over_tls(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        let is_proxy = |element: &str| {
            let named = parameter(element, "for").and_then(address);
            named.is_some_and(|named| self.is_proxy(named.ip()))
        };
        let scheme = match self.header {
            _ if !self.is_proxy(peer.ip()) => None,
            ForwardedHeader::XForwardedFor => {
                texts(headers, &X_FORWARDED_PROTO).last().and_then(|text| text.rsplit(',').next())
            }
            ForwardedHeader::Forwarded => {
                let elements: Vec<&str> =
                    texts(headers, &header::FORWARDED).flat_map(|text| text.split(',')).collect();
                let of_client = elements.into_iter().rev().find(|element| !is_proxy(element));
                of_client.and_then(|element| parameter(element, "proto"))
            }
        };
        scheme.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }
}

/// The values of a header in their order; one that is no text stands for an entry that cannot be read.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default())
}

/// What an element of `Forwarded` (RFC 7239) says of `wanted`, `for` or `proto`. A quoted text with a comma or semicolon is
/// none that names an address or a scheme, and its pieces are none either.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
    let value = value.trim();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address, with a port or without; IPv6 in brackets or without.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), 0))
}

/// A network in CIDR notation, or a single address.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, values: &[&'static str]) -> String {
        let networks = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].iter().filter_map(|text| network(text));
        let trust = Trust { networks: networks.collect(), header };
        let name = match header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        // The other header is never looked at.
        for other in [X_FORWARDED_FOR, header::FORWARDED].into_iter().filter(|other| *other != name) {
            headers.insert(other, HeaderValue::from_static("for=6.6.6.6"));
        }
        trust.client(peer.parse().unwrap(), &headers).ip().to_string()
    }

    #[test]
    fn the_rightmost_that_is_no_proxy() {
        for (peer, values, expected) in [
            ("203.0.113.9:80", &["1.2.3.4"][..], "203.0.113.9"),
            ("10.0.0.1:80", &[], "10.0.0.1"),
            ("10.0.0.1:80", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1:80", &["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1:80", &["6.6.6.6", "198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1:80", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1:80", &["198.51.100.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1:80", &["198.51.100.7, nonsense, 10.3.3.3"], "10.3.3.3"),
            ("10.0.0.1:80", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1:80", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("[fd00::1]:80", &["2001:db8::1"], "2001:db8::1"),
            ("[::ffff:10.0.0.1]:80", &["198.51.100.7"], "198.51.100.7"),
            ("[::ffff:203.0.113.9]:80", &["1.2.3.4"], "::ffff:203.0.113.9"),
        ] {
            assert_eq!(client(ForwardedHeader::XForwardedFor, peer, values), expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn a_proxy_says_whether_its_client_spoke_tls_and_nobody_else_does() {
        use ForwardedHeader::{Forwarded, XForwardedFor};
        let networks: Vec<IpNet> = network("10.0.0.0/8").into_iter().collect();
        for (peer, kind, value, expected) in [
            ("10.0.0.1:80", XForwardedFor, "https", true),
            ("10.0.0.1:80", XForwardedFor, "http, HTTPS", true),
            ("10.0.0.1:80", XForwardedFor, "https, http", false),
            ("10.0.0.1:80", XForwardedFor, "", false),
            ("203.0.113.9:80", XForwardedFor, "https", false),
            ("10.0.0.1:80", Forwarded, "for=198.51.100.7;proto=https", true),
            ("10.0.0.1:80", Forwarded, "for=198.51.100.7;Proto=\"https\", for=10.1.1.1;proto=http", true),
            ("10.0.0.1:80", Forwarded, "for=6.6.6.6;proto=https, for=198.51.100.7;proto=http", false),
            ("10.0.0.1:80", Forwarded, "for=198.51.100.7", false),
            ("203.0.113.9:80", Forwarded, "for=198.51.100.7;proto=https", false),
        ] {
            let name = if kind == Forwarded { header::FORWARDED } else { X_FORWARDED_PROTO };
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let trust = Trust { networks: networks.clone(), header: kind };
            assert_eq!(trust.is_over_tls(peer.parse().unwrap(), &headers), expected, "{peer} {value}");
        }
    }

    #[test]
    fn the_standard_header_too_where_it_is_the_one() {
        for (values, expected) in [
            (&["for=198.51.100.7"][..], "198.51.100.7"),
            (&["for=6.6.6.6, For=\"198.51.100.7:80\";proto=https;by=10.0.0.1"], "198.51.100.7"),
            (&["for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (&["for=6.6.6.6;proto=http", "proto=https; for=198.51.100.7 , for=10.1.1.1"], "198.51.100.7"),
            (&["for=unknown"], "10.0.0.1"),
            (&["for=6.6.6.6, proto=https"], "10.0.0.1"),
        ] {
            assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.1:80", values), expected, "{values:?}");
        }
    }
}
