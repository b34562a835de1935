//! The API as OpenAPI 3.1.

use std::collections::BTreeMap;

use http::StatusCode;
use newswire_protocol::limits::{MAX_FILTER_CHARS, MAX_FILTER_KEYS, MAX_OFFSET};
use newswire_protocol::query::CREDENTIALS;
use newswire_protocol::schema::{Definitions, PARAMETERS, parameter_named};
use serde_json::{Map, Value, json};

use super::super::identify::Admission;
use super::VERSION;
use super::headers::{self, Header};
use super::operations::{Answer, Body, OF_EVERY_CALL, OPERATIONS, Operation, Shape, TAGS};
use crate::http::{DEFAULT_LIMIT, MAX_LIMIT};

const DESCRIPTION: &str = "A durable, live event feed: one log, many subscribers.\n\nBodies of success are \
    `{\"data\": …}`, errors are `application/problem+json` (RFC 9457) with a `code` for programs. In every optional \
    field `null` is the same as leaving it out, and unknown fields are ignored: ignore those that you do not know, too. \
    Every `GET` answers `HEAD` as well.\n\nWhat is said over a WebSocket stands in `asyncapi.json` beside this document.";

/// The whole document.
pub(super) fn document() -> Value {
    let mut definitions = Definitions::at("/components/schemas");
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = describe(operation, &mut definitions);
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described);
    }
    let problem = definitions.refer_path("http/problem").unwrap_or_default();
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, description)| json!({ "name": name, "description": description })).collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Newswire", "version": VERSION, "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        // Relative to where this document is served from: right below any path and behind any proxy.
        "servers": [
            { "url": ".", "description": "where this document comes from" },
            { "url": "http://127.0.0.1:8080/api/v1", "description": "a server on this machine, as it listens by default" },
        ],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": definitions.finish(), "responses": { "Problem": problem_response(&problem) },
            "headers": headers::all().map(|header| (header.name.to_owned(), header.described())).collect::<Map<_, _>>(),
            "securitySchemes": security_schemes() },
    })
}

fn describe(operation: &Operation, definitions: &mut Definitions) -> Value {
    let mut described = Map::new();
    described.insert("operationId".into(), json!(operation.id));
    described.insert("tags".into(), json!([operation.tag]));
    described.insert("summary".into(), json!(operation.summary));
    if !operation.description.is_empty() {
        described.insert("description".into(), json!(operation.description));
    }
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described.insert("parameters".into(), Value::Array(parameters));
    }
    if !operation.takes.is_empty() {
        let content: Map<String, Value> =
            operation.takes.iter().map(|body| content(body, definitions)).collect();
        described.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    described.insert("security".into(), security(operation));
    described.insert("responses".into(), Value::Object(responses(operation, definitions)));
    Value::Object(described)
}

/// Whichever of them; none is needed where the server is open.
fn security(operation: &Operation) -> Value {
    let routes = super::super::routes();
    let admission =
        routes.iter().find(|(path, ..)| *path == operation.path).map(|(_, _, admission, _)| *admission);
    match admission {
        Some(Admission::Public) | None => json!([]),
        Some(Admission::Credentials) => json!([{}, { "bearer": [] }, { "session": [] }]),
        Some(Admission::Ticket | Admission::FirstFrame) => {
            json!([{}, { "bearer": [] }, { "session": [] }, { "ticket": [] }])
        }
    }
}

/// How credentials are shown.
fn security_schemes() -> Value {
    json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "A JWT, or an API key (`nw_…`)." },
        "session": { "type": "apiKey", "in": "cookie", "name": "newswire_session_8080",
            "description": "Of a browser that has signed in with the address that the server prints. Its name ends in the \
                port of the address; over TLS `__Host-` stands before it." },
        "ticket": { "type": "apiKey", "in": "query", "name": "ticket",
            "description": "From `POST /auth/ws-ticket`: single use, 30 seconds." },
    })
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut parameters = Vec::new();
    if operation.path.contains("{offset}") {
        parameters.push(json!({
            "name": "offset", "in": "path", "required": true, "description": "The event's position in the log.",
            "schema": { "type": "integer", "minimum": 1, "maximum": MAX_OFFSET }, "example": 1,
        }));
    }
    if operation.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "description": "As the list of connections names it.",
            "schema": { "type": "integer", "minimum": 0, "maximum": MAX_OFFSET }, "example": 17,
        }));
    }
    if operation.path.contains("{channel}") {
        parameters.push(json!({
            "name": "channel", "in": "path", "required": true, "description": "A channel, or a pattern ending in `*`.",
            "schema": { "type": "string", "minLength": 1 }, "example": "tasks",
        }));
    }
    parameters.extend(operation.query.iter().map(|name| query_parameter(name)));
    if operation.filters {
        parameters.push(filters());
    }
    parameters
}

fn query_parameter(name: &str) -> Value {
    if name == "channel" {
        return json!({
            "name": name, "in": "query", "schema": { "type": "string" },
            "description": "The channel of CloudEvents that name none.",
        });
    }
    let known = parameter_named(name).expect("the table names parameters of the protocol");
    let mut schema = known.schema();
    if name == "limit" {
        schema = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    }
    let mut parameter =
        json!({ "name": name, "in": "query", "description": known.description, "schema": schema });
    if known.is_list() {
        parameter["style"] = json!("form");
        parameter["explode"] = json!(false);
    }
    parameter
}

/// Any filter key: the members of an exploded object are parameters of their own.
fn filters() -> Value {
    let taken: Vec<&str> =
        PARAMETERS.iter().map(|parameter| parameter.name).chain(["ticket"]).chain(CREDENTIALS).collect();
    json!({
        "name": "filters", "in": "query", "style": "form", "explode": true,
        "description": "Every further parameter is a filter key, written as `key=value`: keys are ANDed, the values of \
            one key (by comma or repetition) ORed. `agent`, `project`, `source`, `correlation_id` and `causation_id` have \
            a meaning of their own; any other is a key at the top level of the payload. A value that looks like a number \
            or a boolean matches those as well as the string.",
        "schema": {
            "type": "object",
            // `event_type` is a key too.
            "maxProperties": MAX_FILTER_KEYS - 1,
            "propertyNames": { "minLength": 1, "maxLength": MAX_FILTER_CHARS, "not": { "enum": taken } },
            "additionalProperties": { "type": "string", "maxLength": MAX_FILTER_CHARS },
        },
        "example": { "agent": "sarah_chen" },
    })
}

/// The media type and what it holds.
fn content(body: &Body, definitions: &mut Definitions) -> (String, Value) {
    let described = match body.shape {
        Shape::Json("") => json!({ "schema": { "type": "object" } }),
        Shape::Json(path) => {
            let schema = definitions.refer_path(path).expect("the table names shapes of the protocol");
            json!({ "schema": schema })
        }
        Shape::Lines(path) => {
            let schema = definitions.refer_path(path).expect("the table names shapes of the protocol");
            json!({ "schema": { "type": "array", "description": "Written one a line.", "items": schema } })
        }
        Shape::Text(description) => json!({ "schema": { "type": "string", "description": description } }),
    };
    (body.media_type.to_owned(), described)
}

fn responses(operation: &Operation, definitions: &mut Definitions) -> Map<String, Value> {
    let mut problems: BTreeMap<StatusCode, Vec<&str>> = BTreeMap::new();
    for (status, codes) in operation.problems.iter().chain(OF_EVERY_CALL) {
        problems.entry(*status).or_default().extend(*codes);
    }
    let mut responses = Map::new();
    for answer in operation.answers {
        responses.insert(answer.status.as_str().to_owned(), response(answer, definitions));
    }
    let problem = definitions.refer_path("http/problem").unwrap_or_default();
    for (status, codes) in problems {
        let described = problem_response_of(&problem, status, &codes);
        match responses.get_mut(status.as_str()) {
            None => {
                responses.insert(status.as_str().to_owned(), described);
            }
            // Both a body of its own and a problem.
            Some(both) => {
                both["content"]["application/problem+json"] =
                    described["content"]["application/problem+json"].clone();
                for (name, header) in described["headers"].as_object().into_iter().flatten() {
                    both["headers"][name] = header.clone();
                }
            }
        }
    }
    responses.insert("default".into(), json!({ "$ref": "#/components/responses/Problem" }));
    responses
}

fn response(answer: &Answer, definitions: &mut Definitions) -> Value {
    let mut response = json!({ "description": answer.description });
    for body in answer.bodies {
        let (media_type, content) = content(body, definitions);
        response["content"][media_type] = content;
    }
    let packed = (!answer.bodies.is_empty()).then_some(&headers::CONTENT_ENCODING);
    let cloudevent = if answer.cloudevent { headers::CLOUDEVENT } else { &[] };
    let own = answer.headers.iter().copied().chain(packed).chain(cloudevent);
    response["headers"] = header_references(own);
    response
}

/// Those of every answer, and these.
fn header_references<'a>(own: impl IntoIterator<Item = &'a Header>) -> Value {
    let all = headers::of_every_answer().into_iter().chain(own);
    Value::Object(all.map(|header| (header.name.to_owned(), header.reference())).collect())
}

fn problem_response(problem: &Value) -> Value {
    json!({
        "description": "Any other problem.",
        "headers": header_references(headers::of_other_problems().into_iter().chain([&headers::CONTENT_ENCODING])),
        "content": { "application/problem+json": { "schema": problem } },
    })
}

fn problem_response_of(problem: &Value, status: StatusCode, codes: &[&str]) -> Value {
    let names: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let reason = status.canonical_reason().unwrap_or("Problem");
    json!({
        "description": format!("{reason}: {}", names.join(", ")),
        "headers": header_references(headers::of_problem(status).iter().copied().chain([&headers::CONTENT_ENCODING])),
        "content": { "application/problem+json": { "schema": problem } },
    })
}
