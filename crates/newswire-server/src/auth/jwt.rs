//! JSON Web Tokens: HS256, RS256, ES256 and EdDSA.
//!
//! The algorithm is the key's and never the token's: each key is read together with the one algorithm that it is for, and a
//! token counts only where its header names that one. So there is no key by which `none` could be verified, and a public
//! key is never the secret of an HS256.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use newswire::{AuthError, UnixMicros};
use serde::Deserialize;

use super::fetcher::Fetcher;
use super::jwks;
use super::permissions::Permissions;
use super::{BadCredentials, names, now_micros, random_text};
use crate::config::JwtConfig;

/// What a token is told whose key nobody has.
const NO_KEY: AuthError =
    AuthError::Invalid { reason: "no key for it: of an unknown kid, or another algorithm" };
/// What a key says to a token that is not its own.
const WRONG_SIGNATURE: AuthError = AuthError::Invalid { reason: "the signature is wrong" };
/// Longest token that is looked at, in bytes.
const MAX_BYTES: usize = 8 << 10;
/// Shortest secret of HS256, in bytes: as long as the hash.
const MIN_SECRET_BYTES: usize = 32;

/// A key and the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// Of a key from a file; whoever stands on it is sent away with it.
    pub(super) fingerprint: Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kid, algorithm, fingerprint, .. } = self;
        f.debug_struct("Key")
            .field("kid", kid)
            .field("algorithm", algorithm)
            .field("fingerprint", fingerprint)
            .finish()
    }
}

/// What tokens are judged by.
#[derive(Debug)]
pub(super) struct Jwt {
    keys: Vec<Key>,
    source: Option<jwks::Source>,
    issuer: Option<String>,
    audience: Vec<String>,
    leeway: Duration,
    max_lifetime: Option<Duration>,
}

/// What a good token says.
pub(super) struct Verified {
    pub(super) id: String,
    /// Microseconds since 1970, leeway included.
    pub(super) expires_at: u64,
    pub(super) token_id: Option<String>,
    pub(super) permissions: Permissions,
    /// The fingerprint of its key, if that is from a file.
    pub(super) key: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    jti: Option<String>,
    newswire: Option<Permissions>,
}

impl Jwt {
    pub(super) fn read(config: &JwtConfig) -> Result<Self, BadCredentials> {
        let mut keys = Vec::new();
        if let Some(path) = &config.secret_file {
            keys.push(read_secret(path)?);
        }
        if let Some(path) = &config.keys_file {
            keys.extend(read_keys(path)?);
        }
        Ok(Self {
            keys,
            source: jwks::Source::read(config)?,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            max_lifetime: config.max_lifetime,
        })
    }

    /// With one secret and no files.
    pub(super) fn of_secret(secret: &str, config: &JwtConfig) -> Self {
        let key = DecodingKey::from_secret(secret.as_bytes());
        let key = Key { kid: None, algorithm: Algorithm::HS256, key, fingerprint: None };
        let (issuer, audience) = (config.issuer.clone(), config.audience.clone());
        Self { keys: vec![key], source: None, issuer, audience, leeway: config.leeway, max_lifetime: None }
    }

    /// Whether a key from a file is still there, or the source of one that was fetched.
    pub(super) fn still_has(&self, fingerprint: Option<&str>) -> Result<(), AuthError> {
        let source = self.source.as_ref().map(jwks::Source::fingerprint);
        let has = |wanted: &str| {
            source == Some(wanted) || self.keys.iter().any(|key| key.fingerprint.as_deref() == Some(wanted))
        };
        if fingerprint.is_none_or(has) { Ok(()) } else { Err(AuthError::Revoked) }
    }

    /// Where published keys are fetched, if that is configured.
    pub(super) fn source(&self) -> Option<&jwks::Source> {
        self.source.as_ref()
    }

    /// Judges a token by the keys of this server and, where none of them signed it, by those of the provider.
    pub(super) async fn verify(
        &self,
        token: &str,
        provider: Option<&Fetcher>,
    ) -> Result<Verified, AuthError> {
        let header = read_header(token)?;
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.kid.is_none() || key.kid == header.kid;
            key.algorithm == header.alg && named
        };
        // Keys of this server first: whoever has one must get in though those of others cannot be fetched.
        let own = self.verify_with_any(token, self.keys.iter().filter(fits));
        // What is published is no secret, so no token by HS256 is a provider's.
        let provider = provider.filter(|_| !is_settled(&own) && header.alg != Algorithm::HS256);
        let Some(provider) = provider else { return own.unwrap_or(Err(NO_KEY)) };
        let known = provider.keys().await?;
        let theirs = self.verify_with_any(token, known.keys.iter().filter(fits));
        let is_known = header.kid.is_some() && known.keys.iter().any(|key| key.kid == header.kid);
        if is_known || is_settled(&theirs) {
            return theirs.or(own).unwrap_or(Err(NO_KEY));
        }
        let known = provider.keys_anew().await?;
        let theirs = self.verify_with_any(token, known.keys.iter().filter(fits));
        theirs.or(own).unwrap_or(Err(NO_KEY))
    }

    /// `None` where there is no key.
    fn verify_with_any<'a>(&self, token: &str, keys: impl Iterator<Item = &'a Key>) -> Tried {
        let mut tried = None;
        for key in keys {
            tried = Some(self.verify_with(token, key));
            if is_settled(&tried) {
                break;
            }
        }
        tried
    }

    fn verify_with(&self, token: &str, key: &Key) -> Result<Verified, AuthError> {
        let decoded = decode::<Claims>(token, &key.key, &self.validation(key.algorithm));
        let Claims { sub, exp, jti, newswire } = decoded.map_err(|error| refused(error.kind()))?.claims;
        if names::check(&sub).is_err() || jti.as_deref().is_some_and(|id| names::check(id).is_err()) {
            return Err(AuthError::Invalid { reason: "sub or jti is no name that a token may give" });
        }
        let leeway = self.leeway.as_secs_f64();
        if self.latest_expiry(now_micros()).is_some_and(|latest| (exp + leeway) * 1e6 > latest.0 as f64) {
            return Err(AuthError::Invalid { reason: "it counts for longer than auth.jwt.max_lifetime" });
        }
        Ok(Verified {
            id: sub,
            expires_at: ((exp + leeway) * 1e6) as u64,
            token_id: jti,
            permissions: newswire.unwrap_or_default(),
            key: key.fingerprint.clone(),
        })
    }

    /// When tokens that there are now have all expired, if something is said about that.
    pub(super) fn latest_expiry(&self, now: u64) -> Option<UnixMicros> {
        let life = self.max_lifetime?;
        Some(UnixMicros(now).saturating_add(life).saturating_add(self.leeway))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if self.audience.is_empty() {
            // One that is for somebody in particular is not for us, who have no name.
            validation.set_audience::<&str>(&[]);
        } else {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// What several keys made of a token.
type Tried = Option<Result<Verified, AuthError>>;

/// Whether one of them signed it: whatever else is wrong with it then, no other key makes it right.
fn is_settled(tried: &Tried) -> bool {
    matches!(tried, Some(outcome) if outcome.as_ref().err() != Some(&WRONG_SIGNATURE))
}

/// Only to find the key; nothing in it is believed.
fn read_header(token: &str) -> Result<Header, AuthError> {
    let invalid = |reason| Err(AuthError::Invalid { reason });
    if token.len() > MAX_BYTES {
        return invalid("too long for a token");
    }
    match decode_header(token) {
        Ok(header) if header.crit.is_none() => Ok(header),
        Ok(_) => invalid("a token with extensions that have to be understood"),
        Err(_) => invalid("no token, or of an algorithm that nobody should use"),
    }
}

fn refused(kind: &ErrorKind) -> AuthError {
    let reason = match kind {
        ErrorKind::ExpiredSignature => return AuthError::Expired,
        ErrorKind::InvalidSignature => return WRONG_SIGNATURE,
        ErrorKind::ImmatureSignature => "not valid yet",
        ErrorKind::InvalidIssuer => "another issuer",
        ErrorKind::InvalidAudience => "another audience",
        ErrorKind::MissingRequiredClaim(_) => {
            "a claim is missing: exp, sub, and iss and aud where they are configured"
        }
        ErrorKind::InvalidAlgorithm => "another algorithm than the key's",
        _ => "not a token that can be read",
    };
    AuthError::Invalid { reason }
}

fn bad_file(path: &Path, what: &str) -> BadCredentials {
    BadCredentials(format!("{}: {what}", path.display()))
}

fn read_file(path: &Path) -> Result<String, BadCredentials> {
    std::fs::read_to_string(path).map_err(|error| bad_file(path, &format!("cannot be read: {error}")))
}

/// The fingerprint of key material; a hash, so that it can stand beside an identity.
pub(super) fn fingerprint(material: &[u8]) -> Option<String> {
    Some(blake3::hash(material).to_hex()[..16].to_owned())
}

/// The secret of HS256, as [`create_secret`] writes it: the line's characters are the secret.
pub(crate) fn secret_of(path: &Path) -> Result<String, BadCredentials> {
    let secret = read_file(path)?.trim().to_owned();
    if secret.len() < MIN_SECRET_BYTES {
        let what =
            format!("a secret has at least {MIN_SECRET_BYTES} bytes; `newswire token secret FILE` makes one");
        return Err(bad_file(path, &what));
    }
    if secret.starts_with("-----BEGIN") || secret.starts_with('{') {
        return Err(bad_file(path, "this is a key and no secret; name it as auth.jwt.keys_file"));
    }
    Ok(secret)
}

fn read_secret(path: &Path) -> Result<Key, BadCredentials> {
    let secret = secret_of(path)?;
    let (key, fingerprint) = (DecodingKey::from_secret(secret.as_bytes()), fingerprint(secret.as_bytes()));
    Ok(Key { kid: None, algorithm: Algorithm::HS256, key, fingerprint })
}

/// Public keys: PEM, one or more, or a JWKS.
fn read_keys(path: &Path) -> Result<Vec<Key>, BadCredentials> {
    let text = read_file(path)?;
    if text.trim_start().starts_with('{') {
        return jwks::read(&text).map_err(|what| bad_file(path, &what));
    }
    let mut keys = Vec::new();
    for block in text.split_inclusive("-----END PUBLIC KEY-----").filter(|block| block.contains("-----BEGIN"))
    {
        let block = &block[block.find("-----BEGIN").unwrap_or(0)..];
        let key = read_pem(block).ok_or_else(|| {
            bad_file(
                path,
                "a PEM file has public keys (BEGIN PUBLIC KEY) of RSA, of the curve P-256, or of Ed25519",
            )
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        Err(bad_file(path, "there is no public key in it, neither PEM nor JWKS"))
    } else {
        Ok(keys)
    }
}

fn read_pem(block: &str) -> Option<Key> {
    if !block.starts_with("-----BEGIN PUBLIC KEY-----") {
        return None;
    }
    let pem = block.as_bytes();
    let is_p256 = |key: &DecodingKey| key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 65);
    let rsa = || DecodingKey::from_rsa_pem(pem).ok().map(|key| (key, Algorithm::RS256));
    let ec = || DecodingKey::from_ec_pem(pem).ok().filter(is_p256).map(|key| (key, Algorithm::ES256));
    let ed = || DecodingKey::from_ed_pem(pem).ok().map(|key| (key, Algorithm::EdDSA));
    let (key, algorithm) = rsa().or_else(ec).or_else(ed)?;
    Some(Key { kid: None, algorithm, key, fingerprint: fingerprint(pem) })
}

/// Writes a new secret to a file that only its owner can read, and that was not there before.
///
/// # Errors
/// Those of the file system; `AlreadyExists` among them.
pub(crate) fn create_secret(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let secret = random_text().map_err(std::io::Error::other)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}
