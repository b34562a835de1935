//! Connections to the engine that keeps the log of several nodes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use newswire_log::jetstream::{
    JetStream, JetStreamError, JetStreamOptions, NatsCredentials, StreamRetention, StreamStorage,
};
use newswire_log::{Meta, Sequencer, SystemClock};

use crate::config::{self, Backend, Config, JetStreamConfig};

/// How long a node that starts tries to reach an engine that may start beside it, and the pause between two attempts.
const START_PATIENCE: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_millis(500);

/// What keeps the log, and what keeps the small state beside it.
type Engine = (Arc<dyn Sequencer>, Arc<dyn Meta>);

/// Connects to what `log.backend` names.
///
/// # Errors
/// Where it cannot be reached, refuses, or is set up otherwise than asked for; the text says what to do.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Engine> {
    match config.log.backend {
        Backend::JetStream => jetstream(config).await,
        Backend::Embedded | Backend::Memory => unreachable!("these are no engines"),
    }
}

async fn jetstream(config: &Config) -> anyhow::Result<Engine> {
    let nats = &config.jetstream;
    let limits = &config.retention.all;
    let options = JetStreamOptions {
        servers: nats.servers.clone(),
        credentials: nats_credentials(nats)?,
        tls_ca: nats.tls_ca.clone(),
        tls_identity: nats.tls_cert.clone().zip(nats.tls_key.clone()),
        stream: nats.stream.clone(),
        replicas: nats.replicas,
        storage: match nats.storage {
            config::StreamStorage::File => StreamStorage::File,
            config::StreamStorage::Memory => StreamStorage::Memory,
        },
        retention: StreamRetention {
            max_age: limits.max_age,
            max_bytes: limits.max_bytes,
            max_events: limits.max_events,
        },
        duplicate_window: config.log.dedup_window,
        timeout: config.log.engine_timeout,
        ..JetStreamOptions::default()
    };
    let until = Instant::now() + START_PATIENCE;
    loop {
        match open_jetstream(options.clone()).await {
            Ok(engine) => return Ok(engine),
            // Servers that start with us need a while to choose a leader.
            Err(error @ (JetStreamError::Connect { .. } | JetStreamError::Setup { .. }))
                if Instant::now() < until =>
            {
                tracing::warn!(%error, "the engine is not ready; it is tried again");
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn open_jetstream(options: JetStreamOptions) -> Result<Engine, JetStreamError> {
    let engine = JetStream::connect(options).await?;
    let meta = engine.meta(Arc::new(SystemClock)).await?;
    Ok((Arc::new(engine), Arc::new(meta)))
}

fn nats_credentials(nats: &JetStreamConfig) -> anyhow::Result<NatsCredentials> {
    Ok(match nats {
        JetStreamConfig { credentials_file: Some(file), .. } => NatsCredentials::Credentials(secret(file)?),
        JetStreamConfig { nkey_file: Some(file), .. } => NatsCredentials::Nkey(secret(file)?),
        JetStreamConfig { user: Some(user), password_file: Some(file), .. } => {
            NatsCredentials::Password(user.clone(), secret(file)?)
        }
        JetStreamConfig { token_file: Some(file), .. } => NatsCredentials::Token(secret(file)?),
        _ => NatsCredentials::None,
    })
}

/// What a file says, without the end of its line.
fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.trim().to_owned())
}
