//! Browsers: a one-time code becomes a cookie.

use std::sync::Arc;
use std::time::Duration;

use newswire::AuthError;
use newswire::log::{Expect, Meta, MetaError};

use super::{Basis, Stored, names, now_micros, secret, unavailable};

/// How long a code can be used.
const CODE_LIFE: Duration = Duration::from_secs(600);
/// How long a browser stays signed in.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);

const INVALID: AuthError = AuthError::Invalid { reason: "no such code or session, or used, or too old" };

/// Codes and sessions, by the hashes of their secrets.
pub(crate) struct Sessions {
    meta: Arc<dyn Meta>,
}

impl Sessions {
    pub(super) fn new(meta: Arc<dyn Meta>) -> Self {
        Self { meta }
    }

    /// A code that can be exchanged once.
    pub(crate) async fn new_code(&self) -> Result<String, AuthError> {
        let code = secret::random_text().map_err(|error| unavailable(&error))?;
        self.keep("code", &hash(&code), "{}".to_owned(), CODE_LIFE).await?;
        Ok(code)
    }

    /// The value of a cookie, for a code that was not used before.
    pub(crate) async fn exchange(&self, code: &str) -> Result<String, AuthError> {
        match self.meta.delete(&key("code", &hash(code)), Expect::Any).await {
            Ok(true) => {}
            Ok(false) | Err(MetaError::Conflict { .. }) => return Err(INVALID),
            Err(error) => return Err(unavailable(&error)),
        }
        let life = u64::try_from(SESSION_LIFE.as_micros()).unwrap_or(u64::MAX);
        let session = secret::random_text().map_err(|error| unavailable(&error))?;
        let hash = hash(&session);
        let stored = Stored {
            id: names::BROWSER.to_owned(),
            expires_at: Some(now_micros().saturating_add(life)),
            token_id: Some(names::of_session(&hash)),
            basis: Basis::SignIn,
        };
        let stored = serde_json::to_string(&stored).map_err(|error| unavailable(&error))?;
        self.keep("session", &hash, stored, SESSION_LIFE).await?;
        Ok(session)
    }

    /// Forgets the session of this name.
    pub(super) async fn end(&self, name: &str) -> Result<(), AuthError> {
        let Some(hash) = names::session_of(name) else { return Err(INVALID) };
        match self.meta.delete(&key("session", hash), Expect::Any).await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    pub(super) async fn find(&self, cookie: &str) -> Result<Stored, AuthError> {
        let entry =
            self.meta.get(&key("session", &hash(cookie))).await.map_err(|error| unavailable(&error))?;
        serde_json::from_slice(&entry.ok_or(INVALID)?.value).map_err(|error| unavailable(&error))
    }

    async fn keep(&self, kind: &str, hash: &str, value: String, life: Duration) -> Result<(), AuthError> {
        let put = self.meta.put(&key(kind, hash), value.into(), Expect::Absent, Some(life)).await;
        put.map(|_| ()).map_err(|error| unavailable(&error))
    }
}

fn hash(secret: &str) -> String {
    secret::hex(&secret::hash(secret))
}

fn key(kind: &str, hash: &str) -> String {
    format!("auth/{kind}/{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire::log::{ManualClock, MemoryMeta};

    #[tokio::test]
    async fn a_code_is_exchanged_once() {
        let clock = Arc::new(ManualClock::default());
        let sessions = Sessions::new(Arc::new(MemoryMeta::new(clock.clone()).unwrap()));
        let (code, late) = (sessions.new_code().await.unwrap(), sessions.new_code().await.unwrap());
        let cookie = sessions.exchange(&code).await.unwrap();
        assert_eq!(sessions.find(&cookie).await.unwrap().id, names::BROWSER);
        assert_eq!(sessions.exchange(&code).await.err(), Some(INVALID));
        let other = sessions.exchange(&sessions.new_code().await.unwrap()).await.unwrap();
        sessions.end(&sessions.find(&other).await.unwrap().token_id.unwrap()).await.unwrap();
        assert_eq!(sessions.find(&other).await.err(), Some(INVALID));
        assert!(sessions.find(&code).await.is_err() && sessions.find("").await.is_err());
        clock.advance(CODE_LIFE);
        assert_eq!(sessions.exchange(&late).await.err(), Some(INVALID));
        clock.advance(SESSION_LIFE);
        assert!(sessions.find(&cookie).await.is_err());
    }
}
