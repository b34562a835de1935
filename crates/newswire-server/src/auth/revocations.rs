//! Whose credentials count no more: in `Meta`, and all of them in memory, because they are asked for at every request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use newswire::log::{Change, Entry, Expect, Meta, MetaError};
use newswire::{AuthError, Identity, Revocation, UnixMicros};
use parking_lot::RwLock;

use super::{now_micros, unavailable};

/// Revocations that hold at once; one more is refused, and lifting one makes room.
const MAX: usize = 100_000;
/// Under which revocations stand in the shared state.
pub(crate) const PREFIX: &str = "auth/revoked/";
/// Before the store is asked again, where it failed.
const RETRY: Duration = Duration::from_secs(1);
/// How much longer a token may count than it says: as much as `auth.jwt.leeway` may be.
const MARGIN: Duration = Duration::from_secs(600);

pub(super) struct Revoked {
    meta: Arc<dyn Meta>,
    known: RwLock<HashMap<Revocation, Held>>,
    max: usize,
}

/// How long one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// In microseconds since 1970; `None` until it is lifted.
    until: Option<u64>,
    /// The store has it. What it does not have still holds for this process.
    kept: bool,
}

impl Held {
    fn is_over(self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Revoked {
    pub(super) async fn load(meta: Arc<dyn Meta>) -> Result<Self, MetaError> {
        let known = RwLock::new(list(&*meta).await?.collect());
        Ok(Self { meta, known, max: MAX })
    }

    pub(super) fn holds(&self, identity: &Identity) -> bool {
        let known = self.known.read();
        // Usually there is none, and asking costs two copies.
        if known.is_empty() {
            return false;
        }
        let by_identity = Revocation::Identity(Arc::clone(&identity.principal.id));
        let by_token = identity.token_id.clone().map(Revocation::Token);
        let held = [Some(by_identity), by_token].into_iter().flatten().filter_map(|one| known.get(&one));
        let now = now_micros();
        held.into_iter().any(|held| !held.is_over(now))
    }

    /// `until` is when what is revoked has expired anyway: then it is forgotten.
    pub(super) async fn set(
        &self,
        revocation: Revocation,
        revoked: bool,
        until: Option<UnixMicros>,
    ) -> Result<(), AuthError> {
        let key = key(&revocation);
        if revoked {
            let until = self.hold(&revocation, until)?;
            let life = until.map(|until| Duration::from_micros(until.saturating_sub(now_micros())));
            let put = self.meta.put(&key, value(&revocation).into(), Expect::Any, life).await;
            put.map_err(|error| unavailable(&error))?;
            if let Some(held) = self.known.write().get_mut(&revocation) {
                held.kept = true;
            }
        } else {
            self.meta.delete(&key, Expect::Any).await.map_err(|error| unavailable(&error))?;
            self.known.write().remove(&revocation);
        }
        Ok(())
    }

    /// Holds it in memory first. Returns until when: one that holds already never holds shorter.
    fn hold(&self, revocation: &Revocation, until: Option<UnixMicros>) -> Result<Option<u64>, AuthError> {
        let until = until.map(|until| until.saturating_add(MARGIN).0);
        let mut known = self.known.write();
        if let Some(held) = known.get_mut(revocation) {
            held.until = held.until.zip(until).map(|(one, other)| one.max(other));
            return Ok(held.until);
        }
        if known.len() >= self.max {
            let now = now_micros();
            known.retain(|_, held| !held.is_over(now));
        }
        if known.len() >= self.max {
            return Err(AuthError::TooManyRevocations { most: self.max });
        }
        known.insert(revocation.clone(), Held { until, kept: false });
        Ok(until)
    }

    /// Follows the store for ever; `concerns` is told of revocations that others made.
    pub(super) async fn follow(&self, concerns: impl Fn(&Revocation)) {
        loop {
            let mut watch = self.meta.watch(PREFIX);
            match list(&*self.meta).await {
                Ok(all) => self.replace(all.collect()).iter().for_each(&concerns),
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
                        if let Some((revocation, held)) = read(&entry)
                            && self.known.write().insert(revocation.clone(), held).is_none()
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

    /// Knows what the store has, and what only this process holds. Returns what is new.
    fn replace(&self, all: HashMap<Revocation, Held>) -> Vec<Revocation> {
        let mut known = self.known.write();
        let new = all.keys().filter(|revocation| !known.contains_key(revocation)).cloned().collect();
        known.retain(|_, held| !held.kept);
        known.extend(all);
        new
    }
}

async fn list(meta: &dyn Meta) -> Result<impl Iterator<Item = (Revocation, Held)>, MetaError> {
    Ok(meta.list(PREFIX).await?.into_iter().filter_map(|(_, entry)| read(&entry)))
}

/// `i` or `t`, and the name.
fn value(revocation: &Revocation) -> String {
    match revocation {
        Revocation::Identity(name) => format!("i{name}"),
        Revocation::Token(name) => format!("t{name}"),
    }
}

fn read(entry: &Entry) -> Option<(Revocation, Held)> {
    let text = std::str::from_utf8(&entry.value).ok()?;
    let revocation = match (text.get(..1)?, text.get(1..)?) {
        ("i", name) => Revocation::Identity(name.into()),
        ("t", name) => Revocation::Token(name.into()),
        _ => return None,
    };
    Some((revocation, Held { until: entry.expires_at.map(|at| at.0), kept: true }))
}

fn key(revocation: &Revocation) -> String {
    format!("{PREFIX}{}", blake3::hash(value(revocation).as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire::Principal;
    use newswire::log::{MemoryMeta, SystemClock};

    fn token(id: &str) -> (Revocation, Identity) {
        let identity = Identity { token_id: Some(id.into()), ..Identity::of(Principal::anonymous()) };
        (Revocation::Token(id.into()), identity)
    }

    async fn revoked(max: usize) -> (Arc<dyn Meta>, Revoked) {
        let meta: Arc<dyn Meta> = Arc::new(MemoryMeta::new(Arc::new(SystemClock)).unwrap());
        let revoked = Revoked { max, ..Revoked::load(Arc::clone(&meta)).await.unwrap() };
        (meta, revoked)
    }

    #[tokio::test]
    async fn what_is_revoked_stays_so_until_it_is_lifted() {
        let (meta, revoked) = revoked(MAX).await;
        let (by_token, identity) = token("j1");
        for revocation in [Revocation::Identity("anonymous".into()), by_token] {
            assert!(!revoked.holds(&identity));
            revoked.set(revocation.clone(), true, None).await.unwrap();
            assert!(revoked.holds(&identity));
            assert!(Revoked::load(Arc::clone(&meta)).await.unwrap().holds(&identity), "also after a restart");
            revoked.set(revocation, false, None).await.unwrap();
        }
        revoked.set(token("j2").0, true, None).await.unwrap();
        assert!(!revoked.holds(&identity));
    }

    #[tokio::test]
    async fn what_has_expired_makes_room_and_nothing_else_does() {
        let (meta, revoked) = revoked(2).await;
        let now = now_micros();
        let long_ago = UnixMicros(now - 2 * MARGIN.as_micros() as u64);
        let (soon, later) = (UnixMicros(now), UnixMicros(now + 1_000_000_000));
        let [(expired, of_expired), (first, of_first), (second, of_second)] = ["e", "1", "2"].map(token);
        revoked.set(expired.clone(), true, Some(long_ago)).await.unwrap();
        assert!(!revoked.holds(&of_expired), "it had expired anyway");
        revoked.set(first.clone(), true, Some(soon)).await.unwrap();
        assert!(revoked.holds(&of_first), "clocks differ: it may count a little longer");
        revoked.set(second, true, Some(later)).await.unwrap();
        assert!(revoked.holds(&of_first) && revoked.holds(&of_second));
        let refused = revoked.set(expired, true, None).await;
        assert_eq!(refused, Err(AuthError::TooManyRevocations { most: 2 }));
        // The same again is no further one, and never holds shorter.
        revoked.set(first.clone(), true, None).await.unwrap();
        revoked.set(first.clone(), true, Some(long_ago)).await.unwrap();
        assert!(revoked.holds(&of_first));
        let again = Revoked::load(Arc::clone(&meta)).await.unwrap();
        assert_eq!(again.known.read()[&first].until, None);
        assert_eq!(again.known.read().len(), 2);
    }

    #[tokio::test]
    async fn what_the_store_does_not_have_yet_is_not_forgotten_with_what_it_no_more_has() {
        let (_meta, revoked) = revoked(MAX).await;
        let [(here, of_here), (there, of_there)] = ["here", "there"].map(token);
        revoked.hold(&here, None).unwrap();
        revoked.known.write().insert(there, Held { until: None, kept: true });
        assert_eq!(revoked.replace(HashMap::new()), []);
        assert!(revoked.holds(&of_here) && !revoked.holds(&of_there));
    }
}
