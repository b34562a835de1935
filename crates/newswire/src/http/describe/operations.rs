//! The table of operations: what each call takes and answers. Routes are compared with it by a test.

use http::StatusCode;

use super::headers::{
    CACHE_CONTROL, ETAG, Header, LINK, SET_COOKIE, UNBUFFERED, UPGRADE, WEBSOCKET_ACCEPT,
    WEBSOCKET_EXTENSIONS,
};

/// One call.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What generated clients call it.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// CommonMark; may be empty.
    pub(super) description: &'static str,
    /// Names of query parameters, as the protocol's table describes them.
    pub(super) query: &'static [&'static str],
    /// Whether every further query parameter is a filter key.
    pub(super) filters: bool,
    /// Media types of the body it takes, each with the shape.
    pub(super) takes: &'static [Body],
    /// What it answers when all is well.
    pub(super) answers: &'static [Answer],
    /// Codes of problems that only it has; those of every call are added.
    pub(super) problems: &'static [(StatusCode, &'static [&'static str])],
}

/// A body in one media type.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) media_type: &'static str,
    pub(super) shape: Shape,
}

/// What a body is.
#[derive(Debug)]
pub(super) enum Shape {
    /// JSON, of this path of the protocol's shapes.
    Json(&'static str),
    /// Lines of JSON, each of this shape.
    Lines(&'static str),
    /// Anything readable.
    Text(&'static str),
}

/// A response that is no problem.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) description: &'static str,
    /// In every media type that may be asked for, the usual one first.
    pub(super) bodies: &'static [Body],
    /// Response headers beside those of every answer and of every body.
    pub(super) headers: &'static [&'static Header],
    /// Whether it may also have those of the binary mode of `CloudEvents`.
    pub(super) cloudevent: bool,
}

const fn json(shape: &'static str) -> Body {
    Body { media_type: "application/json", shape: Shape::Json(shape) }
}

const fn ok(description: &'static str, bodies: &'static [Body]) -> Answer {
    Answer { status: StatusCode::OK, description, bodies, headers: &[], cloudevent: false }
}

/// A call of which only these are to be said; the rest is as in most.
const fn get(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "get",
        path,
        id,
        tag,
        summary,
        description: "",
        query: &[],
        filters: false,
        takes: &[],
        answers: &[],
        problems: &[],
    }
}

/// Problems that any call may have: credentials in the address, or none where they count, the guard of an open server, and its bound of connections.
pub(super) const OF_EVERY_CALL: &[(StatusCode, &[&str])] = &[
    (StatusCode::BAD_REQUEST, &["invalid_parameter"]),
    (StatusCode::UNAUTHORIZED, &["unauthorized"]),
    (StatusCode::FORBIDDEN, &["forbidden_origin", "forbidden_host"]),
    (StatusCode::TOO_MANY_REQUESTS, &["too_many_requests", "too_many_connections"]),
    (StatusCode::INTERNAL_SERVER_ERROR, &["internal_error"]),
    (StatusCode::SERVICE_UNAVAILABLE, &["too_many_connections"]),
];

/// Tags, in the order in which they are shown.
pub(super) const TAGS: &[(&str, &str)] = &[
    ("events", "Publish, and read what was published."),
    ("live", "Subscribe: what comes over a WebSocket stands in the AsyncAPI description beside this one."),
    ("channels", "What there is to subscribe."),
    ("operation", "Whether it works, for people and for what watches it."),
    (
        "administration",
        "For administrators, and the list of connections for operators, too; everybody else is answered 403.",
    ),
    ("descriptions", "This description, and its sisters."),
];

/// All calls, in the order in which they are shown.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "post",
        description: "The body is one event, an array of events, one event a line, or CloudEvents 1.0 (also in binary mode, \
                      with `ce-` headers around the data). The answer comes once everything \
                      that was accepted is durable, with one result an event, in their order; a bad event is refused \
                      alone. Publishing again with the same `event_id` stores nothing, so a request that was not \
                      answered can be repeated.",
        takes: &[
            Body { media_type: "application/json", shape: Shape::Json("http/publish-body") },
            Body { media_type: "application/x-ndjson", shape: Shape::Lines("event-draft") },
            Body { media_type: "application/cloudevents+json", shape: Shape::Json("http/cloudevent") },
            Body {
                media_type: "application/cloudevents-batch+json",
                shape: Shape::Json("http/cloudevent-batch"),
            },
        ],
        query: &["channel"],
        answers: &[ok("What became of each event.", &[json("http/publish-answer")])],
        problems: &[
            (StatusCode::BAD_REQUEST, &["invalid_json", "bad_request"]),
            (StatusCode::PAYLOAD_TOO_LARGE, &["request_too_large", "event_too_large"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported_media_type"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["storage_unavailable", "unavailable"]),
            (StatusCode::INSUFFICIENT_STORAGE, &["storage_full"]),
        ],
        ..get("/events", "publish", "events", "Publish events")
    },
    Operation {
        description: "Events of the past, oldest first unless `order=desc`. `next` leads to the following page; a rare \
                      filter may give a short or empty page that still has a `next`.",
        query: &["channels", "event_type", "after", "before", "since", "limit", "order"],
        filters: true,
        answers: &[Answer {
            headers: &[&LINK],
            ..ok(
                "A page of events; as CloudEvents, the next page is in the header `Link`.",
                &[
                    json("http/history-page"),
                    Body {
                        media_type: "application/cloudevents-batch+json",
                        shape: Shape::Json("http/cloudevent-batch"),
                    },
                ],
            )
        }],
        problems: &[
            (StatusCode::BAD_REQUEST, &["invalid_parameter", "filter_bounds_exceeded", "bad_request"]),
            (StatusCode::FORBIDDEN, &["forbidden"]),
            (StatusCode::NOT_FOUND, &["unknown_channel"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
        ],
        ..get("/events", "history", "events", "Read history")
    },
    Operation {
        description: "Server-Sent Events: the same replay, order and gaps as over a WebSocket. Each event has the id \
                      `<epoch>:<offset>`, with which a client resumes by `Last-Event-ID`; `caught_up` and `gap` are named \
                      events. Without `channels` it has all of them.",
        query: &["channels", "event_type", "after", "epoch", "since", "history"],
        filters: true,
        answers: &[Answer {
            headers: &[&CACHE_CONTROL, &UNBUFFERED],
            ..ok(
                "The stream, which goes on.",
                &[Body { media_type: "text/event-stream", shape: Shape::Text("Events as they come.") }],
            )
        }],
        problems: &[
            (StatusCode::BAD_REQUEST, &["invalid_parameter", "filter_bounds_exceeded", "bad_request"]),
            (StatusCode::FORBIDDEN, &["forbidden"]),
            (StatusCode::NOT_FOUND, &["unknown_channel"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
        ],
        ..get("/events/stream", "stream", "live", "Subscribe over Server-Sent Events")
    },
    Operation {
        description: "Within an epoch it never changes. With `?cloudevents=binary` it is answered in the binary mode of \
                      CloudEvents: attributes as `ce-` headers, and the payload as the body.",
        answers: &[
            Answer {
                status: StatusCode::OK,
                description: "The event.",
                bodies: &[
                    json("http/event-answer"),
                    Body {
                        media_type: "application/cloudevents+json",
                        shape: Shape::Json("http/cloudevent"),
                    },
                ],
                headers: &[&ETAG, &CACHE_CONTROL],
                cloudevent: true,
            },
            UNCHANGED,
        ],
        problems: &[
            (StatusCode::BAD_REQUEST, &["bad_request"]),
            (StatusCode::NOT_FOUND, &["not_found"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
        ],
        ..get("/events/{offset}", "event", "events", "Read one event")
    },
    Operation {
        description: "Upgrades to a WebSocket. With `channels` it is subscribed from the first byte; everything else is \
                      said by commands, which the AsyncAPI description holds.",
        query: &["channels", "event_type", "after", "epoch", "since", "history", "sub"],
        filters: true,
        answers: &[SWITCHING],
        problems: WEBSOCKET_PROBLEMS,
        ..get("/ws", "subscribe", "live", "Subscribe over a WebSocket")
    },
    Operation {
        description: "Upgrades to a WebSocket that is subscribed to this channel from the first byte.",
        query: &["event_type", "after", "epoch", "since", "history", "sub"],
        filters: true,
        answers: &[SWITCHING],
        problems: WEBSOCKET_PROBLEMS,
        ..get("/ws/{channel}", "subscribe_channel", "live", "Subscribe one channel over a WebSocket")
    },
    Operation {
        answers: &[ok("The channels, sorted by name.", &[json("http/channels-answer")])],
        problems: &[(StatusCode::SERVICE_UNAVAILABLE, &["unavailable"])],
        ..get("/channels", "channels", "channels", "List channels")
    },
    Operation {
        description: "The body is the same whether all is well or not; `why_not` says what does not work.",
        answers: &[
            ok("Events are taken and delivered.", &[json("http/health-answer")]),
            Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                description: "Something does not work.",
                bodies: &[json("http/health-answer")],
                headers: &[],
                cloudevent: false,
            },
        ],
        ..get("/health", "health", "operation", "The state of the feed")
    },
    Operation {
        answers: &[ok("It does.", &[json("http/probe-answer")])],
        ..get("/health/live", "live", "operation", "Whether the process works")
    },
    Operation {
        answers: &[ok("Send it here.", &[json("http/probe-answer")])],
        problems: &[(StatusCode::SERVICE_UNAVAILABLE, &["unavailable"])],
        ..get("/health/ready", "ready", "operation", "Whether it should get traffic")
    },
    Operation {
        problems: &[(StatusCode::FORBIDDEN, &["forbidden"])],
        answers: &[ok(
            "Samples of all metrics.",
            &[Body {
                media_type: crate::METRICS_CONTENT_TYPE,
                shape: Shape::Text("The text format of Prometheus."),
            }],
        )],
        ..get("/metrics", "metrics", "operation", "Metrics for Prometheus")
    },
    Operation {
        query: &["limit", "after"],
        answers: &[ok("A page of connections.", &[json("http/connections-answer")])],
        problems: &[
            (StatusCode::BAD_REQUEST, &["invalid_parameter", "filter_bounds_exceeded", "bad_request"]),
            (StatusCode::FORBIDDEN, &["forbidden"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
        ],
        ..get("/connections", "connections", "administration", "Who is connected")
    },
    Operation {
        method: "delete",
        description: "A WebSocket ends with 4003, an event stream by its end. The client may come back.",
        answers: &[ok("It was told to end.", &[json("http/kick-answer")])],
        problems: &[
            (StatusCode::BAD_REQUEST, &["bad_request"]),
            (StatusCode::FORBIDDEN, &["forbidden"]),
            (StatusCode::NOT_FOUND, &["not_found"]),
        ],
        ..get("/connections/{id}", "kick", "administration", "Close a connection")
    },
    Operation {
        method: "post",
        description: "Events with an offset below `before` disappear, of the channels listed or, without, of all.",
        takes: &[json("http/trim-body")],
        answers: &[ok("What is left.", &[json("http/trim-answer")])],
        problems: TRIM_PROBLEMS,
        ..get("/admin/trim", "trim", "administration", "Trim events")
    },
    Operation {
        method: "post",
        description: "Retention happens every few seconds by itself, too.",
        answers: &[ok("What is left.", &[json("http/trim-answer")])],
        problems: TRIM_PROBLEMS,
        ..get("/admin/compact", "compact", "administration", "Apply retention now")
    },
    Operation {
        method: "post",
        description: "Whatever the identity shows, or one token, counts no more, and live connections end within a second.",
        takes: &[json("http/revoke-body")],
        answers: &[ok("It is revoked.", &[json("http/revoke-answer")])],
        problems: &[
            (StatusCode::BAD_REQUEST, &["invalid_json", "expected_json_object", "bad_request"]),
            (StatusCode::FORBIDDEN, &["forbidden"]),
            (StatusCode::NOT_FOUND, &["not_found"]),
            (StatusCode::PAYLOAD_TOO_LARGE, &["request_too_large"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported_media_type"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
            (StatusCode::INSUFFICIENT_STORAGE, &["storage_full"]),
        ],
        ..get("/admin/revoke", "revoke", "administration", "Revoke credentials")
    },
    Operation {
        method: "post",
        description: "For a browser, which cannot give a WebSocket or an EventSource a header: presented in the first \
            frame or as the parameter `ticket`, once, within its seconds. At most five of an identity are pending.",
        answers: &[Answer { headers: &[&CACHE_CONTROL], ..ok("A ticket.", &[json("http/ticket-answer")]) }],
        problems: &[
            (StatusCode::NOT_FOUND, &["not_found"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
        ],
        ..get("/auth/ws-ticket", "ticket", "live", "A ticket for one connection")
    },
    Operation {
        method: "post",
        description: "For a browser that signed in: the session that its cookie stands for counts no more, here or in any \
                      other window, and live connections that stand on it end.",
        answers: &[Answer {
            headers: &[&SET_COOKIE],
            ..ok("It is signed out.", &[json("http/sign-out-answer")])
        }],
        problems: &[
            (StatusCode::NOT_FOUND, &["not_found"]),
            (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
            (StatusCode::INSUFFICIENT_STORAGE, &["storage_full"]),
        ],
        ..get("/auth/sign-out", "signOut", "administration", "Sign a browser out")
    },
    Operation {
        answers: &[FIXED_JSON, UNCHANGED],
        ..get("/openapi.json", "openapi", "descriptions", "This API as OpenAPI 3.1")
    },
    Operation {
        answers: &[FIXED_JSON, UNCHANGED],
        ..get("/asyncapi.json", "asyncapi", "descriptions", "The WebSocket as AsyncAPI 3")
    },
];

const SWITCHING: Answer = Answer {
    status: StatusCode::SWITCHING_PROTOCOLS,
    description: "The connection is a WebSocket now.",
    bodies: &[],
    headers: &[&UPGRADE, &WEBSOCKET_ACCEPT, &WEBSOCKET_EXTENSIONS],
    cloudevent: false,
};

const WEBSOCKET_PROBLEMS: &[(StatusCode, &[&str])] = &[
    (StatusCode::BAD_REQUEST, &["invalid_parameter", "filter_bounds_exceeded", "bad_request"]),
    (StatusCode::FORBIDDEN, &["forbidden"]),
    (StatusCode::NOT_FOUND, &["unknown_channel"]),
    (StatusCode::UPGRADE_REQUIRED, &["upgrade_required"]),
    (StatusCode::SERVICE_UNAVAILABLE, &["unavailable"]),
];

const TRIM_PROBLEMS: &[(StatusCode, &[&str])] = &[
    (StatusCode::BAD_REQUEST, &["invalid_json", "expected_json_object", "bad_request"]),
    (StatusCode::FORBIDDEN, &["forbidden"]),
    (StatusCode::NOT_FOUND, &["unknown_channel"]),
    (StatusCode::PAYLOAD_TOO_LARGE, &["request_too_large"]),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported_media_type"]),
    (StatusCode::SERVICE_UNAVAILABLE, &["storage_unavailable", "unavailable"]),
    (StatusCode::INSUFFICIENT_STORAGE, &["storage_full"]),
];

const FIXED_JSON: Answer = Answer {
    status: StatusCode::OK,
    description: "The description.",
    bodies: &[Body { media_type: "application/json", shape: Shape::Json("") }],
    headers: &[&ETAG, &CACHE_CONTROL],
    cloudevent: false,
};

const UNCHANGED: Answer = Answer {
    status: StatusCode::NOT_MODIFIED,
    description: "It is what `If-None-Match` names.",
    bodies: &[],
    headers: &[&ETAG, &CACHE_CONTROL],
    cloudevent: false,
};
