//! Secrets that are planted everywhere come out nowhere.

use std::path::Path;

use newswire_street_tests::{PATIENCE, Server, Socket, binary, data, process, within};
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

/// What the program says, started in a directory of its own: some of what is tried here gets as far as making its data.
fn newswire_in(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(binary::newswire());
    command.args(arguments).envs(environment.iter().copied()).current_dir(home);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn no_secret_stands_in_a_log_an_error_a_metric_or_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let newswire =
        |arguments: &[&str], environment: &[(&str, &str)]| newswire_in(home.path(), arguments, environment);
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
    sign_in_and_out(&server, &mut found).await;
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
    found.plant("the password of a provider", "pass-of-the-provider");
    for bad in [
        format!("[auth.keys.ci]\nhash = [\"{hash}\"]\n"),
        format!("[auth.keys]\nci = \"sha256:{hash}\"\n"),
        format!("[auth]\nkeys = \"{key}\"\n"),
        format!("[auth.keys.ci]\nhash = \"sha256:{hash}\nrole = \"admin\"\n"),
        format!("[auth.keys.ci]\nhash = \"{key}\"\n"),
        "[auth.jwt]\njwks_url = \"https://me:pass-of-the-provider@idp.example/keys\"\n".to_owned(),
        "[telemetry]\nendpoint = \"http://me:pass-of-the-provider@127.0.0.1:4318\"\n".to_owned(),
    ] {
        std::fs::write(&config, bad).unwrap();
        found.print("a bad configuration", newswire(&["serve", "--listen", "127.0.0.1:0"], &environment));
    }
    std::fs::write(&config, "[auth.jwt]\njwks_url = \"https://idp.example/keys?key=pass-of-the-provider\"\n")
        .unwrap();
    found.print("--print-config", newswire(&["serve", "--print-config"], &environment));
    std::fs::write(&config, "").unwrap();
    for set in [format!("auth.keys.ci.hash:sha256:{hash}"), format!("auth.keys.ci=sha256:{hash}")] {
        found.print("a bad flag", newswire(&["serve", "--set", &set], &environment));
    }
    let private = std::fs::read_to_string(file("rsa.pem")).unwrap();
    found.plant("a private key", private.lines().nth(1).unwrap());
    for name in ["auth.jwt.keys_file", "auth.jwt.secret_file"] {
        let set = format!("{name}={}", file("rsa.pem").display());
        let serve = ["serve", "--listen", "127.0.0.1:0", "--set", "log.backend=memory", "--set", &set];
        found.print("a key in the wrong place", newswire(&serve, &environment));
    }
    for shown in [&wrong, &made_up] {
        let shown = [("NEWSWIRE_TOKEN", shown.as_str()), ("NEWSWIRE_URL", url.as_str())];
        found.print("the client", newswire(&["export"], &shown));
    }
    found.print("the log", server.stderr());
    found.check();
}

/// A browser's whole life, and what it is told in it.
async fn sign_in_and_out(server: &Server, found: &mut Found) {
    let code = server.printed("sign a browser in").await.split_once("code=").unwrap().1.trim().to_owned();
    let code = found.plant("the code that signs a browser in", &code);
    let origin = format!("http://{}", server.addr);
    let form = [("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.post(format!("{origin}/signin")).body(format!("code={code}"));
    for (name, value) in form {
        request = request.header(name, value);
    }
    let set = request.send().await.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
    let (name, session) = set.split(';').next().unwrap().split_once('=').unwrap();
    let cookie = format!("{name}={}", found.plant("the session of a browser", session));
    let own = [("cookie", cookie.as_str()), ("origin", origin.as_str())];
    let http = server.http();
    found.print(
        "what a browser sees",
        http.send("GET", "/api/v1/connections", &own, "").await.body + " (nobody)",
    );
    let again = http.send("POST", "/signin", &form, format!("code={code}")).await;
    found.print("the answer to a code that was used", again.body);
    found.print("signing out", http.send("POST", "/api/v1/auth/sign-out", &own, "").await.body);
    found.print("a session that is over", http.send("GET", "/api/v1/connections", &own, "").await.body);
}

fn token_of(subject: &str, changes: &Value) -> String {
    token(&with(claims(subject, "admin"), changes))
}
