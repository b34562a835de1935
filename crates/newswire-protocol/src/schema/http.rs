//! The bodies of HTTP.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::absent_not_null;
use super::event::{Draft, Event};
use super::text::{
    AnyObject, ChannelName, Epoch, ErrorCodeName, ErrorText, EventId, EventType, Offset, OffsetOrNull,
    Position, Time, TimeInUtc,
};
use crate::codes::ErrorCode;

/// Problems that only HTTP has: code and status.
pub const HTTP_PROBLEMS: &[(&str, u16)] = &[
    ("bad_request", 400),
    ("unauthorized", 401),
    ("forbidden_origin", 403),
    ("forbidden_host", 403),
    ("not_found", 404),
    ("method_not_allowed", 405),
    ("request_too_large", 413),
    ("unsupported_media_type", 415),
    ("upgrade_required", 426),
    ("internal_error", 500),
    ("unavailable", 503),
    ("too_many_connections", 503),
];

/// Why a request failed (RFC 9457).
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{
    "type": "urn:newswire:problem:unknown_channel", "title": "Unknown channel", "status": 404,
    "detail": "\"taks\" is not declared", "code": "unknown_channel",
}]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Problem {
    /// `urn:newswire:problem:` and the code.
    #[schemars(rename = "type", extend("pattern" = "^urn:newswire:problem:[a-z_]+$"))]
    kind: String,
    /// A fixed text for the code.
    title: String,
    /// The status of the response.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What exactly was wrong, for people; may change.
    detail: String,
    /// For programs.
    #[schemars(schema_with = "problem_code")]
    code: String,
}

fn problem_code(_: &mut SchemaGenerator) -> Schema {
    let of_http = HTTP_PROBLEMS.iter().map(|(code, _)| *code);
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.code()).chain(of_http).collect();
    json_schema!({ "type": "string", "enum": codes })
}

/// One event, or many.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) enum PublishBody {
    One(Draft),
    Many(Vec<Draft>),
}

/// One result an event, in the order sent; what is accepted is durable.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "results": [
    { "offset": 1235, "event_id": "run-12/task-8" },
    { "offset": 1235, "event_id": "run-12/task-8", "duplicate": true },
    { "error": "Unknown channel", "code": "unknown_channel", "detail": "\"taks\" is not declared" },
] } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct PublishAnswer {
    data: PublishResults,
}

/// What became of the events of one request.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct PublishResults {
    results: Vec<PublishResult>,
}

/// What became of one event.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) enum PublishResult {
    Stored(StoredEvent),
    Refused(RefusedEvent),
}

/// It is durable.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct StoredEvent {
    /// Its position in the log.
    offset: Offset,
    /// The publisher's id, or the one that the server made.
    event_id: EventId,
    /// It was stored before, under the same id.
    #[schemars(extend("const" = true))]
    duplicate: Option<bool>,
}

/// It was refused, alone.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct RefusedEvent {
    /// A fixed text.
    error: ErrorText,
    /// Its twin for programs.
    code: ErrorCodeName,
    /// What exactly was wrong, for people; may change.
    detail: Option<String>,
}

/// A page of history.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{
    "data": [{
        "event_type": "task.created", "channel": "tasks", "timestamp": "2026-11-22T15:24:00Z",
        "payload": { "id": "task-8" }, "event_id": "run-12/task-8", "offset": 1235, "version": 1,
    }],
    "epoch": "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52", "offset": 1240, "next": 1235,
}]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct HistoryPage {
    data: Vec<Event>,
    /// What the offsets belong to.
    epoch: Epoch,
    /// Where the log ends.
    offset: Position,
    /// Where the following page begins: to be passed as `after` when ascending, as `before` when descending. `null` on
    /// the last page. A page may be short or empty and still have one.
    next: OffsetOrNull,
    /// Only where `after` was given and the order is ascending: whether every event of these channels behind it is still
    /// there. `false`: some are no longer kept, and a reader that pages has lost them.
    recovered: Option<bool>,
}

/// One event.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct EventAnswer {
    data: Event,
}

/// The channels, sorted by name.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": [
    { "channel": "tasks", "first_offset": 1, "last_offset": 1240, "events": 812, "subscribers": 3 },
    { "channel": "system", "first_offset": null, "last_offset": null, "events": 0, "subscribers": 0 },
] }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ChannelsAnswer {
    data: Vec<ChannelState>,
}

/// A channel that is declared or was ever used.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ChannelState {
    /// Its name.
    channel: ChannelName,
    /// Of the oldest retained event; `null` where there is none, or the caller may not see all.
    first_offset: OffsetOrNull,
    /// Of the newest retained event; `null` where there is none, or the caller may not see all.
    last_offset: OffsetOrNull,
    /// How many are retained; `null` where the caller may not see all.
    events: OffsetOrNull,
    /// Connections that have subscribed it, by name or by pattern; `null` where the caller may not see all.
    subscribers: OffsetOrNull,
}

/// The state of the feed.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": {
    "status": "ok",
    "log": { "status": "ok", "epoch": "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52", "head": 1, "offset": 1240 },
    "feed": { "moving": true, "dispatched": 1240, "connections": 3 },
    "bus": { "engine": "embedded", "status": "ok" },
} }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct HealthAnswer {
    data: Health,
}

/// Whether the feed moves, and why not.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Health {
    /// `ok`; `degraded`: serves what it has, takes nothing new; `stuck`; `stopping`.
    #[schemars(extend("enum" = ["ok", "degraded", "stuck", "stopping"]))]
    status: String,
    /// What does not work, and what to look at.
    why_not: Option<String>,
    /// Where events are durable.
    log: LogState,
    /// The way from the log to the subscribers.
    feed: FeedState,
    /// What carries events between servers; with the embedded log, the log.
    bus: BusState,
}

/// The log's part.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct LogState {
    #[schemars(extend("enum" = ["ok", "full", "stopped"]))]
    status: String,
    /// What the offsets belong to.
    epoch: Epoch,
    /// The oldest retained offset; absent for callers who may not see all events, unless they are operators.
    head: Option<Position>,
    /// The last durable offset; 0 while the log is empty; absent likewise.
    offset: Option<Position>,
}

/// The fan-out's part.
#[derive(JsonSchema)]
#[schemars(transform = absent_not_null)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct FeedState {
    /// Committed events reach the subscribers' queues.
    moving: bool,
    /// The last offset that was handed to them; absent for callers who may not see all events, unless they are operators.
    dispatched: Option<Position>,
    /// Open WebSocket connections; absent likewise.
    connections: Option<Position>,
}

/// The bus's part.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct BusState {
    engine: String,
    status: String,
}

/// A probe's answer.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "status": "ok" } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ProbeAnswer {
    data: ProbeState,
}

/// It works.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ProbeState {
    #[schemars(extend("const" = "ok"))]
    status: String,
}

/// A CloudEvent 1.0 in the JSON format. Attributes beside these are not kept.
#[derive(JsonSchema)]
#[schemars(rename = "CloudEvent", extend("examples" = [{
    "specversion": "1.0", "type": "task.created", "source": "/planner", "id": "A-17", "time": "2026-11-22T15:24:00Z",
    "channel": "tasks", "data": { "id": "task-8", "agent_id": "sarah_chen" },
}]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct CloudEvent {
    #[schemars(extend("const" = "1.0"))]
    specversion: String,
    /// The event's type.
    #[schemars(rename = "type")]
    kind: EventType,
    /// Who or what says so.
    #[schemars(length(min = 1))]
    source: String,
    /// With the source, what makes it the same event when it is sent again.
    #[schemars(length(min = 1))]
    id: String,
    /// When it happened.
    time: Option<Time>,
    /// Where it happens; an extension. Without it the query parameter of that name is taken.
    channel: Option<ChannelName>,
    /// The payload.
    data: Option<AnyObject>,
    /// The payload as base64 of JSON.
    data_base64: Option<String>,
    /// A JSON type.
    datacontenttype: Option<String>,
    /// W3C trace context; an extension.
    traceparent: Option<String>,
    /// The conversation it belongs to; an extension.
    correlationid: Option<String>,
    /// The event that led to it; an extension.
    causationid: Option<String>,
    /// Of the log, when the server writes it; an extension.
    epoch: Option<String>,
    /// The position in the log, when the server writes it; an extension, and a string because integers have 32 bits.
    offset: Option<String>,
}

/// CloudEvents, each for itself.
#[derive(JsonSchema)]
#[schemars(rename = "CloudEventBatch")]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct CloudEventBatch(Vec<CloudEvent>);

/// Who is connected, a page of it.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": [{
    "id": 17, "kind": "websocket", "identity": "anonymous", "address": "127.0.0.1:52814",
    "since": "2026-11-22T15:24:00.123456Z", "last_offset": 1240, "lagging": false, "lag": 0, "queued_bytes": 0,
    "dropped": 0, "subscriptions": [{ "channel": "tasks", "filters": { "agent": ["sarah_chen"] }, "state": "live" }],
}], "next": null }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ConnectionsAnswer {
    data: Vec<ConnectionState>,
    /// To be passed as `after` for the following page; `null` on the last one.
    next: OffsetOrNull,
}

/// A connection, as administrators see it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct ConnectionState {
    /// By which it can be closed.
    id: Position,
    /// `websocket`, `stream` (Server-Sent Events) or `library` (in the process itself).
    #[schemars(extend("enum" = ["websocket", "stream", "library"]))]
    kind: String,
    /// On whose behalf.
    identity: String,
    /// Where it comes from, where that is known.
    address: Option<String>,
    /// When it began.
    since: TimeInUtc,
    /// Of the last live event it was sent; 0 for none yet.
    last_offset: Position,
    /// It reads from the log, because it fell behind.
    lagging: bool,
    /// Offsets between what it has been given and what was dispatched, where it is lagging.
    lag: Position,
    /// Bytes that wait for it.
    queued_bytes: Position,
    /// Events that its policy dropped.
    dropped: Position,
    /// What it has subscribed.
    subscriptions: Vec<SubscriptionState>,
}

/// One channel or pattern of a connection.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct SubscriptionState {
    /// A name, or a pattern ending in `*`.
    channel: String,
    /// The set it belongs to, where that has a name.
    sub: Option<String>,
    /// What narrows it.
    filters: Option<AnyObject>,
    /// `replay` or `live`.
    #[schemars(extend("enum" = ["replay", "live"]))]
    state: String,
}

/// A connection was told to end.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "id": 17, "closed": true } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct KickAnswer {
    data: Kicked,
}

/// Which one.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Kicked {
    id: Position,
    #[schemars(extend("const" = true))]
    closed: bool,
}

/// What is to disappear.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "before": 1200, "channels": ["tasks"] }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct TrimBody {
    /// The first offset that stays.
    before: Offset,
    /// Only of these; without them, of all.
    #[schemars(length(min = 1))]
    channels: Option<Vec<String>>,
}

/// What is left.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [
    { "data": { "removed": 815, "freed_bytes": 0, "head": 2, "events": 425, "bytes": 1048576 } },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct TrimAnswer {
    data: Trimmed,
}

/// What went and what is left.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Trimmed {
    /// Events that went.
    removed: Position,
    /// Disk space that came back, a segment at a time.
    freed_bytes: Position,
    /// The oldest retained offset now.
    head: Position,
    /// Events that are left.
    events: Position,
    /// In so many bytes.
    bytes: Position,
}

/// A ticket for one connection.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "ticket": "nwt_3f2a9c_0_s3cr3t", "expires_in": 30 } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct TicketAnswer {
    data: Ticket,
}

/// Single use.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Ticket {
    /// For the first frame, or the parameter of that name.
    ticket: String,
    /// Seconds.
    expires_in: Position,
}

/// A session is over.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "closed": 2 } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct SignOutAnswer {
    data: SignedOut,
}

/// What went with it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct SignedOut {
    /// Live connections that were ended.
    closed: Position,
}

/// Whose credentials count no more: an identity's, or one token.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "identity": "sarah_chen" }], "oneOf" = [
    { "required": ["identity"], "properties": { "identity": { "type": "string" }, "token_id": { "type": "null" } } },
    { "required": ["token_id"], "properties": { "token_id": { "type": "string" }, "identity": { "type": "null" } } },
]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct RevokeBody {
    /// Everything that it shows.
    #[schemars(length(min = 1, max = 256))]
    identity: Option<String>,
    /// The `jti` of a token, or `key:` and the id of a key.
    #[schemars(length(min = 1, max = 256))]
    token_id: Option<String>,
    /// `false` lifts it.
    revoked: Option<bool>,
    /// When it ends by itself, in seconds since 1970: such as `exp` of the token, when that counts no more anyway.
    expires_at: Option<Position>,
}

/// What became of it.
#[derive(JsonSchema)]
#[schemars(extend("examples" = [{ "data": { "revoked": true, "closed": 2 } }]))]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct RevokeAnswer {
    data: Revoked,
}

/// How it stands.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(super) struct Revoked {
    revoked: bool,
    /// Live connections that were ended.
    closed: Position,
}
