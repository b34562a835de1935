//! How many requests one address, and one identity, may make.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use newswire::{Principal, Problem};
use prometheus_client::metrics::counter::Counter;

/// Callers that are told apart. Who comes when so many are busy shares one bucket with all others of that kind.
const MAX_CALLERS: usize = 65_536;
/// The least time between two looks for callers that are not busy any more.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whom a bucket is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Address(IpAddr),
    Identity(Arc<str>),
    /// Those for whom there was no room.
    Others,
}

/// A bucket of tokens for every caller. Cloning gives the same buckets.
#[derive(Clone)]
pub(super) struct Rates(Arc<Buckets>);

struct Buckets {
    limiter: RateLimiter<Caller, DefaultKeyedStateStore<Caller>, DefaultClock, StateInformationMiddleware>,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    max_callers: usize,
    begin: Instant,
    /// In milliseconds since `begin`.
    swept_at: AtomicU64,
    refused: Counter,
}

/// What a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    remaining: u32,
    /// How long to wait; `None` where the request may pass.
    wait: Option<Duration>,
}

impl Rates {
    pub(super) fn new(per_second: NonZeroU32, burst: NonZeroU32, refused: Counter) -> Self {
        Self::with_room_for(MAX_CALLERS, per_second, burst, refused)
    }

    fn with_room_for(
        max_callers: usize,
        per_second: NonZeroU32,
        burst: NonZeroU32,
        refused: Counter,
    ) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>();
        let (begin, swept_at) = (Instant::now(), AtomicU64::new(0));
        Self(Arc::new(Buckets { limiter, per_second, burst, max_callers, begin, swept_at, refused }))
    }

    /// Takes a token of each of these callers; the least of what is left counts.
    fn check(&self, callers: impl IntoIterator<Item = Caller>) -> Standing {
        let mut least = Standing { remaining: self.0.burst.get(), wait: None };
        for caller in callers {
            let standing = self.check_one(&self.with_room(caller));
            least.remaining = least.remaining.min(standing.remaining);
            least.wait = least.wait.max(standing.wait);
        }
        least
    }

    fn check_one(&self, caller: &Caller) -> Standing {
        match self.0.limiter.check_key(caller) {
            Ok(state) => Standing { remaining: state.remaining_burst_capacity(), wait: None },
            Err(refused) => {
                Standing { remaining: 0, wait: Some(refused.wait_time_from(DefaultClock::default().now())) }
            }
        }
    }

    /// The caller itself while there is room for one more.
    fn with_room(&self, caller: Caller) -> Caller {
        let buckets = &self.0;
        if buckets.limiter.len() < buckets.max_callers {
            return caller;
        }
        let now = u64::try_from(buckets.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = buckets.swept_at.load(Ordering::Relaxed);
        let due = before == 0 || now.saturating_sub(before) >= SWEEP_EVERY.as_millis() as u64;
        if due
            && buckets
                .swept_at
                .compare_exchange(before, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            buckets.limiter.retain_recent();
        }
        if buckets.limiter.len() < buckets.max_callers { caller } else { Caller::Others }
    }

    /// `RateLimit` and `RateLimit-Policy`, as the draft of the HTTP API working group writes them.
    fn mark(&self, headers: &mut HeaderMap, standing: Standing) {
        let (burst, rate) = (self.0.burst.get(), self.0.per_second.get());
        let window = burst.div_ceil(rate);
        let full_in = (burst - standing.remaining.min(burst)).div_ceil(rate);
        for (name, value) in [
            (POLICY, format!("\"default\";q={burst};w={window}")),
            (LIMIT, format!("\"default\";r={};t={full_in}", standing.remaining)),
        ] {
            headers.insert(name, HeaderValue::try_from(value).expect("names and numbers are visible ASCII"));
        }
    }
}

/// Refuses requests over the limit, and says in every answer what is left. Probes and metrics are not counted: who
/// watches the server has to see it when it is busy.
pub(super) async fn layer(State(rates): State<Option<Rates>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some(rates) = rates.filter(|_| !(path.starts_with("/api/v1/health") || path.ends_with("/metrics")))
    else {
        return next.run(request).await;
    };
    let standing = rates.check(callers(&request));
    let mut response = match standing.wait {
        None => next.run(request).await,
        Some(wait) => {
            rates.0.refused.inc();
            refused(wait)
        }
    };
    rates.mark(response.headers_mut(), standing);
    response
}

fn refused(wait: Duration) -> Response {
    let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
    let detail = format!("more requests than limits.requests_per_second allows; try again in {seconds} s");
    let problem =
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests", detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn callers(request: &Request) -> impl Iterator<Item = Caller> {
    let address = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|peer| Caller::Address(network(peer.0.ip())));
    let identity = request.extensions().get::<Principal>().filter(|principal| !principal.is_anonymous());
    let identity = identity.map(|principal| Caller::Identity(Arc::clone(&principal.id)));
    address.into_iter().chain(identity)
}

/// Of IPv6 the network of 64 bits: everybody has as many addresses in it as they like.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(max_callers: usize, burst: u32) -> Rates {
        Rates::with_room_for(
            max_callers,
            NonZeroU32::MIN,
            NonZeroU32::new(burst).unwrap(),
            Counter::default(),
        )
    }

    fn address(last: u8) -> Caller {
        Caller::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn a_bucket_for_each_address_and_each_identity() {
        let rates = rates(10, 2_000);
        let who = || [address(1), Caller::Identity("sarah".into())];
        assert_eq!(rates.check(who()), Standing { remaining: 1_999, wait: None });
        while rates.check([Caller::Identity("sarah".into())]).wait.is_none() {}
        assert!(rates.check(who()).wait.is_some(), "the identity has nothing left");
        assert!(rates.check([address(1)]).wait.is_none(), "the address has");
    }

    #[test]
    fn the_table_is_bounded() {
        let rates = rates(3, 1_000);
        // Minutes away from a full bucket, so that nobody is forgotten while this runs.
        for caller in (0..3).map(address) {
            (0..500).for_each(|_| assert!(rates.check([caller.clone()]).wait.is_none()));
        }
        assert_eq!(rates.with_room(address(3)), Caller::Others);
        for last in 3..100 {
            rates.check([address(last)]);
        }
        assert_eq!(rates.0.limiter.len(), 4, "three, and one for all others");
    }

    #[test]
    fn one_who_has_a_network_is_one_caller() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
        assert_ne!(parse("10.0.0.1"), parse("10.0.0.2"));
    }

    #[test]
    fn the_headers_say_what_is_left() {
        let rates = rates(10, 30);
        let mut headers = HeaderMap::new();
        rates.mark(&mut headers, Standing { remaining: 12, wait: None });
        assert_eq!(headers[POLICY], "\"default\";q=30;w=30");
        assert_eq!(headers[LIMIT], "\"default\";r=12;t=18");
    }
}
