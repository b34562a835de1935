//! Who may come in: tokens, keys, tickets and browsers that signed in, and who was sent away.
//!
//! [`Gate`] is what the feed asks. What it is told by the configuration stands in [`Rules`], which a reload replaces; what has
//! to outlive the process, or to hold for several, stands in `Meta`: tickets, sessions, revocations, fetched keys.

mod fetcher;
pub(crate) mod fuzzing;
mod jwks;
mod jwt;
mod keys;
pub(crate) mod names;
mod permissions;
mod revocations;
mod secret;
mod sessions;
mod sign;
mod tickets;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use newswire::log::Meta;
use newswire::{
    AuthError, Authenticate, Credential, Identity, IssuedTicket, Principal, Revocation, Role, UnixMicros,
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::config::{AuthConfig, ListenAddress};
use fetcher::Fetcher;
pub(crate) use jwt::{create_secret, secret_of};
pub(crate) use keys::{KEY_PREFIX, new_key};
pub(crate) use permissions::Permissions;
pub(crate) use revocations::PREFIX as REVOCATIONS;
pub(crate) use secret::random_text;
pub(crate) use sessions::Sessions;
pub(crate) use sign::NewToken;

/// Why the configured credentials cannot be used; says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadCredentials(pub(crate) String);

/// Whether callers have to say who they are.
pub(crate) fn asks(config: &AuthConfig) -> bool {
    match config.mode {
        Some(crate::config::AuthMode::None) => false,
        Some(crate::config::AuthMode::Token) => true,
        None => has_credentials(config),
    }
}

/// Whether the configuration names any.
pub(crate) fn has_credentials(config: &AuthConfig) -> bool {
    let jwt = &config.jwt;
    jwt.secret_file.is_some() || jwt.keys_file.is_some() || jwt.jwks_url.is_some() || !config.keys.is_empty()
}

/// Why a server without credentials refuses such an address is said elsewhere; this is what such an address is.
pub(crate) fn is_open_beyond_loopback(config: &AuthConfig, listen: &ListenAddress) -> bool {
    config.mode.is_none() && !has_credentials(config) && !listen.is_loopback()
}

/// What the configuration says, with its files read.
struct Rules {
    jwt: jwt::Jwt,
    keys: keys::Keys,
    roles: permissions::Roles,
    /// Where there are keys to be fetched.
    provider: Option<Fetcher>,
    /// No credential is left: nobody is let in, whatever they were given before.
    is_shut: bool,
}

impl Rules {
    /// In the place of those `before`; begins to fetch what is to be fetched.
    fn read(
        config: &AuthConfig,
        meta: &Arc<dyn Meta>,
        before: Option<&Self>,
    ) -> Result<Self, BadCredentials> {
        let roles = permissions::Roles::read(config)?;
        let (jwt, keys) = (jwt::Jwt::read(&config.jwt)?, keys::Keys::read(config, &roles)?);
        let before = before.and_then(|before| before.provider.as_ref());
        let fetcher = |source: &jwks::Source| Fetcher::start(source.clone(), Arc::clone(meta), before);
        let provider = jwt.source().map(fetcher);
        Ok(Self { jwt, keys, roles, provider, is_shut: !has_credentials(config) })
    }

    /// The principal of an identity as the rules have it now. `id` is what a token calls its bearer; all others have the names
    /// that this server gives.
    fn principal(&self, id: &str, basis: &Basis) -> Result<Principal, AuthError> {
        match basis {
            Basis::Key { id: key, secret } => {
                self.roles.principal(&names::of_key(key), &self.keys.permissions(key, secret)?)
            }
            Basis::Token { permissions, key } => {
                self.jwt.still_has(key.as_deref())?;
                self.roles.principal(id, permissions)
            }
            Basis::SignIn if self.is_shut => Err(AuthError::Revoked),
            Basis::SignIn => Ok(Principal::new(names::BROWSER).with_role(Role::Admin)),
        }
    }
}

/// What an identity stands on; kept with it, so that it can be judged again by other rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Basis {
    Key {
        id: String,
        /// The fingerprint of the secret that was shown: a key that gets another one leaves nobody standing on the old.
        secret: String,
    },
    Token {
        permissions: Permissions,
        /// The fingerprint of a key from a file; of one that was fetched, that of where it comes from, because the keys
        /// there come and go by themselves.
        key: Option<String>,
    },
    SignIn,
}

/// An identity in `Meta`.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    expires_at: Option<u64>,
    token_id: Option<String>,
    basis: Basis,
}

/// What the feed asks about credentials.
pub(crate) struct Gate {
    rules: RwLock<Arc<Rules>>,
    tickets: tickets::Tickets,
    pub(crate) sessions: Sessions,
    revoked: revocations::Revoked,
    meta: Arc<dyn Meta>,
}

impl Gate {
    /// Reads files and what is revoked already.
    pub(crate) async fn open(config: &AuthConfig, meta: Arc<dyn Meta>) -> anyhow::Result<Arc<Self>> {
        let gate = Self {
            rules: RwLock::new(Arc::new(Rules::read(config, &meta, None)?)),
            tickets: tickets::Tickets::new(Arc::clone(&meta)),
            sessions: Sessions::new(Arc::clone(&meta)),
            revoked: revocations::Revoked::load(Arc::clone(&meta)).await?,
            meta,
        };
        Ok(Arc::new(gate))
    }

    /// Puts what the configuration says now in the place of what it said; live connections are to be judged again then.
    pub(crate) fn reload(&self, config: &AuthConfig) -> Result<(), BadCredentials> {
        let new = Rules::read(config, &self.meta, Some(&self.rules()))?;
        *self.rules.write() = Arc::new(new);
        Ok(())
    }

    /// Follows revocations, also those that others make; `concerns` is told each, for live connections.
    pub(crate) async fn follow_revocations(&self, concerns: impl Fn(&Revocation)) {
        self.revoked.follow(concerns).await;
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    fn identity(
        &self,
        rules: &Rules,
        id: &str,
        basis: &Basis,
        expires_at: Option<u64>,
        token_id: Option<String>,
    ) -> Result<Identity, AuthError> {
        let identity = Identity {
            principal: rules.principal(id, basis)?,
            expires_at: expires_at.map(newswire::UnixMicros),
            token_id: token_id.map(Arc::from),
            basis: serde_json::to_string(basis).ok().map(Arc::from),
        };
        if self.revoked.holds(&identity) { Err(AuthError::Revoked) } else { Ok(identity) }
    }

    fn restore(&self, stored: Stored) -> Result<Identity, AuthError> {
        let Stored { id, expires_at, token_id, basis } = stored;
        if expires_at.is_some_and(|at| at <= now_micros()) {
            return Err(AuthError::Expired);
        }
        self.identity(&self.rules(), &id, &basis, expires_at, token_id)
    }

    /// Whoever has this cookie.
    pub(crate) async fn by_session(&self, cookie: &str) -> Result<Identity, AuthError> {
        let stored = self.sessions.find(cookie).await?;
        self.restore(stored)
    }

    async fn by_token(&self, token: &str) -> Result<Identity, AuthError> {
        let rules = self.rules();
        let verified = rules.jwt.verify(token, rules.provider.as_ref()).await?;
        let jwt::Verified { id, expires_at, token_id, permissions, key } = verified;
        self.identity(&rules, &id, &Basis::Token { permissions, key }, Some(expires_at), token_id)
    }

    fn by_key(&self, key: &str) -> Result<Identity, AuthError> {
        let rules = self.rules();
        let (id, secret) = rules.keys.check(key)?;
        let basis = Basis::Key { id: id.to_owned(), secret };
        let name = names::of_key(id);
        self.identity(&rules, &name, &basis, None, Some(name.clone()))
    }
}

impl Authenticate for Gate {
    fn authenticate<'a>(&'a self, credential: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async move {
            match credential {
                Credential::Ticket(ticket) => {
                    let stored = self.tickets.redeem(ticket).await?;
                    self.restore(stored)
                }
                Credential::Bearer(key) if key.starts_with(KEY_PREFIX) => self.by_key(key),
                Credential::Bearer(token) => self.by_token(token).await,
                _ => Err(AuthError::Unsupported),
            }
        })
    }

    fn issue_ticket<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<IssuedTicket, AuthError>> {
        Box::pin(async move { self.tickets.issue(&stored(identity)?).await })
    }

    fn sign_out<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<(), AuthError>> {
        Box::pin(async move {
            let Stored { basis: Basis::SignIn, token_id: Some(session), .. } = stored(identity)? else {
                return Err(AuthError::Unsupported);
            };
            // Tickets that it asked for, and what stands on it elsewhere, go with it.
            let token = Revocation::Token(session.as_str().into());
            let revoked = self.revoked.set(token, true, identity.expires_at).await;
            // Also where there is no room for one more revocation: the session itself is gone then.
            self.sessions.end(&session).await.and(revoked)
        })
    }

    fn set_revoked(
        &self,
        revocation: Revocation,
        revoked: bool,
        until: Option<UnixMicros>,
    ) -> BoxFuture<'_, Result<(), AuthError>> {
        let is_token = matches!(&revocation, Revocation::Token(id) if names::check(id).is_ok());
        let until = until.or_else(|| self.rules().jwt.latest_expiry(now_micros()).filter(|_| is_token));
        Box::pin(async move { self.revoked.set(revocation, revoked, until).await })
    }

    fn recheck(&self, identity: &Identity) -> Result<Option<Identity>, AuthError> {
        if self.revoked.holds(identity) {
            return Err(AuthError::Revoked);
        }
        let Ok(Stored { id, basis, .. }) = stored(identity) else { return Ok(None) };
        let principal = self.rules().principal(&id, &basis).map_err(|_| AuthError::Revoked)?;
        Ok((principal != identity.principal).then(|| Identity { principal, ..identity.clone() }))
    }
}

fn stored(identity: &Identity) -> Result<Stored, AuthError> {
    let basis = identity.basis.as_deref().and_then(|basis| serde_json::from_str(basis).ok());
    Ok(Stored {
        id: identity.principal.id.to_string(),
        expires_at: identity.expires_at.map(|at| at.0),
        token_id: identity.token_id.as_deref().map(str::to_owned),
        basis: basis.ok_or(AuthError::Unsupported)?,
    })
}

fn now_micros() -> u64 {
    use newswire::log::Clock;
    newswire::log::SystemClock.now().0
}

/// A failure of the store, for which nobody who comes can do anything.
fn unavailable(error: &dyn std::fmt::Display) -> AuthError {
    AuthError::Unavailable { reason: error.to_string() }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
