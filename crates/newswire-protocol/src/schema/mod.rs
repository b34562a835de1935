//! The wire as JSON Schema (2020-12): every message, every HTTP body, and the payloads of the well-known event types.
//!
//! Commands and events are taken apart by hand, in a fixed order of checks and without copies, so no type has their
//! shape. The shapes are declared here, beside the parsers and with their constants, and property tests hold them
//! equal: what a schema accepts the parser accepts, and the other way round, as far as JSON Schema can say it. What
//! it cannot say:
//!
//! - how many bytes a text has, and that a key is given once;
//! - how a number is written: `1.0` and `-0` are integers to a schema, and no offsets to a parser;
//! - the calendar (30 February, a leap second at noon, the year 10000 in UTC) and durations beyond 64 bits of
//!   milliseconds;
//! - how deep a payload is nested.
//!
//! Schemas describe what this version sends and takes. Readers ignore fields and actions they do not know.

mod command;
mod event;
mod http;
mod message;
mod payload;
mod query;
mod text;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub use http::HTTP_PROBLEMS;
pub use payload::{WELL_KNOWN, WellKnown};
pub use query::{PARAMETERS, Parameter, parameter_named};

/// Something that has a schema of its own.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Where its file stands in `schemas/`, without `.json`.
    pub path: &'static str,
    refer: fn(&mut SchemaGenerator) -> Schema,
}

const fn shape<T: JsonSchema>(path: &'static str) -> Shape {
    Shape { path, refer: |generator| generator.subschema_for::<T>() }
}

/// What a client sends over a WebSocket, in the order of the protocol page.
pub const COMMANDS: &[Shape] = &[
    shape::<command::Subscribe>("commands/subscribe"),
    shape::<command::Unsubscribe>("commands/unsubscribe"),
    shape::<command::Publish>("commands/publish"),
    shape::<command::Ping>("commands/ping"),
    shape::<command::Auth>("commands/auth"),
];

/// What the server sends over a WebSocket beside events, in the order of the protocol page.
pub const MESSAGES: &[Shape] = &[
    shape::<message::Subscribed>("messages/subscribed"),
    shape::<message::Unsubscribed>("messages/unsubscribed"),
    shape::<message::Published>("messages/published"),
    shape::<message::Pong>("messages/pong"),
    shape::<message::AuthOk>("messages/auth_ok"),
    shape::<message::CaughtUp>("messages/caught_up"),
    shape::<message::Checkpoint>("messages/checkpoint"),
    shape::<message::Gap>("messages/gap"),
    shape::<message::Error>("messages/error"),
];

/// Events, and the bodies of HTTP.
pub const BODIES: &[Shape] = &[
    shape::<event::Event>("event"),
    shape::<event::Draft>("event-draft"),
    shape::<command::Command>("command"),
    shape::<message::ServerMessage>("server-message"),
    shape::<http::Problem>("http/problem"),
    shape::<http::PublishBody>("http/publish-body"),
    shape::<http::PublishAnswer>("http/publish-answer"),
    shape::<http::HistoryPage>("http/history-page"),
    shape::<http::EventAnswer>("http/event-answer"),
    shape::<http::ChannelsAnswer>("http/channels-answer"),
    shape::<http::HealthAnswer>("http/health-answer"),
    shape::<http::ProbeAnswer>("http/probe-answer"),
    shape::<http::ConnectionsAnswer>("http/connections-answer"),
    shape::<http::KickAnswer>("http/kick-answer"),
    shape::<http::TrimBody>("http/trim-body"),
    shape::<http::TrimAnswer>("http/trim-answer"),
    shape::<http::TicketAnswer>("http/ticket-answer"),
    shape::<http::SignOutAnswer>("http/sign-out-answer"),
    shape::<http::RevokeBody>("http/revoke-body"),
    shape::<http::RevokeAnswer>("http/revoke-answer"),
    shape::<http::CloudEvent>("http/cloudevent"),
    shape::<http::CloudEventBatch>("http/cloudevent-batch"),
];

/// Every file of `schemas/` but the descriptions of the service: its path without `.json`, and its schema, which
/// needs no other file.
pub fn files() -> Vec<(String, Value)> {
    let shapes = [BODIES, COMMANDS, MESSAGES].concat();
    let mut files: Vec<(String, Value)> =
        shapes.into_iter().map(|shape| (shape.path.to_owned(), file(shape.path, shape.refer))).collect();
    for known in WELL_KNOWN {
        let path = format!("payloads/{}", known.event_type);
        let schema = file(&path, known.refer());
        files.push((path, schema));
    }
    files
}

/// The schema at this path of [`files`], by itself.
pub fn by_path(path: &str) -> Option<Value> {
    files().into_iter().find(|(known, _)| known == path).map(|(_, schema)| schema)
}

fn file(path: &str, refer: fn(&mut SchemaGenerator) -> Schema) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let reference = refer(&mut generator);
    let mut definitions = generator.take_definitions(true);
    // The shape itself stands at the top, and what it refers to below it.
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|at| at.rsplit('/').next());
    let mut schema = match name.and_then(|name| definitions.remove(name)) {
        Some(Value::Object(schema)) => schema,
        _ => Map::new(),
    };
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("$id".into(), json!(format!("urn:newswire:schema:1:{path}")));
    if !definitions.is_empty() {
        schema.insert("$defs".into(), Value::Object(definitions));
    }
    Value::Object(schema)
}

/// Schemas that refer to each other, for a document that holds them all.
#[derive(Debug)]
pub struct Definitions(SchemaGenerator);

impl Definitions {
    /// None yet; references will point below `path`, for example `/components/schemas`.
    pub fn at(path: &'static str) -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = path.into();
        Self(settings.into_generator())
    }

    /// A reference to this shape, which is among the definitions from now on.
    pub fn refer(&mut self, shape: Shape) -> Value {
        Value::from((shape.refer)(&mut self.0))
    }

    /// A reference to the shape at this path; `None` if there is none.
    pub fn refer_path(&mut self, path: &str) -> Option<Value> {
        let shapes = [BODIES, COMMANDS, MESSAGES].concat();
        shapes.into_iter().find(|shape| shape.path == path).map(|shape| self.refer(shape))
    }

    /// A reference to the payload of this event type.
    pub fn refer_payload(&mut self, known: &WellKnown) -> Value {
        Value::from(known.refer()(&mut self.0))
    }

    /// All that was referred to, by name.
    pub fn finish(mut self) -> Map<String, Value> {
        self.0.take_definitions(true)
    }
}

/// A field that the server leaves out is absent, never `null`. (Shapes whose fields may be `null` say so themselves.)
fn absent_not_null(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".into(), only);
            }
        }
        let choices = property.get("anyOf").and_then(Value::as_array);
        if let Some([Value::Object(only), Value::Object(null)]) = choices.map(Vec::as_slice)
            && null.get("type") == Some(&json!("null"))
        {
            let only = only.clone();
            property.remove("anyOf");
            property.extend(only);
        }
    }
}
