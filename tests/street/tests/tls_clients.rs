//! The command line over `https` and `wss`: whom it believes, what it says when it does not, and that nothing is lost or
//! doubled when certificates change and servers are killed.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use newswire_street_tests::data::task;
use newswire_street_tests::{Authority, Server, ServerOptions, clients, documents, eventually, process};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server that shows `server.pem` of this authority.
fn server(authority: &Authority) -> ServerOptions {
    ServerOptions::default()
        .set("tls.cert", authority.path("server.pem"))
        .set("tls.key", authority.path("server.key"))
}

fn tasks(home: &Path, name: &str, numbers: std::ops::Range<u64>) -> String {
    let path = home.join(name);
    let lines: Vec<String> = numbers.map(|n| task(n).to_string()).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path.display().to_string()
}

fn numbers(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["payload"]["n"].as_u64().unwrap()
    };
    lines.iter().map(number).collect()
}

fn said(output: &std::process::Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn url(scheme: &str, host: &str, server: &Server) -> String {
    format!("{scheme}://{host}:{}", server.addr.port())
}

/// The commands that speak to a server, each as somebody would type it.
fn commands<'a>(file: &'a str, url: &'a str) -> [Vec<&'a str>; 4] {
    [
        vec!["publish", file, "--url", url],
        vec!["tail", "tasks", "--after", "0", "--limit", "3", "--url", url],
        vec!["export", "--url", url],
        vec!["demo", "--pace", "max", "--events", "3", "--url", url],
    ]
}

#[test]
fn every_command_speaks_tls() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    authority.server("server");
    let server = server(&authority).start();
    let file = tasks(home.path(), "tasks.jsonl", 0..5);
    for (scheme, host) in [("https", "localhost"), ("wss", "127.0.0.1")] {
        let url = url(scheme, host, &server);
        for mut command in commands(&file, &url) {
            let authority = authority.file();
            command.extend(["--ca", &authority]);
            let output = clients::run(&command);
            assert!(output.status.success(), "{command:?}: {}", said(&output));
        }
    }
}

#[test]
fn a_server_that_cannot_be_trusted_is_left_at_once_and_the_reason_told() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    let stranger = Authority::new(home.path(), "stranger");
    authority.server("server");
    let good = server(&authority).start();
    authority.expired_server("server");
    let expired = server(&authority).start();
    authority.server_named("server", "feed.example");
    let elsewhere = server(&authority).start();
    let plain = Server::start();
    let file = tasks(home.path(), "tasks.jsonl", 0..5);
    for (server, believed, told) in [
        (&good, &stranger, "--ca FILE names its authority"),
        (&expired, &authority, "has expired"),
        (&elsewhere, &authority, "for another host"),
        (&plain, &authority, "does not speak TLS"),
    ] {
        let url = url("https", "localhost", server);
        for mut command in commands(&file, &url) {
            let believed = believed.file();
            command.extend(["--ca", &believed]);
            let output = clients::run(&command);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            assert!(said.contains(told), "{command:?} should say {told:?}: {said}");
        }
    }
    // Nobody but the test knows this authority, least of all the system.
    let output = clients::run(&["tail", "--url", &url("https", "localhost", &good)]);
    assert!(output.status.code() == Some(1) && said(&output).contains("--ca FILE"), "{}", said(&output));
}

#[test]
fn certificates_are_shown_to_servers_that_ask_for_one() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    let stranger = Authority::new(home.path(), "stranger");
    authority.server("server");
    authority.client("me");
    stranger.client("them");
    let server = server(&authority).set("tls.client_ca", authority.file()).start();
    let file = tasks(home.path(), "tasks.jsonl", 0..5);
    let url = url("https", "localhost", &server);
    let believed = authority.file();
    for (shown, told) in [
        (Some("me"), None),
        (None, Some("--cert FILE and --key FILE")),
        (Some("them"), Some("does not take the certificate")),
    ] {
        for mut command in commands(&file, &url) {
            command.extend(["--ca", &believed]);
            let files =
                shown.map(|name| ["pem", "key"].map(|kind| authority.path(&format!("{name}.{kind}"))));
            if let Some([certificate, key]) = &files {
                command.extend(["--cert", certificate, "--key", key]);
            }
            let output = clients::run(&command);
            let said = said(&output);
            assert_eq!(output.status.success(), told.is_none(), "{command:?}: {said}");
            assert!(told.is_none_or(|told| said.contains(told)), "{command:?} should say {told:?}: {said}");
        }
    }
    let certificate = authority.path("me.pem");
    let half = clients::run(&["tail", "--url", &url, "--cert", &certificate]);
    assert_eq!(half.status.code(), Some(2), "{}", said(&half));
    let swapped = clients::run(&[
        "tail",
        "--url",
        &url,
        "--ca",
        &believed,
        "--cert",
        &certificate,
        "--key",
        &certificate,
    ]);
    assert!(said(&swapped).contains("holds no private key"), "{}", said(&swapped));
}

/// Stands between the commands and the server, and can cut what goes through it.
struct Relay {
    port: u16,
    through: Arc<Mutex<JoinSet<()>>>,
}

impl Relay {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { port: listener.local_addr().unwrap().port(), through: Arc::default() };
        let through = Arc::clone(&relay.through);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                through.lock().unwrap().spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        relay
    }

    fn cut(&self) {
        self.through.lock().unwrap().abort_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_has_everything_once_through_new_certificates_and_kills() {
    const PART: u64 = 2_000;
    const PARTS: u64 = 4;
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    authority.server("server");
    let mut server = server(&authority).start();
    let relay = Relay::before(server.addr).await;
    let address = format!("wss://localhost:{}", relay.port);
    let believed = authority.file();
    let tail = ["tail", "tasks", "--json", "--after", "0", "--url", &address, "--ca", &believed];
    let tail = clients::start(&tail);
    for part in 0..PARTS {
        let file = tasks(home.path(), &format!("{part}.jsonl"), part * PART..(part + 1) * PART);
        let mut publish = clients::start(&["publish", &file, "--url", &address, "--ca", &believed]);
        // In the middle of it.
        tail.wait_for_lines((part * PART + PART / 4) as usize).await;
        if part % 2 == 0 {
            let before = server.stderr().matches("was read again").count();
            authority.server("server");
            eventually("the new certificate is read", async || {
                (server.stderr().matches("was read again").count() > before).then_some(())
            })
            .await;
            relay.cut();
        } else {
            tokio::task::block_in_place(|| server.restart());
        }
        let status = tokio::task::block_in_place(|| publish.wait());
        assert!(status.success(), "{:?}", publish.errors());
    }
    let lines = tail.wait_for_lines((PARTS * PART) as usize).await;
    assert_eq!(numbers(&lines), (0..PARTS * PART).collect::<Vec<_>>(), "every event once, in order");
    let lost = tail.errors().iter().filter(|line| line.contains("connection lost")).count();
    assert!(lost >= PARTS as usize, "each part has cost it a connection: {:?}", tail.errors());
}

/// The commands of the page, with its names for this machine's.
#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let page = documents::read("docs/security.md");
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new(home.path(), "authority");
    authority.server("server");
    let secret = clients::run(&["token", "secret", &authority.path("auth.secret")]);
    assert!(secret.status.success(), "{}", said(&secret));
    let serve = documents::block(&page, "sh serve");
    let settings = serve.split_whitespace().filter_map(|word| word.split_once('='));
    let options = settings
        .fold(ServerOptions::default(), |options, (key, file)| options.set(key, authority.path(file)));
    let server = options.start();
    tasks(home.path(), "events.jsonl", 0..5);
    let script = documents::block(&page, "sh clients");
    let here = format!("localhost:{}", server.addr.port());
    assert!(script.contains("feed.example:8443"));
    let binary = newswire_street_tests::binary::newswire().parent().unwrap().display();
    let path = format!("{binary}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = std::process::Command::new("bash");
    process::without_settings(&mut command);
    command.args(["-euo", "pipefail", "-c", &script.replace("feed.example:8443", &here)]);
    command.current_dir(home.path()).env("PATH", path).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"event_type\""), "{}", said(&output));
}
