//! The page of `docs/how-to/dashboard.md`, as its reader would save it, in a real browser.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use newswire_street_tests::documents::{self, PRINTED_ADDRESS, block};
use newswire_street_tests::{Browser, Server, data, eventually, process};
use serde_json::{Value, json};
use tempfile::TempDir;

const DOCUMENT: &str = "docs/how-to/dashboard.md";

/// Where the page is to be served.
const PRINTED_PORT: &str = "8000";

/// The offsets of the lines it shows, newest first.
const SHOWN: &str =
    "return [...document.querySelectorAll('#tasks li')].map(line => Number(line.dataset.offset))";

fn tasks(numbers: RangeInclusive<u64>) -> Vec<Value> {
    numbers.map(data::task).collect()
}

/// The reader's directory: the page in it, served by the command of the document on a port of its own.
struct Desk {
    web_server: Child,
    _dir: TempDir,
    url: String,
}

impl Desk {
    async fn set_up(server: SocketAddr) -> Self {
        let document = documents::read(DOCUMENT);
        let page = block(&document, "html").replace(PRINTED_ADDRESS, &server.to_string());
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dashboard.html"), page).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = block(&document, "sh").replace(PRINTED_PORT, &port.to_string());
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(&dir).process_group(0).stderr(Stdio::null());
        let web_server = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/dashboard.html");
        let desk = Self { web_server, _dir: dir, url };
        eventually("the page is served", || async { reqwest::get(&desk.url).await.ok() }).await;
        desk
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        process::signal_group(self.web_server.id(), "KILL");
        let _ = self.web_server.wait();
    }
}

#[tokio::test]
async fn the_dashboard_of_the_documents_shows_every_event_once_through_a_crash() {
    let mut server = Server::start();
    let http = server.http();
    http.publish(&tasks(1..=30)).await;
    let desk = Desk::set_up(server.addr).await;
    let browser = Browser::start().await;
    browser.open(&desk.url).await;
    browser.until("return document.querySelector('#state').textContent === 'live'").await;
    assert_eq!(browser.run(SHOWN).await, json!((11..=30).rev().collect::<Vec<u64>>()), "the newest twenty");

    http.publish(&tasks(31..=40)).await;
    browser.until("return document.querySelectorAll('#tasks li').length === 30").await;

    server.kill();
    browser.until("return document.querySelector('#state').textContent.startsWith('connection lost')").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.restart();
    server.http().publish(&tasks(41..=50)).await;
    browser.until("return document.querySelectorAll('#tasks li').length >= 40").await;
    browser.until("return document.querySelector('#state').textContent === 'live'").await;
    assert_eq!(browser.run(SHOWN).await, json!((11..=50).rev().collect::<Vec<u64>>()), "each once, in order");
}
