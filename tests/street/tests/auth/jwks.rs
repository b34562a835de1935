//! Keys that are fetched, from an identity provider that rotates them, and is not always there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use newswire_street_tests::{PATIENCE, Server, ServerOptions, eventually, process, within};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::*;

/// A provider on this machine: what it does when it is asked, and how often it was.
struct Provider {
    addr: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Mode {
    Publishes(Value),
    HangsUp,
    Fails,
    /// Says nothing before it gets a permit, then answers what it publishes by then.
    Waits(Arc<Semaphore>),
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
        let mode = Arc::new(Mutex::new(Mode::Publishes(set)));
        let provider = Self { addr, mode, asked: Arc::default() };
        let (mode, asked) = (Arc::clone(&provider.mode), Arc::clone(&provider.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let (mode, tls) = (Arc::clone(&mode), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &mode).await,
                        // Whoever does not believe the certificate hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &mode).await;
                            }
                        }
                    }
                });
            }
        });
        provider
    }

    fn publish(&self, set: Value) {
        self.turn(Mode::Publishes(set));
    }

    fn turn(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// From now on whoever asks waits, until a permit is added to what this gives.
    fn hold(&self) -> Arc<Semaphore> {
        let held = Arc::new(Semaphore::new(0));
        self.turn(Mode::Waits(Arc::clone(&held)));
        held
    }

    /// Waits until it was asked so often in all.
    async fn asked_for(&self, times: usize) {
        eventually("the provider is asked", async || (self.asked() >= times).then_some(())).await;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn options(&self) -> ServerOptions {
        let options = Server::options().set("auth.jwt.jwks_url", format!("http://{}/keys", self.addr));
        options.set("auth.jwt.issuer", ISSUER).set("auth.jwt.audience", AUDIENCE)
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, mode: &Mutex<Mode>) {
    let _ = stream.read(&mut [0; 4096]).await;
    let mut now = mode.lock().unwrap().clone();
    if let Mode::Waits(held) = now {
        held.acquire().await.unwrap().forget();
        now = mode.lock().unwrap().clone();
    }
    let (status, body) = match now {
        Mode::Publishes(set) => ("200 OK", set.to_string()),
        Mode::Fails => ("500 Internal Server Error", "{}".to_owned()),
        Mode::HangsUp | Mode::Waits(_) => return,
    };
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length");
    let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    let _ = stream.shutdown().await;
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
    provider.publish(json!({"keys": [jwk(&new, Algorithm::RS256, "new")]}));
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
    provider.turn(Mode::HangsUp);
    server.restart();
    assert_eq!(status(&server, &token).await, 200, "what was fetched is kept");
    server
        .restart_with(provider.options().set("auth.jwt.jwks_refresh", "1s").set("auth.jwt.jwks_grace", "0s"));
    // They count as they are until they are a second old.
    let unavailable = within(PATIENCE, "a token that cannot be checked is no wrong one", async || {
        Some(get_as(&server, &token, "/api/v1/events").await).filter(|answer| answer.status != 200)
    });
    assert_eq!(unavailable.await.problem(503), "unavailable");
    provider.publish(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]}));
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

#[tokio::test]
async fn whoever_is_vouched_for_by_another_authority_is_asked_again() {
    let key = rsa("rsa.pem");
    let provider = Provider::start_secure(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    let url = format!("https://127.0.0.1:{}/keys", provider.addr.port());
    let by = |ca: &str| {
        let options = provider.options().set("auth.jwt.jwks_url", &url);
        options.set("auth.jwt.jwks_ca", file(ca).display()).set("auth.jwt.jwks_refresh", "1h")
    };
    let mut server = by("ca.crt").start();
    assert_eq!(status(&server, &token).await, 200);
    server.restart_with(by("ca-other.crt"));
    assert_eq!(status(&server, &token).await, 503, "what was fetched under the old one does not count");
    server.restart_with(by("ca.crt"));
    assert_eq!(status(&server, &token).await, 200);
}

#[tokio::test]
async fn a_restart_asks_again_though_the_keys_are_young() {
    let (old, new) = (rsa("rsa.pem"), rsa("rsa-other.pem"));
    let provider = Provider::start(json!({"keys": [jwk(&old, Algorithm::RS256, "old")]})).await;
    let options = || provider.options().set("auth.jwt.jwks_refresh", "1h");
    let mut server = options().start();
    let token = signed(&old, Algorithm::RS256, "old");
    assert_eq!(status(&server, &token).await, 200);
    provider.publish(json!({"keys": [jwk(&new, Algorithm::RS256, "new")]}));
    server.restart_with(options());
    eventually("a key taken back meanwhile is found out", async || {
        (status(&server, &token).await == 401).then_some(())
    })
    .await;
}

/// Asks with a token and leaves before there is an answer.
async fn ask_and_hang_up(server: &Server, provider: &Provider, token: &str) {
    let before = provider.asked();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
        server.addr
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    provider.asked_for(before + 1).await;
    drop(stream);
}

#[tokio::test]
async fn whoever_hangs_up_breaks_no_fetch_off() {
    let (old, new) = (rsa("rsa.pem"), rsa("rsa-other.pem"));
    let provider = Provider::start(json!({"keys": [jwk(&old, Algorithm::RS256, "old")]})).await;
    let server = provider.options().set("auth.jwt.jwks_cooldown", "1h").start();
    assert_eq!(status(&server, &signed(&old, Algorithm::RS256, "old")).await, 200);
    let held = provider.hold();
    ask_and_hang_up(&server, &provider, &signed(&old, Algorithm::RS256, "made-up")).await;
    let asked = provider.asked();
    provider.publish(json!({"keys": [jwk(&new, Algorithm::RS256, "new")]}));
    held.add_permits(1);
    // Nobody may ask again for an hour: it is this one fetch that brings the new key, or none.
    let token = signed(&new, Algorithm::RS256, "new");
    within(PATIENCE, "the new key counts", async || (status(&server, &token).await == 200).then_some(()))
        .await;
    assert_eq!(provider.asked(), asked);
}

#[tokio::test]
async fn nobody_with_a_known_key_waits_for_a_provider_that_hangs() {
    let key = rsa("rsa.pem");
    let provider = Provider::start(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    let server = provider.options().set("auth.jwt.jwks_refresh", "1s").start();
    assert_eq!(status(&server, &token).await, 200);
    let asked = provider.asked();
    let _never_released = provider.hold();
    // The keys grow old, and are asked for though nobody shows a token.
    provider.asked_for(asked + 1).await;
    let strangers: Vec<_> = ["a", "b", "c"].map(|kid| signed(&key, Algorithm::RS256, kid)).into();
    let strange = async {
        let asking = strangers.iter().map(|token| status(&server, token));
        futures_util::future::join_all(asking).await
    };
    let known = async {
        for _ in 0..20 {
            assert_eq!(status(&server, &token).await, 200);
        }
        assert!(!server.stderr().contains("cannot be fetched"), "it waited until the attempt was given up");
    };
    let (strange, ()) = tokio::join!(strange, known);
    assert_eq!(strange, [503; 3], "whether those keys count, nobody can tell");
    assert_eq!(provider.asked(), asked + 1, "all of them share one attempt");
}

#[tokio::test]
async fn made_up_keys_have_a_failing_provider_asked_once_a_cooldown() {
    let key = rsa("rsa.pem");
    let provider = Provider::start(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    let server = provider.options().set("auth.jwt.jwks_cooldown", "1h").start();
    assert_eq!(status(&server, &token).await, 200);
    let asked = provider.asked();
    provider.turn(Mode::Fails);
    for kid in ["a", "b", "c", "d"] {
        let answer = get_as(&server, &signed(&key, Algorithm::RS256, kid), "/api/v1/events").await;
        assert_eq!(answer.problem(503), "unavailable");
        assert_eq!(status(&server, &token).await, 200);
    }
    // One that could be a provider's by its form and is none of its algorithms has nobody asked.
    let hmac = sign(
        &Header { kid: Some("x".into()), ..Header::default() },
        &claims("sarah", "observer"),
        &EncodingKey::from_secret(b"x"),
    );
    assert_eq!(status(&server, &hmac).await, 401);
    assert_eq!(provider.asked(), asked + 1);
}

#[tokio::test]
async fn a_key_that_the_provider_took_back_counts_no_more_though_nobody_asked_meanwhile() {
    let (old, new) = (rsa("rsa.pem"), rsa("rsa-other.pem"));
    let provider = Provider::start(json!({"keys": [jwk(&old, Algorithm::RS256, "old")]})).await;
    let server = provider.options().set("auth.jwt.jwks_refresh", "1s").start();
    let token = signed(&old, Algorithm::RS256, "old");
    assert_eq!(status(&server, &token).await, 200);
    provider.publish(json!({"keys": [jwk(&new, Algorithm::RS256, "new")]}));
    let asked = provider.asked();
    provider.asked_for(asked + 2).await;
    assert_eq!(status(&server, &token).await, 401);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_the_same_provider() {
    let key = rsa("rsa.pem");
    let provider = Provider::start(json!({"keys": [jwk(&key, Algorithm::RS256, "k")]})).await;
    let token = signed(&key, Algorithm::RS256, "k");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, "").unwrap();
    let server = provider.options().env("NEWSWIRE_CONFIG", file.display()).start();
    assert_eq!(status(&server, &token).await, 200);
    let mut socket = socket_as(&server, &token).await;
    socket.subscribe(&["tasks"]).await;
    provider.turn(Mode::HangsUp);
    std::fs::write(&file, "[auth.jwt]\njwks_cooldown = \"1h\"\n").unwrap();
    process::signal(server.pid(), "HUP");
    eventually("the reload is done", async || {
        server.stderr().contains("configuration read again").then_some(())
    })
    .await;
    assert_eq!(status(&server, &token).await, 200);
    assert_eq!(socket.ask(&json!({"action": "ping"})).await["action"], "pong");
}
