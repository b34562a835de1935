//! TLS, over real sockets: who gets a handshake, what is spoken behind it, and certificates that change under load.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use newswire_street_tests::{ServerOptions, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};
use tokio_tungstenite::tungstenite::Message;

fn given(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A client that trusts the authority of the tests.
fn client(
    versions: &[&'static SupportedProtocolVersion],
    protocol: &str,
    certificate: Option<&str>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(given("ca.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(given(&format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(given(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn plain_client() -> TlsConnector {
    client(&[&version::TLS13, &version::TLS12], "http/1.1", None)
}

async fn connect(addr: SocketAddr, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// One request on a connection of its own, as text.
async fn ask(stream: &mut TlsStream<TcpStream>, head: &str, body: &str) -> String {
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that ends without a goodbye ends all the same.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn options(home: &Path) -> ServerOptions {
    for kind in ["pem", "key"] {
        std::fs::copy(given(&format!("one.{kind}")), home.join(format!("server.{kind}"))).unwrap();
    }
    ServerOptions::default()
        .set("tls.cert", home.join("server.pem").display())
        .set("tls.key", home.join("server.key").display())
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(given(&format!("{name}.pem"))).unwrap()
}

#[tokio::test]
async fn two_versions_are_spoken_and_nothing_older_or_plain() {
    let home = tempfile::tempdir().unwrap();
    let server = options(home.path()).set("limits.handshake_timeout", "300ms").start();
    for (offered, spoken) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut stream = connect(server.addr, &client(&[offered], "http/1.1", None)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        assert!(ask(&mut stream, "GET /api/v1/health", "").await.starts_with("HTTP/1.1 200"));
    }
    // The hello of TLS 1.1, with a cipher that it knows.
    let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0]].concat();
    let hello = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    let mut old = TcpStream::connect(server.addr).await.unwrap();
    old.write_all(&[&[22, 3, 1, 0, hello.len() as u8][..], &hello].concat()).await.unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer).await;
    assert!(answer.first() == Some(&21) && answer[5] == 2, "a fatal alert: {answer:?}");

    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer:?}");

    // Whoever says nothing is not waited for.
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    let home = tempfile::tempdir().unwrap();
    let server = options(home.path()).start();
    let stream = connect(server.addr, &client(&[&version::TLS13], "h2", None)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    for n in 1..=5 {
        let event = json!({"channel": "tasks", "event_type": "t", "payload": {"n": n}}).to_string();
        let request = http::Request::post("https://localhost/api/v1/events")
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(event)))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["data"]["results"][0]["offset"], n);
    }
    let foreign = http::Request::get("https://evil.example/api/v1/events").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(foreign).await.unwrap().status(), 403, "its names are guarded here, too");
    driving.abort();
}

#[tokio::test]
async fn a_slow_websocket_gets_everything_to_the_last_byte() {
    let home = tempfile::tempdir().unwrap();
    let server = options(home.path()).start();
    let stream = connect(server.addr, &plain_client()).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://localhost/api/v1/ws/tasks", stream).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("subscribed"));
    let padding = "x".repeat(20_000);
    for n in 0..400 {
        let event = json!({"channel": "tasks", "event_type": "t", "payload": {"n": n, "padding": padding}});
        let mut stream = connect(server.addr, &plain_client()).await.unwrap();
        let answer = ask(&mut stream, "POST /api/v1/events", &event.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut n = 0;
    while n < 400 {
        let message = tokio::time::timeout(newswire_street_tests::PATIENCE, socket.next()).await;
        let Message::Text(text) = message.expect("the rest comes by itself").unwrap().unwrap() else {
            continue;
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["payload"].is_object() {
            assert_eq!(message["payload"]["n"], n);
            n += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_changes_under_load_and_nobody_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let server = Arc::new(options(home.path()).start());
    let stream = connect(server.addr, &plain_client()).await.unwrap();
    assert_eq!(shown(&stream), certificate("one"));
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://localhost/api/v1/ws/tasks", stream).await.unwrap();
    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (server, stop, published) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&published));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut stream =
                    connect(server.addr, &plain_client()).await.expect("every handshake succeeds");
                let event = json!({"channel": "tasks", "event_type": "t", "payload": {}}).to_string();
                let answer = ask(&mut stream, "POST /api/v1/events", &event).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                published.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let replace = |from: &str, kind: &str| {
        let next = home.path().join("next");
        std::fs::copy(given(&format!("{from}.{kind}")), &next).unwrap();
        std::fs::rename(next, home.path().join(format!("server.{kind}"))).unwrap();
    };
    // Between the two renames the pair does not fit: the old one serves on.
    replace("two", "pem");
    eventually("the half is noticed", async || server.stderr().contains("stays as it was").then_some(()))
        .await;
    replace("two", "key");
    eventually("the new one is shown", async || {
        let stream = connect(server.addr, &plain_client()).await.unwrap();
        (shown(&stream) == certificate("two")).then_some(())
    })
    .await;
    let so_far = published.load(Ordering::Relaxed);
    eventually("the load goes on", async || (published.load(Ordering::Relaxed) > so_far + 5).then_some(()))
        .await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    socket.send(Message::text(r#"{"action":"ping"}"#)).await.unwrap();
    let mut events = 0;
    loop {
        let message = socket.next().await.expect("it was never cut").unwrap();
        let text = message.to_text().unwrap_or_default();
        events += usize::from(text.contains("\"payload\""));
        if text.contains("pong") && events >= published.load(Ordering::Relaxed) {
            break;
        }
        if events >= published.load(Ordering::Relaxed) && text.contains("\"payload\"") {
            break;
        }
    }
    assert_eq!(events, published.load(Ordering::Relaxed), "every event came");
}

#[tokio::test]
async fn clients_show_a_certificate_where_the_server_asks_for_one() {
    let home = tempfile::tempdir().unwrap();
    let server = options(home.path()).set("tls.client_ca", given("ca.pem").display()).start();
    let known = client(&[&version::TLS13], "http/1.1", Some("client"));
    let mut stream = connect(server.addr, &known).await.unwrap();
    assert!(ask(&mut stream, "GET /api/v1/health", "").await.starts_with("HTTP/1.1 200"));
    // Under TLS 1.2 the refusal is part of the handshake.
    let nobody = client(&[&version::TLS12], "http/1.1", None);
    assert!(connect(server.addr, &nobody).await.is_err());
    // A certificate for servers is none for clients.
    let wrong = client(&[&version::TLS12], "http/1.1", Some("one"));
    assert!(connect(server.addr, &wrong).await.is_err());
    // The peer is told before it is counted.
    eventually("both are counted", async || {
        let mut stream = connect(server.addr, &known).await.unwrap();
        let metrics = ask(&mut stream, "GET /metrics", "").await;
        let line = metrics.lines().find(|line| line.starts_with("newswire_http_tls_handshakes_failed_total"));
        (line? == "newswire_http_tls_handshakes_failed_total 2").then_some(())
    })
    .await;
}

#[test]
fn files_that_do_not_fit_stop_the_start() {
    let home = tempfile::tempdir().unwrap();
    let run = |settings: &[String]| {
        let mut command = std::process::Command::new(newswire_street_tests::binary::newswire());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(home.path().join("data"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.current_dir(home.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let file = |key: &str, name: &str| format!("tls.{key}={}", given(name).display());
    for (settings, said) in [
        (vec![file("cert", "one.pem")], "go together"),
        (vec![file("cert", "one.pem"), file("key", "two.key")], "do not belong together"),
        (vec![file("cert", "one.key"), file("key", "one.key")], "holds no certificate"),
        (vec![file("cert", "one.pem"), file("key", "one.pem")], "holds no private key"),
        (vec![file("cert", "nowhere.pem"), file("key", "one.key")], "nowhere.pem"),
    ] {
        let (code, text) = run(&settings);
        assert!(code == Some(2) && text.contains(said), "{settings:?}: {code:?} {text}");
        assert!(!text.contains("BEGIN"), "no key in a message");
    }
}
