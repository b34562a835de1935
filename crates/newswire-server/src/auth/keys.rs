//! API keys: `nw_<id>_<secret>`, of which the configuration has the hash.

use std::collections::BTreeMap;

use newswire::AuthError;

use super::BadCredentials;
use super::permissions::{Permissions, Roles};
use super::secret::{self, Hash};
use crate::config::AuthConfig;

/// How every key begins.
pub(crate) const KEY_PREFIX: &str = "nw_";
/// How a hash is written in the configuration.
const HASH_PREFIX: &str = "sha256:";

/// The keys that count, by id.
#[derive(Debug)]
pub(super) struct Keys(BTreeMap<String, Known>);

struct Known {
    hash: Hash,
    permissions: Permissions,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("permissions", &self.permissions).finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn read(config: &AuthConfig, roles: &Roles) -> Result<Self, BadCredentials> {
        let mut keys = BTreeMap::new();
        for (id, key) in &config.keys {
            let bad = |what: &str| BadCredentials(format!("auth.keys.{id}: {what}"));
            if !is_id(id) {
                return Err(bad("an id has 1 to 64 letters, digits and hyphens"));
            }
            let given =
                key.hash.as_deref().ok_or_else(|| bad("hash is missing; `newswire token key` makes one"))?;
            let hash = given.strip_prefix(HASH_PREFIX).and_then(secret::from_hex);
            let hash = hash.ok_or_else(|| bad("hash must be sha256: and 64 hexadecimal digits"))?;
            let role = key.role.clone().unwrap_or_else(|| "publisher".to_owned());
            let permissions = Permissions { role: Some(role), ..Permissions::default() };
            roles.resolve(&permissions).map_err(|reason| bad(&reason))?;
            keys.insert(id.clone(), Known { hash, permissions });
        }
        Ok(Self(keys))
    }

    /// The id of a key that counts, and the fingerprint of its secret.
    pub(super) fn check<'a>(&self, key: &'a str) -> Result<(&'a str, String), AuthError> {
        let (id, secret) = split(key).ok_or(AuthError::Invalid { reason: "not of the form of a key" })?;
        // Hashed whether there is one of this id or not, so that both take the same time.
        let shown = secret::hash(secret);
        match self.0.get(id) {
            Some(known) if secret::is_same(&known.hash, &shown) => Ok((id, fingerprint(&known.hash))),
            Some(_) => Err(AuthError::Invalid { reason: "the secret of the key is wrong" }),
            None => Err(AuthError::Invalid { reason: "no key of this id" }),
        }
    }

    /// What whoever showed the key of this secret may do now. One with another secret is another key.
    pub(super) fn permissions(&self, id: &str, secret: &str) -> Result<Permissions, AuthError> {
        let known = self.0.get(id).filter(|known| fingerprint(&known.hash) == secret);
        known.map(|known| known.permissions.clone()).ok_or(AuthError::Revoked)
    }
}

/// Stands beside an identity for the secret that was shown; too short to find even its hash again.
fn fingerprint(hash: &Hash) -> String {
    secret::hex(hash)[..16].to_owned()
}

/// Its id and its secret.
fn split(key: &str) -> Option<(&str, &str)> {
    let (id, secret) = key.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    (is_id(id) && !secret.is_empty()).then_some((id, secret))
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A key, and the hash for the configuration. `None` where the id cannot be one.
pub(crate) fn new_key(id: &str) -> Result<Option<(String, String)>, getrandom::Error> {
    if !is_id(id) {
        return Ok(None);
    }
    let secret = super::random_text()?;
    let hash = format!("{HASH_PREFIX}{}", secret::hex(&secret::hash(&secret)));
    Ok(Some((format!("{KEY_PREFIX}{id}_{secret}"), hash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyConfig;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let (key, hash) = new_key("ci").unwrap().unwrap();
        let mut config = AuthConfig::default();
        config.keys.insert("ci".into(), KeyConfig { hash: Some(hash), role: None });
        let keys = Keys::read(&config, &Roles::read(&config).unwrap()).unwrap();
        let (id, secret) = keys.check(&key).unwrap();
        assert_eq!(id, "ci");
        assert!(keys.permissions("ci", &secret).is_ok());
        assert!(keys.permissions("ci", "0123456789abcdef").is_err(), "of another secret");
        let (other, _) = new_key("ci").unwrap().unwrap();
        for bad in [
            other.as_str(),
            &key[..key.len() - 1],
            "nw_ci_",
            "nw__x",
            "nw_ci",
            "nw_",
            &key.replace("ci", "cd"),
        ] {
            assert!(matches!(keys.check(bad), Err(AuthError::Invalid { .. })), "{bad}");
        }
        assert!(new_key("a_b").unwrap().is_none() && new_key("").unwrap().is_none());
    }
}
