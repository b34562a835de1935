//! Tokens of our own making, for people without an identity provider.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

use super::Permissions;

/// What a token is to say.
pub(crate) struct NewToken {
    pub(crate) subject: String,
    pub(crate) expires_in: Duration,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) permissions: Permissions,
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    newswire: Permissions,
}

impl NewToken {
    /// The token, by HS256, with an id of its own by which it can be revoked.
    ///
    /// # Errors
    /// Those of the library that signs.
    pub(crate) fn sign(self, secret: &str) -> Result<String, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            sub: self.subject,
            iat: now,
            exp: now + self.expires_in.as_secs(),
            jti: Uuid::new_v4().to_string(),
            iss: self.issuer,
            aud: self.audience,
            newswire: self.permissions,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))
    }
}
