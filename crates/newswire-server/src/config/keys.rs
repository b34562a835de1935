//! The table of keys: the one place that knows their names, kinds, defaults and meaning.
//!
//! Parsing, the error messages, `newswire serve --help`, `docs/configuration.md` and `newswire.example.toml` come
//! from it; [`Config`](super::Config) is what it is read into.

use std::time::Duration;

use newswire_protocol::limits::MAX_FRAME_BYTES;

use super::key::{Key, Kind, Reload};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(86_400 * 7);
const CENTURY: Duration = Duration::from_secs(86_400 * 36_500);

const AGE: Kind = Kind::Duration(SECOND, CENTURY);
const BYTES: Kind = Kind::Size(MIB, 1_024 * TIB);
const CHANNEL_BYTES: Kind = Kind::Size(KIB, 1_024 * TIB);
const EVENTS: Kind = Kind::Count(1, 1 << 53);
const AUTH_MODE: Kind = Kind::Choice(&[
    ("none", "Nobody is asked: every caller may read and publish."),
    ("token", "Every caller shows a token, a key, a ticket or the cookie of a browser that signed in."),
]);

/// What a group of keys is about, by the first segment of their path (empty for the keys without a dot).
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("", "Where the server listens, where it keeps its data, and which channels there are."),
    ("server", "What stands before the server."),
    ("tls", "Certificates, for `https://` and `wss://`. TLS 1.2 and 1.3; HTTP/2 for clients that offer it."),
    ("log", "The durable log."),
    ("jetstream", "Where NATS is, with `log.backend = \"jetstream\"`. Secrets stand in files, never here."),
    ("redis", "Where Redis is, with `log.backend = \"redis\"`. Secrets stand in files, never here."),
    (
        "retention",
        "How long events are kept. Each limit applies on its own: an event goes as soon as one of them says so. Age \
         counts from the moment the server stored the event. Space is given back a segment at a time, so disk use \
         can exceed `retention.max_bytes` by about one segment. `[retention.channels.NAME]` sets limits for one \
         channel; a name with a dot is quoted (`[retention.channels.\"a.b\"]`).",
    ),
    ("backlog", "What happens to a subscriber that reads more slowly than its events arrive."),
    ("ring", "The recent events that subscribers who keep up are served from."),
    ("fanout", "How committed events are brought to the subscribers."),
    ("websocket", "What is agreed on with WebSocket clients."),
    ("heartbeat", "How a dead connection is noticed."),
    ("checkpoint", "How a quiet subscriber learns its position."),
    ("write", "What happens to a peer that reads nothing."),
    ("limits", "Bounds on what one peer, and all of them together, can ask for."),
    ("shutdown", "How the server stops."),
    ("cors", "Which web pages may talk to the server."),
    ("auth", "Who may talk to the server."),
    ("logging", "What the server says about itself, on standard error."),
    (
        "audit",
        "Who connected, subscribed, published, was refused and why, and left: log events on the target `newswire::audit`.",
    ),
    (
        "telemetry",
        "Spans of publishes for OpenTelemetry, sent by OTLP (protobuf over HTTP). Headers that the collector asks for come \
         from the variable `OTEL_EXPORTER_OTLP_HEADERS`, attributes of the service from `OTEL_RESOURCE_ATTRIBUTES`.",
    ),
];

/// Every key there is, in the order people read them.
pub const KEYS: &[Key] = &[
    Key {
        path: "listen",
        kind: Kind::Address,
        default: Some("127.0.0.1:8080"),
        reload: Reload::Restart,
        help: "Address to listen on. Port 0 takes a free one; the line that `serve` prints names it. Anything but \
               loopback needs `auth.mode` to be set.",
    },
    Key {
        path: "data_dir",
        kind: Kind::Path,
        default: Some("./newswire-data"),
        reload: Reload::Restart,
        help: "Directory of the log. Made if it is missing; one server at a time.",
    },
    Key {
        path: "channels",
        kind: Kind::Channels,
        default: Some("tasks,agents,budget,messages,system"),
        reload: Reload::Restart,
        help: "The declared channels. The list replaces the default one. Channels that are in the log already stay \
               readable.",
    },
    Key {
        path: "arbitrary_channels_allowed",
        kind: Kind::Bool,
        default: Some("false"),
        reload: Reload::Restart,
        help: "Whether a publish or subscription may name a channel nobody declared.",
    },
    Key {
        path: "allowed_hosts",
        kind: Kind::Hosts,
        default: Some(""),
        reload: Reload::AtOnce,
        help: "Host names under which clients reach an open server, beside loopback and the listen address: a \
               container's or proxy's name. A request with another `Host` is refused (`forbidden_host`).",
    },
    Key {
        path: "server.trusted_proxies",
        kind: Kind::Networks,
        default: Some(""),
        reload: Reload::AtOnce,
        help: "Networks of proxies in front of the server, whose word counts for where a request comes from: the client is the \
               rightmost address of `server.forwarded_header` that is none of them. What anybody else writes there is \
               ignored.",
    },
    Key {
        path: "server.forwarded_header",
        kind: Kind::Choice(&[
            ("x-forwarded-for", "`X-Forwarded-For`, which most proxies append to."),
            ("forwarded", "`Forwarded` (RFC 7239)."),
        ]),
        default: Some("x-forwarded-for"),
        reload: Reload::AtOnce,
        help: "The one header in which trusted proxies write whom they serve; the other is not read, because a proxy that does \
               not know it passes on what the client wrote.",
    },
    Key {
        path: "tls.cert",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the certificate and those between it and its authority, in PEM. Read again when it changes and at \
               SIGHUP, without ending a connection. Needs `tls.key`.",
    },
    Key {
        path: "tls.key",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the private key of the certificate, in PEM; read again as it is.",
    },
    Key {
        path: "tls.client_ca",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the authorities that clients' certificates come from; who shows none of theirs is not let in. Read again \
               as the certificate is.",
    },
    Key {
        path: "log.backend",
        kind: Kind::Choice(&[
            ("embedded", "Segment files in `data_dir`."),
            ("memory", "Nothing on disk: everything is gone, and the epoch is another, after a restart."),
            (
                "jetstream",
                "A stream of NATS JetStream, for several nodes; each has a copy in `data_dir` (docs/engines.md).",
            ),
            ("redis", "A stream of Redis, likewise."),
        ]),
        default: Some("embedded"),
        reload: Reload::Restart,
        help: "What keeps the events.",
    },
    Key {
        path: "log.engine_timeout",
        kind: Kind::Duration(Duration::from_millis(100), HOUR),
        default: Some("5s"),
        reload: Reload::Restart,
        help: "With `jetstream` and `redis`: how long a publish may take there before it is answered with `unavailable`, and how \
               long a subscriber waits here for what another node has shown it already.",
    },
    Key {
        path: "log.sync",
        kind: Kind::Choice(&[
            ("always", "An acknowledged event is on disk, whatever happens to process or machine."),
            (
                "interval",
                "Synced every `log.sync_interval`. A killed process loses nothing; a machine that loses power \
                 may lose that much, and the log then begins a new epoch.",
            ),
            ("os", "The operating system decides. As `interval`, without its bound."),
        ]),
        default: Some("always"),
        reload: Reload::Restart,
        help: "What an acknowledgement promises.",
    },
    Key {
        path: "log.sync_interval",
        kind: Kind::Duration(MILLI, HOUR),
        default: Some("1s"),
        reload: Reload::Restart,
        help: "Time between syncs under `log.sync = \"interval\"`.",
    },
    Key {
        path: "log.verify_on_start",
        kind: Kind::Bool,
        default: Some("true"),
        reload: Reload::Restart,
        help: "Whether the whole log is read and its checksums verified before it is served, about a second a gigabyte \
               from a fast disk. Without, only the segment written last is; damage to an older one is then an error to \
               whoever reads there, or found by `newswire check`.",
    },
    Key {
        path: "log.segment_bytes",
        kind: Kind::Size(MIB, 2 * GIB),
        default: Some("64MiB"),
        reload: Reload::Restart,
        help: "Size of one segment file. Retention frees space in these steps.",
    },
    Key {
        path: "log.dedup_window",
        kind: Kind::Duration(Duration::ZERO, WEEK),
        default: Some("10m"),
        reload: Reload::Restart,
        help: "How long the `event_id` a publisher gave is remembered: the same one again stores nothing and is \
               answered with the offset of the first.",
    },
    Key {
        path: "log.dedup_max_ids",
        kind: Kind::Count(0, 10_000_000),
        default: Some("1000000"),
        reload: Reload::Restart,
        help: "How many such ids are remembered at most; beyond it the oldest is forgotten early.",
    },
    Key {
        path: "jetstream.servers",
        kind: Kind::Words,
        default: Some("nats://127.0.0.1:4222"),
        reload: Reload::Restart,
        help: "Servers of the NATS cluster; one suffices, the others are then told by it. `tls://` asks for TLS.",
    },
    Key {
        path: "jetstream.stream",
        kind: Kind::Text,
        default: Some("newswire"),
        reload: Reload::Restart,
        help: "Name of the stream, and of what is kept beside it: one for each deployment. It is made if it is not there; one \
               that is set up otherwise is explained and left alone.",
    },
    Key {
        path: "jetstream.replicas",
        kind: Kind::Count(1, 5),
        default: Some("1"),
        reload: Reload::Restart,
        help: "On how many servers of the cluster each event is kept: 3 to survive the loss of one.",
    },
    Key {
        path: "jetstream.storage",
        kind: Kind::Choice(&[
            ("file", "On the servers' disks."),
            ("memory", "In the servers' memory: everything is gone when the last of its replicas stops."),
        ]),
        default: Some("file"),
        reload: Reload::Restart,
        help: "Where the servers keep events, and the shared state beside them.",
    },
    Key {
        path: "jetstream.credentials_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Credentials file of a NATS account (`.creds`).",
    },
    Key {
        path: "jetstream.nkey_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the seed of an nkey.",
    },
    Key {
        path: "jetstream.user",
        kind: Kind::OrNone(&Kind::Text),
        default: Some("none"),
        reload: Reload::Restart,
        help: "User name, beside `jetstream.password_file`.",
    },
    Key {
        path: "jetstream.password_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the password of `jetstream.user`.",
    },
    Key {
        path: "jetstream.token_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with a token, where the servers ask for one.",
    },
    Key {
        path: "jetstream.tls_ca",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Certificates of the authorities that vouch for the servers (PEM); those of the system otherwise.",
    },
    Key {
        path: "jetstream.tls_cert",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Certificate that the servers are shown (PEM), beside `jetstream.tls_key`.",
    },
    Key {
        path: "jetstream.tls_key",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Key of that certificate (PEM).",
    },
    Key {
        path: "redis.url",
        kind: Kind::Text,
        default: Some("redis://127.0.0.1:6379"),
        reload: Reload::Restart,
        help: "Where the server is; after a failover it has to lead to the new primary. `rediss://` asks for TLS, `/1` behind the port for \
               another database.",
    },
    Key {
        path: "redis.prefix",
        kind: Kind::Text,
        default: Some("newswire"),
        reload: Reload::Restart,
        help: "What the names of all keys begin with: one for each deployment.",
    },
    Key {
        path: "redis.user",
        kind: Kind::OrNone(&Kind::Text),
        default: Some("none"),
        reload: Reload::Restart,
        help: "User name, beside `redis.password_file`; the user `default` otherwise.",
    },
    Key {
        path: "redis.password_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "File with the password.",
    },
    Key {
        path: "redis.tls_ca",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Certificates of the authorities that vouch for the server (PEM), with `rediss://`; those of the system otherwise.",
    },
    Key {
        path: "retention.max_age",
        kind: Kind::OrNone(&AGE),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "The oldest an event may get.",
    },
    Key {
        path: "retention.max_bytes",
        kind: Kind::OrNone(&BYTES),
        default: Some("10GiB"),
        reload: Reload::AtOnce,
        help: "The most all events may take on disk. With `log.backend = \"memory\"` the default is 256MiB.",
    },
    Key {
        path: "retention.max_events",
        kind: Kind::OrNone(&EVENTS),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "The most events that are kept.",
    },
    Key {
        path: "retention.channels.<channel>.max_age",
        kind: AGE,
        default: None,
        reload: Reload::AtOnce,
        help: "The oldest an event of this channel may get, in place of `retention.max_age`, be it longer or shorter.",
    },
    Key {
        path: "retention.channels.<channel>.max_bytes",
        kind: CHANNEL_BYTES,
        default: None,
        reload: Reload::AtOnce,
        help: "The most the events of this channel may take, beside the limits of the whole log.",
    },
    Key {
        path: "retention.channels.<channel>.max_events",
        kind: EVENTS,
        default: None,
        reload: Reload::AtOnce,
        help: "The most events of this channel that are kept, beside the limits of the whole log.",
    },
    Key {
        path: "backlog.policy",
        kind: Kind::Choice(&[
            ("catch_up", "It reads on from the log at its own pace and rejoins. It misses nothing."),
            ("drop_newest", "New events are left out until there is room, and a `gap` says so."),
            ("drop_oldest", "The oldest that wait are left out, and a `gap` says so."),
            ("disconnect", "It is closed with 4008 and may resume with `after`."),
        ]),
        default: Some("catch_up"),
        reload: Reload::Restart,
        help: "What happens to a subscriber whose backlog exceeds `backlog.max_bytes`.",
    },
    Key {
        path: "backlog.max_bytes",
        kind: Kind::Size(64 * KIB, GIB),
        default: Some("1MiB"),
        reload: Reload::Restart,
        help: "Matching bytes that may wait for one subscriber.",
    },
    Key {
        path: "ring.max_bytes",
        kind: Kind::Size(MIB, 16 * GIB),
        default: Some("16MiB"),
        reload: Reload::Restart,
        help: "Memory for recent events, shared by all subscribers. Whoever falls further behind reads from the log.",
    },
    Key {
        path: "fanout.max_linger",
        kind: Kind::Duration(Duration::ZERO, Duration::from_millis(100)),
        default: Some("2ms"),
        reload: Reload::Restart,
        help: "How long a committed event may be held back so that several go out in one write, while writing keeps the \
               machine busy. An idle server writes at once, and publishers are never held back. `0ms` for never.",
    },
    Key {
        path: "fanout.shards",
        kind: Kind::OrNone(&Kind::Count(1, 256)),
        default: Some("none"),
        reload: Reload::Restart,
        help: "Into how many parts the connections are divided, each served by a task of its own. `none` for as many as \
               there are processors.",
    },
    Key {
        path: "websocket.compression",
        kind: Kind::Choice(&[
            (
                "on",
                "For clients that offer permessage-deflate with a window that they keep, as browsers do. Events are \
                 compressed once for all connections with the same subscriptions, about five times smaller; what is for \
                 one connection alone, and replays, go plain.",
            ),
            ("off", "Never."),
        ]),
        default: Some("on"),
        reload: Reload::Restart,
        help: "Whether messages are compressed, in both directions.",
    },
    Key {
        path: "heartbeat.interval",
        kind: Kind::Duration(SECOND, HOUR),
        default: Some("25s"),
        reload: Reload::NewConnections,
        help: "Time between two pings of a connection, jittered.",
    },
    Key {
        path: "heartbeat.timeout",
        kind: Kind::Duration(SECOND, HOUR),
        default: Some("10s"),
        reload: Reload::NewConnections,
        help: "How long a peer may show no sign of life after a ping before it is closed with 4009.",
    },
    Key {
        path: "checkpoint.interval",
        kind: Kind::Duration(Duration::from_millis(100), HOUR),
        default: Some("10s"),
        reload: Reload::NewConnections,
        help: "The longest a quiet subscriber waits for a `checkpoint` while the log moves.",
    },
    Key {
        path: "write.stall_timeout",
        kind: Kind::Duration(SECOND, HOUR),
        default: Some("60s"),
        reload: Reload::NewConnections,
        help: "How long bytes may wait for a peer that takes none before it is closed with 4008.",
    },
    Key {
        path: "limits.event_bytes",
        kind: Kind::Size(KIB, MAX_FRAME_BYTES as u64),
        default: Some("65536"),
        reload: Reload::NewConnections,
        help: "The largest event.",
    },
    Key {
        path: "limits.command_bytes",
        kind: Kind::Size(256, MAX_FRAME_BYTES as u64),
        default: Some("4096"),
        reload: Reload::NewConnections,
        help: "The largest WebSocket command other than `publish`.",
    },
    Key {
        path: "limits.request_bytes",
        kind: Kind::Size(64 * KIB, 256 * MIB),
        default: Some("16MiB"),
        reload: Reload::Restart,
        help: "The largest body of one HTTP request, such as a batch of events.",
    },
    Key {
        path: "limits.connections",
        kind: Kind::Count(1, 10_000_000),
        default: Some("20000"),
        reload: Reload::AtOnce,
        help: "WebSocket connections that said who they are, and besides them HTTP connections, at once. One WebSocket more is closed with \
               4029 and told when to come back, one HTTP connection more is answered 503. The process needs that many \
               file descriptors (`ulimit -n`).",
    },
    Key {
        path: "limits.connections_per_address",
        kind: Kind::OrNone(&Kind::Count(1, 10_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How many of them one address may have, WebSockets among them; one more is answered 429 and closed. Of IPv6 the \
               network of 64 bits counts as one address; proxies of `server.trusted_proxies` are not counted.",
    },
    Key {
        path: "limits.connections_per_identity",
        kind: Kind::OrNone(&Kind::Count(1, 10_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How many WebSockets and event streams one identity may have at once, where credentials count; with one more the \
               WebSocket is closed (4029), the event stream answered 429.",
    },
    Key {
        path: "limits.subscriptions",
        kind: Kind::Count(1, 100_000),
        default: Some("10000"),
        reload: Reload::NewConnections,
        help: "How many channels and patterns one connection may have subscribed, over all of its sets; a subscribe for more is \
               refused.",
    },
    Key {
        path: "limits.sets",
        kind: Kind::Count(1, 100),
        default: Some("100"),
        reload: Reload::NewConnections,
        help: "How many sets of subscriptions (`sub`) one connection may have; a subscribe for one more is refused.",
    },
    Key {
        path: "limits.filter_bytes",
        kind: Kind::Size(KIB, GIB),
        default: Some("4MiB"),
        reload: Reload::NewConnections,
        help: "How much memory the filters of one connection may take; a subscribe for more is refused.",
    },
    Key {
        path: "limits.unauthenticated",
        kind: Kind::Count(1, 1_000_000),
        default: Some("1000"),
        reload: Reload::AtOnce,
        help: "WebSockets that have not said who they are (`auth.timeout`), at once, beside `limits.connections`. For one more \
               the one is closed (4029) that has waited longest at the address that has most of them. Whoever comes with \
               credentials in the upgrade is none of them.",
    },
    Key {
        path: "limits.auth_failures_per_minute",
        kind: Kind::OrNone(&Kind::Count(1, 1_000_000)),
        default: Some("600"),
        reload: Reload::AtOnce,
        help: "Credentials that are no good which one address may show in the long run. Beyond, what it shows is not looked at \
               and answered 429 (a first frame with 4029), but for credentials that were good before. `none` for no limit.",
    },
    Key {
        path: "limits.auth_failures_burst",
        kind: Kind::Count(1, 1_000_000),
        default: Some("100"),
        reload: Reload::AtOnce,
        help: "How many of them may come at once.",
    },
    Key {
        path: "limits.channels",
        kind: Kind::Count(1, 1_000_000),
        default: Some("10000"),
        reload: Reload::Restart,
        help: "Channels in all; matters with `arbitrary_channels_allowed`.",
    },
    Key {
        path: "limits.log_readers",
        kind: Kind::Count(1, 1_024),
        default: Some("4"),
        reload: Reload::Restart,
        help: "Threads that read the log for replay and history at once; further reads wait their turn.",
    },
    Key {
        path: "limits.requests_per_second",
        kind: Kind::OrNone(&Kind::Count(1, 1_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "HTTP requests (WebSocket upgrades among them) that one address may make in the long run, and so may one \
               identity; one more is answered 429. Of IPv6 the network of 64 bits counts as one address, and a proxy is \
               one too: set it there. Health and metrics are never refused. `none` for no limit, which is right on \
               loopback.",
    },
    Key {
        path: "limits.requests_burst",
        kind: Kind::OrNone(&Kind::Count(1, 10_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How many of them may come at once. `none` for ten seconds' worth.",
    },
    Key {
        path: "limits.commands_per_second",
        kind: Kind::OrNone(&Kind::Count(1, 1_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "WebSocket commands that one identity (without credentials: one address) may send in the long run, over all its \
               connections; the connection that sends one more is closed with 4029. `none` for no limit.",
    },
    Key {
        path: "limits.commands_burst",
        kind: Kind::OrNone(&Kind::Count(1, 10_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How many of them may come at once. `none` for ten seconds' worth.",
    },
    Key {
        path: "limits.publishes_per_second",
        kind: Kind::OrNone(&Kind::Count(1, 1_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "Events that one identity (without credentials: one address) may publish over WebSockets in the long run; one \
               more is refused (`too_many_requests`, with how long to wait), and the connection stays. `none` for no limit.",
    },
    Key {
        path: "limits.publishes_burst",
        kind: Kind::OrNone(&Kind::Count(1, 10_000_000)),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How many of them may come at once. `none` for ten seconds' worth.",
    },
    Key {
        path: "limits.header_timeout",
        kind: Kind::Duration(Duration::from_millis(100), HOUR),
        default: Some("30s"),
        reload: Reload::Restart,
        help: "How long the headers of a request may take to come, counted from the end of the request before: so long an idle \
               connection is kept, too.",
    },
    Key {
        path: "limits.header_bytes",
        kind: Kind::Size(8 * KIB, MIB),
        default: Some("64KiB"),
        reload: Reload::Restart,
        help: "Largest headers of a request, its address included; larger ones are answered 431.",
    },
    Key {
        path: "limits.handshake_timeout",
        kind: Kind::Duration(Duration::from_millis(100), HOUR),
        default: Some("10s"),
        reload: Reload::Restart,
        help: "How long a TLS handshake may take.",
    },
    Key {
        path: "limits.body_timeout",
        kind: Kind::Duration(Duration::from_millis(100), HOUR),
        default: Some("30s"),
        reload: Reload::Restart,
        help: "How long the sender of a body may pause within it.",
    },
    Key {
        path: "shutdown.timeout",
        kind: Kind::Duration(Duration::ZERO, HOUR),
        default: Some("10s"),
        reload: Reload::Restart,
        help: "How long a stop waits for requests in flight and for clients to take what was sent to them.",
    },
    Key {
        path: "cors.origins",
        kind: Kind::Origins,
        default: Some(""),
        reload: Reload::AtOnce,
        help: "Origins of web pages that may call the server, beside pages of the same host. A request of any other \
               page is refused (`forbidden_origin`).",
    },
    Key {
        path: "auth.mode",
        kind: AUTH_MODE,
        default: None,
        reload: Reload::Restart,
        help: "How callers prove who they are. Unset, it is `token` where there are credentials (`auth.jwt.*`, \
               `auth.keys.*`); where there are none, the server is open and therefore listens on loopback only. Set to `none` \
               it is open on whatever address it listens.",
    },
    Key {
        path: "auth.anonymous_admin",
        kind: Kind::Bool,
        default: Some("false"),
        reload: Reload::Restart,
        help: "With `auth.mode` set to `none`: whether everybody may administer, too (see and close connections, trim the \
               log). Without `auth.mode` callers are on this machine, and may.",
    },
    Key {
        path: "auth.timeout",
        kind: Kind::Duration(MILLI, HOUR),
        default: Some("10s"),
        reload: Reload::NewConnections,
        help: "How long a WebSocket that brought no credentials may take to send its `auth`; then it is closed with 4001.",
    },
    Key {
        path: "auth.sign_in",
        kind: Kind::Bool,
        default: Some("true"),
        reload: Reload::Restart,
        help: "With credentials: whether `serve` prints an address that signs a browser in, once and within ten minutes, as an \
               administrator. Turn it off where others read what the server prints.",
    },
    Key {
        path: "auth.jwt.secret_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "File with the secret of tokens by HS256, of at least 32 characters. `newswire token secret FILE` makes one, \
               `newswire token jwt` signs with it. It is read again at SIGHUP; whoever stands on another secret is closed.",
    },
    Key {
        path: "auth.jwt.keys_file",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "File with public keys of tokens: PEM (`BEGIN PUBLIC KEY`, one or more) or JWKS. RSA keys are for RS256, those of \
               the curve P-256 for ES256, of Ed25519 for EdDSA, and for nothing else. It is read again at SIGHUP.",
    },
    Key {
        path: "auth.jwt.jwks_url",
        kind: Kind::OrNone(&Kind::SecureUrl),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "Where an identity provider publishes its keys. Needs `auth.jwt.issuer` and `auth.jwt.audience`: without them a \
               token that it gave for any other service would count here.",
    },
    Key {
        path: "auth.jwt.jwks_ca",
        kind: Kind::OrNone(&Kind::Path),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "File with the certificates (PEM) of the authorities that `auth.jwt.jwks_url` is believed by, in place of the system's: \
               for a provider with an authority of its own.",
    },
    Key {
        path: "auth.jwt.jwks_refresh",
        kind: Kind::Duration(SECOND, WEEK),
        default: Some("10m"),
        reload: Reload::AtOnce,
        help: "Keys that were fetched longer ago are fetched anew, in the background; until then they count.",
    },
    Key {
        path: "auth.jwt.jwks_cooldown",
        kind: Kind::Duration(MILLI, HOUR),
        default: Some("10s"),
        reload: Reload::AtOnce,
        help: "A token of an unknown key has the keys fetched anew, but not again within this time; nor are they for a token \
               within this time after an attempt that failed.",
    },
    Key {
        path: "auth.jwt.jwks_grace",
        kind: Kind::Duration(Duration::ZERO, WEEK),
        default: Some("1d"),
        reload: Reload::AtOnce,
        help: "How old keys may be that cannot be fetched anew, restarts included. Beyond, tokens cannot be checked (503).",
    },
    Key {
        path: "auth.jwt.issuer",
        kind: Kind::OrNone(&Kind::Text),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "What `iss` of every token has to be. With `none` it is not looked at.",
    },
    Key {
        path: "auth.jwt.audience",
        kind: Kind::Words,
        default: Some(""),
        reload: Reload::AtOnce,
        help: "What `aud` of every token has to be or hold, one of these. Empty, tokens that name an audience are not taken.",
    },
    Key {
        path: "auth.jwt.leeway",
        kind: Kind::Duration(Duration::ZERO, Duration::from_secs(600)),
        default: Some("10s"),
        reload: Reload::AtOnce,
        help: "How far the clock of whoever makes tokens may be from ours: `exp` counts so much later, `nbf` so much earlier. \
               Whole seconds.",
    },
    Key {
        path: "auth.jwt.max_lifetime",
        kind: Kind::OrNone(&Kind::Duration(SECOND, Duration::from_secs(366 * 86_400))),
        default: Some("none"),
        reload: Reload::AtOnce,
        help: "How far in the future `exp` of a token may be. With it, a token that was revoked by its `jti` is forgotten once it \
               has expired in any case, so raise it only when none is revoked. `none` for any time.",
    },
    Key {
        path: "auth.keys.<name>.hash",
        kind: Kind::Secret(&Kind::Text),
        default: None,
        reload: Reload::AtOnce,
        help: "The hash of an API key, as `newswire token key NAME` prints it. Whoever stands on a key that is gone after SIGHUP \
               is closed.",
    },
    Key {
        path: "auth.keys.<name>.role",
        kind: Kind::Text,
        default: None,
        reload: Reload::AtOnce,
        help: "The role of whoever shows this key: `observer`, `publisher`, `operator`, `admin`, or one of `auth.roles.*`. \
               `publisher` where it is not set.",
    },
    Key {
        path: "auth.roles.<name>.role",
        kind: Kind::Choice(&[
            ("observer", "May read."),
            ("publisher", "May also publish."),
            ("operator", "May also see who is connected."),
            ("admin", "May also close connections, trim the log and revoke credentials."),
        ]),
        default: None,
        reload: Reload::AtOnce,
        help: "The built-in role that this one stands on; `observer` where it is not set.",
    },
    Key {
        path: "auth.roles.<name>.subscribe",
        kind: Kind::Words,
        default: None,
        reload: Reload::AtOnce,
        help: "Channels that may be subscribed, patterns with a trailing `*` among them. Unset for all.",
    },
    Key {
        path: "auth.roles.<name>.publish",
        kind: Kind::Words,
        default: None,
        reload: Reload::AtOnce,
        help: "Channels that may be published to. Unset for all.",
    },
    Key {
        path: "auth.roles.<name>.history",
        kind: Kind::Words,
        default: None,
        reload: Reload::AtOnce,
        help: "Channels whose past may be read. Unset for all.",
    },
    Key {
        path: "auth.roles.<name>.rows",
        kind: Kind::Text,
        default: None,
        reload: Reload::AtOnce,
        help: "A filter as a subscribe writes it, as JSON: only events that pass it exist for this role. Unset for all.",
    },
    Key {
        path: "auth.roles.<name>.payload",
        kind: Kind::Choice(&[
            ("full", "As published."),
            ("redacted", "With the fields of `masked` masked."),
            ("none", "Empty."),
        ]),
        default: None,
        reload: Reload::AtOnce,
        help: "How payloads are shown.",
    },
    Key {
        path: "auth.roles.<name>.masked",
        kind: Kind::Words,
        default: None,
        reload: Reload::AtOnce,
        help: "Fields of payloads that are masked.",
    },
    Key {
        path: "logging.level",
        kind: Kind::LogFilter,
        default: Some("info"),
        reload: Reload::AtOnce,
        help: "The least severe messages that are written, for all modules or for each.",
    },
    Key {
        path: "logging.format",
        kind: Kind::Choice(&[("human", "A line for people."), ("json", "A JSON object a line.")]),
        default: Some("human"),
        reload: Reload::Restart,
        help: "How messages are written.",
    },
    Key {
        path: "audit.log",
        kind: Kind::Bool,
        default: Some("false"),
        reload: Reload::Restart,
        help: "Whether the audit is written, beside all else on standard error and whatever `logging.level` says. It names \
               identities, addresses, channels, offsets and error codes, never payloads, filters, credentials or query \
               strings. Nobody waits for it: beyond 8,192 lines or 4 MiB that wait to be written, lines are lost, and the \
               audit says how many.",
    },
    Key {
        path: "audit.channel",
        kind: Kind::OrNone(&Kind::AdminChannel),
        default: Some("none"),
        reload: Reload::Restart,
        help: "A channel on which the audit is published as well, such as `admin:audit`. Its name begins with `admin:`, so \
               that administrators alone see it, by its name and by no pattern; it needs credentials, without which \
               nobody is told from anybody. Nobody waits for it: at most 256 events a second are published, 1,024 wait, \
               and beyond that they are lost, counted (`newswire_audit_events_dropped_total`) and told.",
    },
    Key {
        path: "telemetry.endpoint",
        kind: Kind::OrNone(&Kind::Url),
        default: Some("none"),
        reload: Reload::Restart,
        help: "The collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added. With `none`, no span is made.",
    },
    Key {
        path: "telemetry.sampling",
        kind: Kind::Ratio,
        default: Some("1"),
        reload: Reload::Restart,
        help: "The share of publishes that make spans, where their trace context does not say whether they do: one that \
               comes with a `traceparent` follows its flag.",
    },
    Key {
        path: "telemetry.queue",
        kind: Kind::Count(1, 1 << 20),
        default: Some("4096"),
        reload: Reload::Restart,
        help: "Spans that may wait to be sent. Beyond, they are dropped and counted (`newswire_spans_dropped_total`); \
               publishing never waits for them.",
    },
    Key {
        path: "telemetry.service_name",
        kind: Kind::Text,
        default: Some("newswire"),
        reload: Reload::Restart,
        help: "The name of this service in traces.",
    },
];
