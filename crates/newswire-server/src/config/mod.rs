//! The configuration: flags over environment over file over defaults, checked before anything starts.
//!
//! [`keys::KEYS`] is the table of keys; [`load`] reads the layers into one table and that into [`Config`].

pub mod docs;
mod key;
mod keys;
mod layer;
mod listen;
mod load;
mod problem;
mod settings;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use key::{Key, Kind, Reload};
pub use keys::KEYS;
pub use layer::Source;
pub use listen::ListenAddress;
pub use load::{DEFAULT_FILE, Inputs, load, load_settings, load_with_settings};
pub use problem::ConfigError;
pub use settings::{Change, Settings};

/// Everything the server can be told. Each field is described at its key in [`KEYS`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct Config {
    pub listen: ListenAddress,
    pub data_dir: PathBuf,
    pub channels: Vec<String>,
    pub arbitrary_channels_allowed: bool,
    pub allowed_hosts: Vec<String>,
    #[serde(default)]
    pub server: ServerConfig,
    #[serde(default)]
    pub tls: TlsConfig,
    pub log: LogConfig,
    pub jetstream: JetStreamConfig,
    pub redis: RedisConfig,
    #[serde(default)]
    pub retention: RetentionConfig,
    pub backlog: BacklogConfig,
    pub ring: RingConfig,
    pub fanout: FanoutConfig,
    pub websocket: WebsocketConfig,
    pub heartbeat: HeartbeatConfig,
    pub checkpoint: CheckpointConfig,
    pub write: WriteConfig,
    pub limits: LimitsConfig,
    pub shutdown: ShutdownConfig,
    pub cors: CorsConfig,
    #[serde(default)]
    pub auth: AuthConfig,
    pub logging: LoggingConfig,
    pub audit: AuditConfig,
    pub telemetry: TelemetryConfig,
}

/// What stands before the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct ServerConfig {
    pub trusted_proxies: Vec<String>,
    pub forwarded_header: ForwardedHeader,
}

/// Files for TLS; without them the server speaks without.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct TlsConfig {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
}

/// `server.forwarded_header`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum ForwardedHeader {
    #[default]
    XForwardedFor,
    Forwarded,
}

/// What keeps the events, and what it promises.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct LogConfig {
    pub backend: Backend,
    pub sync: Sync,
    #[serde(deserialize_with = "millis")]
    pub sync_interval: Duration,
    pub verify_on_start: bool,
    pub segment_bytes: u64,
    #[serde(deserialize_with = "millis")]
    pub dedup_window: Duration,
    pub dedup_max_ids: usize,
    #[serde(deserialize_with = "millis")]
    pub engine_timeout: Duration,
}

/// Where NATS is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct JetStreamConfig {
    pub servers: Vec<String>,
    pub stream: String,
    pub replicas: usize,
    pub storage: StreamStorage,
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    #[serde(default)]
    pub nkey_file: Option<PathBuf>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
}

/// Where Redis is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct RedisConfig {
    pub url: String,
    pub prefix: String,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
}

/// `log.backend`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum Backend {
    Embedded,
    Memory,
    #[serde(rename = "jetstream")]
    JetStream,
    Redis,
}

/// `jetstream.storage`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum StreamStorage {
    File,
    Memory,
}

/// `log.sync`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum Sync {
    Always,
    Interval,
    Os,
}

/// Limits of the whole log and, by name, of single channels. All may be unset.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RetentionConfig {
    /// Limits of the whole log.
    #[serde(flatten)]
    pub all: RetentionLimits,
    /// Limits of single channels, on top.
    #[serde(default)]
    pub channels: BTreeMap<String, RetentionLimits>,
}

/// How long, how many bytes, how many events; `None` is no limit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct RetentionLimits {
    #[serde(default, deserialize_with = "some_millis")]
    pub max_age: Option<Duration>,
    #[serde(default)]
    pub max_bytes: Option<u64>,
    #[serde(default)]
    pub max_events: Option<u64>,
}

/// What happens to slow subscribers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct BacklogConfig {
    pub policy: Policy,
    pub max_bytes: usize,
}

/// `backlog.policy`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum Policy {
    CatchUp,
    DropNewest,
    DropOldest,
    Disconnect,
}

/// Recent events in memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct RingConfig {
    pub max_bytes: usize,
}

/// The way from the log to the subscribers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct FanoutConfig {
    #[serde(deserialize_with = "millis")]
    pub max_linger: Duration,
    #[serde(default)]
    pub shards: Option<NonZeroUsize>,
}

/// What is agreed on with WebSocket clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct WebsocketConfig {
    pub compression: Compression,
}

/// `websocket.compression`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum Compression {
    On,
    Off,
}

/// Liveness of connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct HeartbeatConfig {
    #[serde(deserialize_with = "millis")]
    pub interval: Duration,
    #[serde(deserialize_with = "millis")]
    pub timeout: Duration,
}

/// Positions for quiet subscribers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct CheckpointConfig {
    #[serde(deserialize_with = "millis")]
    pub interval: Duration,
}

/// Peers that read nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct WriteConfig {
    #[serde(deserialize_with = "millis")]
    pub stall_timeout: Duration,
}

/// Bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct LimitsConfig {
    pub event_bytes: usize,
    pub command_bytes: usize,
    pub request_bytes: usize,
    pub connections: usize,
    #[serde(default)]
    pub connections_per_address: Option<usize>,
    #[serde(default)]
    pub connections_per_identity: Option<usize>,
    pub subscriptions: usize,
    pub sets: usize,
    pub filter_bytes: usize,
    pub channels: usize,
    pub log_readers: usize,
    #[serde(default)]
    pub requests_per_second: Option<NonZeroU32>,
    #[serde(default)]
    pub requests_burst: Option<NonZeroU32>,
    pub unauthenticated: usize,
    #[serde(default)]
    pub auth_failures_per_minute: Option<NonZeroU32>,
    pub auth_failures_burst: NonZeroU32,
    #[serde(default)]
    pub commands_per_second: Option<NonZeroU32>,
    #[serde(default)]
    pub commands_burst: Option<NonZeroU32>,
    #[serde(default)]
    pub publishes_per_second: Option<NonZeroU32>,
    #[serde(default)]
    pub publishes_burst: Option<NonZeroU32>,
    #[serde(deserialize_with = "millis")]
    pub header_timeout: Duration,
    pub header_bytes: usize,
    #[serde(deserialize_with = "millis")]
    pub handshake_timeout: Duration,
    #[serde(deserialize_with = "millis")]
    pub body_timeout: Duration,
}

/// How the server stops.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct ShutdownConfig {
    #[serde(deserialize_with = "millis")]
    pub timeout: Duration,
}

/// Web pages that may call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct CorsConfig {
    pub origins: Vec<String>,
}

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// `None` until somebody decides; then the server is open, and listens on loopback only.
    #[serde(default)]
    pub mode: Option<AuthMode>,
    /// `auth.anonymous_admin`
    #[serde(default)]
    pub anonymous_admin: bool,
    /// `auth.timeout`
    #[serde(default = "ten_seconds", deserialize_with = "millis")]
    pub timeout: Duration,
    /// `auth.sign_in`
    #[serde(default)]
    pub sign_in: bool,
    /// `auth.jwt`
    #[serde(default)]
    pub jwt: JwtConfig,
    /// `auth.keys.<name>`
    #[serde(default)]
    pub keys: BTreeMap<String, KeyConfig>,
    /// `auth.roles.<name>`
    #[serde(default)]
    pub roles: BTreeMap<String, RoleConfig>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Tokens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct JwtConfig {
    pub secret_file: Option<PathBuf>,
    pub keys_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    pub jwks_ca: Option<PathBuf>,
    #[serde(deserialize_with = "millis")]
    pub jwks_refresh: Duration,
    #[serde(deserialize_with = "millis")]
    pub jwks_cooldown: Duration,
    #[serde(deserialize_with = "millis")]
    pub jwks_grace: Duration,
    pub issuer: Option<String>,
    pub audience: Vec<String>,
    #[serde(deserialize_with = "millis")]
    pub leeway: Duration,
    #[serde(deserialize_with = "some_millis")]
    pub max_lifetime: Option<Duration>,
}

/// An API key. Not shown whole: its debug output has no hash.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct KeyConfig {
    pub hash: Option<String>,
    pub role: Option<String>,
}

impl std::fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyConfig").field("role", &self.role).finish_non_exhaustive()
    }
}

/// What whoever names the role may do and see.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct RoleConfig {
    pub role: Option<String>,
    pub subscribe: Option<Vec<String>>,
    pub publish: Option<Vec<String>>,
    pub history: Option<Vec<String>>,
    pub rows: Option<String>,
    pub payload: Option<String>,
    pub masked: Option<Vec<String>>,
}

/// `auth.mode`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum AuthMode {
    None,
    Token,
}

/// What the server says about itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct LoggingConfig {
    pub level: String,
    pub format: LogFormat,
}

/// `logging.format`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum LogFormat {
    Human,
    Json,
}

/// Who came, did what, and was refused what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct AuditConfig {
    pub log: bool,
    #[serde(default)]
    pub channel: Option<String>,
}

/// Spans for OpenTelemetry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys describes each field, once")]
pub struct TelemetryConfig {
    #[serde(default)]
    pub endpoint: Option<String>,
    pub sampling: f64,
    pub queue: usize,
    pub service_name: String,
}

fn millis<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_millis)
}

fn some_millis<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    millis(value).map(Some)
}

/// Why an open server refuses an address that is not loopback, and what to do.
pub(crate) fn open_beyond_loopback(listen: &ListenAddress, source: &Source) -> String {
    format!(
        "`listen` = \"{listen}\" ({source}): without authentication the server listens on loopback only, because \
         everybody who can reach it may read and publish; listen on 127.0.0.1, or give it credentials (`newswire token \
         secret FILE`, then --set auth.jwt.secret_file=FILE; docs/security.md), or set `auth.mode` to \"none\" \
         (--set auth.mode=none) if the network in front of it decides who may"
    )
}
