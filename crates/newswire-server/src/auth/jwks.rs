//! Public keys as JWKS, and those that are fetched: cached, fetched anew when a token names one that nobody knows, and kept
//! for a while when nobody answers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use newswire::AuthError;
use newswire::log::{Expect, Meta};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jwt::{Key, fingerprint};
use super::{BadCredentials, now_micros, unavailable};
use crate::config::JwtConfig;

/// Keys of one set that are looked at.
const MAX_KEYS: usize = 64;
/// Bytes of one set.
const MAX_BYTES: usize = 256 << 10;
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a set: those of its keys that are for signatures, of an algorithm of ours. A symmetric key is never one: what is
/// published is no secret.
pub(super) fn read(text: &str) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))?;
    let known = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| {
        let fingerprint = fingerprint(key.to_string().as_bytes());
        let key = read_key(&serde_json::from_value(key).ok()?)?;
        Some(Key { fingerprint, ..key })
    });
    let keys: Vec<Key> = known.collect();
    if keys.is_empty() {
        Err("no key of RSA, P-256 or Ed25519 for signatures in it".to_owned())
    } else {
        Ok(keys)
    }
}

fn read_key(jwk: &Jwk) -> Option<Key> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let fits = common.key_algorithm.is_none_or(|given| given == named)
        && common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| fits)?;
    Some(Key { kid: common.key_id.clone(), algorithm, key, fingerprint: None })
}

/// Where keys are fetched, and how often.
#[derive(Clone, Debug)]
pub(super) struct Source {
    url: String,
    /// Of the address, and of what tokens from there must say: whoever changes one of them trusts somebody else.
    fingerprint: String,
    http: reqwest::Client,
    /// Older ones are fetched anew.
    refresh: Duration,
    /// Between two fetches for keys that nobody knows, and after one that failed.
    cooldown: Duration,
    /// How long those that cannot be fetched anew still count.
    grace: Duration,
}

impl Source {
    /// `None` where the configuration names none.
    pub(super) fn read(config: &JwtConfig) -> Result<Option<Self>, BadCredentials> {
        let Some(url) = config.jwks_url.clone() else { return Ok(None) };
        let bad = |what: String| BadCredentials(format!("auth.jwt.jwks_url: {what}"));
        let mut http =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &config.jwks_ca {
            http = http.tls_certs_only(authorities(path)?);
        } else if url.starts_with("http:") {
            // Those of the system are not needed, and need not be there.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| bad(format!("{:#}", anyhow::Error::new(error))))?;
        let (refresh, cooldown, grace) = (config.jwks_refresh, config.jwks_cooldown, config.jwks_grace);
        let trusted = format!("{url}\n{:?}\n{:?}", config.issuer, config.audience);
        let fingerprint = format!("jwks:{}", &blake3::hash(trusted.as_bytes()).to_hex()[..16]);
        Ok(Some(Self { url, fingerprint, http, refresh, cooldown, grace }))
    }

    /// Stands beside identities of fetched keys.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, BadCredentials> {
    let bad = |what: &str| BadCredentials(format!("auth.jwt.jwks_ca: {}: {what}", path.display()));
    let pem = std::fs::read(path).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    let read = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
    read.ok_or_else(|| bad("there is no certificate in it, as PEM"))
}

struct Cached {
    source: String,
    keys: Vec<Key>,
    fetched_at: u64,
}

/// As it stands in `Meta`, for a start while nobody answers.
#[derive(Serialize, Deserialize)]
struct Kept {
    fetched_at: u64,
    body: String,
}

/// When was tried what; held while somebody fetches.
#[derive(Default)]
struct Attempts {
    failed: Option<Instant>,
    anew: Option<Instant>,
}

/// Fetches keys.
pub(crate) struct Fetcher {
    meta: Arc<dyn Meta>,
    cached: RwLock<Option<Arc<Cached>>>,
    attempts: tokio::sync::Mutex<Attempts>,
}

impl Fetcher {
    pub(super) fn new(meta: Arc<dyn Meta>) -> Self {
        Self { meta, cached: RwLock::default(), attempts: tokio::sync::Mutex::default() }
    }

    /// The keys as they are known, fetched anew where they are old.
    pub(super) async fn keys(&self, source: &Source) -> Result<Vec<Key>, AuthError> {
        if let Some(keys) = self.fresh(source) {
            return Ok(keys);
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(keys) = self.fresh(source) {
            return Ok(keys);
        }
        if self.known(source).is_none() {
            self.recall(source).await;
        }
        let reason = if attempts.failed.is_some_and(|at| at.elapsed() < source.cooldown) {
            "the last attempt failed a moment ago".to_owned()
        } else {
            match self.fetch(source).await {
                Ok(keys) => return Ok(keys),
                Err(reason) => {
                    attempts.failed = Some(Instant::now());
                    tracing::warn!(url = source.url, reason, "keys for tokens cannot be fetched");
                    reason
                }
            }
        };
        let kept = self.known(source).filter(|cached| age(cached) <= source.grace);
        kept.map(|cached| cached.keys.clone()).ok_or(AuthError::Unavailable { reason })
    }

    /// The keys, fetched now because one is asked for that nobody knows; `None` where that was tried a moment ago, or fails.
    pub(super) async fn keys_anew(&self, source: &Source) -> Option<Vec<Key>> {
        let mut attempts = self.attempts.lock().await;
        if attempts.anew.is_some_and(|at| at.elapsed() < source.cooldown) {
            return self.known(source).map(|cached| cached.keys.clone());
        }
        attempts.anew = Some(Instant::now());
        self.fetch(source).await.ok()
    }

    fn known(&self, source: &Source) -> Option<Arc<Cached>> {
        self.cached.read().clone().filter(|cached| cached.source == source.fingerprint)
    }

    fn fresh(&self, source: &Source) -> Option<Vec<Key>> {
        let cached = self.known(source).filter(|cached| age(cached) < source.refresh)?;
        Some(cached.keys.clone())
    }

    async fn fetch(&self, source: &Source) -> Result<Vec<Key>, String> {
        let body = body(source).await.map_err(|error| format!("{error:#}"))?;
        let fetched_at = now_micros();
        let keys = self.take(source, fetched_at, &body)?;
        let kept = serde_json::to_string(&Kept { fetched_at, body }).map_err(|error| error.to_string())?;
        if let Err(error) = self.meta.put(&kept_key(source), kept.into(), Expect::Any, None).await {
            tracing::warn!(%error, "fetched keys are not kept for the next start");
        }
        Ok(keys)
    }

    fn take(&self, source: &Source, fetched_at: u64, body: &str) -> Result<Vec<Key>, String> {
        // Nobody stands on one of them: the provider changes them as it likes.
        let of_source = |key| Key { fingerprint: Some(source.fingerprint.clone()), ..key };
        let keys: Vec<Key> = read(body)?.into_iter().map(of_source).collect();
        let cached = Cached { source: source.fingerprint.clone(), keys: keys.clone(), fetched_at };
        *self.cached.write() = Some(Arc::new(cached));
        Ok(keys)
    }

    /// What an earlier process fetched.
    async fn recall(&self, source: &Source) {
        let entry =
            self.meta.get(&kept_key(source)).await.map_err(|error| unavailable(&error)).ok().flatten();
        let kept = entry.and_then(|entry| serde_json::from_slice::<Kept>(&entry.value).ok());
        if let Some(Kept { fetched_at, body }) = kept {
            // What cannot be read is as good as none.
            let _ = self.take(source, fetched_at, &body);
        }
    }
}

async fn body(source: &Source) -> anyhow::Result<String> {
    let mut response = source.http.get(&source.url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        anyhow::ensure!(body.len() <= MAX_BYTES, "more than {MAX_BYTES} bytes");
    }
    Ok(String::from_utf8(body)?)
}

fn age(cached: &Cached) -> Duration {
    Duration::from_micros(now_micros().saturating_sub(cached.fetched_at))
}

fn kept_key(source: &Source) -> String {
    format!("auth/jwks/{}", blake3::hash(source.url.as_bytes()).to_hex())
}
