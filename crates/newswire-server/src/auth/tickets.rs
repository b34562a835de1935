//! Tickets: single use, 30 seconds, a few an identity.
//!
//! Each has one of [`MAX_PENDING`] places of its identity, which is taken with compare-and-set; so the bound holds whoever
//! issues them. A ticket names its place, and the place has the hash of its secret.

use std::sync::Arc;
use std::time::Duration;

use newswire::log::{Expect, Meta, MetaError};
use newswire::{AuthError, IssuedTicket};
use serde::{Deserialize, Serialize};

use super::{Stored, secret, unavailable};

/// Tickets of one identity that may wait to be used; one more is refused.
pub(super) const MAX_PENDING: usize = 5;
const LIFE: Duration = Duration::from_secs(30);
const PREFIX: &str = "nwt_";

pub(super) struct Tickets {
    meta: Arc<dyn Meta>,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    hash: secret::Hash,
    identity: Stored,
}

const INVALID: AuthError = AuthError::Invalid { reason: "no such ticket, or used, or too old" };

impl Tickets {
    pub(super) fn new(meta: Arc<dyn Meta>) -> Self {
        Self { meta }
    }

    pub(super) async fn issue(&self, identity: &Stored) -> Result<IssuedTicket, AuthError> {
        let secret = secret::random_text().map_err(|error| unavailable(&error))?;
        let owner = owner_of(&identity.id);
        let pending = serde_json::json!({ "hash": secret::hash(&secret), "identity": identity }).to_string();
        for place in 0..MAX_PENDING {
            let put =
                self.meta.put(&key(&owner, place), pending.clone().into(), Expect::Absent, Some(LIFE)).await;
            match put {
                Ok(_) => {
                    let ticket = format!("{PREFIX}{owner}_{place}_{secret}");
                    return Ok(IssuedTicket { ticket, expires_in: LIFE.as_secs() });
                }
                Err(MetaError::Conflict { .. }) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(AuthError::TooManyTickets { most: MAX_PENDING })
    }

    /// Whose it is; it is used up. Of several who present it at once, one has it.
    pub(super) async fn redeem(&self, ticket: &str) -> Result<Stored, AuthError> {
        let (key, secret) = parts(ticket).ok_or(INVALID)?;
        let entry = self.meta.get(&key).await.map_err(|error| unavailable(&error))?.ok_or(INVALID)?;
        let pending: Pending = serde_json::from_slice(&entry.value).map_err(|error| unavailable(&error))?;
        if !secret::is_same(&pending.hash, &secret::hash(secret)) {
            return Err(INVALID);
        }
        match self.meta.delete(&key, Expect::Version(entry.version)).await {
            Ok(true) => Ok(pending.identity),
            Ok(false) | Err(MetaError::Conflict { .. }) => Err(INVALID),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// Where it is kept, and its secret.
fn parts(ticket: &str) -> Option<(String, &str)> {
    let (owner, rest) = ticket.strip_prefix(PREFIX)?.split_once('_')?;
    let (place, secret) = rest.split_once('_')?;
    let is_owner = owner.len() == 32 && owner.bytes().all(|byte| byte.is_ascii_hexdigit());
    let place = place.parse().ok().filter(|place| *place < MAX_PENDING)?;
    (is_owner && !secret.is_empty()).then(|| (key(owner, place), secret))
}

fn owner_of(identity: &str) -> String {
    blake3::hash(identity.as_bytes()).to_hex()[..32].to_owned()
}

fn key(owner: &str, place: usize) -> String {
    format!("auth/ticket/{owner}/{place}")
}

#[cfg(test)]
mod tests {
    use super::super::Basis;
    use super::*;
    use newswire::log::{ManualClock, MemoryMeta};

    fn stored(id: &str) -> Stored {
        Stored { id: id.into(), expires_at: None, token_id: None, basis: Basis::SignIn }
    }

    #[tokio::test]
    async fn a_ticket_is_used_once_by_one_and_not_for_long() {
        let clock = Arc::new(ManualClock::default());
        let tickets = Tickets::new(Arc::new(MemoryMeta::new(clock.clone()).unwrap()));
        let first = tickets.issue(&stored("sarah")).await.unwrap().ticket;
        let other = tickets.issue(&stored("tom")).await.unwrap().ticket;
        // The secret of one with the place of another is nobody's.
        let crossed = format!("{}{}", &other[..other.len() - 43], &first[first.len() - 43..]);
        assert_eq!(tickets.redeem(&crossed).await.err(), Some(INVALID));
        let (one, two) = tokio::join!(tickets.redeem(&first), tickets.redeem(&first));
        assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1);
        assert_eq!(tickets.redeem(&first).await.err(), Some(INVALID));
        assert_eq!(tickets.redeem(&other).await.unwrap().id, "tom");
        for _ in 0..MAX_PENDING {
            tickets.issue(&stored("sarah")).await.unwrap();
        }
        let refused = tickets.issue(&stored("sarah")).await.err();
        assert_eq!(refused, Some(AuthError::TooManyTickets { most: MAX_PENDING }));
        let late = tickets.issue(&stored("tom")).await.unwrap().ticket;
        clock.advance(LIFE);
        assert_eq!(tickets.redeem(&late).await.err(), Some(INVALID));
        assert!(tickets.issue(&stored("sarah")).await.is_ok());
        for bad in ["", "nwt_", "nwt_x_0_y", "nwt___", &late.replace("_0_", "_9_")] {
            assert_eq!(tickets.redeem(bad).await.err(), Some(INVALID), "{bad}");
        }
    }
}
