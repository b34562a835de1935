//! Thousands of handshakes that are begun and never finished, beside somebody who means it: that one is served as ever, and
//! the others are let go when their time is over, and counted.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::data::task;
use newswire_street_tests::{Authority, PATIENCE, Server, ServerOptions, clients, eventually, half_open};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// The time of a handshake: long enough for all of them to be open at once, also on a machine with much else to do.
const TIME: &str = "20s";

const TIMED_OUT: &str = "newswire_http_connections_timed_out_total";

/// Somebody who connects, publishes and receives, on connections made for it, over whatever the address says.
fn normal_client(server: &Server, url: &str, more: &[&str]) {
    let file = server.home().join("normal.jsonl");
    let lines: Vec<String> = (0..20).map(|n| task(n).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    for command in [
        &["publish", &file, "--url", url][..],
        &["tail", "tasks", "--after", "0", "--limit", "20", "--json", "--url", url],
    ] {
        let output = clients::run(&[command, more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_http_and_upgrades_disturb_nobody_and_are_let_go() {
    let count = half_open::as_many_as(10_000);
    let server = ServerOptions::default().set("limits.header_timeout", TIME).start();
    let (http, url) = (server.http(), format!("http://{}", server.addr));
    let silent = half_open::open(server.addr, count, &half_open::HTTP).await;
    eventually("all are in", async || {
        (http.metric("newswire_http_connections ").await > count as f64).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| normal_client(&server, &url, &[]));
    assert!(http.metric("newswire_http_connections ").await > count as f64, "they stood all the while");
    half_open::closed(silent, PATIENCE * 2).await;
    eventually("each is counted", async || (http.metric(TIMED_OUT).await >= count as f64).then_some(()))
        .await;
    tokio::task::block_in_place(|| normal_client(&server, &url, &[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_tls_disturbs_nobody_and_is_let_go() {
    const SHAKEN: usize = 100;
    let count = half_open::as_many_as(4_000);
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    authority.server("server");
    let server = ServerOptions::default()
        .set("tls.cert", authority.path("server.pem"))
        .set("tls.key", authority.path("server.key"))
        .set("limits.handshake_timeout", TIME)
        .set("limits.header_timeout", TIME)
        .start();
    let silent = half_open::open(server.addr, count, &half_open::TLS).await;
    // These have shaken hands, and then say nothing in either version of HTTP.
    let mut shaken = Vec::new();
    for protocol in ["http/1.1", "h2"] {
        let client = authority.connector(protocol);
        for _ in 0..SHAKEN {
            let stream = TcpStream::connect(server.addr).await.unwrap();
            shaken.push(client.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap());
        }
    }
    let http = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(authority.file()).unwrap()).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}", server.addr.port());
    let metric = async |name: &str| {
        let page = http.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} "))?.parse::<f64>().ok());
        line.unwrap_or_else(|| panic!("no {name}")) as usize
    };
    let all = count + 2 * SHAKEN;
    assert!(metric("newswire_http_connections").await > all, "all are in");
    let believed = authority.file();
    tokio::task::block_in_place(|| normal_client(&server, &url, &["--ca", &believed]));
    assert!(metric("newswire_http_connections").await > all, "they stood all the while");
    half_open::closed(silent, PATIENCE * 2).await;
    let (mut shaken, mut plain) = (shaken, Vec::new());
    plain.extend(shaken.drain(..).map(|stream| stream.into_inner().0));
    half_open::closed(plain, PATIENCE * 2).await;
    eventually("each is counted", async || (metric(TIMED_OUT).await >= all).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_that_do_not_say_who_they_are_disturb_nobody_and_are_let_go() {
    let count = half_open::as_many_as(2_000);
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("auth.secret").display().to_string();
    assert!(clients::run(&["token", "secret", &secret]).status.success());
    let token =
        clients::run(&["token", "jwt", "--secret-file", &secret, "--subject", "me", "--role", "publisher"]);
    let shown = home.path().join("token").display().to_string();
    std::fs::write(&shown, token.stdout).unwrap();
    let server = ServerOptions::default().set("auth.jwt.secret_file", &secret).set("auth.timeout", TIME);
    let server = server.set("limits.unauthenticated", count).start();
    let silent = half_open::open(server.addr, count, &half_open::UPGRADE).await;
    let url = format!("http://{}", server.addr);
    let metric = async |name: &str| {
        let text = std::fs::read_to_string(&shown).unwrap();
        let bearer = format!("Bearer {}", text.trim());
        let page = server.http().send("GET", "/metrics", &[("authorization", &bearer)], "").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} "))?.parse::<f64>().ok());
        line.unwrap_or(0.0) as usize
    };
    eventually("all are in", async || (metric("newswire_connections").await >= count).then_some(())).await;
    tokio::task::block_in_place(|| normal_client(&server, &url, &["--token-file", &shown]));
    assert!(metric("newswire_connections").await >= count, "they stood all the while");
    half_open::closed(silent, PATIENCE * 2).await;
    let closes = "newswire_connection_closes_total{reason=\"4001\"}";
    eventually("each is counted", async || (metric(closes).await >= count).then_some(())).await;
}
