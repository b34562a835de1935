//! SIGHUP to a running server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

mod support;

use support::Served;

struct Reloaded {
    directory: tempfile::TempDir,
    server: Served,
}

impl Reloaded {
    fn start(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("newswire.toml"), file).unwrap();
        let path = directory.path().join("newswire.toml").display().to_string();
        let server = Served::start(&directory.path().join("data"), &["--config", &path]);
        Self { directory, server }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("newswire.toml")
    }

    fn reload(&self, file: &str) {
        std::fs::write(self.file(), file).unwrap();
        self.server.signal("HUP");
    }

    fn reload_and_wait(&self, file: &str, said: &str, times: usize) {
        self.reload(file);
        self.server.says(said, times);
    }

    /// A request under another host name; 403 unless `allowed_hosts` has it.
    async fn asked_as(&self, host: &str) -> u16 {
        let request = format!("GET /api/v1/channels HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        self.server.request(&request).await.0
    }

    async fn publish(&self, padding: usize) -> u16 {
        let padding = "x".repeat(padding);
        let event = format!(r#"{{"channel":"tasks","event_type":"t","payload":{{"padding":"{padding}"}}}}"#);
        self.server.publish(&event).await.0
    }

    async fn events(&self) -> usize {
        self.server.get("/api/v1/events?limit=1000").await.1.matches(r#""event_id""#).count()
    }

    fn log(self) -> String {
        self.server.signal("TERM");
        self.server.ended().2
    }
}

fn lines<'a>(log: &'a str, text: &'a str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(text)).collect()
}

const DONE: &str = "configuration read again";
const REFUSED: &str = "nothing is reloaded";

#[tokio::test]
async fn keys_that_can_change_do_and_the_log_names_the_others() {
    let running = Reloaded::start("");
    for _ in 0..20 {
        assert_eq!(running.publish(10).await, 200);
    }
    assert_eq!(running.asked_as("feed.internal").await, 403);
    assert_eq!((running.publish(2_000).await, running.events().await), (200, 21));
    let file = "logging.level = \"info,hyper=off\"\nallowed_hosts = [\"feed.internal\"]\nring.max_bytes = \"32MiB\"\n\
                limits.event_bytes = \"1KiB\"\nretention.max_events = 5\nheartbeat.interval = \"1m\"\n";
    running.reload_and_wait(file, DONE, 1);
    assert_eq!(running.asked_as("feed.internal").await, 200);
    assert_ne!(running.publish(2_000).await, 200, "the new limit of event_bytes");
    assert_eq!(running.events().await, 5, "the new retention was applied at once");
    running.reload_and_wait("", DONE, 2);
    assert_eq!(running.asked_as("feed.internal").await, 403);
    assert_eq!((running.publish(2_000).await, running.events().await), (200, 6));
    let log = running.log();
    for key in ["allowed_hosts", "retention.max_events", "logging.level"] {
        assert!(lines(&log, " reloaded key=").iter().any(|line| line.contains(key)), "{key}: {log}");
    }
    for key in ["limits.event_bytes", "heartbeat.interval"] {
        let told = lines(&log, "reloaded, for new connections");
        assert!(told.iter().any(|line| line.contains(key)), "{key}: {log}");
    }
    let waiting = lines(&log, "needs a restart");
    assert!(
        waiting.len() == 1 && waiting[0].contains("ring.max_bytes") && waiting[0].contains("32MiB"),
        "{log}"
    );
    let summaries = lines(&log, DONE);
    assert!(summaries[0].contains("reloaded=5 need_restart=1"), "{log}");
    assert!(summaries[1].contains("reloaded=5 need_restart=0"), "{log}");
}

#[tokio::test]
async fn the_level_of_the_log_changes() {
    let running = Reloaded::start("logging.level = \"info\"\n");
    running.reload_and_wait("logging.level = \"debug\"\n", DONE, 1);
    assert_eq!(running.asked_as("feed.internal").await, 403);
    running.server.says("request refused", 1);
    running.reload_and_wait("logging.level = \"info\"\n", DONE, 2);
    assert_eq!(running.asked_as("feed.internal").await, 403);
    assert_eq!(lines(&running.log(), "request refused").len(), 1);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_what_is_bad() {
    let running = Reloaded::start("allowed_hosts = [\"feed.internal\"]\n");
    let bad = "allowed_hosts = [\"other.internal\"]\nring.max_byte = 5\nheartbeat.interval = 7\n";
    running.reload_and_wait(bad, REFUSED, 1);
    assert_eq!(running.asked_as("feed.internal").await, 200);
    assert_eq!(running.asked_as("other.internal").await, 403);
    let log = running.log();
    assert!(
        log.contains("did you mean `ring.max_bytes`") && log.contains("`heartbeat.interval` = 7"),
        "{log}"
    );
}

#[tokio::test]
async fn what_does_not_go_together_with_a_key_that_waits_for_a_restart_is_refused() {
    let running = Reloaded::start("backlog.max_bytes = \"64KiB\"\n");
    let file =
        "limits.event_bytes = \"1MiB\"\nbacklog.max_bytes = \"2MiB\"\nallowed_hosts = [\"a.internal\"]\n";
    running.reload_and_wait(file, REFUSED, 1);
    assert_eq!(running.asked_as("a.internal").await, 403);
    assert_ne!(running.publish(70_000).await, 200);
    assert!(running.log().contains("`backlog.max_bytes`"));
}

#[tokio::test]
async fn the_rate_of_requests_is_another_at_once() {
    let running = Reloaded::start("");
    assert_eq!(running.asked_as("localhost").await, 200);
    running.reload_and_wait("limits.requests_per_second = 1\nlimits.requests_burst = 1\n", DONE, 1);
    let mut answers = Vec::new();
    while answers.len() < 1_000 && !answers.contains(&429) {
        answers.push(running.asked_as("localhost").await);
    }
    assert_eq!(answers.last(), Some(&429));
    running.reload_and_wait("", DONE, 2);
    assert_eq!(running.asked_as("localhost").await, 200);
    assert_eq!(lines(&running.log(), "needs a restart").len(), 0);
}
