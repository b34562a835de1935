//! Tokens of every kind, and servers that ask for them.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use newswire_street_tests::{Answer, Server, ServerOptions, Socket};
use serde_json::{Value, json};

/// What servers of these tests sign and verify HS256 with.
pub(crate) const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";
/// `nw_ci_let-me-in`, hashed.
pub(crate) const KEY: &str = "nw_ci_let-me-in";
pub(crate) const KEY_HASH: &str = "sha256:a3ee786b5707c27d42570785081ec17f5c7db9262a01366af362a1aa61a420b9";

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "newswire";

/// A file of these tests.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/auth/keys").join(name)
}

pub(crate) fn pem(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

/// A server's options with the secret, no leeway, an issuer and an audience.
pub(crate) fn options(home: &tempfile::TempDir) -> ServerOptions {
    let secret = home.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let options = Server::options().set("auth.jwt.secret_file", secret.display());
    options.set("auth.jwt.leeway", "0s").set("auth.jwt.issuer", ISSUER).set("auth.jwt.audience", AUDIENCE)
}

/// A directory and a server with [`options`].
pub(crate) fn server() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).start();
    (home, server)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims of somebody, for ten minutes: a busy machine may need one.
pub(crate) fn claims(subject: &str, role: &str) -> Value {
    json!({"sub": subject, "exp": now() + 600, "iss": ISSUER, "aud": AUDIENCE, "jti": format!("jti-{subject}"),
        "newswire": {"role": role}})
}

/// The same with some claims otherwise; null takes one away.
pub(crate) fn with(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Signed with the secret.
pub(crate) fn token(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

pub(crate) fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

/// A token put together by hand: any header, any signature.
pub(crate) fn raw_token(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// A good token of somebody with this role.
pub(crate) fn good(subject: &str, role: &str) -> String {
    token(&claims(subject, role))
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) async fn get_as(server: &Server, token: &str, path: &str) -> Answer {
    server.http().send("GET", path, &[("authorization", &bearer(token))], "").await
}

pub(crate) async fn post_as(server: &Server, token: &str, path: &str, body: &Value) -> Answer {
    let headers = [("authorization", bearer(token)), ("content-type", "application/json".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    server.http().send("POST", path, &headers, body.to_string()).await
}

pub(crate) async fn publish_as(server: &Server, token: &str, event: &Value) -> Answer {
    post_as(server, token, "/api/v1/events", event).await
}

/// A socket that showed its token in the upgrade.
pub(crate) async fn socket_as(server: &Server, token: &str) -> Socket {
    Socket::try_open_with(server.addr, "/api/v1/ws", &[("authorization", &bearer(token))]).await.unwrap()
}
