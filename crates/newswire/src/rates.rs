//! How often somebody may do something: a bucket of tokens each, in a table that does not grow without end.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use newswire_core::Principal;
use parking_lot::RwLock;

/// Callers that are told apart. Who comes when so many are busy shares one bucket with all others of that kind.
pub const MAX_CALLERS: usize = 65_536;
/// See [`Rates::for_telling`].
const TOLD_AT_ONCE: NonZeroU32 = NonZeroU32::new(20).expect("twenty is not zero");
/// The least time between two looks for callers that are not busy any more.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Tokens that come in each second, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// For as long as anybody likes.
    pub per_second: NonZeroU32,
    /// At once, by one who was quiet before.
    pub burst: NonZeroU32,
}

/// What a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// By what it is judged.
    pub rate: Rate,
    /// Tokens left.
    pub remaining: u32,
    /// How long to wait for the next token; `None` where one was taken.
    pub wait: Option<Duration>,
}

/// Whom a bucket is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// One of whom nothing else is known: an address, or a network of many.
    Address(IpAddr),
    /// One who said who it is.
    Identity(Arc<str>),
    /// One of whom nothing is known at all.
    Unknown,
}

impl Caller {
    /// By its address. Of IPv6 the network of 64 bits: everybody has as many addresses in it as they like.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Address(network(address))
    }

    /// By its identity where it has one.
    pub(crate) fn of(principal: &Principal, address: Option<SocketAddr>) -> Self {
        match address {
            _ if !principal.is_anonymous() => Self::Identity(Arc::clone(&principal.id)),
            Some(address) => Self::at(address.ip()),
            None => Self::Unknown,
        }
    }
}

/// The address as far as it tells callers apart: of IPv6 the network of 64 bits.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 => v4,
    }
}

/// A bucket of tokens for every caller, or no limit. Cloning gives the same buckets.
pub struct Rates<K>(Arc<Shared<K>>);

struct Shared<K> {
    max_callers: usize,
    table: RwLock<Option<Arc<Table<K>>>>,
}

impl<K> Clone for Rates<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Rates<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.0.table.read().as_ref().map(|table| table.rate);
        f.debug_struct("Rates").field("rate", &rate).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash> Rates<K> {
    /// Begins with this limit.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        Self::with_room_for(MAX_CALLERS, rate)
    }

    fn with_room_for(max_callers: usize, rate: Option<Rate>) -> Self {
        let rates = Self(Arc::new(Shared { max_callers, table: RwLock::new(None) }));
        rates.set(rate);
        rates
    }

    /// How often people are told of what comes too often, by whoever it comes from: twenty times at once, and then once a
    /// second. Counters have all of it.
    #[must_use]
    pub fn for_telling() -> Self {
        Self::new(Some(Rate { per_second: NonZeroU32::MIN, burst: TOLD_AT_ONCE }))
    }

    /// Puts another limit in its place; everybody begins with a full bucket then. The same limit again changes nothing.
    pub fn set(&self, rate: Option<Rate>) {
        let mut table = self.0.table.write();
        if table.as_ref().map(|table| table.rate) != rate {
            *table = rate.map(|rate| Arc::new(Table::new(rate, self.0.max_callers)));
        }
    }

    /// Takes a token of a caller, who is asked for only where there is a limit; `None` where there is none.
    pub fn take(&self, caller: impl FnOnce() -> K) -> Option<Standing> {
        let table = self.0.table.read().clone()?;
        Some(table.take(&caller()))
    }

    /// As [`Self::take`], for whom it does not matter what is left: whether there was a token, or no limit.
    pub fn allows(&self, caller: impl FnOnce() -> K) -> bool {
        self.take(caller).is_none_or(|standing| standing.wait.is_none())
    }
}

struct Table<K> {
    rate: Rate,
    max_callers: usize,
    known: RwLock<HashMap<K, Bucket>>,
    /// Of those for whom there was no room.
    others: Bucket,
    begin: Instant,
    /// In milliseconds since `begin`.
    swept_at: AtomicU64,
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn new(rate: Rate, max_callers: usize) -> Self {
        let (begin, swept_at) = (Instant::now(), AtomicU64::new(0));
        let (known, others) = (RwLock::default(), Bucket::new(rate));
        Self { rate, max_callers, known, others, begin, swept_at }
    }

    fn take(&self, caller: &K) -> Standing {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        {
            let known = self.known.read();
            if let Some(bucket) = known.get(caller) {
                return bucket.take(self.rate, now);
            }
            if known.len() >= self.max_callers && !self.is_sweep_due(now) {
                return self.others.take(self.rate, now);
            }
        }
        let mut known = self.known.write();
        if known.len() >= self.max_callers && self.is_sweep_due(now) {
            self.swept_at.store(now.max(1), Ordering::Relaxed);
            known.retain(|_, bucket| bucket.full_at.load(Ordering::Relaxed) > now);
        }
        // Another thread may have made its bucket in the meantime.
        if known.len() >= self.max_callers && !known.contains_key(caller) {
            return self.others.take(self.rate, now);
        }
        known.entry(caller.clone()).or_insert_with(|| Bucket::new(self.rate)).take(self.rate, now)
    }

    fn is_sweep_due(&self, now: u64) -> bool {
        let before = self.swept_at.load(Ordering::Relaxed);
        before == 0 || now.saturating_sub(before) >= SWEEP_EVERY.as_millis() as u64
    }
}

struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
    /// When it is full again and can be forgotten, in milliseconds since its table began.
    full_at: AtomicU64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let limiter = RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>();
        Self { limiter, full_at: AtomicU64::new(0) }
    }

    fn take(&self, rate: Rate, now: u64) -> Standing {
        let (remaining, wait) = match self.limiter.check() {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(refused) => (0, Some(refused.wait_time_from(DefaultClock::default().now()))),
        };
        let missing = u64::from(rate.burst.get().saturating_sub(remaining));
        let full_in = (missing * 1_000).div_ceil(u64::from(rate.per_second.get()));
        self.full_at.fetch_max(now.saturating_add(full_in), Ordering::Relaxed);
        Standing { rate, remaining, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    fn rates(max_callers: usize, burst: u32) -> Rates<u32> {
        Rates::with_room_for(max_callers, Some(rate(1, burst)))
    }

    fn known(rates: &Rates<u32>) -> usize {
        rates.0.table.read().as_ref().unwrap().known.read().len()
    }

    #[test]
    fn a_bucket_for_each_caller() {
        let rates = rates(10, 2_000);
        assert_eq!(rates.take(|| 1), Some(Standing { rate: rate(1, 2_000), remaining: 1_999, wait: None }));
        while rates.take(|| 1).unwrap().wait.is_none() {}
        assert!(rates.take(|| 2).unwrap().wait.is_none());
    }

    #[test]
    fn the_table_is_bounded_and_those_in_it_keep_their_buckets() {
        let rates = rates(3, 1_000);
        // Minutes away from a full bucket, so that nobody is forgotten while this runs.
        for caller in 0..3 {
            (0..500).for_each(|_| assert!(rates.take(|| caller).unwrap().wait.is_none()));
        }
        for stranger in 3..1_100 {
            rates.take(|| stranger);
        }
        assert!(rates.take(|| 2_000).unwrap().wait.is_some(), "strangers share one bucket");
        assert_eq!(known(&rates), 3);
        for caller in 0..3 {
            let standing = rates.take(|| caller).unwrap();
            assert!(standing.wait.is_none() && standing.remaining < 600, "{standing:?}");
        }
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
    fn full_buckets_make_room() {
        let rates = Rates::with_room_for(3, Some(rate(1_000_000, 1)));
        for caller in 0..100 {
            std::thread::sleep(Duration::from_millis(2));
            rates.0.table.read().as_ref().unwrap().swept_at.store(0, Ordering::Relaxed);
            assert!(rates.take(|| caller).unwrap().wait.is_none());
        }
        assert!(known(&rates) <= 3);
    }

    #[test]
    fn another_limit_counts_at_once_and_none_is_none() {
        let rates = rates(10, 1);
        while rates.take(|| 1).unwrap().wait.is_none() {}
        rates.set(Some(rate(1, 1)));
        assert!(rates.take(|| 1).unwrap().wait.is_some(), "the same limit, the same bucket");
        rates.set(Some(rate(1, 5)));
        assert_eq!(rates.take(|| 1).unwrap().remaining, 4);
        rates.set(None);
        assert_eq!(rates.take(|| 1), None);
    }
}
