//! `newswire copy`: out of files into an engine for several nodes, and back, while subscribers keep their cursors.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::{Path, PathBuf};
use std::process::Output;

use newswire_street_tests::{EngineServer, NatsServer, RedisServer, ServerOptions, clients};
use serde_json::{Value, json};
use tempfile::TempDir;

const EVENTS: u64 = 2_500;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn copied(from: &Path, to: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = clients::run(&[&["copy", "--from", text(from), "--to", text(to)], more].concat());
    (output.status.code(), said(&output))
}

fn event(n: u64) -> Value {
    let channel = if n.is_multiple_of(3) { "agents" } else { "tasks" };
    json!({"channel": channel, "event_type": "test.copied", "event_id": format!("e-{n}"), "payload": {"n": n}})
}

/// A server that has published some, and stopped in order.
async fn original(dir: &Path) -> (Vec<Value>, String) {
    let mut server = ServerOptions::default().data_dir(dir).start();
    for from in (1..=EVENTS).step_by(500) {
        server.http().publish(&(from..from + 500).map(event).collect::<Vec<_>>()).await;
    }
    let (code, said) = copied(dir, &dir.with_extension("elsewhere"), &[]);
    assert!(code == Some(3) && said.contains("in use by a server; stop it first"), "{code:?} {said}");
    let epoch = server.http().get("/events").await.json()["epoch"].as_str().unwrap().to_owned();
    let log = server.http().history("").await;
    assert!(server.stop().success());
    (log, epoch)
}

/// A file that says where a log is that `server` keeps, and whose node has the directory of that name.
fn config(home: &TempDir, server: &EngineServer, log: &str) -> PathBuf {
    let (file, data) = (home.path().join(format!("{log}.toml")), home.path().join(log));
    std::fs::write(&file, format!("data_dir = {:?}\n{}", text(&data), server.lines(log))).unwrap();
    file
}

#[tokio::test]
async fn a_log_moves_to_several_nodes_and_back_and_nobody_notices() {
    let engines = [(); 2].map(|()| EngineServer::Nats(NatsServer::start()));
    moves_there_and_back(&engines, "stream other of JetStream").await;
}

#[tokio::test]
async fn a_log_moves_to_several_nodes_on_redis_and_back_and_nobody_notices() {
    let engines = [(); 2].map(|()| EngineServer::Redis(RedisServer::start()));
    moves_there_and_back(&engines, "the stream of Redis with the prefix other").await;
}

/// `other` is how people are told of the log `other`.
async fn moves_there_and_back([engine, another]: &[EngineServer; 2], other: &str) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("files");
    let (before, epoch) = original(&dir).await;
    let (to, elsewhere) = (config(&home, engine, "node"), config(&home, engine, "other"));
    let node = engine.node(ServerOptions::default().data_dir(home.path().join("node")), "node");

    let (code, said) = copied(&dir, &to, &[]);
    assert_eq!(code, Some(0), "{said}");
    let digest = |said: &str| said.split("BLAKE3 ").nth(1).unwrap()[..64].to_owned();
    let there = digest(&said);
    assert!(said.contains(&epoch) && said.contains("up to offset 2,500"), "{said}");
    let (code, said) = copied(&dir, &to, &[]);
    assert!(code == Some(1) && said.contains("there is a log already") && said.contains(&epoch), "{said}");

    let server = node.start();
    assert_eq!(server.http().history("").await, before);
    let mut socket = server.socket().await;
    let cursor = EVENTS - 100;
    socket.send(&json!({"action": "subscribe", "channels": ["*"], "after": cursor, "epoch": epoch})).await;
    let (told, _) = socket.until("caught_up").await;
    assert!(told.iter().all(|message| message["action"] != "gap"), "{told:?}");
    let offsets = told.iter().filter(|message| message["event_type"].is_string());
    let offsets: Vec<u64> = offsets.map(|event| event["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (cursor + 1..=EVENTS).collect::<Vec<_>>());
    let repeated = server.http().publish(&[event(EVENTS - 3), event(EVENTS + 1)]).await;
    assert!(repeated[0]["duplicate"] == true && repeated[0]["offset"] == EVENTS - 3, "{repeated:?}");
    let after = server.http().history("").await;
    assert_eq!(after[..before.len()], before);
    drop(server);

    let (code, said) = copied(&dir, &to, &["--verify-only"]);
    assert!(code == Some(0) && digest(&said) == there, "what came since does not count: {said}");
    let back = home.path().join("back");
    std::fs::create_dir(&back).unwrap();
    let (code, said) = copied(&to, &back, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!home.path().join("back.fetched").exists() && !home.path().join("back.moving").exists());
    let server = ServerOptions::default().data_dir(&back).start();
    assert_eq!(server.http().history("").await, after);
    assert_eq!(server.http().get("/events").await.json()["epoch"], epoch);
    drop(server);

    let (code, said) = copied(&to, &elsewhere, &[]);
    let last = after.last().unwrap()["offset"].as_u64().unwrap();
    let told = format!("{other}: 2,501 events, up to offset {},{:03}", last / 1000, last % 1000);
    assert!(code == Some(0) && said.contains(&told), "{code:?} {said}");
    assert!(!home.path().join("other/fetched").exists());

    let (code, said) = copied(&dir, &back, &[]);
    assert!(code == Some(1) && said.contains("is not empty"), "{code:?} {said}");
    let away = tempfile::tempdir().unwrap();
    let (code, said) = copied(&to, &config(&away, another, "node"), &[]);
    assert_eq!(code, Some(0), "to another server, under the same name: {said}");
    let (code, said) = copied(&to, &to, &[]);
    assert!(code == Some(1) && said.contains("both sides are the same"), "{code:?} {said}");
}

#[tokio::test]
async fn between_files_everything_goes_along() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    let (before, epoch) = original(&from).await;
    let (code, said) = copied(&from, &to, &[]);
    assert!(code == Some(0) && said.contains("0 revocations copied"), "{code:?} {said}");
    let server = ServerOptions::default().data_dir(&to).start();
    assert_eq!(server.http().history("").await, before);
    assert_eq!(server.http().get("/events").await.json()["epoch"], epoch);
    drop(server);
    // A server was killed there: what it left does not count as the end of a log.
    let (code, said) = copied(&to, &home.path().join("again"), &[]);
    assert!(code == Some(1) && said.contains("was not stopped in order"), "{code:?} {said}");
}

#[tokio::test]
async fn what_cannot_be_copied_is_said_before_anything_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let nothing = home.path().join("nothing");
    let (code, said) = copied(&nothing, &home.path().join("to"), &[]);
    assert!(code == Some(1) && said.contains("holds no log"), "{code:?} {said}");
    let (code, said) = copied(&nothing, &home.path().join("to.toml"), &[]);
    assert!(code == Some(2) && said.contains("there is no file"), "{code:?} {said}");
    let memory = home.path().join("memory.toml");
    std::fs::write(&memory, "[log]\nbackend = \"memory\"\n").unwrap();
    let (code, said) = copied(&memory, &home.path().join("to"), &[]);
    assert!(code == Some(2) && said.contains("log.backend = memory"), "{code:?} {said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}
