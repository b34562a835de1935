//! A real browser: headless Chromium, driven by its own driver over WebDriver, a protocol of plain HTTP and JSON.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{PATIENCE, process};

/// What keeps Chromium from talking to anybody but us, and what it needs to run as any user.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
];

/// One window of a browser of its own. Dropping it ends the browser, its driver and their profile.
pub struct Browser {
    driver: Child,
    http: reqwest::Client,
    /// Where this window's commands go.
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts driver and browser.
    ///
    /// # Panics
    /// When `chromedriver` is not installed, or does not bring up a browser.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let (driver, port) = start_driver();
        // Whole before anything can fail: dropping it is what ends the processes.
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("an HTTP client");
        let mut browser = Self { driver, http, session: String::new(), profile };
        let root = format!("http://127.0.0.1:{port}/session");
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", browser.profile.path().display()));
        let options = json!({"args": flags});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let begun = browser.post(&root, &wanted).await;
        let id = begun["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {begun}"));
        browser.session = format!("{root}/{id}");
        browser
    }

    /// Goes to an address and waits until the page has loaded.
    pub async fn open(&self, url: &str) {
        self.command("url", &json!({"url": url})).await;
    }

    /// Runs the body of a function in the page; what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Asks the page again and again until the body of a function returns neither null nor false; what it returns then.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`], with what the page shows and what its console says.
    pub async fn until(&self, script: &str) -> Value {
        let started = Instant::now();
        loop {
            let found = self.run(script).await;
            if !found.is_null() && found != Value::Bool(false) {
                return found;
            }
            if started.elapsed() > PATIENCE {
                let page = self.run("return document.body ? document.body.innerText : ''").await;
                panic!(
                    "the page never did: {script}\nit shows: {page}\nits console: {:#?}",
                    self.console().await
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// What the console of the page has said since it was asked last: one line a message.
    pub async fn console(&self) -> Vec<String> {
        let lines = self.command("se/log", &json!({"type": "browser"})).await;
        let lines = lines.as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| format!("{}: {}", text(line, "level"), text(line, "message"))).collect()
    }

    /// Writes what the window shows as a PNG file.
    pub async fn screenshot(&self, to: &Path) {
        let answer = self.http.get(format!("{}/screenshot", self.session)).send().await;
        let picture = value(answer).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap_or_default());
        std::fs::write(to, bytes.expect("pictures are base64")).expect("the picture can be written");
    }

    async fn command(&self, name: &str, body: &Value) -> Value {
        self.post(&format!("{}/{name}", self.session), body).await
    }

    async fn post(&self, url: &str, body: &Value) -> Value {
        value(self.http.post(url).json(body).send().await).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // All of them at once: a driver that is stopped by itself leaves its browser behind.
        process::signal_group(self.driver.id(), "KILL");
        let _ = self.driver.wait();
    }
}

/// Starts the driver on a free port, which it names.
fn start_driver() -> (Child, u16) {
    let mut command = Command::new("chromedriver");
    command
        .arg("--port=0")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut driver = command.spawn().unwrap_or_else(|error| {
        panic!("chromedriver does not start ({error}); scripts/setup-tests.sh installs it")
    });
    let lines = BufReader::new(driver.stdout.take().expect("standard output is piped")).lines();
    let port = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
    (driver, port.expect("the driver names its port"))
}

/// The `value` of an answer.
async fn value(answer: reqwest::Result<reqwest::Response>) -> Value {
    let answer = answer.expect("the driver answers");
    let mut body: Value = answer.json().await.expect("the driver speaks JSON");
    let value = body["value"].take();
    assert!(value.get("error").is_none(), "the browser refused: {value:#}");
    value
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}
