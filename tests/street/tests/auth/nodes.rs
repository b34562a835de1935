//! Several nodes on one log: what one of them is told about somebody counts on all.

use std::time::{Duration, Instant};

use newswire_street_tests::{EngineServer, Heard, NatsServer, RedisServer, Server, Socket, eventually};
use serde_json::{Value, json};

use crate::support::*;

fn nodes(engine: &EngineServer) -> (tempfile::TempDir, [Server; 2]) {
    let home = tempfile::tempdir().unwrap();
    let nodes = [(); 2].map(|()| engine.node(options(&home), "newswire").start());
    (home, nodes)
}

fn nats() -> EngineServer {
    EngineServer::Nats(NatsServer::start())
}

fn redis() -> EngineServer {
    EngineServer::Redis(RedisServer::start())
}

fn task(id: &str) -> Value {
    json!({"channel": "tasks", "event_type": "task.created", "event_id": id, "payload": {"id": id}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_is_good_on_another_and_once() {
    ticket_counts_once(nats()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_is_good_on_another_and_once_on_redis() {
    ticket_counts_once(redis()).await;
}

async fn ticket_counts_once(engine: EngineServer) {
    let (_home, [one, other]) = nodes(&engine);
    let sarah = good("sarah", "observer");
    let answer = post_as(&one, &sarah, "/api/v1/auth/ws-ticket", &json!({})).await.data();
    let ticket = answer["ticket"].as_str().unwrap();
    let mut socket = other.socket().await;
    assert_eq!(socket.ask(&json!({"action": "auth", "ticket": ticket})).await["action"], "auth_ok");
    let connected = get_as(&other, &good("boss", "admin"), "/api/v1/connections").await.data();
    assert!(connected.as_array().unwrap().iter().any(|one| one["identity"] == "sarah"), "{connected}");
    for node in [&one, &other] {
        let mut again = node.socket().await;
        again.send(&json!({"action": "auth", "ticket": ticket})).await;
        assert!(matches!(again.ending().await, Heard::Close(4001, _)), "it was used");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_on_one_node_closes_what_is_open_on_all_within_a_second() {
    revocation_counts_everywhere(nats()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_on_one_node_closes_what_is_open_on_all_within_a_second_on_redis() {
    revocation_counts_everywhere(redis()).await;
}

async fn revocation_counts_everywhere(engine: EngineServer) {
    let (_home, [one, other]) = nodes(&engine);
    let (sarah, boss) = (good("sarah", "observer"), good("boss", "admin"));
    let mut hers = [socket_as(&one, &sarah).await, socket_as(&other, &sarah).await];
    let mut his = socket_as(&other, &boss).await;
    for socket in hers.iter_mut().chain([&mut his]) {
        socket.subscribe(&["tasks"]).await;
    }
    let begun = Instant::now();
    let answer = post_as(&one, &boss, "/api/v1/admin/revoke", &json!({"identity": "sarah"})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for socket in &mut hers {
        assert!(matches!(socket.ending().await, Heard::Close(4003, _)));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(get_as(&other, &sarah, "/api/v1/events").await.status, 401, "nor does it open anything");
    publish_as(&other, &boss, &task("a")).await;
    assert_eq!(his.event().await["event_id"], "a", "nobody else is concerned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_resume_on_another_node_and_publish_again_there() {
    clients_move(nats()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_resume_on_another_node_and_publish_again_there_on_redis() {
    clients_move(redis()).await;
}

async fn clients_move(mut engine: EngineServer) {
    let (_home, [one, other]) = nodes(&engine);
    let boss = good("boss", "admin");
    let mut socket = socket_as(&one, &boss).await;
    socket.subscribe(&["tasks"]).await;
    let mut seen = Vec::new();
    for id in ["a", "b", "c"] {
        let stored = publish_as(&one, &boss, &task(id)).await.data()["results"][0].clone();
        let repeated = publish_as(&other, &boss, &task(id)).await.data()["results"][0].clone();
        assert_eq!((&repeated["offset"], &repeated["duplicate"]), (&stored["offset"], &json!(true)));
        seen.push(socket.event().await);
    }
    assert_eq!(get_as(&other, &boss, "/api/v1/events").await.json()["data"], json!(seen));
    let epoch = get_as(&one, &boss, "/api/v1/events").await.json()["epoch"].clone();
    // Beyond the end of the other node at this moment, perhaps: it waits until it has it.
    let last = seen[2]["offset"].clone();
    let mut resumed = socket_as(&other, &boss).await;
    let ask = json!({"action": "subscribe", "channels": ["tasks"], "after": last, "epoch": epoch});
    assert_eq!(resumed.ask(&ask).await["recovered"], true);
    // The servers go away for a while: health says so, subscribers stay, and publishers may send again.
    engine.daemon().kill();
    eventually("health says so", async || {
        let health = get_as(&one, &boss, "/api/v1/health").await.json();
        (health["data"]["bus"] == json!({"engine": engine.name(), "status": "behind"})).then_some(())
    })
    .await;
    let refused = publish_as(&one, &boss, &task("d")).await;
    assert_eq!(refused.problem(503), "storage_unavailable");
    engine.restart();
    let stored = eventually("it is there again", async || {
        let answer = publish_as(&other, &boss, &task("d")).await;
        (answer.status == 200).then(|| answer.data()["results"][0]["offset"].clone())
    })
    .await;
    for socket in [&mut socket, &mut resumed] {
        let event = next_event(socket).await;
        assert_eq!((&event["event_id"], &event["offset"]), (&json!("d"), &stored), "once, on both nodes");
    }
    eventually("and it follows", async || {
        (get_as(&one, &boss, "/api/v1/health/ready").await.status == 200).then_some(())
    })
    .await;
}

/// What comes next but signs of life and of the position.
async fn next_event(socket: &mut Socket) -> Value {
    loop {
        let next = socket.next().await;
        if next.get("event_type").is_some() {
            return next;
        }
    }
}
