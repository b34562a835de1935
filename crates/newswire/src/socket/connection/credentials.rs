//! Whose connection it is: what it shows, and what others say about that meanwhile.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use newswire_core::session::Standing;
use newswire_protocol::codes::CloseCode;
use newswire_protocol::command;

use super::super::closing::retry_reason;
use super::super::transport::Transport;
use super::Connection;
use crate::auth::{AuthError, Comer, Credential, Identity};
use crate::{Feed, audit};

/// What comes of a credential.
pub(super) type Checking = BoxFuture<'static, Result<Identity, AuthError>>;

impl<S: Transport> Connection<S> {
    /// Begins to check what it has shown.
    pub(super) fn check(&mut self, credential: command::Credential) {
        let (feed, address) = (self.feed.clone(), self.address.map(|address| address.ip()));
        let checked = async move { feed.check(shown(&credential), address).await };
        self.doing().checking = Some(Box::pin(checked));
    }

    /// Takes what was said about the credential it has shown. True if the peer is let in.
    pub(super) fn authenticated(&mut self, outcome: Result<Identity, AuthError>) -> bool {
        let hub = &self.shard.hub;
        match outcome {
            Ok(identity) if self.session.is_unknown() && !self.place.admit(&identity) => {
                self.feed.inner.metrics.connections_refused.inc();
                let reason = retry_reason(self.feed.inner.connections.open());
                self.close(CloseCode::TooMany, &reason);
                false
            }
            Ok(identity) => {
                let identity = Arc::new(identity);
                if !self.place.identify(Arc::clone(&identity)) {
                    self.feed.inner.metrics.connections_refused.inc();
                    let reason = retry_reason(self.feed.inner.connections.open());
                    self.close(CloseCode::TooMany, &reason);
                    return false;
                }
                self.session.on_authenticated(Ok((&*identity).into()), hub);
                audit::authenticated(self.session.id(), self.session.principal());
                self.recheck();
                true
            }
            Err(error) => {
                audit::not_authenticated(self.session.id(), error.told());
                tracing::debug!(%error, "a connection is closed: its credentials were not taken");
                match error {
                    AuthError::Unavailable { .. } => {
                        let reason = retry_reason(self.feed.inner.connections.open());
                        self.close(CloseCode::ShuttingDown, &reason);
                    }
                    AuthError::TooManyFailures { wait } => {
                        self.close(
                            CloseCode::TooMany,
                            &format!("retry_after_ms={}", wait.as_millis().max(1)),
                        );
                    }
                    _ => self.session.on_authenticated(Err(error.told()), hub),
                }
                false
            }
        }
    }

    /// Has its identity judged again, and does what that comes to.
    pub(super) fn recheck(&mut self) {
        let Some((authenticator, identity)) = self.feed.authenticator().zip(self.place.identity()) else {
            return;
        };
        match authenticator.recheck(&identity) {
            Ok(None) => {}
            Ok(Some(identity)) => {
                let over = self.session.readmit((&identity).into(), &self.shard.hub);
                // Of the same name: there is always room.
                let _ = self.place.identify(Arc::new(identity));
                if let Some((code, reason)) = over {
                    self.cut_off(code, reason);
                }
            }
            Err(error) => self.cut_off(CloseCode::NotPermitted, error.told()),
        }
    }
}

/// What the session has to know about whoever comes.
pub(super) fn standing(feed: &Feed, comer: &Comer) -> Standing {
    match comer {
        Comer::Unknown => Standing::Unknown { until: feed.now().mono + feed.inner.live.auth_timeout() },
        Comer::Principal(_) => Standing::Known { expires_at: None },
        Comer::Identity(identity) => Standing::Known { expires_at: identity.expires_at },
    }
}

fn shown(credential: &command::Credential) -> Credential<'_> {
    match credential {
        command::Credential::Ticket(ticket) => Credential::Ticket(ticket),
        command::Credential::Token(token) => Credential::Bearer(token),
    }
}
