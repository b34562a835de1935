//! The small values that messages are made of: names, positions, times. Each mirrors the function that checks it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::codes::{ErrorCode, GapReason, RejectReason};
use crate::limits::{
    MAX_EVENT_ID_BYTES, MAX_FILTER_CHARS, MAX_FILTER_KEYS, MAX_FILTER_VALUES, MAX_NAME_BYTES, MAX_OFFSET,
};
use crate::query::Order;

/// Characters of a channel name, as in [`crate::names::is_channel_name`].
const CHANNEL: &str = "[A-Za-z0-9_.:#@-]";
/// Characters of an event type, as in [`crate::names::is_event_type`].
const EVENT_TYPE: &str = "[A-Za-z0-9_.:/-]";
/// What [`crate::time::Rfc3339`] reads, but for the calendar.
const TIME: &str = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:\
                    (?:[0-5][0-9]|60)(?:\\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
/// What [`crate::time::parse_duration`] reads, but for its largest count.
const DURATION: &str = "[0-9]+(?:ms|s|m|h|d)";

macro_rules! values {
    ($($name:ident => $schema:expr;)*) => { $(
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )* };
}

values! {
    ChannelName => json_schema!({ "type": "string", "pattern": format!("^{CHANNEL}{{1,{MAX_NAME_BYTES}}}$") });
    ChannelOrPattern => json_schema!({
        "type": "string",
        "pattern": format!("^(?:{CHANNEL}{{1,{MAX_NAME_BYTES}}}|{CHANNEL}{{0,{}}}\\*)$", MAX_NAME_BYTES - 1),
    });
    EventType => json_schema!({ "type": "string", "pattern": format!("^{EVENT_TYPE}{{1,{MAX_NAME_BYTES}}}$") });
    EventId => json_schema!({ "type": "string", "pattern": format!("^[ -~]{{1,{MAX_EVENT_ID_BYTES}}}$") });
    // As publishers may write it.
    Time => json_schema!({ "type": "string", "pattern": format!("^{TIME}$") });
    // As the server writes it.
    TimeInUtc => json_schema!({
        "type": "string", "format": "date-time",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\.[0-9]{1,9})?Z$",
    });
    Since => json_schema!({ "type": "string", "pattern": format!("^(?:{TIME}|{DURATION})$") });
    Epoch => json_schema!({ "type": "string", "format": "uuid",
        "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$" });
    // Of an event.
    Offset => json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX_OFFSET });
    // Before the first event as well, and counts of events.
    Position => json_schema!({ "type": "integer", "minimum": 0, "maximum": MAX_OFFSET });
    CommandId => json_schema!({ "type": ["string", "integer"] });
    SetName => json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME_BYTES });
    Version => json_schema!({ "type": "integer", "const": 1 });
    AnyObject => json_schema!({ "type": "object" });
    Filters => json_schema!({
        "type": "object", "maxProperties": MAX_FILTER_KEYS, "propertyNames": { "maxLength": MAX_FILTER_CHARS },
        "additionalProperties": { "anyOf": [
            { "type": ["string", "number", "boolean"], "maxLength": MAX_FILTER_CHARS },
            { "type": "array", "maxItems": MAX_FILTER_VALUES,
              "items": { "type": ["string", "number", "boolean"], "maxLength": MAX_FILTER_CHARS } },
        ] },
    });
    ErrorText => json_schema!({ "type": "string", "enum": ErrorCode::ALL.map(ErrorCode::text) });
    ErrorCodeName => json_schema!({ "type": "string", "enum": ErrorCode::ALL.map(ErrorCode::code) });
    GapReasonName => json_schema!({ "type": "string", "enum": GapReason::ALL.map(GapReason::text) });
    RejectReasonName => json_schema!({ "type": "string", "enum": RejectReason::ALL.map(RejectReason::text) });
    OrderName => json_schema!({ "type": "string", "enum": Order::ALL.map(Order::text), "default": Order::default().text() });
    // Shown in answers where there is none.
    OffsetOrNull => json_schema!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_OFFSET });
}
