//! Where NATS is, and how the stream has to be.

use std::path::PathBuf;
use std::time::Duration;

/// How a node reaches NATS, and what it expects there.
#[derive(Clone, Debug)]
pub struct JetStreamOptions {
    /// Addresses of servers, `nats://host:port` or `tls://host:port`; others of the cluster are learnt from them.
    pub servers: Vec<String>,
    /// Who the node says it is.
    pub credentials: NatsCredentials,
    /// Certificates of authorities (PEM); those of the system otherwise.
    pub tls_ca: Option<PathBuf>,
    /// Certificate and key that the servers are shown (PEM).
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// Name of the stream; subjects, and the bucket of shared state, are named after it.
    pub stream: String,
    /// On how many servers each event is kept.
    pub replicas: usize,
    /// What it is kept on.
    pub storage: StreamStorage,
    /// What the stream keeps: the oldest goes first.
    pub retention: StreamRetention,
    /// Whether a stream that is full refuses events, where otherwise the oldest goes.
    pub refuses_when_full: bool,
    /// How long the stream itself knows ids: not longer than nodes do. An append is sent again under its id for as long as
    /// `timeout`, which must be shorter.
    pub duplicate_window: Duration,
    /// How long a call may take before it has failed, and how long the engine may be silent.
    pub timeout: Duration,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            credentials: NatsCredentials::None,
            tls_ca: None,
            tls_identity: None,
            stream: "newswire".to_owned(),
            replicas: 1,
            storage: StreamStorage::File,
            retention: StreamRetention::default(),
            refuses_when_full: false,
            duplicate_window: Duration::from_secs(120),
            timeout: Duration::from_secs(5),
        }
    }
}

/// What a stream is kept on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamStorage {
    /// Disks of the servers.
    #[default]
    File,
    /// Their memory: gone when all of them stop.
    Memory,
}

/// Who a node says it is.
#[derive(Clone, Default)]
pub enum NatsCredentials {
    /// Nobody.
    #[default]
    None,
    /// A credentials file's text.
    Credentials(String),
    /// The seed of an nkey.
    Nkey(String),
    /// User and password.
    Password(String, String),
    /// A token.
    Token(String),
}

/// Without the secret: debug output ends in logs.
impl std::fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Credentials(_) => "Credentials(…)",
            Self::Nkey(_) => "Nkey(…)",
            Self::Password(..) => "Password(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// Bounds of a stream; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamRetention {
    /// Age since the stream stored it.
    pub max_age: Option<Duration>,
    /// Bytes of all messages.
    pub max_bytes: Option<u64>,
    /// Number of all messages.
    pub max_events: Option<u64>,
}

/// Why a node could not use NATS.
#[derive(Debug, thiserror::Error)]
pub enum JetStreamError {
    /// No server answers, or it refuses.
    #[error("cannot connect to NATS at {servers}: {reason}")]
    Connect {
        /// Where.
        servers: String,
        /// What was seen.
        reason: String,
    },
    /// The server cannot do what is needed.
    #[error(
        "NATS server {version} is too old: Newswire needs 2.12, which stores several messages as one piece"
    )]
    Version {
        /// Its version.
        version: String,
    },
    /// The stream or the bucket could not be made or looked at.
    #[error("cannot {doing} {name:?} in NATS: {reason}")]
    Setup {
        /// What was tried.
        doing: &'static str,
        /// The stream or bucket.
        name: String,
        /// What the server said.
        reason: String,
    },
    /// The stream is there, and set up otherwise than this node was told.
    #[error(
        "stream {name:?} is not as configured, and was left alone: {differences}. Change the configuration, or the stream (`nats stream edit {name}`)"
    )]
    Mismatch {
        /// The stream.
        name: String,
        /// Each setting with what it is and what was wanted.
        differences: String,
    },
}
