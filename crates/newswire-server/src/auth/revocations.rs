//! Whose credentials count no more: in `Meta`, and all of them in memory, because they are asked for at every request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use newswire::log::{Change, Expect, Meta, MetaError};
use newswire::{AuthError, Identity, Revocation};
use parking_lot::RwLock;

use super::unavailable;

/// Revocations that hold at once; one more is refused, and lifting one makes room.
const MAX: usize = 100_000;
const PREFIX: &str = "auth/revoked/";
/// Before the store is asked again, where it failed.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Revoked {
    meta: Arc<dyn Meta>,
    known: RwLock<HashSet<Revocation>>,
}

impl Revoked {
    pub(super) async fn load(meta: Arc<dyn Meta>) -> Result<Self, MetaError> {
        let known = list(&*meta).await?;
        Ok(Self { meta, known: RwLock::new(known) })
    }

    pub(super) fn holds(&self, identity: &Identity) -> bool {
        let known = self.known.read();
        // Usually there is none, and asking costs two copies.
        !known.is_empty()
            && (known.contains(&Revocation::Identity(Arc::clone(&identity.principal.id)))
                || identity
                    .token_id
                    .as_ref()
                    .is_some_and(|id| known.contains(&Revocation::Token(Arc::clone(id)))))
    }

    pub(super) async fn set(&self, revocation: Revocation, revoked: bool) -> Result<(), AuthError> {
        let key = key(&revocation);
        if revoked {
            if self.known.read().len() >= MAX {
                return Err(AuthError::Unavailable {
                    reason: format!("there are {MAX} revocations already"),
                });
            }
            // In memory first: what the store does not keep still holds for this process.
            self.known.write().insert(revocation.clone());
            let value = value(&revocation);
            self.meta
                .put(&key, value.into(), Expect::Any, None)
                .await
                .map_err(|error| unavailable(&error))?;
        } else {
            self.meta.delete(&key, Expect::Any).await.map_err(|error| unavailable(&error))?;
            self.known.write().remove(&revocation);
        }
        Ok(())
    }

    /// Follows the store for ever; `concerns` is told of revocations that others made.
    pub(super) async fn follow(&self, concerns: impl Fn(&Revocation)) {
        loop {
            let mut watch = self.meta.watch(PREFIX);
            match list(&*self.meta).await {
                Ok(all) => {
                    let new: Vec<_> = all.difference(&self.known.read()).cloned().collect();
                    *self.known.write() = all;
                    new.iter().for_each(&concerns);
                }
                Err(MetaError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "revocations cannot be read; those that are known hold");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            while let Ok(change) = watch.next().await {
                match change {
                    Change::Put { entry, .. } => {
                        // One that is known was made here: whoever made it ends what is live, and counts it.
                        if let Some(revocation) = read(&entry.value)
                            && self.known.write().insert(revocation.clone())
                        {
                            concerns(&revocation);
                        }
                    }
                    // Rare, and the key is a hash: everything is read again.
                    Change::Deleted { .. } => break,
                }
            }
        }
    }
}

async fn list(meta: &dyn Meta) -> Result<HashSet<Revocation>, MetaError> {
    Ok(meta.list(PREFIX).await?.iter().filter_map(|(_, entry)| read(&entry.value)).collect())
}

/// `i` or `t`, and the name.
fn value(revocation: &Revocation) -> String {
    match revocation {
        Revocation::Identity(name) => format!("i{name}"),
        Revocation::Token(name) => format!("t{name}"),
    }
}

fn read(value: &[u8]) -> Option<Revocation> {
    let text = std::str::from_utf8(value).ok()?;
    match (text.get(..1)?, text.get(1..)?) {
        ("i", name) => Some(Revocation::Identity(name.into())),
        ("t", name) => Some(Revocation::Token(name.into())),
        _ => None,
    }
}

fn key(revocation: &Revocation) -> String {
    format!("{PREFIX}{}", blake3::hash(value(revocation).as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire::Principal;
    use newswire::log::{MemoryMeta, SystemClock};

    #[tokio::test]
    async fn what_is_revoked_stays_so_until_it_is_lifted() {
        let meta: Arc<dyn Meta> = Arc::new(MemoryMeta::new(Arc::new(SystemClock)).unwrap());
        let revoked = Revoked::load(Arc::clone(&meta)).await.unwrap();
        let identity = Identity { token_id: Some("j1".into()), ..Identity::of(Principal::anonymous()) };
        for revocation in [Revocation::Identity("anonymous".into()), Revocation::Token("j1".into())] {
            assert!(!revoked.holds(&identity));
            revoked.set(revocation.clone(), true).await.unwrap();
            assert!(revoked.holds(&identity));
            assert!(Revoked::load(Arc::clone(&meta)).await.unwrap().holds(&identity), "also after a restart");
            revoked.set(revocation, false).await.unwrap();
        }
        revoked.set(Revocation::Token("j2".into()), true).await.unwrap();
        assert!(!revoked.holds(&identity));
    }
}
