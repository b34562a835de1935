//! What fuzzing asks of tokens: whatever comes, they are read or refused, and what was read can be kept.

use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto};

use super::jwt::{Jwt, Verified};
use super::permissions::Roles;
use super::{Basis, jwks, names};
use crate::config::{AuthConfig, JwtConfig};

const SECRET: &str = "the-secret-of-those-who-fuzz-is-long-enough";

/// The first byte says what the rest is: a token, the claims of a token that is signed well, or a set of keys.
pub fn token(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    match kind % 3 {
        0 => assert!(verify(text).is_none(), "nobody signed this"),
        1 => claims(text),
        _ => _ = jwks::read(text),
    }
}

fn claims(text: &str) {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = serde_json::to_string(&Header::new(Algorithm::HS256)).expect("a header is JSON");
    let message = [header.as_str(), text].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a secret signs");
    let Some(verified) = verify(&format!("{message}.{signature}")) else { return };
    assert!(names::check(&verified.id).is_ok());
    let roles = Roles::read(&AuthConfig::default()).expect("there are none");
    let Ok(principal) = roles.principal(&verified.id, &verified.permissions) else { return };
    // As it is kept with a connection or a ticket, and judged again later.
    let basis = Basis::Token { permissions: verified.permissions, key: verified.key };
    let kept = serde_json::to_string(&basis).expect("it is JSON");
    let Ok(Basis::Token { permissions, .. }) = serde_json::from_str(&kept) else {
        panic!("{kept} cannot be read")
    };
    assert_eq!(roles.principal(&verified.id, &permissions), Ok(principal));
}

fn verify(token: &str) -> Option<Verified> {
    let jwt = Jwt::of_secret(SECRET, &JwtConfig::default());
    jwt.verify(token, None).now_or_never().expect("nothing is fetched").ok()
}
