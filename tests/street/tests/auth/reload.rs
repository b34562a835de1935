//! Keys and permissions that change, and a restart, while everybody publishes and listens: whoever stands on what has changed
//! is sent away, and nobody else; and nobody misses anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use newswire_street_tests::{Heard, Server, Socket, eventually, process};
use serde_json::{Value, json};

use crate::support::*;

const ROUNDS: usize = 6;
/// Events that have to be stored while something changes.
const PROGRESS: usize = 20;

/// The key of this name: all have the secret of [`KEY`].
fn key(name: &str) -> String {
    KEY.replace("ci", name)
}

/// What the server goes by: with the key that comes and goes, or without, and the channels of those who view.
fn configure(file: &Path, with_doomed: bool, channels: &str) {
    let roles = format!("[auth.roles.viewer]\nsubscribe = [\"{channels}\"]\nhistory = [\"{channels}\"]\n");
    let doomed = with_doomed.then_some(("doomed", "observer"));
    let keys =
        [("steady", "publisher"), ("watcher", "observer"), ("viewer", "viewer")].into_iter().chain(doomed);
    let keys =
        keys.map(|(name, role)| format!("[auth.keys.{name}]\nhash = \"{KEY_HASH}\"\nrole = \"{role}\"\n"));
    std::fs::write(file, roles + &keys.collect::<String>()).unwrap();
}

/// What publishers and watchers share.
#[derive(Default)]
struct Load {
    /// Nobody is to be blamed for what fails now.
    restarting: AtomicBool,
    /// Publishers are to end.
    enough: AtomicBool,
    /// They have.
    over: AtomicBool,
    /// Offsets that publishers were told.
    stored: Mutex<Vec<u64>>,
}

impl Load {
    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::SeqCst)
    }

    /// Whether this is everything there will be.
    fn is_all(&self, offsets: &[u64]) -> bool {
        self.over.load(Ordering::SeqCst) && self.stored.lock().unwrap().iter().max() <= offsets.last()
    }

    fn count(&self) -> usize {
        self.stored.lock().unwrap().len()
    }

    async fn goes_on(&self) {
        let before = self.count();
        eventually("publishers go on", async || (self.count() >= before + PROGRESS).then_some(())).await;
    }
}

async fn connect(addr: SocketAddr, name: &str) -> Socket {
    let shown = bearer(&key(name));
    eventually("it connects", async || {
        Socket::try_open_with(addr, "/api/v1/ws", &[("authorization", &shown)]).await.ok()
    })
    .await
}

fn event(id: &str) -> Value {
    json!({"channel": "tasks", "event_type": "task.created", "event_id": id, "payload": {}})
}

/// Publishes over HTTP, each event until it is stored.
async fn publish_by_http(addr: SocketAddr, load: Arc<Load>) {
    let client = reqwest::Client::new();
    let mut n = 0_u64;
    while !load.is_enough() {
        n += 1;
        let body = event(&format!("http-{n}")).to_string();
        loop {
            let excused = load.restarting.load(Ordering::SeqCst);
            let request = client.post(format!("http://{addr}/api/v1/events")).body(body.clone());
            let request = request.header("authorization", bearer(&key("steady")));
            let answer = match request.header("content-type", "application/json").send().await {
                Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
                Err(_) => Value::Null,
            };
            if let Some(offset) = answer["data"]["results"][0]["offset"].as_u64() {
                load.stored.lock().unwrap().push(offset);
                break;
            }
            assert!(excused || load.restarting.load(Ordering::SeqCst), "{answer}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// Publishes over one WebSocket, which stands until the server stops.
async fn publish_by_socket(addr: SocketAddr, load: Arc<Load>) {
    let mut socket = connect(addr, "steady").await;
    let mut n = 0_u64;
    while !load.is_enough() {
        n += 1;
        let mut command = event(&format!("socket-{n}"));
        command["action"] = json!("publish");
        loop {
            let sent = socket.try_send(&command.to_string()).await;
            let answer =
                if sent.is_ok() { socket.try_next().await } else { Err(Heard::Broken(String::new())) };
            match answer {
                Ok(answer) => {
                    load.stored.lock().unwrap().push(answer["offset"].as_u64().expect("it is stored"));
                    break;
                }
                Err(ending) => {
                    assert!(
                        load.restarting.load(Ordering::SeqCst),
                        "the publisher's connection fell: {ending:?}"
                    );
                    socket = connect(addr, "steady").await;
                }
            }
        }
    }
}

/// Reads everything from the beginning over one WebSocket, which stands until the server stops; gives the offsets and how
/// often it had to connect.
async fn watch(addr: SocketAddr, load: Arc<Load>) -> (Vec<u64>, usize) {
    let (mut offsets, mut connected) = (Vec::new(), 0);
    while !load.is_all(&offsets) {
        let mut socket = connect(addr, "watcher").await;
        connected += 1;
        let after = offsets.last().copied().unwrap_or(0);
        let _ = socket
            .try_send(&json!({"action": "subscribe", "channels": ["tasks"], "after": after}).to_string())
            .await;
        while !load.is_all(&offsets) {
            match socket.try_next().await {
                Ok(message) => offsets
                    .extend(message["event_type"].is_string().then(|| message["offset"].as_u64().unwrap())),
                Err(Heard::Close(1001, _)) => break,
                Err(ending) => {
                    assert!(
                        load.restarting.load(Ordering::SeqCst),
                        "a watcher's connection fell: {ending:?}"
                    );
                    break;
                }
            }
        }
    }
    (offsets, connected)
}

/// Takes the key away and gives the viewers other channels, and both back.
async fn change_and_change_back(server: &Server, file: &Path, load: &Load, round: usize) {
    let (before, after) = if round.is_multiple_of(2) { ("tasks", "agents") } else { ("agents", "tasks") };
    let mut doomed = [connect(server.addr, "doomed").await, connect(server.addr, "doomed").await];
    doomed[0].subscribe(&["tasks"]).await;
    let mut viewer = connect(server.addr, "viewer").await;
    assert_eq!(viewer.subscribe(&["tasks", "agents"]).await["channels"], json!([before]));
    load.goes_on().await;
    configure(file, false, after);
    process::signal(server.pid(), "HUP");
    for (which, socket) in [("that listens", &mut doomed[0]), ("viewing", &mut viewer)] {
        assert!(matches!(socket.ending().await, Heard::Close(4003, _)), "one {which}");
    }
    let [_, idle] = &mut doomed;
    assert!(matches!(idle.ending().await, Heard::Close(4003, _)), "one that does nothing");
    assert_eq!(get_as(server, &key("doomed"), "/api/v1/events").await.problem(401), "unauthorized");
    load.goes_on().await;
    configure(file, true, after);
    process::signal(server.pid(), "HUP");
    eventually("the key counts again", async || {
        (get_as(server, &key("doomed"), "/api/v1/events").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_reloads_and_a_restart_end_what_should_fall_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let file: PathBuf = home.path().join("newswire.toml");
    configure(&file, true, "tasks");
    let mut server = Server::options().env("NEWSWIRE_CONFIG", file.display()).start();
    let (addr, load) = (server.addr, Arc::new(Load::default()));
    let publishers = [
        tokio::spawn(publish_by_http(addr, Arc::clone(&load))),
        tokio::spawn(publish_by_socket(addr, Arc::clone(&load))),
    ];
    let watchers: Vec<_> = (0..3).map(|_| tokio::spawn(watch(addr, Arc::clone(&load)))).collect();
    for round in 0..ROUNDS {
        change_and_change_back(&server, &file, &load, round).await;
    }
    // The file changes while the server is down, too.
    let mut doomed = connect(addr, "doomed").await;
    doomed.subscribe(&["tasks"]).await;
    load.restarting.store(true, Ordering::SeqCst);
    tokio::task::block_in_place(|| {
        assert!(server.stop().success());
        configure(&file, false, "tasks");
        server.restart();
    });
    assert!(matches!(doomed.ending().await, Heard::Close(1001, _)));
    assert_eq!(get_as(&server, &key("doomed"), "/api/v1/events").await.problem(401), "unauthorized");
    load.goes_on().await;
    load.restarting.store(false, Ordering::SeqCst);
    load.goes_on().await;
    load.enough.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    load.over.store(true, Ordering::SeqCst);
    // One more, so that whoever waits for events sees that it is over.
    publish_as(&server, &key("steady"), &event("last")).await.data();
    let stored = load.stored.lock().unwrap().clone();
    for watcher in watchers {
        let (offsets, connected) = watcher.await.unwrap();
        assert!(connected >= 2, "once before the restart, and once after it");
        assert!(offsets.is_sorted_by(|one, next| one < next), "each once, in order");
        let missed: Vec<&u64> =
            stored.iter().filter(|offset| offsets.binary_search(offset).is_err()).collect();
        assert!(missed.is_empty(), "never arrived: {missed:?}");
    }
}
