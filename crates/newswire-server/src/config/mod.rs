//! The configuration: flags over environment over file over defaults, checked before anything starts.
//!
//! [`keys::KEYS`] is the table of keys; [`load`] reads the layers into one table and that into [`Config`].

pub mod docs;
mod key;
mod keys;
mod layer;
mod listen;
mod problem;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

pub use key::{Key, Kind};
pub use keys::KEYS;
pub use layer::Source;
pub use listen::ListenAddress;
pub use problem::ConfigError;
use problem::Problem;

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
    pub log: LogConfig,
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
}

/// `log.backend`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum Backend {
    Embedded,
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
    pub channels: usize,
    pub log_readers: usize,
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
}

/// `auth.mode`
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of keys describes each value, once")]
pub enum AuthMode {
    None,
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

fn millis<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_millis)
}

fn some_millis<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    millis(value).map(Some)
}

/// The file that is read when `--config` names none and it is there.
pub const DEFAULT_FILE: &str = "newswire.toml";

/// What the layers are read from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file of `--config`, which must exist; `None` reads [`DEFAULT_FILE`] if it is there.
    pub file: Option<PathBuf>,
    /// All environment variables; those that do not begin with `NEWSWIRE_` are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// Flags that stand for a key: their name, the key and the value. They win over `--set`.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Inputs {
    /// Inputs with this process's environment. A variable that is not UTF-8 cannot name a key or a value and is skipped.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, environment: std::env::vars_os().filter_map(utf8).collect(), ..Self::default() }
    }
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong with them at once: unknown keys, values a key does not take, values that do not go
/// together; each with the place where it was written and what is expected instead.
pub fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut settings = Settings::default();
    for entry in layer::defaults() {
        settings.put(entry, &mut problems);
    }
    let file = inputs.file.as_deref();
    for entry in file_entries(file, &mut problems) {
        settings.put(entry, &mut problems);
    }
    for entry in layer::environment(inputs.environment.iter().cloned(), &mut problems) {
        settings.put(entry, &mut problems);
    }
    for entry in flag_entries(inputs, &mut problems) {
        settings.put(entry, &mut problems);
    }
    let config = if problems.is_empty() { settings.build(&mut problems) } else { None };
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError { problems }),
    }
}

fn file_entries(file: Option<&Path>, problems: &mut Vec<Problem>) -> Vec<layer::Entry> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => layer::file(path, &text, problems),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems
                .push(Problem::Unreadable { file: path.display().to_string(), reason: error.to_string() });
            Vec::new()
        }
    }
}

fn flag_entries(inputs: &Inputs, problems: &mut Vec<Problem>) -> Vec<layer::Entry> {
    let mut entries = Vec::new();
    for assignment in &inputs.set {
        match assignment.split_once('=') {
            Some((key, value)) => entries.extend(layer::flag("--set", key.trim(), value, problems)),
            None => problems.push(Problem::NotAnAssignment { given: assignment.clone() }),
        }
    }
    for (name, key, value) in &inputs.flags {
        entries.extend(layer::flag(name, key, value, problems));
    }
    entries
}

/// `retention.max_bytes` of a log in memory, unless somebody says otherwise: disks are larger.
const MEMORY_MAX_BYTES: u64 = 256 << 20;

/// The layers so far: for each key that is set, its value and where it comes from.
#[derive(Default)]
struct Settings {
    values: BTreeMap<Vec<String>, (Value, Source)>,
}

impl Settings {
    fn put(&mut self, entry: layer::Entry, problems: &mut Vec<Problem>) {
        match entry.key.kind.read(&entry.raw) {
            Ok(Some(value)) => {
                self.values.insert(entry.path, (value, entry.source));
            }
            Ok(None) => {
                self.values.remove(&entry.path);
            }
            Err(key::NotOfThisKind) => problems.push(Problem::BadValue {
                key: layer::dotted(&entry.path),
                value: entry.raw,
                source: entry.source,
                expected: entry.key.kind.expected(),
            }),
        }
    }

    fn build(self, problems: &mut Vec<Problem>) -> Option<Config> {
        let mut root = Table::new();
        for (path, (value, _)) in &self.values {
            insert(&mut root, path, value.clone());
        }
        match serde_path_to_error::deserialize::<_, Config>(Value::Table(root)) {
            Ok(mut config) => {
                self.check(&config, problems);
                if config.log.backend == Backend::Memory && self.is_default("retention.max_bytes") {
                    config.retention.all.max_bytes = Some(MEMORY_MAX_BYTES);
                }
                Some(config)
            }
            // Values are checked one by one before, so this is a key that the table and `Config` see differently.
            Err(error) => {
                problems.push(Problem::Conflict(format!("`{}`: {}", error.path(), error.inner().message())));
                None
            }
        }
    }

    /// Rules over several keys.
    fn check(&self, config: &Config, problems: &mut Vec<Problem>) {
        if config.auth.mode.is_none() && !config.listen.is_loopback() {
            problems.push(Problem::Conflict(open_beyond_loopback(&config.listen, &self.source("listen"))));
        }
        if config.backlog.max_bytes < config.limits.event_bytes {
            problems.push(Problem::Conflict(format!(
                "`backlog.max_bytes` ({}) is less than `limits.event_bytes` ({}): a subscriber must be able to wait \
                 for one event; raise the first or lower the second",
                self.source("backlog.max_bytes"),
                self.source("limits.event_bytes"),
            )));
        }
        if config.channels.len() > config.limits.channels {
            problems.push(Problem::Conflict(format!(
                "`channels` ({}) names more channels than `limits.channels` ({}) allows",
                self.source("channels"),
                self.source("limits.channels"),
            )));
        }
        for channel in config.retention.channels.keys() {
            if !config.arbitrary_channels_allowed && !config.channels.contains(channel) {
                problems.push(Problem::Conflict(format!(
                    "`retention.channels.{channel}`: there is no channel `{channel}`; add it to `channels`, or \
                     remove its retention"
                )));
            }
        }
    }

    fn is_default(&self, key: &str) -> bool {
        matches!(self.values.get(&vec_path(key)), Some((_, Source::Default)))
    }

    fn source(&self, key: &str) -> Source {
        self.values.get(&vec_path(key)).map_or(Source::Default, |(_, source)| source.clone())
    }
}

fn vec_path(key: &str) -> Vec<String> {
    key.split('.').map(Into::into).collect()
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            table.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Why an open server refuses an address that is not loopback, and what to do.
pub(crate) fn open_beyond_loopback(listen: &ListenAddress, source: &Source) -> String {
    format!(
        "`listen` = \"{listen}\" ({source}): without authentication the server listens on loopback only, because \
         everybody who can reach it may read and publish; listen on 127.0.0.1, or set `auth.mode` to \"none\" \
         (--set auth.mode=none) if the network in front of it decides who may"
    )
}
