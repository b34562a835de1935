//! Runs the vectors of `conformance/`, which every client library runs too.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use newswire_protocol::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A text, or pieces of text that are each repeated so many times.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Pieces(Vec<(String, usize)>),
}

impl Text {
    fn build(&self) -> String {
        match self {
            Self::Whole(text) => text.clone(),
            Self::Pieces(pieces) => pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect(),
        }
    }
}

#[derive(Deserialize)]
struct WireError {
    error: String,
    code: String,
    id: Option<Box<RawValue>>,
}

impl WireError {
    fn assert_is(&self, refusal: &Refusal, id: Option<&CommandId>, name: &str) {
        assert_eq!(
            (refusal.code.text(), refusal.code.code()),
            (&*self.error, &*self.code),
            "{name}: {refusal}"
        );
        assert_eq!(id.map(CommandId::as_json), self.id.as_deref().map(RawValue::get), "{name}");
    }
}

fn vectors<V: DeserializeOwned>(file: &str) -> Vec<V> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let vectors: Vec<V> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(!vectors.is_empty());
    vectors
}

#[test]
fn names_are_unique_in_every_file() {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    for file in [
        "commands.json",
        "events.json",
        "refused-events.json",
        "filters.json",
        "queries.json",
        "messages.json",
        "cloudevents.json",
    ] {
        let mut seen = HashSet::new();
        for Named { name } in vectors(file) {
            assert!(seen.insert(name.clone()), "{file}: {name}");
        }
    }
}

#[derive(Deserialize)]
struct GivenLimits {
    event_bytes: usize,
    command_bytes: usize,
}

#[derive(Deserialize)]
struct CommandVector {
    name: String,
    frame: Text,
    limits: Option<GivenLimits>,
    means: Option<BTreeMap<String, Box<RawValue>>>,
    error: Option<WireError>,
}

#[test]
fn commands() {
    for vector in vectors::<CommandVector>("commands.json") {
        let limits = vector.limits.map_or(Limits::default(), |given| Limits {
            event_bytes: given.event_bytes,
            command_bytes: given.command_bytes,
        });
        let name = &vector.name;
        match (parse_command(&vector.frame.build(), &limits), vector.means, vector.error) {
            (Ok(frame), Some(means), None) => assert_command(&frame, &means, name),
            (Err((id, refusal)), None, Some(error)) => error.assert_is(&refusal, id.as_ref(), name),
            (outcome, ..) => panic!("{name}: {outcome:?}"),
        }
    }
}

type Means = BTreeMap<String, Box<RawValue>>;

fn get(means: &Means, key: &str) -> Value {
    means.get(key).map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap())
}

fn assert_command(frame: &CommandFrame, means: &Means, name: &str) {
    let id = frame.id.as_ref().map_or(Value::Null, |id| serde_json::from_str(id.as_json()).unwrap());
    assert_eq!(id, get(means, "id"), "{name}");
    let action = match &frame.command {
        Command::Ping => "ping",
        Command::Auth(credential) => {
            let (key, secret) = match credential {
                Credential::Ticket(ticket) => ("ticket", ticket),
                Credential::Token(token) => ("token", token),
            };
            assert_eq!(get(means, key), json!(secret), "{name}");
            "auth"
        }
        Command::Unsubscribe(unsubscribe) => {
            assert_eq!(get(means, "channels"), json!(unsubscribe.channels), "{name}");
            assert_eq!(get(means, "sub"), json!(unsubscribe.sub), "{name}");
            "unsubscribe"
        }
        Command::Subscribe(subscribe) => {
            assert_eq!(get(means, "channels"), json!(subscribe.channels), "{name}");
            assert_eq!(get(means, "sub"), json!(subscribe.sub), "{name}");
            assert_eq!(get(means, "start"), start(&subscribe.start), "{name}");
            match &subscribe.filters {
                FilterChange::Keep => assert_eq!(get(means, "filters"), Value::Null, "{name}"),
                FilterChange::Replace(spec) => assert_filters(spec, &means["filters"], name),
            }
            "subscribe"
        }
        Command::Publish(draft) => {
            for (key, value) in fields(draft) {
                assert_eq!(get(means, key), json!(value), "{name}: {key}");
            }
            "publish"
        }
    };
    assert_eq!(get(means, "action"), action, "{name}");
}

fn start(start: &Start) -> Value {
    match start {
        Start::Live => json!({"live": true}),
        Start::After { offset, epoch: None } => json!({"after": offset}),
        Start::After { offset, epoch: Some(epoch) } => json!({"after": offset, "epoch": epoch}),
        Start::Since(SinceSpec::At(time)) => json!({"since_us": time.0}),
        Start::Since(SinceSpec::Ago(ago)) => json!({"ago_ms": u64::try_from(ago.as_millis()).unwrap()}),
        Start::History(count) => json!({"history": count}),
    }
}

/// Keys and values, whatever their order.
fn assert_filters(spec: &FilterSpec, expected: &RawValue, name: &str) {
    let expected: BTreeMap<String, Vec<Box<RawValue>>> = serde_json::from_str(expected.get()).unwrap();
    let expected: BTreeMap<String, Vec<Scalar>> = expected
        .into_iter()
        .map(|(key, values)| {
            (key, values.iter().map(|raw| Scalar::from_raw_json(raw.get()).unwrap()).collect())
        })
        .collect();
    assert_eq!(spec.clauses.len(), expected.len(), "{name}");
    assert_eq!(spec.clauses.iter().cloned().collect::<BTreeMap<_, _>>(), expected, "{name}");
}

#[derive(Deserialize)]
struct StoredVector {
    name: String,
    published: Text,
    stored: String,
}

/// The same object as a `publish`.
fn as_publish(event: &str) -> String {
    event.replacen('{', "{\"action\":\"publish\",", 1)
}

#[test]
fn events() {
    for vector in vectors::<StoredVector>("events.json") {
        let published = vector.published.build();
        let name = &vector.name;
        let draft =
            Draft::parse(&published, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = draft.event_id.as_deref().unwrap_or("made-by-server");
        let encoded = draft.encode(id, UnixMicros(1_795_361_040_123_456));
        assert_eq!(String::from_utf8(encoded.with_offset(1234)).unwrap(), vector.stored, "{name}");
        let wide = Limits { event_bytes: 1 << 20, command_bytes: 4096 };
        let frame = parse_command(&as_publish(&published), &wide).unwrap();
        assert_eq!(frame.command, Command::Publish(Box::new(draft)), "{name}");
    }
}

#[derive(Deserialize)]
struct RefusedVector {
    name: String,
    published: Text,
    #[serde(flatten)]
    error: WireError,
}

#[test]
fn refused_events() {
    for vector in vectors::<RefusedVector>("refused-events.json") {
        let published = vector.published.build();
        let refusal = Draft::parse(&published, &Limits::default()).unwrap_err();
        vector.error.assert_is(&refusal, None, &vector.name);
        if refusal.code == ErrorCode::InvalidEvent {
            assert!(refusal.detail.is_some(), "{}", vector.name);
            let (id, refusal) = parse_command(&as_publish(&published), &Limits::default()).unwrap_err();
            vector.error.assert_is(&refusal, id.as_ref(), &vector.name);
        }
    }
}

#[derive(Deserialize)]
struct FilterVector {
    name: String,
    filters: Box<RawValue>,
    event: Box<RawValue>,
    matches: bool,
}

/// The rules of filters, as plainly as they can be written.
fn matches(spec: &FilterSpec, event: &Draft) -> bool {
    let text = |text: &Option<String>| text.iter().map(|text| Scalar::string(text)).collect();
    spec.clauses.iter().all(|(key, accepted)| {
        let found: Vec<Scalar> = match key.as_str() {
            "event_type" => {
                return accepted.iter().filter_map(Scalar::as_str).any(|wanted| {
                    match wanted.strip_suffix('*') {
                        Some(prefix) => event.event_type.starts_with(prefix),
                        None => event.event_type == wanted,
                    }
                });
            }
            "source" => text(&event.source),
            "correlation_id" => text(&event.correlation_id),
            "causation_id" => text(&event.causation_id),
            "agent" => event.routing().agents,
            "project" => event.routing().projects,
            key => payload_scalar(&event.payload, key).into_iter().collect(),
        };
        found.iter().any(|value| accepted.contains(value))
    })
}

#[test]
fn filters() {
    for vector in vectors::<FilterVector>("filters.json") {
        let spec = FilterSpec::parse(vector.filters.get()).unwrap();
        let event = Draft::parse(vector.event.get(), &Limits::default()).unwrap();
        assert_eq!(matches(&spec, &event), vector.matches, "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct QueryVector {
    name: String,
    query: Vec<(String, String)>,
    means: Option<Means>,
    error: Option<WireError>,
}

#[test]
fn queries() {
    for vector in vectors::<QueryVector>("queries.json") {
        let name = &vector.name;
        match (Query::parse(vector.query), vector.means, vector.error) {
            (Ok(query), Some(means), None) => {
                assert_eq!(get(&means, "channels"), json!(query.channels), "{name}");
                assert_eq!(get(&means, "start"), start(&query.start()), "{name}");
                assert_filters(&query.filters, &means["filters"], name);
                assert_eq!(get(&means, "before"), json!(query.before), "{name}");
                assert_eq!(get(&means, "limit"), json!(query.limit), "{name}");
                let order = query.order.map(|order| if order == Order::Asc { "asc" } else { "desc" });
                assert_eq!(get(&means, "order"), json!(order), "{name}");
                for (key, value) in [("sub", query.sub), ("ticket", query.ticket)] {
                    assert_eq!(get(&means, key), json!(value), "{name}: {key}");
                }
            }
            (Err(refusal), None, Some(error)) => error.assert_is(&refusal, None, name),
            (outcome, ..) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[derive(Deserialize)]
struct MessageVector {
    name: String,
    message: String,
    #[serde(default)]
    exact: bool,
    means: Option<Value>,
}

#[test]
fn messages() {
    for vector in vectors::<MessageVector>("messages.json") {
        let name = &vector.name;
        let parsed = parse_server_message(&vector.message);
        let Some(means) = vector.means else {
            assert!(parsed.is_err(), "{name}");
            continue;
        };
        let parsed = parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(meaning(&parsed), without_nulls(means), "{name}");
        if vector.exact {
            assert_eq!(rebuilt(&parsed), vector.message, "{name}");
        }
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

fn meaning(message: &ServerMessage) -> Value {
    let (mut value, echo) = match message {
        ServerMessage::Event(event) => {
            let mut value = serde_json::to_value(event).unwrap();
            value["kind"] = json!("event");
            value["payload"] = json!(event.payload.get());
            value.as_object_mut().unwrap().remove("version");
            (value, None)
        }
        ServerMessage::Subscribed { channels, offset, epoch, recovered, rejected, echo } => {
            let refused: Vec<_> =
                rejected.iter().map(|r| json!({"channel": r.channel, "reason": r.reason})).collect();
            let refused = if refused.is_empty() { Value::Null } else { json!(refused) };
            let value = json!({"kind": "subscribed", "channels": channels, "offset": offset, "epoch": epoch,
                "recovered": recovered, "rejected": refused});
            (value, Some(echo))
        }
        ServerMessage::Unsubscribed { channels, echo } => {
            (json!({"kind": "unsubscribed", "channels": channels}), Some(echo))
        }
        ServerMessage::Published { offset, event_id, duplicate, echo } => {
            let value =
                json!({"kind": "published", "offset": offset, "event_id": event_id, "duplicate": duplicate});
            (value, Some(echo))
        }
        ServerMessage::Pong { echo } => (json!({"kind": "pong"}), Some(echo)),
        ServerMessage::AuthOk { echo } => (json!({"kind": "auth_ok"}), Some(echo)),
        ServerMessage::Error { error, code, detail, retry_after_ms, echo } => {
            let value = json!({"kind": "error", "error": error, "code": code, "detail": detail,
                "retry_after_ms": retry_after_ms});
            (value, Some(echo))
        }
        ServerMessage::CaughtUp { channels, offset, echo } => {
            (json!({"kind": "caught_up", "channels": channels, "offset": offset}), Some(echo))
        }
        ServerMessage::Checkpoint { offset } => (json!({"kind": "checkpoint", "offset": offset}), None),
        ServerMessage::Gap { channels, from, to, reason, epoch, echo } => {
            let value = json!({"kind": "gap", "channels": channels, "from": from, "to": to, "reason": reason,
                "epoch": epoch});
            (value, Some(echo))
        }
        ServerMessage::Unknown => (json!({"kind": "unknown"}), None),
    };
    if let Some(echo) = echo {
        value["sub"] = json!(echo.sub);
        value["id"] = echo.id.as_ref().map_or(Value::Null, |id| serde_json::from_str(id.get()).unwrap());
    }
    without_nulls(value)
}

/// The message as the server's own builders write it.
fn rebuilt(message: &ServerMessage) -> String {
    let mut out = Vec::new();
    let id = |echo: &Echoed| echo.id.as_ref().map(|raw| CommandId::from_raw_json(raw.get()).unwrap());
    match message {
        ServerMessage::Subscribed { channels, offset, epoch, recovered, rejected, echo } => {
            let rejected: Vec<_> = rejected
                .iter()
                .map(|refused| match &*refused.reason {
                    "forbidden" => (refused.channel.clone(), RejectReason::Forbidden),
                    _ => (refused.channel.clone(), RejectReason::UnknownChannel),
                })
                .collect();
            let answer = reply::Subscribed {
                channels,
                offset: *offset,
                epoch: epoch.parse().unwrap(),
                recovered: *recovered,
                rejected: &rejected,
            };
            reply::subscribed(
                &mut out,
                reply::Echo { id: id(echo).as_ref(), sub: echo.sub.as_deref() },
                &answer,
            );
        }
        ServerMessage::Unsubscribed { channels, echo } => {
            reply::unsubscribed(
                &mut out,
                reply::Echo { id: id(echo).as_ref(), sub: echo.sub.as_deref() },
                channels,
            );
        }
        ServerMessage::Published { offset, event_id, duplicate, echo } => {
            reply::published(&mut out, id(echo).as_ref(), *offset, event_id, *duplicate);
        }
        ServerMessage::Pong { echo } => reply::pong(&mut out, id(echo).as_ref()),
        ServerMessage::AuthOk { echo } => reply::auth_ok(&mut out, id(echo).as_ref()),
        ServerMessage::Error { code, detail, retry_after_ms, echo, .. } => {
            let retry_after = retry_after_ms.map(Duration::from_millis);
            let code = ErrorCode::from_code(code).unwrap();
            let refusal = Refusal { code, detail: detail.clone(), retry_after };
            reply::error(&mut out, id(echo).as_ref(), &refusal);
        }
        ServerMessage::CaughtUp { channels, offset, echo } => {
            let id = id(echo);
            let echo = reply::Echo { id: id.as_ref(), sub: echo.sub.as_deref() };
            reply::caught_up(&mut out, echo, channels, *offset);
        }
        ServerMessage::Checkpoint { offset } => reply::checkpoint(&mut out, *offset),
        ServerMessage::Gap { channels, from, to, reason, epoch, echo } => {
            let reason = GapReason::ALL.into_iter().find(|known| known.text() == reason).unwrap();
            let epoch = epoch.as_ref().map(|epoch| epoch.parse().unwrap());
            let gap = reply::Gap { channels, from: *from, to: *to, reason, epoch };
            reply::gap(&mut out, reply::Echo { id: None, sub: echo.sub.as_deref() }, &gap);
        }
        ServerMessage::Event(_) | ServerMessage::Unknown => {}
    }
    String::from_utf8(out).unwrap()
}

#[derive(Deserialize)]
struct NumberVector {
    canonical: String,
    written: Vec<String>,
}

#[test]
fn numbers() {
    let mut seen = HashSet::new();
    for vector in vectors::<NumberVector>("numbers.json") {
        assert!(seen.insert(vector.canonical.clone()));
        for written in vector.written {
            let mut canonical = Vec::new();
            Scalar::number(&written).unwrap().write(&mut canonical);
            assert_eq!(String::from_utf8(canonical).unwrap(), vector.canonical, "{written}");
        }
    }
}

#[derive(Deserialize)]
struct CloudEventVector {
    name: String,
    channel: Option<String>,
    cloudevent: String,
    event: Option<BTreeMap<String, String>>,
    written: Option<String>,
    error: Option<String>,
    code: Option<String>,
}

#[test]
fn cloudevents() {
    let epoch = "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52".parse().unwrap();
    for vector in vectors::<CloudEventVector>("cloudevents.json") {
        let name = &vector.name;
        let read = newswire_protocol::cloudevents::parse(
            &vector.cloudevent,
            vector.channel.as_deref(),
            &Limits::default(),
        );
        let draft = match (read, vector.event, vector.error, vector.code) {
            (Ok(draft), Some(event), None, None) => {
                assert_eq!(present(&draft), event, "{name}");
                draft
            }
            (Err(refusal), None, Some(error), Some(code)) => {
                assert_eq!(
                    (refusal.code.text(), refusal.code.code()),
                    (&*error, &*code),
                    "{name}: {refusal}"
                );
                continue;
            }
            (outcome, ..) => panic!("{name}: {outcome:?}"),
        };
        let encoded = draft.encode(draft.event_id.as_deref().unwrap(), UnixMicros(1_795_361_040_123_456));
        let stored = String::from_utf8(encoded.with_offset(1234)).unwrap();
        let mut written = Vec::new();
        cloudevents::Outgoing::of(&stored, epoch).unwrap().write(&mut written);
        let written = String::from_utf8(written).unwrap();
        assert!(serde_json::from_str::<&RawValue>(&written).is_ok(), "{name}: {written}");
        if let Some(expected) = vector.written {
            assert_eq!(written, expected, "{name}");
        }
    }
}

/// Every field, and what the draft has there.
fn fields(draft: &Draft) -> [(&'static str, Option<&str>); 9] {
    [
        ("channel", Some(&*draft.channel)),
        ("event_type", Some(&*draft.event_type)),
        ("payload", Some(&*draft.payload)),
        ("timestamp", draft.timestamp.as_deref()),
        ("event_id", draft.event_id.as_deref()),
        ("source", draft.source.as_deref()),
        ("traceparent", draft.traceparent.as_deref()),
        ("correlation_id", draft.correlation_id.as_deref()),
        ("causation_id", draft.causation_id.as_deref()),
    ]
}

/// The fields that the draft has.
fn present(draft: &Draft) -> BTreeMap<String, String> {
    fields(draft).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}
