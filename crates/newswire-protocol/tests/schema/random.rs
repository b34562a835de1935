//! Random JSON near the wire: fields that mostly are what they should be, and often enough are not.

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

type Field = (&'static str, BoxedStrategy<Value>);

/// Any JSON, small, but floats that are whole numbers: to a schema these are integers.
pub(crate) fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(-1.5)].prop_map(|number: f64| json!(number)),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

fn words() -> BoxedStrategy<String> {
    let edge = prop_oneof![Just(127_usize), Just(128), Just(129), Just(256), Just(257)];
    prop_oneof![
        6 => "[a-z.*#@/: é]{0,6}",
        1 => (edge, prop_oneof![Just("x"), Just("é"), Just("𝄞")]).prop_map(|(times, one)| one.repeat(times)),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<Value> {
    words().prop_map(Value::from).boxed()
}

const EDGES: &[u64] = &[0, 1, (1 << 53) - 1, 1 << 53, u64::MAX];

fn positions() -> BoxedStrategy<Value> {
    prop_oneof![0_u64..2_000, prop::sample::select(EDGES)].prop_map(Value::from).boxed()
}

/// Times near the rules, most of them on the calendar.
fn times() -> BoxedStrategy<Value> {
    let zone = prop_oneof![
        4 => Just("Z".to_owned()),
        1 => prop::sample::select(&["", "z", "+01:00", "-23:59", "+24:00", "+1:00", "+01:60"][..]).prop_map(str::to_owned),
    ];
    let fraction = prop_oneof![4 => Just(String::new()), 2 => "\\.[0-9]{1,9}", 1 => "[.,][0-9]{0,11}"];
    let separator = prop_oneof![8 => Just("T"), 1 => Just("t"), 1 => Just(" ")];
    let clock = (0_u8..25, 0_u8..61, 0_u8..62);
    ((0_u16..10_000, 0_u8..14, 0_u8..33), separator, clock, fraction, zone)
        .prop_map(|((year, month, day), separator, (hour, minute, second), fraction, zone)| {
            let date = format!("{year:04}-{month:02}-{day:02}");
            json!(format!("{date}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
        })
        .boxed()
}

fn since() -> BoxedStrategy<Value> {
    prop_oneof![times(), "[0-9]{0,3}(ms|s|m|h|d|w|)".prop_map(Value::from)].boxed()
}

fn filters() -> BoxedStrategy<Value> {
    let value = prop_oneof![
        4 => texts(),
        2 => anything(),
        2 => prop::collection::vec(texts(), 0..4).prop_map(Value::from),
        1 => (63_usize..67).prop_map(|count| json!(vec![1; count])),
    ];
    let few = prop::collection::vec((words(), value), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
    let many = (9_usize..13).prop_map(|count| (0..count).map(|i| (format!("k{i}"), json!(i))).collect());
    prop_oneof![4 => few, 1 => many].boxed()
}

/// A field: mostly right, sometimes anything, sometimes `null`, sometimes not there.
fn slot(right: BoxedStrategy<Value>, there: f64) -> BoxedStrategy<Option<Value>> {
    let value = prop_oneof![12 => right, 1 => anything(), 1 => Just(Value::Null)];
    prop::option::weighted(there, value).boxed()
}

fn object(fields: Vec<(Field, f64)>) -> BoxedStrategy<Value> {
    let start = Just(Map::new()).boxed();
    fields
        .into_iter()
        .fold(start, |object, ((name, right), there)| {
            (object, slot(right, there))
                .prop_map(move |(mut object, value)| {
                    if let Some(value) = value {
                        object.insert(name.to_owned(), value);
                    }
                    object
                })
                .boxed()
        })
        .prop_map(Value::Object)
        .boxed()
}

fn channels() -> BoxedStrategy<Value> {
    prop_oneof![
        8 => prop::collection::vec(texts(), 0..4).prop_map(Value::from),
        1 => prop::collection::vec(anything(), 0..3).prop_map(Value::from),
    ]
    .boxed()
}

fn event_fields() -> Vec<(Field, f64)> {
    let name = || prop_oneof![4 => "[a-z._:]{1,5}".prop_map(Value::from), 1 => texts()].boxed();
    let payload = prop_oneof![4 => Just(json!({"id": "task-8"})), 1 => anything()].boxed();
    vec![
        (("channel", name()), 0.95),
        (("event_type", name()), 0.95),
        (("timestamp", times()), 0.3),
        (("event_id", prop_oneof!["[ -~]{0,3}".prop_map(Value::from), texts()].boxed()), 0.3),
        (("payload", payload), 0.5),
        (("source", texts()), 0.2),
        (("traceparent", texts()), 0.1),
        (("correlation_id", texts()), 0.2),
        (("causation_id", texts()), 0.1),
        (("offset", anything()), 0.1),
    ]
}

/// Near an event as publishers send it.
pub(crate) fn drafts() -> BoxedStrategy<Value> {
    prop_oneof![20 => object(event_fields()), 1 => anything()].boxed()
}

/// Near a command.
pub(crate) fn commands() -> BoxedStrategy<Value> {
    let action = |name: &'static str| (("action", Just(json!(name)).boxed()), 0.98);
    let id = || (("id", prop_oneof![texts(), (-9_i64..9).prop_map(Value::from)].boxed()), 0.3);
    let sub = || (("sub", texts()), 0.3);
    let subscribe = vec![
        action("subscribe"),
        id(),
        (("channels", channels()), 0.95),
        (("filters", filters()), 0.5),
        (("after", positions()), 0.2),
        (("epoch", texts()), 0.2),
        (("since", since()), 0.3),
        (("history", positions()), 0.2),
        sub(),
    ];
    let unsubscribe = vec![
        action("unsubscribe"),
        id(),
        (("channels", channels()), 0.95),
        sub(),
        (("after", anything()), 0.1),
    ];
    let publish = [vec![action("publish"), id()], event_fields()].concat();
    let auth = vec![action("auth"), id(), (("ticket", texts()), 0.5), (("token", texts()), 0.5)];
    let ping = vec![action("ping"), id(), (("channels", anything()), 0.2)];
    let unknown = vec![action("pong"), id()];
    let kinds = [(6, subscribe), (2, unsubscribe), (4, publish), (2, auth), (1, ping), (1, unknown)];
    let near =
        Union::new_weighted(kinds.into_iter().map(|(weight, fields)| (weight, object(fields))).collect());
    prop_oneof![20 => near, 1 => anything()].boxed()
}
