//! Live connections: they end in the moment their credential does, and go on when it is renewed.

use std::time::Duration;

use newswire_street_tests::{Heard, PATIENCE, Server, Socket, clients, data, eventually, process, within};
use serde_json::{Value, json};

use crate::support::*;

/// What the contract gives a revocation.
const SOON: Duration = Duration::from_secs(1);

fn short_lived(subject: &str, seconds: u64) -> String {
    token(&with(claims(subject, "publisher"), &json!({"exp": now() + seconds})))
}

async fn revoke(server: &Server, body: &Value) -> Value {
    post_as(server, &good("boss", "admin"), "/api/v1/admin/revoke", body).await.data()
}

#[tokio::test]
async fn a_connection_ends_when_its_token_expires_and_not_when_it_was_renewed() {
    let (_home, server) = server();
    let token = short_lived("sarah", 2);
    let (mut expiring, mut renewed) = (socket_as(&server, &token).await, socket_as(&server, &token).await);
    for socket in [&mut expiring, &mut renewed] {
        socket.subscribe(&["tasks"]).await;
    }
    let stream = server
        .http()
        .open("/api/v1/events/stream?channels=tasks", &[("authorization", &bearer(&token))])
        .await;
    assert_eq!(stream.status(), 200);
    assert_eq!(
        renewed.ask(&json!({"action": "auth", "token": short_lived("sarah", 60)})).await["action"],
        "auth_ok"
    );
    assert_eq!(expiring.ending().await, Heard::Close(4003, "the credentials have expired".into()));
    let _whatever_it_ends_with =
        tokio::time::timeout(PATIENCE, stream.bytes()).await.expect("the stream has ended");
    assert_eq!(publish_as(&server, &good("p", "publisher"), &data::task(1)).await.status, 200);
    renewed.event().await;
}

#[tokio::test]
async fn a_renewal_that_is_no_good_ends_the_connection() {
    let (_home, server) = server();
    let mut socket = socket_as(&server, &good("sarah", "observer")).await;
    socket.subscribe(&["tasks"]).await;
    socket.send(&json!({"action": "auth", "token": "nonsense"})).await;
    assert!(matches!(socket.ending().await, Heard::Close(4001, _)));
    // What one subscribed is not another's.
    let mut socket = socket_as(&server, &good("sarah", "observer")).await;
    socket.subscribe(&["tasks"]).await;
    socket.send(&json!({"action": "auth", "token": good("tom", "observer")})).await;
    assert!(matches!(socket.ending().await, Heard::Close(4003, _)));
}

#[tokio::test]
async fn another_role_counts_from_the_renewal_on() {
    let (_home, server) = server();
    let mut socket = socket_as(&server, &good("sarah", "observer")).await;
    socket.subscribe(&["agents"]).await;
    let publish =
        json!({"action": "publish", "channel": "tasks", "event_type": "task.created", "payload": {}});
    for (role, answer) in [("publisher", "published"), ("observer", "error"), ("admin", "published")] {
        assert_eq!(
            socket.ask(&json!({"action": "auth", "token": good("sarah", role)})).await["action"],
            "auth_ok"
        );
        assert_eq!(socket.ask(&publish).await["action"], answer, "{role}");
    }
}

#[tokio::test]
async fn revoking_an_identity_or_a_token_ends_what_stands_on_it() {
    let (_home, server) = server();
    for (body, name) in [(json!({"identity": "sarah"}), "sarah"), (json!({"token_id": "jti-tom"}), "tom")] {
        let token = good(name, "observer");
        let (mut socket, mut other) =
            (socket_as(&server, &token).await, socket_as(&server, &good("ann", "observer")).await);
        socket.subscribe(&["tasks"]).await;
        other.subscribe(&["tasks"]).await;
        let stream = server.http().open("/api/v1/events/stream", &[("authorization", &bearer(&token))]).await;
        assert_eq!(revoke(&server, &body).await, json!({"revoked": true, "closed": 2}));
        let ended = tokio::time::timeout(SOON, socket.ending()).await.expect("within a second");
        assert_eq!(ended, Heard::Close(4003, "the credentials were revoked".into()));
        let _broken_off = tokio::time::timeout(SOON, stream.bytes()).await.expect("within a second");
        assert_eq!(get_as(&server, &token, "/api/v1/events").await.problem(401), "unauthorized");
        publish_as(&server, &good("p", "publisher"), &data::task(1)).await;
        other.event().await;
        let lifted = json!({"identity": body["identity"], "token_id": body["token_id"], "revoked": false});
        assert_eq!(revoke(&server, &lifted).await["revoked"], false);
        assert_eq!(get_as(&server, &token, "/api/v1/events").await.status, 200);
    }
}

#[tokio::test]
async fn revocations_survive_a_restart() {
    let (_home, mut server) = server();
    revoke(&server, &json!({"identity": "sarah"})).await;
    server.restart();
    assert_eq!(
        get_as(&server, &good("sarah", "observer"), "/api/v1/events").await.problem(401),
        "unauthorized"
    );
    assert_eq!(get_as(&server, &good("tom", "observer"), "/api/v1/events").await.status, 200);
}

#[tokio::test]
async fn revocations_go_along_with_a_log_that_is_copied() {
    let (home, mut server) = server();
    publish_as(&server, &good("p", "publisher"), &data::task(1)).await;
    revoke(&server, &json!({"identity": "sarah"})).await;
    let from = server.data_dir();
    assert!(server.stop().success());
    let to = home.path().join("copied");
    let output = clients::run(&["copy", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 revocation copied"), "{said}");
    let server = options(&home).data_dir(to).start();
    let refused = get_as(&server, &good("sarah", "observer"), "/api/v1/events").await;
    assert_eq!(refused.problem(401), "unauthorized");
    assert_eq!(get_as(&server, &good("tom", "observer"), "/api/v1/events").await.status, 200);
}

/// One that reads nothing has bytes queued, the last of them in the middle of a frame: not one more may come out of the
/// server once its credential ended.
async fn nothing_more_comes(server: &Server, mut slow: Socket, end: impl AsyncFnOnce()) {
    slow.subscribe(&["tasks"]).await;
    let publisher = good("p", "publisher");
    let event: Value = serde_json::from_str(&data::sized("tasks", 60_000)).unwrap();
    let batch = Value::Array(vec![event; 100]);
    let admin = good("boss", "admin");
    within(PATIENCE, "the slow one has bytes that wait", async || {
        publish_as(server, &publisher, &batch).await;
        let connected = get_as(server, &admin, "/api/v1/connections").await.data();
        let slow = connected.as_array().unwrap().iter().find(|one| one["identity"] == "slow").cloned();
        slow.filter(|one| one["lagging"] == true)
    })
    .await;
    let sent_before = sent_bytes(server).await;
    end().await;
    within(PATIENCE, "the slow one is gone", async || {
        let connected = get_as(server, &admin, "/api/v1/connections").await.data();
        connected.as_array().unwrap().iter().all(|one| one["identity"] != "slow").then_some(())
    })
    .await;
    // It reads now: what had left the server before, and then the end, without a frame that was made later.
    assert!(
        matches!(slow.ending().await, Heard::Broken(_)),
        "cut in the middle of a frame, so there is no close frame"
    );
    assert_eq!(sent_bytes(server).await, sent_before, "bytes were written after the end");
}

async fn sent_bytes(server: &Server) -> String {
    let text = get_as(server, &good("boss", "admin"), "/metrics").await.body;
    let line = text.lines().find(|line| line.starts_with("newswire_sent_bytes_total"));
    line.unwrap_or_else(|| panic!("no such metric: {text}")).to_owned()
}

#[tokio::test]
async fn nothing_that_waits_is_written_after_a_revocation() {
    let (_home, server) = server();
    let slow = bearer(&good("slow", "observer"));
    let slow = Socket::open_narrow_with(server.addr, "/api/v1/ws", &[("authorization", &slow)]).await;
    nothing_more_comes(&server, slow, async || {
        assert_eq!(revoke(&server, &json!({"identity": "slow"})).await["closed"], 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_that_waits_is_written_after_the_expiry() {
    let (_home, server) = server();
    let slow = bearer(&short_lived("slow", 4));
    let slow = Socket::open_narrow_with(server.addr, "/api/v1/ws", &[("authorization", &slow)]).await;
    nothing_more_comes(&server, slow, async || {}).await;
}

#[tokio::test]
async fn a_key_that_is_gone_after_a_reload_takes_its_connections_along() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    let keys = |names: &[&str]| {
        let key = |name: &&str| format!("[auth.keys.{name}]\nhash = \"{KEY_HASH}\"\nrole = \"observer\"\n");
        names.iter().map(key).collect::<String>()
    };
    std::fs::write(&file, keys(&["ci", "cd"])).unwrap();
    let server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    let (mut ci, mut cd) =
        (socket_as(&server, KEY).await, socket_as(&server, &KEY.replace("ci", "cd")).await);
    ci.subscribe(&["tasks"]).await;
    cd.subscribe(&["tasks"]).await;
    std::fs::write(&file, keys(&["ci"])).unwrap();
    process::signal(server.pid(), "HUP");
    assert!(matches!(cd.ending().await, Heard::Close(4003, _)));
    assert_eq!(
        get_as(&server, &KEY.replace("ci", "cd"), "/api/v1/events").await.problem(401),
        "unauthorized"
    );
    assert_eq!(ci.ask(&json!({"action": "ping"})).await["action"], "pong", "the other one stands");
    // Neither the message about what was reloaded nor any other shows a hash.
    assert!(!server.stderr().contains(&KEY_HASH["sha256:".len()..]));
}

#[tokio::test]
async fn a_key_with_another_secret_leaves_nobody_on_the_old_one() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, format!("[auth.keys.ci]\nhash = \"{KEY_HASH}\"\n")).unwrap();
    let server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    let mut leaked = socket_as(&server, KEY).await;
    leaked.subscribe(&["tasks"]).await;
    std::fs::write(&file, format!("[auth.keys.ci]\nhash = \"sha256:{}\"\n", "0".repeat(64))).unwrap();
    process::signal(server.pid(), "HUP");
    assert!(matches!(leaked.ending().await, Heard::Close(4003, _)));
}

#[tokio::test]
async fn when_the_last_credential_is_withdrawn_everybody_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    let key = format!("[auth.keys.ci]\nhash = \"{KEY_HASH}\"\nrole = \"admin\"\n");
    // Where an open server could not even start, and where it could.
    for listen in [[0, 0, 0, 0], [127, 0, 0, 1]] {
        std::fs::write(&file, &key).unwrap();
        let server =
            Server::options().env("NEWSWIRE_CONFIG", file.display()).listen((listen, 0).into()).start();
        let mut socket = socket_as(&server, KEY).await;
        socket.subscribe(&["tasks"]).await;
        let ticket = post_as(&server, KEY, "/api/v1/auth/ws-ticket", &Value::Null).await.data();
        std::fs::write(&file, "").unwrap();
        process::signal(server.pid(), "HUP");
        assert!(matches!(socket.ending().await, Heard::Close(4003, _)), "{listen:?}");
        assert_eq!(get_as(&server, KEY, "/api/v1/events").await.problem(401), "unauthorized");
        assert_eq!(server.http().get("/events").await.problem(401), "unauthorized", "it is not open now");
        let path = format!("/api/v1/ws?ticket={}", ticket["ticket"].as_str().unwrap());
        assert!(Socket::try_open(server.addr, &path).await.err().unwrap().contains("401"));
        let mut silent = server.socket().await;
        silent.send(&json!({"action": "subscribe", "channels": ["tasks"]})).await;
        assert!(matches!(silent.ending().await, Heard::Close(4001, _)));
        assert!(server.stderr().contains("no credential is left"), "{}", server.stderr());
        std::fs::write(&file, &key).unwrap();
        process::signal(server.pid(), "HUP");
        eventually("the key counts again", async || {
            (get_as(&server, KEY, "/api/v1/events").await.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_revocation_may_end_by_itself_and_no_earlier() {
    let (_home, mut server) = server();
    // Expired long ago, as it is said: nothing is left to revoke. In the future: restarts included.
    for (name, expires_at, status) in [("old", 1_577_836_800, 200), ("new", 4_102_444_800_u64, 401)] {
        let body = json!({"token_id": format!("jti-{name}"), "expires_at": expires_at});
        assert_eq!(revoke(&server, &body).await["revoked"], true);
        for _ in 0..2 {
            assert_eq!(
                get_as(&server, &good(name, "observer"), "/api/v1/events").await.status,
                status,
                "{name}"
            );
            server.restart();
        }
    }
    for bad in [json!(-1), json!("tomorrow"), json!([7])] {
        let body = json!({"token_id": "x", "expires_at": bad});
        let answer = post_as(&server, &good("boss", "admin"), "/api/v1/admin/revoke", &body).await;
        assert_eq!(answer.problem(400), "bad_request", "{bad}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_says_that_it_keeps_no_revocations() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("log.backend", "memory").start();
    eventually("it says so", async || {
        server.stderr().contains("what was revoked counts again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_open_server_keeps_its_guard_though_a_reload_names_credentials() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, "").unwrap();
    let server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    std::fs::write(&file, format!("[auth.keys.ci]\nhash = \"{KEY_HASH}\"\n")).unwrap();
    process::signal(server.pid(), "HUP");
    eventually("the reload is refused", async || {
        let said = server.stderr();
        (said.contains("nothing is reloaded") && said.contains("restart it")).then_some(())
    })
    .await;
    let port = server.addr.port();
    for (host, origin) in [
        (format!("evil.example:{port}"), format!("http://evil.example:{port}")),
        (server.addr.to_string(), "http://evil.example".to_owned()),
    ] {
        let headers = [("host", host.as_str()), ("origin", origin.as_str())];
        server.http().send("GET", "/api/v1/connections", &headers, "").await.problem(403);
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_leave_everything_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, format!("[auth.keys.ci]\nhash = \"{KEY_HASH}\"\n")).unwrap();
    let server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    let bad = "[cors]\norigins = [\"http://app.example\"]\n[auth.keys.ci]\nhash = \"sha256:none\"\n";
    std::fs::write(&file, bad).unwrap();
    process::signal(server.pid(), "HUP");
    eventually("the reload is refused", async || {
        server.stderr().contains("nothing is reloaded").then_some(())
    })
    .await;
    let headers = [("authorization", bearer(KEY)), ("origin", "http://app.example".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.http().send("GET", "/api/v1/events", &headers, "").await.problem(403);
    assert_eq!(get_as(&server, KEY, "/api/v1/events").await.status, 200, "the key counts on");
}
