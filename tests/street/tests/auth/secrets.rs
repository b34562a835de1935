//! Secrets that are planted everywhere come out nowhere.

use newswire_street_tests::{PATIENCE, Socket, binary, data, process, within};
use serde_json::{Value, json};

use crate::support::*;

/// What a test planted, and what everybody printed.
#[derive(Default)]
struct Found {
    planted: Vec<(&'static str, String)>,
    printed: Vec<(&'static str, String)>,
}

impl Found {
    fn plant(&mut self, name: &'static str, secret: &str) -> String {
        self.planted.push((name, secret.to_owned()));
        secret.to_owned()
    }

    fn print(&mut self, place: &'static str, text: String) {
        self.printed.push((place, text));
    }

    fn check(&self) {
        assert!(self.printed.iter().all(|(_, text)| text.len() > 10), "somebody said nothing");
        for (name, secret) in &self.planted {
            for (place, text) in &self.printed {
                assert!(!text.contains(secret.as_str()), "{name} stands in {place}:\n{text}");
            }
        }
    }
}

fn newswire(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(binary::newswire());
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn no_secret_stands_in_a_log_an_error_a_metric_or_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let mut found = Found::default();
    found.plant("the secret of tokens", SECRET);
    let hash = found.plant("the hash of a key", &KEY_HASH["sha256:".len()..]);
    let config = home.path().join("newswire.toml");
    std::fs::write(&config, format!("[auth.keys.ci]\nhash = \"sha256:{hash}\"\n")).unwrap();
    let path = config.display().to_string();
    // Everything that any part of the program has to say.
    let options = options(&home).env("NEWSWIRE_CONFIG", &path).set("logging.level", "trace");
    let server = options.start();
    let token = found.plant("a token", &good("sarah", "admin"));
    let key = found.plant("a key", KEY);
    let expired = token_of("expired", &json!({"exp": now() - 60}));
    let wrong = found.plant("a bad token", &expired);
    let made_up = found.plant("a made-up key", "nw_ci_wrong-and-long-enough");
    found.plant("the secret of a key", "let-me-in");

    for shown in [&token, &key, &wrong, &made_up] {
        found.print("an answer", get_as(&server, shown, "/api/v1/events").await.body);
        found.print("an answer", publish_as(&server, shown, &data::task(1)).await.body);
        found.print(
            "the answer to it in an address",
            server.http().get(&format!("/events?token={shown}")).await.body,
        );
        let mut socket = server.socket().await;
        socket.send(&json!({"action": "auth", "token": shown})).await;
        found.print("what a socket heard", format!("{:?}", socket.hear().await));
        let refused =
            Socket::try_open_with(server.addr, "/api/v1/ws", &[("authorization", &bearer(shown))]).await;
        found.print("the answer to an upgrade", format!("{:?}", refused.err()) + " of an upgrade");
    }
    let ticket = post_as(&server, &token, "/api/v1/auth/ws-ticket", &Value::Null).await.data();
    let ticket = found.plant("a ticket", ticket["ticket"].as_str().unwrap());
    let _by_ticket = server.socket_at(&format!("/api/v1/ws?ticket={ticket}&channels=tasks")).await;
    let cookie = found.plant("a cookie", "a-cookie-that-somebody-made-up");
    let headers = [("cookie", format!("newswire_session_{}={cookie}", server.addr.port()))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    found.print(
        "the answer to a cookie",
        server.http().send("GET", "/api/v1/events", &headers, "").await.body,
    );

    std::fs::write(&config, "[auth.keys.other]\nhash = \"sha256:00\"\n").unwrap();
    process::signal(server.pid(), "HUP");
    within(PATIENCE, "the reload is refused", async || {
        server.stderr().contains("nothing is reloaded").then_some(())
    })
    .await;
    std::fs::write(&config, format!("[auth.keys.ci]\nhash = \"sha256:{hash}\"\nrole = \"admin\"\n")).unwrap();
    process::signal(server.pid(), "HUP");
    within(PATIENCE, "the reload is done", async || {
        (get_as(&server, &key, "/api/v1/connections").await.status == 200).then_some(())
    })
    .await;

    found.print("the connections", get_as(&server, &token, "/api/v1/connections").await.body);
    found.print("the metrics", get_as(&server, &token, "/metrics").await.body);
    found.print("the health", get_as(&server, &token, "/api/v1/health").await.body);
    let url = format!("http://{}", server.addr);
    let (environment, secret) = ([("NEWSWIRE_CONFIG", path.as_str())], home.path().join("secret"));
    let set = format!("auth.jwt.secret_file={}", secret.display());
    found.print("--print-config", newswire(&["serve", "--print-config", "--set", &set], &environment));
    found.print("config check", newswire(&["config", "check", "--set", &set], &environment));
    std::fs::write(&config, format!("[auth.keys.ci]\nhash = [\"{hash}\"]\n")).unwrap();
    found.print("a bad configuration", newswire(&["serve"], &environment));
    for shown in [&wrong, &made_up] {
        let shown = [("NEWSWIRE_TOKEN", shown.as_str()), ("NEWSWIRE_URL", url.as_str())];
        found.print("the client", newswire(&["export"], &shown));
    }
    found.print("the log", server.stderr());
    found.check();
}

fn token_of(subject: &str, changes: &Value) -> String {
    token(&with(claims(subject, "admin"), changes))
}
