//! What sessions say to those who may not see everything.

use std::sync::Arc;

use bytes::Bytes;
use newswire_core::{
    Action, Grants, Hub, HubConfig, LogView, Lost, MAX_VARIANTS, Output, Principal, Selector, Session,
    SessionConfig, Variant,
};
use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;
use serde_json::{Value, json};

mod common;
use common::{Unread, now};

/// Ten events, of which nothing is known but that they are there.
struct Ten;

impl LogView for Ten {
    fn epoch(&self) -> Epoch {
        Unread.epoch()
    }
    fn head(&self) -> u64 {
        1
    }
    fn tail(&self) -> u64 {
        11
    }
    fn channels(&self) -> Vec<Arc<str>> {
        vec!["agents".into(), "tasks".into()]
    }
    fn lost(&self, _: &Selector, _: u64) -> Vec<Lost> {
        Vec::new()
    }
    fn lost_since(&self, _: &Selector, _: UnixMicros) -> Vec<Lost> {
        Vec::new()
    }
}

struct Server {
    hub: Mutex<Hub>,
    config: Arc<SessionConfig>,
}

impl Server {
    fn new() -> Self {
        let hub = Hub::new(HubConfig::default(), Ten.epoch(), 10);
        Self { hub: Mutex::new(hub), config: Arc::default() }
    }

    fn session(&self, principal: Principal) -> Session {
        Session::open(&self.hub, Arc::clone(&self.config), principal, 1.0, now())
    }

    /// What is said at once.
    fn ask(&self, session: &mut Session, command: &Value) -> Vec<Value> {
        session.handle(&command.to_string(), now(), &self.hub, &Ten);
        let mut out: Vec<Bytes> = Vec::new();
        let written = session.next_output(now(), &self.hub, &mut out, 1 << 20);
        assert!(matches!(written, Output::Write), "{written:?}");
        let all: Vec<u8> = out.iter().flatten().copied().collect();
        let (mut rest, mut said) = (&all[..], Vec::new());
        while !rest.is_empty() {
            let (header, length) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(short)),
            };
            said.push(serde_json::from_slice(&rest[header..header + length]).expect("a message"));
            rest = &rest[header + length..];
        }
        said
    }
}

fn subscribe(pattern: &str, start: &Value) -> Value {
    let mut command = json!({"action": "subscribe", "channels": [pattern]});
    for (key, value) in start.as_object().expect("an object") {
        command[key] = value.clone();
    }
    command
}

#[test]
fn who_found_no_room_for_its_variant_may_ask_again() {
    let server = Server::new();
    let masking =
        |field: usize| Principal::new("bob").with_variant(Variant::masking([format!("field-{field}")]));
    let mut others: Vec<Session> = (0..MAX_VARIANTS).map(|field| server.session(masking(field))).collect();
    let mut late = server.session(masking(99));
    let ask = subscribe("tasks", &json!({}));
    for _ in 0..2 {
        assert_eq!(server.ask(&mut late, &ask)[0]["code"], "storage_unavailable");
    }
    others[3].close(&server.hub);
    let answer = &server.ask(&mut late, &ask)[0];
    assert_eq!((&answer["action"], &answer["channels"]), (&json!("subscribed"), &json!(["tasks"])));
    assert_eq!(server.hub.lock().stats().variants, MAX_VARIANTS);
    // The place is taken now.
    assert_eq!(server.ask(&mut server.session(masking(3)), &ask)[0]["code"], "storage_unavailable");
}

#[test]
fn what_of_a_pattern_may_not_be_read_of_the_past_is_told() {
    let server = Server::new();
    let sent = Grants::none().with(Action::Subscribe, ["tasks", "agents*"]).expect("patterns");
    let of = |past: &[&str]| {
        let grants = sent.clone().with(Action::History, past).expect("patterns");
        server.session(Principal::new("sam").with_grants(grants))
    };
    let gap = |from: u64, pattern: &str| {
        json!({"action": "gap", "channels": [pattern], "from": from, "to": 10, "reason": "forbidden",
            "epoch": Ten.epoch().to_string()})
    };
    for (past, pattern, start, expected) in [
        (&["tasks"][..], "*", json!({"after": 4}), Some(5)),
        (&[], "a*", json!({"after": 9}), Some(10)),
        (&[], "*", json!({"since": "10m"}), Some(1)),
        // Nothing can have come since, or all of the past may be read.
        (&["tasks"], "*", json!({"after": 10}), None),
        (&["tasks"], "t*", json!({"after": 4}), None),
        (&["tasks", "agents*"], "*", json!({"after": 4}), None),
        (&["*"], "*", json!({"since": "10m"}), None),
        (&["tasks"], "tasks", json!({"after": 4}), None),
    ] {
        let said = server.ask(&mut of(past), &subscribe(pattern, &start));
        assert_eq!(said[0]["recovered"], expected.is_none(), "{past:?} {pattern} {start}: {said:?}");
        let told: Vec<&Value> = said.iter().filter(|message| message["action"] == "gap").collect();
        let due: Vec<Value> = expected.map(|from| gap(from, pattern)).into_iter().collect();
        assert_eq!(told, due.iter().collect::<Vec<_>>(), "{past:?} {pattern} {start}");
    }
}
