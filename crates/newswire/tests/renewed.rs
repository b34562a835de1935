//! A connection that becomes somebody else while what it published waits for the log: each event is of whoever it was when the
//! event was read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use newswire::log::{Commit, MemoryLog, MemoryOptions, Observer};
use newswire::{
    Action, AuthError, Authenticate, Credential, Feed, Grants, Identity, NewEvent, Principal, Role,
};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(20);

/// Names are credentials. Sarah may publish tasks, and Tom agents.
#[derive(Default)]
struct Names {
    revoked: Mutex<BTreeSet<String>>,
}

impl Authenticate for Names {
    fn authenticate<'a>(&'a self, credential: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async move {
            let (name, channel) = match credential {
                Credential::Bearer("sarah") => ("sarah", "tasks"),
                Credential::Bearer("tom") => ("tom", "agents"),
                _ => return Err(AuthError::Invalid { reason: "nobody" }),
            };
            let grants = Grants::all().with(Action::Publish, [channel]).unwrap();
            Ok(Identity::of(Principal::new(name).with_role(Role::Publisher).with_grants(grants)))
        })
    }

    fn recheck(&self, identity: &Identity) -> Result<Option<Identity>, AuthError> {
        let is_revoked = self.revoked.lock().contains(&*identity.principal.id);
        if is_revoked { Err(AuthError::Revoked) } else { Ok(None) }
    }
}

/// Holds the log's writer up behind a commit until it is opened.
#[derive(Default)]
struct Gate {
    reached: Notify,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }
}

impl Observer for Gate {
    fn on_commit(&self, _: &Commit) {
        self.reached.notify_one();
        self.opened.wait_while(&mut self.open.lock(), |open| !*open);
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn send(&mut self, command: Value) {
        self.0.send(Message::text(command.to_string())).await.unwrap();
    }

    async fn publish(&mut self, id: &str, channel: &str) {
        self.send(
            json!({"action": "publish", "id": id, "channel": channel, "event_type": "x", "payload": {}}),
        )
        .await;
    }

    async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    async fn become_somebody(&mut self, name: &str) {
        self.send(json!({"action": "auth", "token": name})).await;
        assert_eq!(self.next().await["action"], "auth_ok");
    }
}

struct Setup {
    names: Arc<Names>,
    feed: Feed,
    client: Client,
}

/// A client that is Sarah, of a feed whose log waits at the gate, with one event of hers under way to it.
async fn sarah_waits(gate: &Arc<Gate>) -> Setup {
    let options =
        MemoryOptions { observer: Some(Arc::clone(gate) as Arc<dyn Observer>), ..Default::default() };
    let names = Arc::new(Names::default());
    let authenticator = Arc::clone(&names) as Arc<dyn Authenticate>;
    let log = Arc::new(MemoryLog::new(options).unwrap());
    let feed = Feed::builder().authenticate(authenticator).log(log).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().nest("/api/v1", feed.router());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (stream, _) = connect_async(format!("ws://{address}/api/v1/ws")).await.unwrap();
    let mut client = Client(stream);
    client.become_somebody("sarah").await;
    // Somebody else's event keeps the writer at the gate, so hers stays under way.
    let other = feed.clone();
    tokio::spawn(async move { other.publish(NewEvent::new("system", "system.startup")).await });
    gate.reached.notified().await;
    client.publish("first", "tasks").await;
    Setup { names, feed, client }
}

/// What came of each publish, by the id of its command.
async fn outcomes(client: &mut Client, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        let answer = client.next().await;
        let what = answer.get("code").unwrap_or(&answer["action"]).as_str().unwrap();
        all.push(format!("{} {what}", answer["id"].as_str().unwrap()));
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_when_an_identity_is_replaced_is_still_of_the_one_before() {
    let gate = Arc::new(Gate::default());
    let mut setup = sarah_waits(&gate).await;
    let client = &mut setup.client;
    client.publish("sarah-tasks", "tasks").await;
    client.publish("sarah-agents", "agents").await;
    client.become_somebody("tom").await;
    client.publish("tom-tasks", "tasks").await;
    client.publish("tom-agents", "agents").await;
    gate.open();
    let expected = [
        "first published",
        "sarah-agents forbidden",
        "sarah-tasks published",
        "tom-agents published",
        "tom-tasks forbidden",
    ];
    assert_eq!(outcomes(client, 5).await, expected);
    drop(setup.feed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_refused_where_its_identity_was_revoked_meanwhile() {
    let gate = Arc::new(Gate::default());
    let mut setup = sarah_waits(&gate).await;
    let client = &mut setup.client;
    client.publish("sarah-tasks", "tasks").await;
    client.become_somebody("tom").await;
    client.publish("tom-agents", "agents").await;
    setup.names.revoked.lock().insert("sarah".to_owned());
    gate.open();
    let expected = ["first published", "sarah-tasks forbidden", "tom-agents published"];
    assert_eq!(outcomes(client, 3).await, expected);
}
