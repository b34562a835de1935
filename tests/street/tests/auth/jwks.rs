//! Keys that are fetched, from an identity provider that rotates them, and is not always there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use newswire_street_tests::{PATIENCE, Server, ServerOptions, within};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::*;

/// A provider on this machine: what it publishes, and how often it was asked.
struct Provider {
    addr: SocketAddr,
    /// `None` is an outage: it hangs up.
    set: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(set: Value) -> Self {
        Self::start_with(set, None).await
    }

    /// One that speaks TLS with the certificate of these tests.
    async fn start_secure(set: Value) -> Self {
        let chain = CertificateDer::pem_file_iter(file("tls.crt")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file("tls.pem")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::start_with(set, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(set: Value, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let addr = ([127, 0, 0, 1], listener.local_addr().unwrap().port()).into();
        let provider = Self { addr, set: Arc::new(Mutex::new(Some(set))), asked: Arc::default() };
        let (set, asked) = (Arc::clone(&provider.set), Arc::clone(&provider.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let set = set.lock().unwrap().clone();
                match &tls {
                    None => answer(stream, set).await,
                    // Whoever does not believe the certificate hangs up.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, set).await;
                        }
                    }
                }
            }
        });
        provider
    }

    fn publish(&self, set: Option<Value>) {
        *self.set.lock().unwrap() = set;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn options(&self) -> ServerOptions {
        let options = Server::options().set("auth.jwt.jwks_url", format!("http://{}/keys", self.addr));
        options.set("auth.jwt.issuer", ISSUER).set("auth.jwt.audience", AUDIENCE)
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, set: Option<Value>) {
    let _ = stream.read(&mut [0; 4096]).await;
    if let Some(set) = set {
        let body = set.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
        let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

fn rsa(name: &str) -> EncodingKey {
    EncodingKey::from_rsa_pem(&pem(name)).unwrap()
}

/// A public key as it is published.
fn jwk(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_value(jwk).unwrap()
}

fn signed(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> String {
    sign(&Header { kid: Some(kid.into()), ..Header::new(algorithm) }, &claims("sarah", "observer"), key)
}

async fn status(server: &Server, token: &str) -> u16 {
    get_as(server, token, "/api/v1/events").await.status
}

#[tokio::test]
async fn keys_rotate_and_an_unknown_one_is_asked_for_once() {
    let (old, new) = (rsa("rsa.pem"), rsa("rsa-other.pem"));
    let ec = EncodingKey::from_ec_pem(&pem("ec.pem")).unwrap();
    // What is of another use, or symmetric, is passed over.
    let secret =
        json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"});
    let mut encrypting = jwk(&new, Algorithm::RS256, "enc");
    encrypting["use"] = json!("enc");
    let set = json!({"keys": [jwk(&old, Algorithm::RS256, "old"), jwk(&ec, Algorithm::ES256, "ec"), secret, encrypting]});
    let provider = Provider::start(set).await;
    let server = provider.options().start();
    assert_eq!(status(&server, &signed(&old, Algorithm::RS256, "old")).await, 200);
    assert_eq!(status(&server, &signed(&ec, Algorithm::ES256, "ec")).await, 200);
    assert_eq!(provider.asked(), 1, "they are cached");
    let hmac = EncodingKey::from_secret(b"secretsecretsecretsecretsecret");
    assert_eq!(status(&server, &signed(&hmac, Algorithm::HS256, "s")).await, 401);
    assert_eq!(status(&server, &signed(&new, Algorithm::RS256, "old")).await, 401, "a kid is not a key");
    assert!(provider.asked() <= 2);
    let server = provider.options().start();
    assert_eq!(status(&server, &signed(&old, Algorithm::RS256, "old")).await, 200);
    let before = provider.asked();
    provider.publish(Some(json!({"keys": [jwk(&new, Algorithm::RS256, "new")]})));
    assert_eq!(
        status(&server, &signed(&new, Algorithm::RS256, "new")).await,
        200,
        "the new one was asked for"
    );
    assert_eq!(status(&server, &signed(&old, Algorithm::RS256, "old")).await, 401, "the old one is gone");
    for kid in ["a", "b", "c", "d"] {
        assert_eq!(status(&server, &signed(&new, Algorithm::RS256, kid)).await, 401);
    }
    assert_eq!(provider.asked(), before + 1, "who makes up names does not make us ask each time");
}

#[tokio::test]
async fn an_outage_is_survived_for_a_while_restarts_included() {
    let key = rsa("rsa.pem");
    let provider = Provider::start(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    let mut server = provider.options().set("auth.jwt.jwks_refresh", "1s").start();
    assert_eq!(status(&server, &token).await, 200);
    provider.publish(None);
    server.restart();
    assert_eq!(status(&server, &token).await, 200, "what was fetched is kept");
    server
        .restart_with(provider.options().set("auth.jwt.jwks_refresh", "1s").set("auth.jwt.jwks_grace", "0s"));
    // They count as they are until they are a second old.
    let unavailable = within(PATIENCE, "a token that cannot be checked is no wrong one", async || {
        Some(get_as(&server, &token, "/api/v1/events").await).filter(|answer| answer.status != 200)
    });
    assert_eq!(unavailable.await.problem(503), "unavailable");
    provider.publish(Some(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})));
    server.restart_with(provider.options());
    assert_eq!(status(&server, &token).await, 200);
}

#[tokio::test]
async fn over_tls_only_a_provider_is_believed_that_the_authority_vouches_for() {
    let key = rsa("rsa.pem");
    let provider = Provider::start_secure(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    // By another authority, by the system's, by another name, and by ours.
    for (name, ca, expected) in [
        ("127.0.0.1", "ca-other.crt", 503),
        ("127.0.0.1", "none", 503),
        ("127.0.0.2", "ca.crt", 503),
        ("127.0.0.1", "ca.crt", 200),
        ("localhost", "ca.crt", 200),
    ] {
        let url = format!("https://{name}:{}/keys", provider.addr.port());
        let ca = if ca == "none" { ca.to_owned() } else { file(ca).display().to_string() };
        let options = provider.options().set("auth.jwt.jwks_url", url).set("auth.jwt.jwks_ca", &ca);
        let server = options.start();
        assert_eq!(status(&server, &token).await, expected, "{name} by {ca}");
    }
}
