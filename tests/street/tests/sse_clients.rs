//! Event streams as others read them: a browser's `EventSource`, and curl.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use newswire_street_tests::{Browser, Server, data};
use serde_json::{Value, json};

/// Keeps what arrives in the page, as text, because numbers are compared with what the server said.
const LISTEN: &str = "window.seen = []; window.named = [];
    const source = new EventSource('/api/v1/events/stream?channels=tasks&after=0');
    source.onmessage = ({data}) => window.seen.push(JSON.parse(data).payload.n);
    for (const name of ['caught_up', 'gap'])
        source.addEventListener(name, ({data}) => window.named.push(JSON.parse(data).action));";

fn tasks(numbers: std::ops::Range<u64>) -> Vec<Value> {
    numbers.map(data::task).collect()
}

#[tokio::test]
async fn a_browser_resumes_by_itself_through_two_crashes() {
    let mut server = Server::start();
    server.http().publish(&tasks(0..100)).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/api/v1/health", server.addr)).await;
    browser.run(LISTEN).await;
    browser.until("return window.seen.length === 100 && window.named.length === 1").await;
    for crash in 1..=2 {
        server.http().publish(&tasks(crash * 100..crash * 100 + 50)).await;
        server.kill();
        server.restart();
        server.http().publish(&tasks(crash * 100 + 50..crash * 100 + 100)).await;
        let (seen, caught_up) = ((crash + 1) * 100, crash + 1);
        let told = format!("window.named.length === {caught_up}");
        browser.until(&format!("return window.seen.length >= {seen} && {told}")).await;
    }
    assert_eq!(browser.run("return window.seen").await, json!((0..300).collect::<Vec<u64>>()));
    let named = browser.run("return [...new Set(window.named)]").await;
    assert_eq!(named, json!(["caught_up"]), "and no gap");
}

/// curl on an event stream, ended when dropped.
struct Curl {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    last_id: String,
}

impl Curl {
    fn follow(server: &Server, last_id: Option<&str>) -> Self {
        let mut command = Command::new("curl");
        command.args(["-sN", &format!("http://{}/api/v1/events/stream?channels=tasks&after=0", server.addr)]);
        if let Some(id) = last_id {
            command.args(["-H", &format!("Last-Event-ID: {id}")]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("curl starts");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, last_id: last_id.unwrap_or_default().to_owned() }
    }

    /// Reads on until `count` more events came, or the stream ended.
    fn read(&mut self, count: usize, seen: &mut Vec<u64>) {
        let goal = seen.len() + count;
        while seen.len() < goal
            && let Some(Ok(line)) = self.lines.next()
        {
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = id.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                let message: Value = serde_json::from_str(text).unwrap();
                seen.extend(message["payload"]["n"].as_u64());
            }
        }
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn curl_goes_on_from_the_last_id_it_was_sent() {
    let mut server = Server::start();
    server.http().publish(&tasks(0..50)).await;
    let mut seen = Vec::new();
    let mut curl = Curl::follow(&server, None);
    curl.read(20, &mut seen);
    server.kill();
    // What had left the server arrives; then the stream ends.
    curl.read(usize::MAX / 2, &mut seen);
    server.restart();
    server.http().publish(&tasks(50..100)).await;
    let mut curl = Curl::follow(&server, Some(&curl.last_id));
    let rest = 100 - seen.len();
    curl.read(rest, &mut seen);
    assert_eq!(seen, (0..100).collect::<Vec<u64>>());
}
