//! What a client sends over a WebSocket. In every optional field `null` is absent; unknown fields are ignored.

use schemars::JsonSchema;

use super::text::{
    AnyObject, ChannelName, CommandId, EventId, EventType, Filters, Position, SetName, Since, Time,
};

/// Any command: one JSON object a text frame.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) enum Command {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Publish(Publish),
    Ping(Ping),
    Auth(Auth),
}

/// Begins, changes or replays subscriptions. `after` wins over `since`, and `since` over `history`; with none of them
/// the subscription begins live.
#[derive(JsonSchema)]
#[schemars(rename = "SubscribeCommand", extend("examples" = [
    { "action": "subscribe", "id": 1, "channels": ["tasks", "budget"] },
    { "action": "subscribe", "id": "s-2", "sub": "board", "channels": ["tasks", "agent.*"],
      "filters": { "agent": "sarah_chen", "event_type": ["task.*", "agent.hired"] },
      "after": 1200, "epoch": "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52" },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Subscribe {
    #[schemars(extend("const" = "subscribe"))]
    action: String,
    /// Repeated in the answer, in its error and in `caught_up`.
    id: Option<CommandId>,
    /// Names, or patterns: a name ending in `*` stands for every channel that begins so, now and later. Names that the
    /// server does not know are refused one by one.
    channels: Vec<String>,
    /// Keys are ANDed, the values of one key ORed. Absent keeps the channels' filters, `{}` clears them.
    filters: Option<Filters>,
    /// Replays every retained matching event behind this offset.
    after: Option<Position>,
    /// The epoch that `after` belongs to.
    epoch: Option<String>,
    /// Replays from this time on: RFC 3339, or a duration before now such as `10m`.
    since: Option<Since>,
    /// Replays the last so many matching events of each channel.
    history: Option<Position>,
    /// The set of subscriptions that is meant; without it the one that has no name.
    sub: Option<SetName>,
}

/// Ends subscriptions and forgets their filters.
#[derive(JsonSchema)]
#[schemars(rename = "UnsubscribeCommand", extend("examples" = [{ "action": "unsubscribe", "channels": ["tasks"] }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Unsubscribe {
    #[schemars(extend("const" = "unsubscribe"))]
    action: String,
    /// Repeated in the answer.
    id: Option<CommandId>,
    /// Names or patterns as they were subscribed.
    channels: Vec<String>,
    /// The set of subscriptions that is meant.
    sub: Option<SetName>,
}

/// Stores an event; `published` comes once it is durable.
#[derive(JsonSchema)]
#[schemars(rename = "PublishCommand", extend("examples" = [
    { "action": "publish", "id": 7, "channel": "tasks", "event_type": "task.created", "payload": { "id": "task-8" },
      "event_id": "run-12/task-8" },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Publish {
    #[schemars(extend("const" = "publish"))]
    action: String,
    /// The command's own; the event's is `event_id`.
    id: Option<CommandId>,
    /// Where it happens; a channel that the server knows.
    channel: ChannelName,
    /// What happened.
    event_type: EventType,
    /// When it happened; without one the server's clock is taken.
    timestamp: Option<Time>,
    /// Chosen by the publisher: publishing the same event again under the same id stores nothing.
    event_id: Option<EventId>,
    /// Passed on byte for byte; `{}` when absent.
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

/// A sign of life, for clients that cannot see WebSocket pings.
#[derive(JsonSchema)]
#[schemars(rename = "PingCommand", extend("examples" = [{ "action": "ping" }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Ping {
    #[schemars(extend("const" = "ping"))]
    action: String,
    /// Repeated in the answer.
    id: Option<CommandId>,
}

/// Presents credentials: either a single-use ticket or a token.
#[derive(JsonSchema)]
#[schemars(rename = "AuthCommand", extend("examples" = [{ "action": "auth", "token": "any" }], "oneOf" = [
    { "required": ["ticket"], "properties": { "ticket": { "type": "string" }, "token": { "type": "null" } } },
    { "required": ["token"], "properties": { "token": { "type": "string" }, "ticket": { "type": "null" } } },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Auth {
    #[schemars(extend("const" = "auth"))]
    action: String,
    /// Repeated in the answer.
    id: Option<CommandId>,
    /// A single-use ticket.
    ticket: Option<String>,
    /// A token.
    token: Option<String>,
}
