//! Filters: the shared vectors, and the index against a naive look at every subscription.

use std::sync::Arc;

use bytes::Bytes;
use newswire_core::{
    Action, Backlog, Batch, BatchBuilder, ChannelPattern, ChannelPolicy, EventHead, EventView, Filter,
    Grants, Hub, HubConfig, LogView, Output, Principal, RowRule, Selector, SelectorEntry, Session,
    SessionConfig,
};
use newswire_protocol::{Draft, FilterSpec, Limits, UnixMicros};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

mod common;
use common::{Unread, now};

#[derive(Deserialize)]
struct Vector {
    name: String,
    filters: Box<RawValue>,
    event: Box<RawValue>,
    matches: bool,
}

fn batch(first: u64, events: &[String]) -> Arc<Batch> {
    let mut builder = BatchBuilder::new();
    for (offset, text) in (first..).zip(events) {
        let draft = Draft::parse(text, &Limits::default()).expect("a good event");
        let encoded = draft.encode("id", UnixMicros(1));
        builder.push_encoded(offset, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
    }
    Arc::new(builder.finish())
}

#[test]
fn filters_match_as_the_shared_vectors_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/filters.json");
    let vectors: Vec<Vector> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let spec =
            FilterSpec::parse(vector.filters.get()).unwrap_or_else(|why| panic!("{}: {why}", vector.name));
        let filter = Filter::compile(&spec);
        let batch = batch(1, &[vector.event.get().to_owned()]);
        assert_eq!(filter.matches(&batch.get(0)), vector.matches, "{}", vector.name);
        // The index finds what the filter matches.
        let server = Server::new();
        let mut session =
            server.subscriber(&format!(r#""channels":["*"],"filters":{}"#, vector.filters.get()));
        drop(server.hub.lock().publish(batch));
        assert_eq!(
            received(&mut session, &server).len(),
            usize::from(vector.matches),
            "{}, live",
            vector.name
        );
    }
}

/// An empty log: everything here is live.
struct Server {
    hub: Mutex<Hub>,
    config: Arc<SessionConfig>,
}

impl Server {
    fn new() -> Self {
        let config = HubConfig {
            backlog: Backlog { max_bytes: 64 << 20, ..Backlog::default() },
            ..HubConfig::default()
        };
        let session = SessionConfig {
            channels: ChannelPolicy { arbitrary_allowed: true, ..ChannelPolicy::default() },
            ..SessionConfig::default()
        };
        Self { hub: Mutex::new(Hub::new(config, Unread.epoch(), 0)), config: Arc::new(session) }
    }

    fn session(&self) -> Session {
        self.session_of(Principal::anonymous())
    }

    fn session_of(&self, principal: Principal) -> Session {
        Session::open(&self.hub, Arc::clone(&self.config), principal, 1.0, now())
    }

    fn subscriber(&self, ask: &str) -> Session {
        let mut session = self.session();
        self.subscribe(&mut session, ask);
        session
    }

    fn subscribe(&self, session: &mut Session, ask: &str) {
        session.handle(&format!(r#"{{"action":"subscribe",{ask}}}"#), now(), &self.hub, &Unread);
        received(session, self);
    }
}

#[derive(Deserialize)]
struct Message {
    action: Option<String>,
    offset: Option<u64>,
}

/// Offsets of the events that wait for this session.
fn received(session: &mut Session, server: &Server) -> Vec<u64> {
    let mut out: Vec<Bytes> = Vec::new();
    let mut offsets = Vec::new();
    while let Output::Write = session.next_output(now(), &server.hub, &mut out, 1 << 20) {
        let all: Vec<u8> = out.iter().flatten().copied().collect();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (header, length) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(short)),
            };
            let message: Message = serde_json::from_slice(&rest[header..header + length]).expect("a message");
            if message.action.is_none() {
                offsets.push(message.offset.expect("an event has an offset"));
            }
            rest = &rest[header + length..];
        }
    }
    offsets
}

fn any_event() -> impl Strategy<Value = String> {
    let agent = prop_oneof![
        Just(json!("ann")),
        Just(json!("bob")),
        Just(json!(1)),
        Just(json!(true)),
        Just(Value::Null)
    ];
    let channels = prop::sample::select(vec!["tasks", "tests", "a.b", "a"]);
    let types = prop::sample::select(vec!["task.created", "task.updated", "x"]);
    let source = prop::option::of(prop::sample::select(vec!["s1", "s2"]));
    (channels, types, agent.clone(), agent, 0..4u8, source.clone(), source).prop_map(
        |(channel, event_type, agent, to, number, source, id)| {
            json!({
                "channel": channel, "event_type": event_type, "source": source, "correlation_id": id,
                "payload": {"agent_id": agent, "to": to, "project": number, "n": number, "m": format!("m{number}")},
            })
            .to_string()
        },
    )
}

fn any_filter() -> impl Strategy<Value = Value> {
    let values = |list: Vec<Value>| prop::collection::vec(prop::sample::select(list), 0..3);
    let clause = prop_oneof![
        values(vec![json!("ann"), json!("bob"), json!(1.0), json!(true)]).prop_map(|v| ("agent", v)),
        values(vec![json!(1), json!(2.0), json!("1")]).prop_map(|v| ("project", v)),
        values(vec![json!("task.*"), json!("x"), json!("*"), json!("task.created"), json!(3)])
            .prop_map(|v| ("event_type", v)),
        values(vec![json!("s1"), json!("s2"), json!(1)]).prop_map(|v| ("source", v)),
        values(vec![json!("s1"), json!("s2")]).prop_map(|v| ("correlation_id", v)),
        values(vec![json!(0), json!(3e0)]).prop_map(|v| ("n", v)),
        values(vec![json!("m1"), json!("m2")]).prop_map(|v| ("m", v)),
        values(vec![json!("m1")]).prop_map(|v| ("missing", v)),
    ];
    prop::collection::vec(clause, 0..3).prop_map(|clauses| {
        Value::Object(clauses.into_iter().map(|(key, values)| (key.to_owned(), json!(values))).collect())
    })
}

/// Somebody for whom only these events exist, on these channels only.
fn somebody(rows: &Value, channels: &[&str]) -> Principal {
    let filter = Filter::compile(&FilterSpec::parse(&rows.to_string()).expect("a filter"));
    let grants = Grants::none().with(Action::Subscribe, channels).expect("channels");
    Principal::new("somebody").with_grants(grants).with_row_rule(RowRule::only(filter))
}

fn exists_for(principal: &Principal, event: &EventView<'_>) -> bool {
    let has_row = principal.row_rule.filter().is_none_or(|rule| rule.matches(event));
    has_row && principal.may(Action::Subscribe, event.channel)
}

#[test]
fn an_event_is_compared_with_the_few_that_may_see_it() {
    let server = Server::new();
    let mut sessions = Vec::new();
    for n in 0..500 {
        let row = json!({"project": [format!("p{n}"), format!("q{n}")]});
        let own = format!("team{n}.*");
        let all_ask = [
            // Everybody asks for the same types, or for all; what they may see tells them apart.
            (somebody(&row, &["*"]), r#""channels":["*"],"filters":{"event_type":["task.*"]}"#.to_owned()),
            (somebody(&row, &["*"]), r#""channels":["*"],"filters":{"status":["open"]}"#.to_owned()),
            (somebody(&row, &["*"]), r#""channels":["*"]"#.to_owned()),
            (somebody(&json!({}), &[&own, "nowhere"]), r#""channels":["*"]"#.to_owned()),
            (
                somebody(&json!({}), &[&own]),
                r#""channels":["team*"],"filters":{"status":["open"]}"#.to_owned(),
            ),
            // Everybody has the same row; what they ask for does.
            (
                somebody(&json!({"project": ["p7"]}), &["*"]),
                format!(r#""channels":["*"],"filters":{{"source":["s{n}"]}}"#),
            ),
        ];
        for (principal, ask) in all_ask {
            let mut session = server.session_of(principal);
            server.subscribe(&mut session, &ask);
            sessions.push((n, session));
        }
    }
    let event = json!({"channel": "team7.x", "event_type": "task.created", "source": "s9",
        "payload": {"project": "p7", "status": "open"}});
    let before = server.hub.lock().stats().evaluated;
    drop(server.hub.lock().publish(batch(1, &[event.to_string()])));
    let compared = server.hub.lock().stats().evaluated - before;
    let reached: Vec<usize> = sessions
        .iter_mut()
        .filter_map(|(n, session)| (received(session, &server) == [1]).then_some(*n))
        .collect();
    assert_eq!(reached, [7, 7, 7, 7, 7, 9]);
    assert!(compared <= 20, "compared with {compared} of {} groups", server.hub.lock().stats().groups);
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe { session: usize, pattern: &'static str, filter: Value },
    Unsubscribe { session: usize, pattern: &'static str },
    Leave(usize),
    Publish(Vec<String>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let pattern = prop::sample::select(vec!["tasks", "tests", "a.b", "a", "t*", "te*", "a*", "*"]);
    prop_oneof![
        4 => (0..4usize, pattern.clone(), any_filter())
            .prop_map(|(session, pattern, filter)| Step::Subscribe { session, pattern, filter }),
        2 => (0..4usize, pattern).prop_map(|(session, pattern)| Step::Unsubscribe { session, pattern }),
        1 => (0..4usize).prop_map(Step::Leave),
        4 => prop::collection::vec(any_event(), 1..6).prop_map(Step::Publish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is subscribed, changed and left, each event reaches exactly whom a look at every subscription says.
    #[test]
    fn the_index_finds_what_a_naive_look_finds(steps in prop::collection::vec(any_step(), 1..40)) {
        let server = Server::new();
        let principals = [
            Principal::anonymous(),
            somebody(&json!({"project": [1, "1"], "event_type": ["task.*"]}), &["*"]),
            somebody(&json!({}), &["a*", "tests", "te*"]),
            somebody(&json!({"agent": ["ann", "bob"], "m": ["m1", "m2", "m3"]}), &["t*", "a"]),
        ];
        let session = |number: usize| server.session_of(principals[number].clone());
        let mut sessions: Vec<Session> = (0..4).map(session).collect();
        let mut subscribed: Vec<Vec<(&str, Arc<Filter>)>> = vec![Vec::new(); 4];
        let mut next = 1;
        for step in steps {
            match step {
                Step::Subscribe { session, pattern, filter } => {
                    let ask = format!(r#""channels":["{pattern}"],"filters":{filter}"#);
                    server.subscribe(&mut sessions[session], &ask);
                    subscribed[session].retain(|(known, _)| *known != pattern);
                    let spec = FilterSpec::parse(&filter.to_string()).unwrap();
                    subscribed[session].push((pattern, Filter::compile(&spec)));
                }
                Step::Unsubscribe { session, pattern } => {
                    let command = json!({"action": "unsubscribe", "channels": [pattern]});
                    sessions[session].handle(&command.to_string(), now(), &server.hub, &Unread);
                    subscribed[session].retain(|(known, _)| *known != pattern);
                }
                Step::Leave(session) => {
                    sessions[session].close(&server.hub);
                    sessions[session] = server.session_of(principals[session].clone());
                    subscribed[session].clear();
                }
                Step::Publish(events) => {
                    let batch = batch(next, &events);
                    next += events.len() as u64;
                    drop(server.hub.lock().publish(Arc::clone(&batch)));
                    for ((session, subs), principal) in sessions.iter_mut().zip(&subscribed).zip(&principals) {
                        let wants = |channel: &str, (pattern, filter): &(&str, Arc<Filter>), event: &_| {
                            ChannelPattern::parse(pattern).unwrap().matches(channel) && filter.matches(event)
                        };
                        let naive: Vec<u64> = batch
                            .iter()
                            .filter(|event| exists_for(principal, event))
                            .filter(|event| subs.iter().any(|sub| wants(event.channel, sub, event)))
                            .map(|event| event.offset)
                            .collect();
                        prop_assert_eq!(received(session, &server), naive);
                    }
                }
            }
        }
        for session in &mut sessions {
            session.close(&server.hub);
        }
        let stats = server.hub.lock().stats();
        prop_assert_eq!((stats.connections, stats.subscriptions, stats.groups), (0, 0, 0));
    }

    /// A selector, which reads use, wants what its entries want.
    #[test]
    fn a_selector_wants_what_any_entry_wants(
        entries in prop::collection::vec((prop::sample::select(vec!["tasks", "a", "t*", "*"]), any_filter(), 0..4u64), 0..4),
        events in prop::collection::vec(any_event(), 1..6),
    ) {
        let entries: Vec<SelectorEntry> = entries.into_iter().map(|(pattern, filter, after)| SelectorEntry { access: newswire_core::Access::Past, asked_as: None,
            pattern: ChannelPattern::parse(pattern).unwrap(),
            filter: Filter::compile(&FilterSpec::parse(&filter.to_string()).unwrap()),
            after,
        }).collect();
        let selector = Selector::new(entries.clone(), Principal::anonymous());
        let batch = batch(1, &events);
        for event in batch.iter() {
            let wanted = entries.iter().any(|entry| {
                event.offset > entry.after && entry.pattern.matches(event.channel) && entry.filter.matches(&event)
            });
            prop_assert_eq!(selector.matches(&event), wanted);
            prop_assert!(wanted || !selector.takes_all_after(0));
        }
    }
}

/// Predicates compared for one publish with so many subscriptions on distinct agents, of which ten match.
fn cost(subscriptions: usize) -> u64 {
    let server = Server::new();
    let mut sessions: Vec<Session> = (0..subscriptions / 100).map(|_| server.session()).collect();
    for number in 0..subscriptions {
        // Ten of them name the agent that acts, each in a set of its own; the others one agent each.
        let agent =
            if number % (subscriptions / 10) == 0 { "acts".to_owned() } else { format!("agent-{number}") };
        let set = number % 100;
        let ask = format!(r#""channels":["tasks"],"filters":{{"agent":"{agent}"}},"sub":"s{set}""#);
        server.subscribe(&mut sessions[number / 100], &ask);
    }
    let before = server.hub.lock().stats();
    assert_eq!(before.subscriptions, subscriptions);
    let event = r#"{"channel":"tasks","event_type":"t","payload":{"agent_id":"acts"}}"#.to_owned();
    drop(server.hub.lock().publish(batch(1, &[event])));
    let after = server.hub.lock().stats();
    assert_eq!(after.deliveries - before.deliveries, 10);
    after.evaluated - before.evaluated
}

#[test]
fn the_cost_of_a_publish_follows_its_matches_and_not_the_subscriptions() {
    let (few, many) = (cost(1_000), cost(20_000));
    assert_eq!(few, many, "predicates compared with 1,000 and with 20,000 subscriptions");
    assert_eq!(many, 1, "equal predicates are compared once");
}
