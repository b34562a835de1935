//! What the server sends over a WebSocket. A field that does not apply is left out.

use schemars::JsonSchema;

use super::absent_not_null;
use super::event::Event;
use super::text::{
    ChannelOrPattern, CommandId, Epoch, ErrorCodeName, ErrorText, EventId, GapReasonName, Offset, Position,
    RejectReasonName, SetName,
};

/// Anything the server sends: one JSON object a text frame. What has no `action` is an event; an `action` that is not
/// known is to be ignored.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) enum ServerMessage {
    Event(Event),
    Subscribed(Subscribed),
    Unsubscribed(Unsubscribed),
    Published(Published),
    Pong(Pong),
    AuthOk(AuthOk),
    CaughtUp(CaughtUp),
    Checkpoint(Checkpoint),
    Gap(Gap),
    Error(Error),
}

/// The answer to `subscribe`. Events before it follow the old subscriptions, events after it the new.
#[derive(JsonSchema)]
#[schemars(rename = "SubscribedMessage", transform = absent_not_null, extend("examples" = [
    { "action": "subscribed", "channels": ["budget", "tasks"], "offset": 1234,
      "epoch": "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52", "id": 1 },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Subscribed {
    #[schemars(extend("const" = "subscribed"))]
    action: String,
    /// All that is now subscribed in this set, sorted.
    #[schemars(extend("uniqueItems" = true))]
    channels: Vec<ChannelOrPattern>,
    /// Where the log ended at that moment.
    offset: Position,
    /// What the offsets belong to.
    epoch: Epoch,
    /// To `after` and `since`: whether everything that was asked for is still there. A `gap` follows where it is not.
    recovered: Option<bool>,
    /// Names that were refused, while the others are subscribed.
    rejected: Option<Vec<Rejected>>,
    /// The command's.
    id: Option<CommandId>,
    /// The command's.
    sub: Option<SetName>,
}

/// A name that was refused.
#[derive(JsonSchema)]
#[schemars(rename = "RejectedChannel")]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Rejected {
    /// As it was given.
    channel: String,
    /// Why.
    reason: RejectReasonName,
}

/// The answer to `unsubscribe`: what is left in this set.
#[derive(JsonSchema)]
#[schemars(rename = "UnsubscribedMessage", transform = absent_not_null,
    extend("examples" = [{ "action": "unsubscribed", "channels": ["budget"] }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Unsubscribed {
    #[schemars(extend("const" = "unsubscribed"))]
    action: String,
    /// What remains in this set, sorted.
    #[schemars(extend("uniqueItems" = true))]
    channels: Vec<ChannelOrPattern>,
    /// The command's.
    id: Option<CommandId>,
    /// The command's.
    sub: Option<SetName>,
}

/// The answer to `publish`: the event is durable. It may stand before or after the event itself.
#[derive(JsonSchema)]
#[schemars(rename = "PublishedMessage", transform = absent_not_null, extend("examples" = [
    { "action": "published", "offset": 1235, "event_id": "run-12/task-8", "id": 7 },
    { "action": "published", "offset": 1235, "event_id": "run-12/task-8", "duplicate": true, "id": 8 },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Published {
    #[schemars(extend("const" = "published"))]
    action: String,
    /// The event's position in the log.
    offset: Offset,
    /// The event's id.
    event_id: EventId,
    /// It was stored before, under the same id.
    #[schemars(extend("const" = true))]
    duplicate: Option<bool>,
    /// The command's.
    id: Option<CommandId>,
}

/// The answer to `ping`.
#[derive(JsonSchema)]
#[schemars(rename = "PongMessage", transform = absent_not_null, extend("examples" = [{ "action": "pong" }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Pong {
    #[schemars(extend("const" = "pong"))]
    action: String,
    /// The command's.
    id: Option<CommandId>,
}

/// The answer to `auth`.
#[derive(JsonSchema)]
#[schemars(rename = "AuthOkMessage", transform = absent_not_null, extend("examples" = [{ "action": "auth_ok" }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct AuthOk {
    #[schemars(extend("const" = "auth_ok"))]
    action: String,
    /// The command's.
    id: Option<CommandId>,
}

/// A replay is over; what follows is live.
#[derive(JsonSchema)]
#[schemars(rename = "CaughtUpMessage", transform = absent_not_null, extend("examples" = [
    { "action": "caught_up", "channels": ["agent.*", "tasks"], "offset": 1240, "id": "s-2", "sub": "board" },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct CaughtUp {
    #[schemars(extend("const" = "caught_up"))]
    action: String,
    /// Of the command, sorted.
    #[schemars(extend("uniqueItems" = true))]
    channels: Vec<ChannelOrPattern>,
    /// How far the replay went, whether or not it found events.
    offset: Position,
    /// The command's.
    id: Option<CommandId>,
    /// The command's.
    sub: Option<SetName>,
}

/// Everything up to this offset that any set of the connection matches has been sent.
#[derive(JsonSchema)]
#[schemars(rename = "CheckpointMessage", transform = absent_not_null,
    extend("examples" = [{ "action": "checkpoint", "offset": 5000 }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Checkpoint {
    #[schemars(extend("const" = "checkpoint"))]
    action: String,
    /// Safe to resume all sets from.
    offset: Position,
}

/// Matching events with `from` ≤ offset ≤ `to` may be missing.
#[derive(JsonSchema)]
#[schemars(rename = "GapMessage", transform = absent_not_null, extend("examples" = [
    { "action": "gap", "channels": ["tasks"], "from": 1201, "to": 1220, "reason": "retention" },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Gap {
    #[schemars(extend("const" = "gap"))]
    action: String,
    /// Of these, sorted.
    #[schemars(extend("uniqueItems" = true))]
    channels: Vec<ChannelOrPattern>,
    /// The first offset that may be missing.
    from: Position,
    /// The last offset that may be missing.
    to: Position,
    /// `backlog`: read too slowly under a policy that drops. `retention`: trimmed. `epoch`: the log began a new epoch.
    /// `forbidden`: their past may not be read.
    reason: GapReasonName,
    /// The new epoch.
    epoch: Option<Epoch>,
    /// The set's.
    sub: Option<SetName>,
}

/// A command failed; the connection stays open.
#[derive(JsonSchema)]
#[schemars(rename = "ErrorMessage", transform = absent_not_null, extend("examples" = [
    { "action": "error", "error": "Invalid event", "code": "invalid_event", "detail": "event_type is required" },
    { "action": "error", "error": "Too many requests", "code": "too_many_requests", "retry_after_ms": 840 },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Error {
    #[schemars(extend("const" = "error"))]
    action: String,
    /// A fixed text.
    error: ErrorText,
    /// Its twin for programs.
    code: ErrorCodeName,
    /// For people; may change.
    detail: Option<String>,
    /// How long to wait before trying again, in milliseconds.
    #[schemars(range(min = 1))]
    retry_after_ms: Option<u64>,
    /// The command's.
    id: Option<CommandId>,
}
