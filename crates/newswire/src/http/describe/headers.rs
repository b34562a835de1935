//! Headers of answers: what each of them says. Which answer has which stands in the table of operations; those of every
//! answer here. A test over real sockets compares both with what is served.
//!
//! Not described is what belongs to HTTP itself (`Date`, `Content-Length`, `Connection` and their like), and what browsers
//! alone look at (`Access-Control-…`, in answers to listed origins).

use serde_json::{Value, json};

/// A header of answers.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    kind: Kind,
    /// Whether an answer that lists it always has it.
    pub(super) always: bool,
}

#[derive(Debug)]
enum Kind {
    Text,
    Whole,
    OneOf(&'static [&'static str]),
}

const fn header(name: &'static str, description: &'static str) -> Header {
    Header { name, description, kind: Kind::Text, always: false }
}

impl Header {
    const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    const fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// As OpenAPI describes a header.
    pub(super) fn described(&self) -> Value {
        let schema = match self.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Whole => json!({ "type": "integer", "minimum": 0 }),
            Kind::OneOf(values) => json!({ "type": "string", "enum": values }),
        };
        json!({ "description": self.description, "required": self.always, "schema": schema })
    }

    /// Where the whole description has it, for whoever refers to it.
    pub(super) fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/headers/{}", self.name) })
    }
}

pub(super) const REQUEST_ID: Header = header(
    "x-request-id",
    "Names the request, as the caller did or else the server, in its log too; absent in a library.",
);
pub(super) const RATE_LIMIT: Header = header(
    "RateLimit",
    "What is left: `\"default\";r=REQUESTS;t=SECONDS` until all are there again. Where requests are limited.",
);
pub(super) const RATE_LIMIT_POLICY: Header =
    header("RateLimit-Policy", "The limit: `\"default\";q=REQUESTS;w=SECONDS`. Where requests are limited.");
pub(super) const VARY: Header = header("Vary", "Request headers that decide what the answer looks like.");
pub(super) const CONTENT_ENCODING: Header = header(
    "Content-Encoding",
    "How the body is packed, of what `Accept-Encoding` allows and where it is worth it.",
)
.kind(Kind::OneOf(&["gzip", "br", "zstd"]));
pub(super) const ETAG: Header =
    header("ETag", "Names these bytes: to be sent back as `If-None-Match`.").always();
pub(super) const CACHE_CONTROL: Header =
    header("Cache-Control", "Whether it may be kept, and that it is asked about again.").always();
pub(super) const LINK: Header = header(
    "Link",
    "Of a page of CloudEvents that has a next one: `<?QUERY>; rel=\"next\"`, relative to this address.",
);
pub(super) const UNBUFFERED: Header =
    header("X-Accel-Buffering", "`no`: a proxy is to hand events on as they come.").always();
pub(super) const SET_COOKIE: Header = header("Set-Cookie", "Has the browser forget its cookie.");
pub(super) const RETRY_AFTER: Header =
    header("Retry-After", "Seconds to wait before asking again.").kind(Kind::Whole);
pub(super) const CHALLENGE: Header = header(
    "WWW-Authenticate",
    "How to say who asks: `Bearer`, with an `error` where what was shown does not count.",
)
.always();
pub(super) const ACCEPT_ENCODING: Header =
    header("Accept-Encoding", "Packings that are read, where the body came in another.");
pub(super) const ALLOW: Header = header("Allow", "Methods of this address, where the method is the problem.");
pub(super) const UPGRADE: Header = header("Upgrade", "`websocket`.").always();
pub(super) const WEBSOCKET_ACCEPT: Header =
    header("Sec-WebSocket-Accept", "The proof of the handshake, of RFC 6455.").always();
pub(super) const WEBSOCKET_EXTENSIONS: Header =
    header("Sec-WebSocket-Extensions", "`permessage-deflate`, where it was offered and agreed to.");
pub(super) const WEBSOCKET_VERSION: Header =
    header("Sec-WebSocket-Version", "The version that is spoken: 13.").always();
/// Of the binary mode of `CloudEvents`.
pub(super) const CLOUDEVENT: &[Header] = &[
    header("ce-specversion", "Binary mode: the version of CloudEvents."),
    header("ce-id", "Binary mode: the event's id."),
    header("ce-source", "Binary mode: the event's source."),
    header("ce-type", "Binary mode: the event's type."),
    header("ce-time", "Binary mode: when it happened."),
    header("ce-channel", "Binary mode: the channel."),
    header("ce-epoch", "Binary mode: the epoch of the log."),
    header("ce-offset", "Binary mode: the event's place in the log.").kind(Kind::Whole),
    header("ce-traceparent", "Binary mode: the trace that it belongs to."),
    header("ce-correlationid", "Binary mode: what it belongs to."),
    header("ce-causationid", "Binary mode: what it came of."),
];

/// Headers of every answer, problems included.
pub(super) fn of_every_answer() -> [&'static Header; 4] {
    [&REQUEST_ID, &RATE_LIMIT, &RATE_LIMIT_POLICY, &VARY]
}

/// Headers of a problem, beside those of every answer.
pub(super) fn of_problem(status: http::StatusCode) -> &'static [&'static Header] {
    match status.as_u16() {
        401 => &[&CHALLENGE],
        415 => &[&ACCEPT_ENCODING],
        426 => &[&WEBSOCKET_VERSION],
        429 | 503 => &[&RETRY_AFTER],
        _ => &[],
    }
}

/// Headers of the problems that stand behind `default`.
pub(super) fn of_other_problems() -> [&'static Header; 1] {
    [&ALLOW]
}

/// Every header, for the part of the description that others refer to.
pub(super) fn all() -> impl Iterator<Item = &'static Header> {
    let others = [
        &CONTENT_ENCODING,
        &ETAG,
        &CACHE_CONTROL,
        &LINK,
        &UNBUFFERED,
        &SET_COOKIE,
        &RETRY_AFTER,
        &CHALLENGE,
        &ACCEPT_ENCODING,
        &ALLOW,
        &UPGRADE,
        &WEBSOCKET_ACCEPT,
        &WEBSOCKET_EXTENSIONS,
        &WEBSOCKET_VERSION,
    ];
    of_every_answer().into_iter().chain(others).chain(CLOUDEVENT)
}
