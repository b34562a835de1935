//! Who may come in: the seam to whatever checks credentials.
//!
//! A feed without an [`Authenticate`] is open: everybody is who they are. With one, every request has to bring a credential,
//! every WebSocket has to bring one or to send an `auth` first, and a live connection ends in the moment its credential
//! expires or is revoked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::{Principal, session::Admitted};
use newswire_protocol::UnixMicros;

use crate::Feed;
use crate::metrics::Reason;

/// What somebody shows to say who they are. Never written to a log: its debug output has no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// A token or a key, from the header `Authorization: Bearer …` or the `token` of an `auth`.
    Bearer(&'a str),
    /// A ticket that [`Authenticate::issue_ticket`] gave, from the query or the `ticket` of an `auth`.
    Ticket(&'a str),
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(…)",
            Self::Ticket(_) => "Ticket(…)",
        })
    }
}

/// Who somebody is, and for how long.
///
/// A request that has one in its extensions is taken to come from it, whatever headers it has: so an application's own
/// middleware can say who asks. (One that puts a mere [`Principal`] there says so without an end.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// On whose behalf everything is done.
    pub principal: Principal,
    /// When the credential ceases to count; live connections are closed in that moment. `None` for never.
    pub expires_at: Option<UnixMicros>,
    /// Names the credential, so that it alone can be revoked: the `jti` of a token, the id of a key.
    pub token_id: Option<Arc<str>>,
    /// For the [`Authenticate`] that made it: what [`Authenticate::recheck`] needs to judge it again. Not read by the feed.
    pub basis: Option<Arc<str>>,
}

impl Identity {
    /// This principal, for ever.
    #[must_use]
    pub fn of(principal: Principal) -> Self {
        Self { principal, expires_at: None, token_id: None, basis: None }
    }
}

/// A ticket for one connection: single use, and short-lived.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedTicket {
    /// What the client presents.
    pub ticket: String,
    /// For so many seconds.
    pub expires_in: u64,
}

impl fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTicket").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Whose credentials count no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// Everything this principal shows.
    Identity(Arc<str>),
    /// One credential, by [`Identity::token_id`].
    Token(Arc<str>),
}

impl Revocation {
    /// Whether it concerns this identity.
    #[must_use]
    pub fn concerns(&self, identity: &Identity) -> bool {
        match self {
            Self::Identity(id) => *id == identity.principal.id,
            Self::Token(id) => identity.token_id.as_ref() == Some(id),
        }
    }
}

/// Why a credential was not taken. What is told to the peer is [`AuthError::told`]; no variant holds the credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It is none of ours, or none at all.
    #[error("invalid credentials: {reason}")]
    Invalid {
        /// For the log.
        reason: &'static str,
    },
    /// It was one of ours.
    #[error("expired credentials")]
    Expired,
    /// Somebody took it back.
    #[error("revoked credentials")]
    Revoked,
    /// It could not be checked now: trying again may help.
    #[error("credentials cannot be checked: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
    },
    /// So many tickets of this identity are pending already.
    #[error("an identity has at most {most} pending tickets")]
    TooManyTickets {
        /// The bound.
        most: usize,
    },
    /// So much that came from the same address was no good lately that this was not looked at.
    #[error("too many failed attempts")]
    TooManyFailures {
        /// How long to wait.
        wait: Duration,
    },
    /// So many revocations hold already.
    #[error("there are {most} revocations already")]
    TooManyRevocations {
        /// The bound.
        most: usize,
    },
    /// Whoever checks credentials here has nothing of the kind.
    #[error("not supported here")]
    Unsupported,
}

impl AuthError {
    /// What the peer is told: nothing that would help to guess.
    #[must_use]
    pub const fn told(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "the credentials are not valid",
            Self::Expired => "the credentials have expired",
            Self::Revoked => "the credentials were revoked",
            Self::Unavailable { .. } => "credentials cannot be checked at the moment; try again",
            Self::TooManyTickets { .. } => {
                "too many tickets of this identity are pending; use them, or wait until they expire"
            }
            Self::TooManyFailures { .. } => {
                "too much that came from this address was no good lately; try again later"
            }
            Self::TooManyRevocations { .. } => {
                "there are as many revocations as there can be; lift some, or replace the key of the tokens"
            }
            Self::Unsupported => "this server does not do that",
        }
    }

    /// One word for it, for metrics.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unavailable { .. } => "unavailable",
            Self::TooManyTickets { .. } => "too_many_tickets",
            Self::TooManyFailures { .. } => "limited",
            Self::TooManyRevocations { .. } => "too_many_revocations",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether it says something of what was shown, and not of the server.
    pub(crate) const fn is_of_the_credential(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::Expired | Self::Revoked)
    }
}

/// Checks credentials. Given to a feed with [`FeedBuilder::authenticate`](crate::FeedBuilder::authenticate).
///
/// **Concurrency.** Called from many tasks at once.
///
/// **Cancel-safety.** Every future may be dropped; a ticket that was being redeemed then may be lost.
///
/// ```
/// use std::sync::Arc;
///
/// use futures_util::future::BoxFuture;
/// use newswire::{AuthError, Authenticate, Credential, Feed, Identity, Principal};
///
/// /// Tokens that the application keeps in its own table.
/// struct Tokens;
///
/// impl Authenticate for Tokens {
///     fn authenticate<'a>(&'a self, credential: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
///         Box::pin(async move {
///             match credential {
///                 Credential::Bearer("correct horse") => Ok(Identity::of(Principal::anonymous())),
///                 _ => Err(AuthError::Invalid { reason: "not in the table" }),
///             }
///         })
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let feed = Feed::builder().authenticate(Arc::new(Tokens)).build()?;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
pub trait Authenticate: Send + Sync + 'static {
    /// Says whose credential this is. A ticket is used up by it.
    ///
    /// # Errors
    /// See [`AuthError`].
    fn authenticate<'a>(&'a self, credential: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>>;

    /// Gives a ticket for one connection of this identity, which is redeemed by [`Authenticate::authenticate`].
    ///
    /// # Errors
    /// [`AuthError::TooManyTickets`]; [`AuthError::Unsupported`] where this is not overridden.
    fn issue_ticket<'a>(&'a self, _identity: &'a Identity) -> BoxFuture<'a, Result<IssuedTicket, AuthError>> {
        Box::pin(async { Err(AuthError::Unsupported) })
    }

    /// Ends the session that this identity came with, where it is one that can be ended by whoever has it, such as that of a
    /// browser: once it resolves, [`Authenticate::authenticate`] and [`Authenticate::recheck`] take it no more. Live
    /// connections are ended by the feed, by [`Identity::token_id`].
    ///
    /// # Errors
    /// [`AuthError::Unsupported`] for any other, and where this is not overridden.
    fn sign_out<'a>(&'a self, _identity: &'a Identity) -> BoxFuture<'a, Result<(), AuthError>> {
        Box::pin(async { Err(AuthError::Unsupported) })
    }

    /// Takes credentials back, or (`false`) lifts that: once it resolves, [`Authenticate::authenticate`] and
    /// [`Authenticate::recheck`] answer so. Live connections are ended by [`Feed::revoke`], not by this. From `until` on, if it is
    /// given, what is revoked has expired anyway, and may be forgotten.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] where it may not last; [`AuthError::TooManyRevocations`], [`AuthError::Unsupported`] where this
    /// is not overridden.
    fn set_revoked(
        &self,
        _revocation: Revocation,
        _revoked: bool,
        _until: Option<UnixMicros>,
    ) -> BoxFuture<'_, Result<(), AuthError>> {
        Box::pin(async { Err(AuthError::Unsupported) })
    }

    /// Whether an identity that was given earlier still counts: asked once for every connection when it stands, and for
    /// all of them by [`Feed::recheck`]. `Ok(None)` leaves it as it is, and another identity takes its place. Does not wait.
    ///
    /// # Errors
    /// Why it does not count any more.
    fn recheck(&self, _identity: &Identity) -> Result<Option<Identity>, AuthError> {
        Ok(None)
    }
}

impl Feed {
    /// Who checks credentials; `None` for an open feed.
    #[must_use]
    pub fn authenticator(&self) -> Option<&Arc<dyn Authenticate>> {
        self.inner.authenticator.as_ref()
    }

    /// Ends every live connection that this concerns, at once: WebSockets with 4003, event streams and subscriptions in the
    /// process by their end. What waited to be written to them is not written. Returns how many it concerned.
    ///
    /// New ones are kept out by [`Authenticate`], which has to know before this is called.
    pub fn revoke(&self, revocation: &Revocation) -> usize {
        self.inner.connections.revoke(|identity| revocation.concerns(identity))
    }

    pub(crate) fn count_refused(&self, error: &AuthError) {
        self.inner.metrics.auth_failures.get_or_create(&Reason::new(error.name())).inc();
    }

    /// Has every live connection's identity judged again by [`Authenticate::recheck`]: for when permissions, keys or the
    /// like have changed. Returns how many there are.
    pub fn recheck(&self) -> usize {
        self.inner.connections.recheck()
    }
}

/// Whose a connection is.
#[derive(Clone, Debug)]
pub(crate) enum Comer {
    /// It has to say.
    Unknown,
    /// Nobody is asked here, or an application said so.
    Principal(Principal),
    /// Checked.
    Identity(Arc<Identity>),
}

impl Comer {
    /// Until one has said who it is, one who may do as little as there is.
    pub(crate) fn principal(&self) -> Principal {
        match self {
            Self::Unknown => Principal::anonymous()
                .with_role(newswire_core::Role::Observer)
                .with_grants(newswire_core::Grants::none()),
            Self::Principal(principal) => principal.clone(),
            Self::Identity(identity) => identity.principal.clone(),
        }
    }

    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        match self {
            Self::Identity(identity) => Some(Arc::clone(identity)),
            Self::Unknown | Self::Principal(_) => None,
        }
    }
}

impl From<&Identity> for Admitted {
    fn from(identity: &Identity) -> Self {
        Self { principal: identity.principal.clone(), expires_at: identity.expires_at }
    }
}
