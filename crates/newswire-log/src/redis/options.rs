//! Where Redis is, and what it is to keep.

use std::path::PathBuf;
use std::time::Duration;

/// How a node reaches Redis, and what is kept there.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://host:port`, or `rediss://host:port` for TLS; with `/number` for a database.
    pub url: String,
    /// Who the node says it is; the user `default` otherwise.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// Certificates of authorities (PEM), with `rediss://`; those of the system otherwise.
    pub tls_ca: Option<PathBuf>,
    /// All keys begin with `{prefix}:`, so that they lie in one slot of a cluster: one for each deployment.
    pub prefix: String,
    /// What the stream keeps: the oldest goes first, at most a second late.
    pub retention: RedisRetention,
    /// How long the engine itself knows ids: longer than `timeout`, for which an append is sent again under its id.
    pub repeat_window: Duration,
    /// How long a call may take before it has failed, and how long the engine may be silent.
    pub timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            user: None,
            password: None,
            tls_ca: None,
            prefix: "newswire".to_owned(),
            retention: RedisRetention::default(),
            repeat_window: Duration::from_secs(120),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Without secrets, which the address may have too: debug output ends in logs.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// Bounds of the stream; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisRetention {
    /// Age since the engine stored it.
    pub max_age: Option<Duration>,
    /// Bytes of all bodies; the engine's memory beside them is not counted.
    pub max_bytes: Option<u64>,
    /// Number of all messages.
    pub max_events: Option<u64>,
}

/// Why a node could not use Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// No server answers, or not yet.
    #[error("cannot reach Redis at {server}: {reason}")]
    Connect {
        /// Where.
        server: String,
        /// What was seen.
        reason: String,
    },
    /// It answers, and refuses.
    #[error("Redis at {server} refuses: {reason}")]
    Refused {
        /// Where.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The server cannot do what is needed.
    #[error("Redis {version} is too old: Newswire needs 6.2, which removes events by their offset")]
    Version {
        /// Its version.
        version: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Options(String),
}
