//! Public keys as JWKS: how a set is read, and where one is published.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::BadCredentials;
use super::jwt::{Key, fingerprint};
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
    /// Of the address, of the authorities that vouch for it, and of what tokens from there must say: whoever changes one of
    /// them trusts somebody else.
    fingerprint: String,
    /// Where what is fetched is kept: of the address and of the authorities.
    kept_key: String,
    http: reqwest::Client,
    /// Older ones are fetched anew.
    pub(super) refresh: Duration,
    /// Between two fetches for keys that nobody knows, and after one that failed.
    pub(super) cooldown: Duration,
    /// How long those that cannot be fetched anew still count.
    pub(super) grace: Duration,
}

impl Source {
    /// `None` where the configuration names none.
    pub(super) fn read(config: &JwtConfig) -> Result<Option<Self>, BadCredentials> {
        let Some(url) = config.jwks_url.clone() else { return Ok(None) };
        let bad = |what: String| BadCredentials(format!("auth.jwt.jwks_url: {what}"));
        let mut http =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let mut vouched_for = blake3::hash(b"").to_hex();
        if let Some(path) = &config.jwks_ca {
            let (pem, certificates) = authorities(path)?;
            vouched_for = blake3::hash(&pem).to_hex();
            http = http.tls_certs_only(certificates);
        } else if url.starts_with("http:") {
            // Those of the system are not needed, and need not be there.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| bad(format!("{:#}", anyhow::Error::new(error))))?;
        let (refresh, cooldown, grace) = (config.jwks_refresh, config.jwks_cooldown, config.jwks_grace);
        let source = format!("{url}\n{vouched_for}");
        let trusted = format!("{source}\n{:?}\n{:?}", config.issuer, config.audience);
        let fingerprint = format!("jwks:{}", &blake3::hash(trusted.as_bytes()).to_hex()[..16]);
        let kept_key = format!("auth/jwks/{}", blake3::hash(source.as_bytes()).to_hex());
        Ok(Some(Self { url, fingerprint, kept_key, http, refresh, cooldown, grace }))
    }

    /// Stands beside identities of fetched keys.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What [`Source::read_keys`] reads, asked for now.
    ///
    /// # Errors
    /// Why there is none, without the address, which says more than a log needs.
    pub(super) async fn fetch(&self) -> Result<String, String> {
        self.body().await.map_err(|error| format!("{error:#}"))
    }

    async fn body(&self) -> anyhow::Result<String> {
        let without_address = reqwest::Error::without_url;
        let answer = self.http.get(&self.url).send().await.map_err(without_address)?;
        let mut answer = answer.error_for_status().map_err(without_address)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(without_address)? {
            body.extend_from_slice(&piece);
            anyhow::ensure!(body.len() <= MAX_BYTES, "more than {MAX_BYTES} bytes");
        }
        Ok(String::from_utf8(body)?)
    }

    /// [`read`] of a set from here. Nobody stands on one of its keys: the provider changes them as it likes.
    pub(super) fn read_keys(&self, set: &str) -> Result<Vec<Key>, String> {
        let of_source = |key| Key { fingerprint: Some(self.fingerprint.clone()), ..key };
        Ok(read(set)?.into_iter().map(of_source).collect())
    }

    /// Where an earlier process kept what it fetched.
    pub(super) fn kept_key(&self) -> &str {
        &self.kept_key
    }
}

/// The file, and the certificates in it.
fn authorities(path: &Path) -> Result<(Vec<u8>, Vec<reqwest::Certificate>), BadCredentials> {
    let bad = |what: &str| BadCredentials(format!("auth.jwt.jwks_ca: {}: {what}", path.display()));
    let pem = std::fs::read(path).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    let read = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
    let certificates = read.ok_or_else(|| bad("there is no certificate in it, as PEM"))?;
    Ok((pem, certificates))
}
