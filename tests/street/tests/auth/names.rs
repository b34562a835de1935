//! Nobody becomes somebody else by choosing a name.

use newswire_street_tests::{Heard, binary};
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn a_key_and_a_token_of_one_name_are_two_identities() {
    let home = tempfile::tempdir().unwrap();
    let options = options(&home).set("auth.keys.ci.hash", KEY_HASH).set("arbitrary_channels_allowed", true);
    let server = options.start();
    let (key, token) = (KEY.to_owned(), good("ci", "publisher"));
    let event = |channel: &str, n: u64| json!({"channel": channel, "event_type": "x", "event_id": "same", "payload": {"n": n}});
    let stored = async |who: &str, channel: &str, n: u64| {
        publish_as(&server, who, &event(channel, n)).await.data()["results"][0].clone()
    };
    // Ids of events are each one's own.
    for (who, n) in [(&key, 1), (&token, 2)] {
        assert_eq!(stored(who, "tasks", n).await["offset"], n);
    }
    for (who, own, other) in [(&key, "user:key:ci", "user:ci"), (&token, "user:ci", "user:key:ci")] {
        assert_eq!(stored(who, other, 3).await["code"], "forbidden", "{other}");
        let event = json!({"channel": own, "event_type": "x", "payload": {}});
        assert!(publish_as(&server, who, &event).await.data()["results"][0]["offset"].is_u64(), "{own}");
        let mut socket = socket_as(&server, who).await;
        let answer = socket.subscribe(&[own, other]).await;
        assert_eq!(answer["channels"], json!([own]));
    }
    // To take one back leaves the other.
    let boss = good("boss", "admin");
    let (mut of_key, mut of_token) = (socket_as(&server, &key).await, socket_as(&server, &token).await);
    let connected = get_as(&server, &boss, "/api/v1/connections").await.data();
    let names: Vec<&Value> = connected.as_array().unwrap().iter().map(|one| &one["identity"]).collect();
    assert_eq!(names, ["key:ci", "ci"]);
    post_as(&server, &boss, "/api/v1/admin/revoke", &json!({"identity": "ci"})).await.data();
    assert!(matches!(of_token.ending().await, Heard::Close(4003, _)));
    assert_eq!(of_key.ask(&json!({"action": "ping"})).await["action"], "pong");
    assert_eq!(get_as(&server, &key, "/api/v1/events").await.status, 200);
    assert_eq!(get_as(&server, &token, "/api/v1/events").await.status, 401);
    post_as(&server, &boss, "/api/v1/admin/revoke", &json!({"identity": "key:ci"})).await.data();
    assert!(matches!(of_key.ending().await, Heard::Close(4003, _)));
}

#[test]
fn the_command_line_makes_no_token_that_would_not_be_taken() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    for (subject, code) in [("sarah", 0), ("key:ci", 2), ("anonymous", 2), ("browser:operator", 2)] {
        let mut command = std::process::Command::new(binary::newswire());
        let output =
            command.args(["token", "jwt", "--subject", subject, "--secret-file"]).arg(&secret).output();
        let output = output.unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{subject}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
