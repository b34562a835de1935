//! Query parameters. What has no name here is a filter key.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::text::{OrderName, Position, SetName, Since};

/// A query parameter with a meaning of its own.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// As it is written.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Something to try.
    pub example: &'static str,
    schema: fn() -> Value,
}

impl Parameter {
    /// The schema of its value.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// Whether it may be given several times.
    pub fn is_list(&self) -> bool {
        self.schema()["type"] == "array"
    }
}

fn of<T: JsonSchema>() -> Value {
    T::json_schema(&mut SchemaGenerator::default()).into()
}

fn list() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

const fn parameter(
    name: &'static str,
    example: &'static str,
    schema: fn() -> Value,
    description: &'static str,
) -> Parameter {
    Parameter { name, description, example, schema }
}

/// All of them, in the order of the protocol page, and `event_type`, the filter key that everybody asks for.
pub const PARAMETERS: &[Parameter] = &[
    parameter(
        "channels",
        "tasks,budget",
        list,
        "Names, or patterns ending in `*`; by comma, by repetition or both.",
    ),
    parameter("after", "1200", of::<Position>, "Only events behind this offset."),
    parameter("before", "1300", of::<Position>, "Only events before this offset."),
    parameter(
        "since",
        "10m",
        of::<Since>,
        "Only events stored at or after this time: RFC 3339, or a duration before now such as `10m`.",
    ),
    parameter("history", "20", of::<Position>, "The last so many matching events of each channel."),
    parameter("limit", "100", of::<Position>, "At most so many events."),
    parameter("order", "desc", of::<OrderName>, "Oldest or newest first."),
    parameter(
        "epoch",
        "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52",
        of::<String>,
        "The epoch that `after` belongs to.",
    ),
    parameter("sub", "board", of::<SetName>, "The set of subscriptions that is meant."),
    parameter(
        "event_type",
        "task.*,budget.alert",
        list,
        "Only these types; a value ending in `*` stands for a prefix. A filter key like any other.",
    ),
];

/// The parameter of this name.
pub fn parameter_named(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}
