//! Events, as they are published and as they are received.

use schemars::JsonSchema;

use super::absent_not_null;
use super::text::{AnyObject, ChannelName, EventId, EventType, Offset, Time, TimeInUtc, Version};

/// An event as subscribers and history show it.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null, extend("examples" = [{
    "event_type": "task.status_changed", "channel": "tasks", "timestamp": "2026-11-22T15:24:00.123456Z",
    "payload": { "id": "task-7", "agent_id": "sarah_chen", "project": "proj-456", "status": "in_progress" },
    "event_id": "0197a6b0-3f5e-7c3a-9d4e-2b6a1f0c8d7e", "offset": 1234, "version": 1,
}]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Event {
    /// What happened. Any name will do; the well-known ones have a schema for their payload.
    event_type: EventType,
    /// Where it happened.
    channel: ChannelName,
    /// When it happened, in UTC.
    timestamp: TimeInUtc,
    /// What is to be known about it: as published, byte for byte.
    payload: AnyObject,
    /// The publisher's id, or a UUIDv7 made by the server.
    event_id: EventId,
    /// The position in the log. Strictly increasing over all channels.
    offset: Offset,
    /// Of this shape.
    version: Version,
    /// Who or what says so.
    source: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// The conversation it belongs to.
    correlation_id: Option<String>,
    /// The event that led to it.
    causation_id: Option<String>,
}

/// An event as it is published. `null` is absent; unknown fields, `offset` and `version` among them, are ignored.
#[derive(JsonSchema)]
#[schemars(rename = "EventDraft", extend("examples" = [{
    "channel": "tasks", "event_type": "task.created", "payload": { "id": "task-8", "agent_id": "sarah_chen" },
}]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Draft {
    /// Where it happens; a channel that the server knows.
    channel: ChannelName,
    /// What happened. Any name will do; the well-known ones have a schema for their payload.
    event_type: EventType,
    /// When it happened: RFC 3339 with an offset from UTC, at most 9 digits of the second's fraction. Without one the
    /// server's clock is taken.
    timestamp: Option<Time>,
    /// Chosen by the publisher: publishing the same event again under the same id stores nothing.
    event_id: Option<EventId>,
    /// Passed on byte for byte; `{}` when absent. At most 64 levels deep, no key twice in one object.
    payload: Option<AnyObject>,
    /// Who or what says so.
    source: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
    /// The conversation it belongs to.
    correlation_id: Option<String>,
    /// The event that led to it.
    causation_id: Option<String>,
}
