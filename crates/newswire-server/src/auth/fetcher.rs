//! Keys that are fetched: known in memory and, for the next start, in `Meta`; fetched anew before anybody needs them, and kept
//! for a while when nobody answers.
//!
//! A fetch is a task of its own, shared by all who wait for it: nobody who hangs up breaks it off. And nobody waits for one
//! whose key is among those that count, however old they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use newswire::AuthError;
use newswire::log::{Expect, Meta};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::jwks::Source;
use super::jwt::Key;
use super::now_micros;

/// The least time between two fetches that nobody asked for, whatever the configuration says.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// The keys of one provider.
pub(super) struct Fetcher {
    keeper: Arc<Keeper>,
    _stop: DropGuard,
}

/// A set of keys.
pub(super) struct Known {
    pub(super) keys: Vec<Key>,
    fetched_at: u64,
}

/// As it stands in `Meta`, for a start while nobody answers.
#[derive(Serialize, Deserialize)]
struct Kept {
    fetched_at: u64,
    body: String,
}

struct Keeper {
    source: Source,
    meta: Arc<dyn Meta>,
    /// Done once: what an earlier process fetched is known.
    recalled: OnceCell<()>,
    known: RwLock<Option<Arc<Known>>>,
    attempts: Mutex<Attempts>,
}

type Outcome = Result<Arc<Known>, Arc<str>>;
type Fetch = Shared<BoxFuture<'static, Outcome>>;

#[derive(Default)]
struct Attempts {
    under_way: Option<Fetch>,
    /// The last one, if it failed: when, and why.
    failed: Option<(Instant, Arc<str>)>,
    /// The last one for a key that nobody knew.
    anew: Option<Instant>,
}

impl Fetcher {
    /// Begins to fetch, and goes on until it is dropped. What one before it knew of the same source is known.
    pub(super) fn start(source: Source, meta: Arc<dyn Meta>, before: Option<&Self>) -> Self {
        let same = before.filter(|before| before.keeper.source.fingerprint() == source.fingerprint());
        let known = same.and_then(|same| same.keeper.known.read().clone());
        let (recalled, known, attempts) = (OnceCell::new(), RwLock::new(known), Mutex::default());
        let keeper = Arc::new(Keeper { source, meta, recalled, known, attempts });
        let stop = CancellationToken::new();
        let (keeping, stopped) = (Arc::clone(&keeper), stop.clone());
        // Ends when this is dropped: nobody waits for it.
        tokio::spawn(async move { stopped.run_until_cancelled(keeping.keep_fresh()).await });
        Self { keeper, _stop: stop.drop_guard() }
    }

    /// The keys that count: at once where there are some, else as soon as they are fetched.
    pub(super) async fn keys(&self) -> Result<Arc<Known>, AuthError> {
        let keeper = &self.keeper;
        keeper.recalled().await;
        match keeper.usable() {
            Some(known) => Ok(known),
            None => outcome(keeper.fetched().await),
        }
    }

    /// The keys, fetched now because one is asked for that nobody knows; those that are there where that was done a moment
    /// ago.
    pub(super) async fn keys_anew(&self) -> Result<Arc<Known>, AuthError> {
        outcome(self.keeper.fetched_anew().await)
    }
}

fn outcome(outcome: Outcome) -> Result<Arc<Known>, AuthError> {
    outcome.map_err(|reason| AuthError::Unavailable { reason: reason.to_string() })
}

impl Keeper {
    /// Fetches whenever the keys are old, for ever; and at once where only an earlier process has fetched them, because one of
    /// them may have been taken back while nobody looked. Until then they count.
    async fn keep_fresh(self: &Arc<Self>) {
        let mut is_new_here = self.known.read().is_none();
        self.recalled().await;
        loop {
            let pause = match self.known.read().as_deref() {
                Some(known) if !is_new_here => self.source.refresh.saturating_sub(age(known)),
                _ => Duration::ZERO,
            };
            is_new_here = false;
            tokio::time::sleep(pause).await;
            let fetch = self.join_or_begin(&mut self.attempts.lock());
            let pause = if fetch.await.is_ok() { Duration::ZERO } else { self.source.cooldown };
            tokio::time::sleep(pause.max(LEAST_PAUSE)).await;
        }
    }

    /// Those that were fetched a short while ago, or cannot be fetched anew and still count.
    fn usable(&self) -> Option<Arc<Known>> {
        let life = self.source.refresh.max(self.source.grace);
        self.known.read().clone().filter(|known| age(known) < life)
    }

    async fn fetched(self: &Arc<Self>) -> Outcome {
        let fetch = {
            let mut attempts = self.attempts.lock();
            match &attempts.failed {
                Some((at, reason)) if attempts.under_way.is_none() && self.is_too_soon(*at) => {
                    return Err(Arc::clone(reason));
                }
                _ => self.join_or_begin(&mut attempts),
            }
        };
        fetch.await
    }

    async fn fetched_anew(self: &Arc<Self>) -> Outcome {
        let fetch = {
            let mut attempts = self.attempts.lock();
            let is_too_soon = attempts.anew.is_some_and(|at| self.is_too_soon(at));
            match &attempts.failed {
                _ if attempts.under_way.is_some() => {}
                // The key may be there by now: nobody can tell.
                Some((at, reason)) if is_too_soon || self.is_too_soon(*at) => return Err(Arc::clone(reason)),
                None if is_too_soon => return self.known.read().clone().ok_or_else(|| "no keys".into()),
                _ => attempts.anew = Some(Instant::now()),
            }
            self.join_or_begin(&mut attempts)
        };
        fetch.await
    }

    fn is_too_soon(&self, before: Instant) -> bool {
        before.elapsed() < self.source.cooldown
    }

    /// The fetch that is under way, or one that begins.
    fn join_or_begin(self: &Arc<Self>, attempts: &mut Attempts) -> Fetch {
        attempts.under_way.get_or_insert_with(|| self.begin()).clone()
    }

    fn begin(self: &Arc<Self>) -> Fetch {
        let keeper = Arc::clone(self);
        let task = tokio::spawn(async move {
            let attempt = Attempt(keeper);
            let outcome = attempt.0.fetch().await;
            attempt.0.note(&outcome);
            outcome
        });
        async move { task.await.unwrap_or_else(|_| Err("the fetch broke off".into())) }.boxed().shared()
    }

    async fn fetch(&self) -> Outcome {
        let body = self.source.fetch().await?;
        let fetched_at = now_micros();
        let known = Arc::new(Known { keys: self.source.read_keys(&body)?, fetched_at });
        let kept = serde_json::to_string(&Kept { fetched_at, body }).map_err(|error| error.to_string())?;
        if let Err(error) = self.meta.put(self.source.kept_key(), kept.into(), Expect::Any, None).await {
            tracing::warn!(%error, "fetched keys are not kept for the next start");
        }
        Ok(known)
    }

    /// Knows what came of an attempt, and that it is over, in one moment: whoever goes by the keys and misses one begins another
    /// attempt, and does not join the one that they are from.
    fn note(&self, outcome: &Outcome) {
        let mut attempts = self.attempts.lock();
        attempts.under_way = None;
        match outcome {
            Ok(known) => {
                attempts.failed = None;
                *self.known.write() = Some(Arc::clone(known));
            }
            Err(reason) => {
                tracing::warn!(%reason, "auth.jwt.jwks_url: keys for tokens cannot be fetched");
                attempts.failed = Some((Instant::now(), Arc::clone(reason)));
            }
        }
    }

    /// Knows what an earlier process fetched, where nobody has fetched anything since.
    async fn recalled(&self) {
        self.recalled.get_or_init(|| self.recall()).await;
    }

    async fn recall(&self) {
        let entry = self.meta.get(self.source.kept_key()).await.ok().flatten();
        let kept = entry.and_then(|entry| serde_json::from_slice::<Kept>(&entry.value).ok());
        let mut known = self.known.write();
        // What cannot be read is as good as none.
        if let Some(Kept { fetched_at, body }) = kept.filter(|_| known.is_none())
            && let Ok(keys) = self.source.read_keys(&body)
        {
            *known = Some(Arc::new(Known { keys, fetched_at }));
        }
    }
}

/// One that is under way. What panics is over, too.
struct Attempt(Arc<Keeper>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.attempts.lock().under_way = None;
        }
    }
}

fn age(known: &Known) -> Duration {
    Duration::from_micros(now_micros().saturating_sub(known.fetched_at))
}
