//! The WebSocket as AsyncAPI 3, from the server's side: it receives commands, and sends answers and events.

use newswire_protocol::schema::{COMMANDS, Definitions, MESSAGES, PARAMETERS, Shape, WELL_KNOWN};
use serde_json::{Map, Value, json};

use super::VERSION;

const DESCRIPTION: &str = "A durable, live event feed: one log, many subscribers.\n\nOne JSON object a text frame, both \
    ways. Answers come in the order of their commands. Ignore fields and actions that you do not know. A connection that \
    breaks is resumed with `after`, the highest offset received, and the `epoch` it belongs to: nothing is missing, and \
    nothing comes twice.\n\nWhat is asked over HTTP stands in `openapi.json` beside this document.";

/// Each command with what answers it.
const ANSWERS: &[(&str, &[&str])] = &[
    ("subscribe", &["subscribed", "error"]),
    ("unsubscribe", &["unsubscribed", "error"]),
    ("publish", &["published", "error"]),
    ("ping", &["pong"]),
    ("auth", &["auth_ok", "error"]),
];

/// What comes without being asked for each time.
const UNASKED: &[&str] = &["event", "caught_up", "checkpoint", "gap"];

/// The whole document.
pub(super) fn document() -> Value {
    let mut definitions = Definitions::at("/components/schemas");
    let messages = messages(&mut definitions);
    let names: Vec<&String> = messages.keys().collect();
    let of_channel: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let bindings = json!({ "ws": { "method": "GET", "query": query() } });
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Newswire", "version": VERSION, "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8080", "pathname": "/api/v1", "protocol": "ws",
                "description": "A server on this machine, as it listens by default. It may stand below another path.",
                "security": [
                    { "$ref": "#/components/securitySchemes/bearer" }, { "$ref": "#/components/securitySchemes/ticket" },
                ],
            },
        },
        "channels": {
            "feed": {
                "address": "/ws", "title": "The feed",
                "description": "All that is said over a WebSocket. With `channels` in the address it is subscribed from \
                    the first byte.",
                "messages": of_channel, "bindings": bindings,
            },
            "oneChannel": {
                "address": "/ws/{channel}", "title": "One channel",
                "description": "The same, subscribed to this one channel from the first byte.",
                "parameters": { "channel": { "description": "A channel, or a pattern ending in `*`.", "examples": ["tasks"] } },
                "messages": of_channel, "bindings": bindings,
            },
        },
        "operations": operations(),
        "components": { "messages": messages, "schemas": definitions.finish(), "securitySchemes": {
            "bearer": { "type": "http", "scheme": "bearer", "description": "Where the server asks: in the header of the \
                upgrade, or as the `token` of the first frame, `auth`." },
            "ticket": { "type": "httpApiKey", "in": "query", "name": "ticket", "description": "A single-use ticket from \
                `POST /auth/ws-ticket`, in the address, or as the `ticket` of the first frame, `auth`." },
        } },
    })
}

fn name_of(shape: &Shape) -> &'static str {
    shape.path.rsplit('/').next().unwrap_or(shape.path)
}

/// Every message by its name: commands, answers, events, and the well-known events.
fn messages(definitions: &mut Definitions) -> Map<String, Value> {
    let mut messages = Map::new();
    for shape in COMMANDS.iter().chain(MESSAGES) {
        let payload = definitions.refer(*shape);
        messages.insert(name_of(shape).to_owned(), json!({ "name": name_of(shape), "payload": payload }));
    }
    let event = definitions.refer_path("event").unwrap_or_default();
    messages.insert(
        "event".into(),
        json!({ "name": "event", "summary": "An event of any type, on any channel.", "payload": event }),
    );
    for known in WELL_KNOWN {
        let payload = definitions.refer_payload(known);
        messages.insert(
            known.event_type.to_owned(),
            json!({
                "name": known.event_type,
                "summary": format!("An event of this type, usually on `{}`.", known.channel),
                "tags": [{ "name": "well-known" }],
                "payload": { "allOf": [
                    event,
                    { "type": "object", "properties": { "event_type": { "const": known.event_type }, "payload": payload } },
                ] },
            }),
        );
    }
    messages
}

fn operations() -> Value {
    let of_feed = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({ "$ref": format!("#/channels/feed/messages/{name}") })).collect()
    };
    let mut operations = Map::new();
    for (command, answers) in ANSWERS {
        operations.insert(
            (*command).to_owned(),
            json!({
                "action": "receive", "channel": { "$ref": "#/channels/feed" }, "messages": of_feed(&[command]),
                "reply": { "channel": { "$ref": "#/channels/feed" }, "messages": of_feed(answers) },
            }),
        );
    }
    let well_known: Vec<&str> = WELL_KNOWN.iter().map(|known| known.event_type).collect();
    operations.insert(
        "deliver".into(),
        json!({
            "action": "send", "summary": "What comes unasked: events, and where the subscriber stands.",
            "channel": { "$ref": "#/channels/feed" }, "messages": of_feed(&[UNASKED, &well_known].concat()),
        }),
    );
    Value::Object(operations)
}

/// The parameters of the address; any other is a filter key.
fn query() -> Value {
    let of_history = ["before", "limit", "order"];
    let properties: Map<String, Value> = PARAMETERS
        .iter()
        .filter(|parameter| !of_history.contains(&parameter.name))
        .map(|parameter| {
            let mut schema = parameter.schema();
            schema["description"] = json!(parameter.description);
            (parameter.name.to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": { "type": "string" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that no operation names would be described and never said.
    #[test]
    fn every_message_belongs_to_an_operation() {
        let document = document();
        let operations = document["operations"].to_string();
        for name in document["components"]["messages"].as_object().unwrap().keys() {
            assert!(operations.contains(&format!("messages/{name}\"")), "{name}");
        }
        for shape in COMMANDS {
            assert!(ANSWERS.iter().any(|(command, _)| *command == name_of(shape)), "{}", shape.path);
        }
    }
}
