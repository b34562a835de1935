//! How many requests one address, and one identity, may make.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use newswire::{Caller, Principal, Problem, Rates, Standing};
use prometheus_client::metrics::counter::Counter;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limit on requests, and the count of those over it.
#[derive(Clone)]
pub(super) struct RequestRates {
    pub(super) rates: Rates<Caller>,
    pub(super) refused: Counter,
}

/// Of two that hold for one request, what is left.
fn least(one: Standing, other: Standing) -> Standing {
    Standing { remaining: one.remaining.min(other.remaining), wait: one.wait.max(other.wait), ..one }
}

/// `RateLimit` and `RateLimit-Policy`, as the draft of the HTTP API working group writes them.
fn mark(headers: &mut HeaderMap, standing: Standing) {
    let (burst, rate) = (standing.rate.burst.get(), standing.rate.per_second.get());
    let window = burst.div_ceil(rate);
    let full_in = (burst - standing.remaining.min(burst)).div_ceil(rate);
    for (name, value) in [
        (POLICY, format!("\"default\";q={burst};w={window}")),
        (LIMIT, format!("\"default\";r={};t={full_in}", standing.remaining)),
    ] {
        headers.insert(name, HeaderValue::try_from(value).expect("names and numbers are visible ASCII"));
    }
}

/// Refuses requests of an address that is over the limit, before anybody looks at what they show. Probes and metrics are not
/// counted: who watches the server has to see it when it is busy.
pub(super) async fn of_addresses(limit: State<RequestRates>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| Caller::at(peer.0.ip()));
    count(limit.0, address, request, next).await
}

/// Refuses requests of an identity that is over the limit, and says in every answer what is left, to it or to its address.
pub(super) async fn of_identities(limit: State<RequestRates>, request: Request, next: Next) -> Response {
    let identity = request.extensions().get::<Principal>().filter(|principal| !principal.is_anonymous());
    let identity = identity.map(|principal| Caller::Identity(Arc::clone(&principal.id)));
    count(limit.0, identity, request, next).await
}

async fn count(limit: RequestRates, caller: Option<Caller>, mut request: Request, next: Next) -> Response {
    if is_watching(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(own) = caller.and_then(|caller| limit.rates.take(|| caller)) else {
        return next.run(request).await;
    };
    // What an outer layer has counted.
    let standing = request.extensions().get().map_or(own, |outer| least(*outer, own));
    let mut response = match own.wait {
        None => {
            request.extensions_mut().insert(standing);
            next.run(request).await
        }
        Some(wait) => {
            limit.refused.inc();
            refused(wait)
        }
    };
    // An inner layer has said it already, and knows more.
    if !response.headers().contains_key(LIMIT) {
        mark(response.headers_mut(), standing);
    }
    response
}

fn is_watching(path: &str) -> bool {
    matches!(path, "/metrics" | "/api/v1/metrics" | "/api/v1/health")
        || path.strip_prefix("/api/v1/health/").is_some_and(|rest| !rest.contains('/'))
}

fn refused(wait: Duration) -> Response {
    let detail = "more requests than limits.requests_per_second allows; Retry-After says when to try again";
    Problem::too_many_requests(detail, wait).into_response()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use newswire::Rate;

    use super::*;

    fn rates(burst: u32) -> Rates<Caller> {
        Rates::new(Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(burst).unwrap() }))
    }

    #[test]
    fn a_bucket_for_each_address_and_each_identity() {
        let rates = rates(2_000);
        let (address, sarah) = (Caller::at([10, 0, 0, 1].into()), Caller::Identity("sarah".into()));
        let take = |caller: &Caller| rates.take(|| caller.clone()).unwrap();
        let first = least(take(&address), take(&sarah));
        assert_eq!((first.remaining, first.wait), (1_999, None));
        while take(&sarah).wait.is_none() {}
        assert!(least(take(&address), take(&sarah)).wait.is_some(), "the identity has nothing left");
        assert!(take(&address).wait.is_none(), "the address has");
        assert_eq!(Rates::new(None).take(|| address), None);
    }

    #[test]
    fn only_those_who_watch_the_server_are_not_counted() {
        for path in ["/metrics", "/api/v1/metrics", "/api/v1/health", "/api/v1/health/ready"] {
            assert!(is_watching(path), "{path}");
        }
        for path in ["/", "/api/v1/ws/metrics", "/api/v1/healthy", "/x/metrics", "/api/v1/events"] {
            assert!(!is_watching(path), "{path}");
        }
    }

    #[test]
    fn the_headers_say_what_is_left() {
        let mut headers = HeaderMap::new();
        let standing = rates(30).take(|| Caller::Identity("sarah".into())).unwrap();
        mark(&mut headers, Standing { remaining: 12, ..standing });
        assert_eq!(headers[POLICY], "\"default\";q=30;w=30");
        assert_eq!(headers[LIMIT], "\"default\";r=12;t=18");
    }
}
