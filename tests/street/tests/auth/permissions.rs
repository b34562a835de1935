//! What claims and roles of the configuration say about channels, rows and payloads, on the ways that lead to events.

use newswire_street_tests::{Heard, Server, process};
use serde_json::{Value, json};

use crate::support::*;

/// The claim of one who works on project a and may not see what it costs.
fn worker() -> String {
    let claim = json!({"newswire": {"role": "publisher", "subscribe": ["tasks"], "publish": ["messages"],
        "history": ["tasks"], "rows": {"project": ["a"]}, "masked": ["cost"]}});
    token(&with(claims("worker", "observer"), &claim))
}

fn task(channel: &str, project: &str) -> Value {
    json!({"channel": channel, "event_type": "task.created", "payload": {"project": project, "cost": 7}})
}

async fn stored(server: &Server, token: &str, event: &Value) -> Value {
    publish_as(server, token, event).await.data()["results"][0].clone()
}

#[tokio::test]
async fn a_claim_restricts_what_its_bearer_does_and_sees() {
    let (_home, server) = server();
    let (boss, worker) = (good("boss", "admin"), worker());
    for (channel, project) in [("tasks", "b"), ("tasks", "a"), ("budget", "a")] {
        assert!(stored(&server, &boss, &task(channel, project)).await["offset"].is_u64());
    }
    let shown = json!({"project": "a", "cost": null});
    // The past, by page, by number and by replay; then live.
    let page = get_as(&server, &worker, "/api/v1/events?channels=tasks").await.data();
    let payloads: Vec<&Value> = page.as_array().unwrap().iter().map(|event| &event["payload"]).collect();
    assert_eq!(payloads, [&shown]);
    for (offset, status) in [(1, 404), (2, 200), (3, 404)] {
        let path = format!("/api/v1/events/{offset}");
        assert_eq!(get_as(&server, &worker, &path).await.status, status, "{offset}");
    }
    let mut socket = socket_as(&server, &worker).await;
    let wanted = json!({"action": "subscribe", "channels": ["tasks", "budget"], "after": 0});
    let answer = socket.ask(&wanted).await;
    assert_eq!(answer["channels"], json!(["tasks"]));
    assert_eq!(answer["rejected"], json!([{"channel": "budget", "reason": "forbidden"}]));
    assert_eq!(socket.event().await["payload"], shown);
    assert_eq!(socket.next().await["action"], "caught_up");
    for (project, channel) in [("b", "tasks"), ("a", "budget"), ("a", "tasks")] {
        stored(&server, &boss, &task(channel, project)).await;
    }
    let live = socket.event().await;
    assert_eq!((&live["offset"], &live["payload"]), (&json!(6), &shown));
    // What is masked cannot be asked for by its value.
    assert_eq!(
        get_as(&server, &worker, "/api/v1/events?channels=tasks&cost=7").await.problem(403),
        "forbidden"
    );
    let guess = json!({"action": "subscribe", "channels": ["tasks"], "filters": {"cost": 7}});
    assert_eq!(socket.ask(&guess).await["code"], "forbidden");
    assert_eq!(stored(&server, &worker, &task("tasks", "a")).await["code"], "forbidden");
    assert!(stored(&server, &worker, &task("messages", "a")).await["offset"].is_u64());
}

#[tokio::test]
async fn a_channel_of_a_user_is_its_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("arbitrary_channels_allowed", true).start();
    let (sarah, boss) = (good("sarah", "publisher"), good("boss", "admin"));
    let event = json!({"channel": "user:sarah", "event_type": "message.sent", "payload": {}});
    assert!(stored(&server, &sarah, &event).await["offset"].is_u64());
    assert_eq!(stored(&server, &boss, &event).await["code"], "forbidden");
    assert_eq!(get_as(&server, &sarah, "/api/v1/events/1").await.status, 200);
    assert_eq!(get_as(&server, &boss, "/api/v1/events/1").await.status, 404);
    let mut hers = socket_as(&server, &sarah).await;
    assert_eq!(hers.subscribe(&["user:sarah"]).await["channels"], json!(["user:sarah"]));
    let mut others = socket_as(&server, &boss).await;
    let answer = others.subscribe(&["user:sarah", "tasks", "*"]).await;
    assert_eq!(answer["rejected"], json!([{"channel": "user:sarah", "reason": "forbidden"}]));
    stored(&server, &sarah, &event).await;
    stored(&server, &boss, &task("tasks", "a")).await;
    assert_eq!(hers.event().await["offset"], 2);
    assert_eq!(others.event().await["offset"], 3, "no pattern stands for it");
}

#[tokio::test]
async fn a_role_that_changes_ends_those_who_stand_on_it_and_nobody_else() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    let write = |channels: &str| {
        let roles = format!("[auth.roles.viewer]\nsubscribe = {channels}\nhistory = {channels}\n");
        let keys = [("ci", "viewer"), ("cd", "publisher")]
            .map(|(name, role)| format!("[auth.keys.{name}]\nhash = \"{KEY_HASH}\"\nrole = \"{role}\"\n"));
        std::fs::write(&file, roles + &keys.concat()).unwrap();
    };
    write("[\"tasks\"]");
    let server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    let publisher = KEY.replace("ci", "cd");
    let (mut viewer, mut other) = (socket_as(&server, KEY).await, socket_as(&server, &publisher).await);
    assert_eq!(viewer.subscribe(&["tasks", "agents"]).await["channels"], json!(["tasks"]));
    other.subscribe(&["tasks"]).await;
    write("[\"agents\"]");
    process::signal(server.pid(), "HUP");
    assert!(matches!(viewer.ending().await, Heard::Close(4003, _)));
    let mut again = socket_as(&server, KEY).await;
    assert_eq!(again.subscribe(&["tasks", "agents"]).await["channels"], json!(["agents"]));
    assert_eq!(stored(&server, &publisher, &task("tasks", "a")).await["offset"], 1);
    other.event().await;
}
