//! How often an address may fail to say who it is. Beyond, what it shows is not looked at, but for what was good before: so
//! whoever guesses costs nothing, and keeps nobody out who is known already.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use blake3::Hash;
use parking_lot::{Mutex, RwLock};

use crate::auth::{AuthError, Credential, Identity};
use crate::rates::network;
use crate::{Feed, MAX_CALLERS};

/// Good credentials that are remembered, in two halves of which the older one is forgotten.
const MAX_GOOD: usize = 65_536;
/// Many at once may fail before any of them counts. They are made up for later, but not for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Failures of one address that are forgiven each minute, and how many there can be before it has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimit {
    /// For as long as anybody likes.
    pub per_minute: NonZeroU32,
    /// At once, by one who did not fail before.
    pub burst: NonZeroU32,
}

impl FailureLimit {
    /// How long one failure counts.
    fn each(self) -> Duration {
        Duration::from_secs(60) / self.per_minute.get()
    }

    /// How long as many count as there can be.
    fn all(self) -> Duration {
        self.each() * self.burst.get()
    }
}

/// What has failed lately, by address, and what was good.
pub(crate) struct Failures {
    limit: RwLock<Option<FailureLimit>>,
    begin: Instant,
    owed: Mutex<Owed>,
    good: Mutex<Good>,
}

/// Until when failures count, one behind the other, since the beginning.
#[derive(Default)]
struct Owed {
    by_address: HashMap<IpAddr, Duration>,
    /// Of all those for whom there was no room.
    by_others: Duration,
    swept_at: Duration,
}

#[derive(Default)]
struct Good {
    young: HashSet<Hash>,
    old: HashSet<Hash>,
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("limit", &*self.limit.read()).finish_non_exhaustive()
    }
}

impl Failures {
    pub(crate) fn new(limit: Option<FailureLimit>) -> Self {
        let (owed, good) = (Mutex::default(), Mutex::default());
        Self { limit: RwLock::new(limit), begin: Instant::now(), owed, good }
    }

    /// From now on.
    pub(crate) fn set(&self, limit: Option<FailureLimit>) {
        *self.limit.write() = limit;
    }

    /// How long the address has to wait before this is looked at; `None` where it is.
    fn wait(&self, address: IpAddr, secret: &str) -> Option<Duration> {
        let limit = (*self.limit.read())?;
        let wait = self.owed.lock().wait(limit, network(address), self.begin.elapsed())?;
        (!self.good.lock().holds(&of(secret))).then_some(wait)
    }

    fn failed(&self, address: IpAddr, secret: &str) {
        let Some(limit) = *self.limit.read() else { return };
        self.good.lock().forget(&of(secret));
        self.owed.lock().add(limit, network(address), self.begin.elapsed(), MAX_CALLERS);
    }

    /// This is good, and looked at whatever else comes from the same address.
    pub(crate) fn is_good(&self, secret: &str) {
        if self.limit.read().is_some() {
            self.good.lock().keep(of(secret), MAX_GOOD / 2);
        }
    }
}

fn of(secret: &str) -> Hash {
    blake3::hash(secret.as_bytes())
}

impl Owed {
    fn of(&self, address: IpAddr, now: Duration) -> Duration {
        self.by_address.get(&address).map_or(self.by_others, |until| *until).saturating_sub(now)
    }

    fn wait(&self, limit: FailureLimit, address: IpAddr, now: Duration) -> Option<Duration> {
        // As long as there is room for everybody, nobody stands for the others.
        let wait = self.of(address, now).saturating_sub(limit.all() - limit.each());
        (wait > Duration::ZERO).then_some(wait)
    }

    fn add(&mut self, limit: FailureLimit, address: IpAddr, now: Duration, most: usize) {
        if self.by_address.len() >= most && now.saturating_sub(self.swept_at) >= Duration::from_secs(1) {
            self.swept_at = now;
            self.by_address.retain(|_, until| *until > now);
        }
        let has_room = self.by_address.len() < most || self.by_address.contains_key(&address);
        let until = if has_room { self.by_address.entry(address).or_default() } else { &mut self.by_others };
        *until = ((*until).max(now) + limit.each()).min(now + limit.all() + LONGEST_WAIT);
    }
}

impl Good {
    fn holds(&self, secret: &Hash) -> bool {
        self.young.contains(secret) || self.old.contains(secret)
    }

    fn forget(&mut self, secret: &Hash) {
        self.young.remove(secret);
        self.old.remove(secret);
    }

    fn keep(&mut self, secret: Hash, most: usize) {
        if self.young.len() >= most && !self.young.contains(&secret) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(secret);
    }
}

impl Feed {
    /// Checks a credential that came from an address as routes do: within [`Settings::auth_failures`](crate::Settings::auth_failures),
    /// counted in the metrics where it is not taken.
    ///
    /// # Errors
    /// Those of [`Authenticate::authenticate`](crate::Authenticate::authenticate), and [`AuthError::TooManyFailures`].
    pub async fn check(
        &self,
        credential: Credential<'_>,
        address: Option<IpAddr>,
    ) -> Result<Identity, AuthError> {
        let Some(authenticator) = self.authenticator() else { return Err(AuthError::Unsupported) };
        let (Credential::Bearer(secret) | Credential::Ticket(secret)) = credential;
        self.attempt(secret, address, authenticator.authenticate(credential)).await
    }

    /// [`Feed::check`] for what the application checks by itself, such as a cookie: `check` is not polled where the address has
    /// failed too often.
    ///
    /// # Errors
    /// Those of `check`, and [`AuthError::TooManyFailures`].
    pub async fn attempt<T>(
        &self,
        secret: &str,
        address: Option<IpAddr>,
        check: impl Future<Output = Result<T, AuthError>>,
    ) -> Result<T, AuthError> {
        let failures = &self.inner.failures;
        let outcome = match address.and_then(|address| failures.wait(address, secret)) {
            Some(wait) => Err(AuthError::TooManyFailures { wait }),
            None => check.await,
        };
        match &outcome {
            Ok(_) => failures.is_good(secret),
            Err(error) => {
                self.count_refused(error);
                if let (Some(address), true) = (address, error.is_of_the_credential()) {
                    failures.failed(address, secret);
                }
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_minute: u32, burst: u32) -> FailureLimit {
        FailureLimit {
            per_minute: NonZeroU32::new(per_minute).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_are_forgiven_one_by_one() {
        let (mut owed, limit) = (Owed::default(), limit(6, 3));
        for _ in 0..3 {
            assert_eq!(owed.wait(limit, address(1), seconds(100)), None);
            owed.add(limit, address(1), seconds(100), 10);
        }
        assert_eq!(owed.wait(limit, address(1), seconds(100)), Some(seconds(10)));
        assert_eq!(owed.wait(limit, address(2), seconds(100)), None, "another address");
        assert_eq!(owed.wait(limit, address(1), seconds(109)), Some(seconds(1)));
        assert_eq!(owed.wait(limit, address(1), seconds(110)), None);
        // Those that were under way together all count, up to a minute.
        for _ in 0..1_000 {
            owed.add(limit, address(1), seconds(110), 10);
        }
        assert_eq!(owed.wait(limit, address(1), seconds(110)), Some(seconds(70)));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_whom_it_forgave() {
        let (mut owed, limit) = (Owed::default(), limit(60, 2));
        for last in 0..200 {
            owed.add(limit, address(last), seconds(10), 3);
        }
        assert_eq!(owed.by_address.len(), 3);
        assert!(owed.wait(limit, address(250), seconds(10)).is_some(), "strangers without room are one");
        assert_eq!(owed.wait(limit, address(0), seconds(10)), None);
        owed.add(limit, address(201), seconds(20), 3);
        assert_eq!(owed.by_address.keys().collect::<Vec<_>>(), [&address(201)]);
    }

    #[test]
    fn what_was_good_is_looked_at_and_not_for_ever() {
        let failures = Failures::new(Some(limit(1, 1)));
        failures.is_good("good");
        failures.failed(address(1), "bad");
        assert!(failures.wait(address(1), "bad").is_some() && failures.wait(address(1), "unseen").is_some());
        assert_eq!(failures.wait(address(1), "good"), None);
        failures.failed(address(1), "good");
        assert!(failures.wait(address(1), "good").is_some(), "it has failed since");
        failures.set(None);
        assert_eq!(failures.wait(address(1), "bad"), None);
        let mut good = Good::default();
        let kept: Vec<Hash> = (0..5).map(|n: u32| of(&n.to_string())).collect();
        kept.iter().for_each(|hash| good.keep(*hash, 2));
        let held: Vec<bool> = kept.iter().map(|hash| good.holds(hash)).collect();
        assert_eq!(held, [false, false, true, true, true]);
    }
}
