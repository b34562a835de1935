//! Connections to the engine that keeps the log of several nodes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use newswire_log::jetstream::{
    JetStream, JetStreamError, JetStreamOptions, NatsCredentials, StreamRetention, StreamStorage,
};
use newswire_log::redis::{Redis, RedisError, RedisOptions, RedisRetention};
use newswire_log::{Meta, Sequencer, SystemClock};

use crate::config::{self, Backend, Config, JetStreamConfig};

/// How long a node that starts tries to reach an engine that may start beside it, and the pause between two attempts.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_millis(500);

/// What keeps the log, and what keeps the small state beside it.
type Engine = (Arc<dyn Sequencer>, Arc<dyn Meta>);

/// Connects to what `log.backend` names.
///
/// # Errors
/// Where it cannot be reached, refuses, or is set up otherwise than asked for; the text says what to do.
pub(crate) async fn connect(config: &Config) -> anyhow::Result<Engine> {
    match config.log.backend {
        Backend::JetStream => {
            let options = jetstream_options(config)?;
            patiently(async || open_jetstream(options.clone()).await, is_not_ready, "jetstream.servers").await
        }
        Backend::Redis => {
            let options = redis_options(config)?;
            let is_not_there = |error: &RedisError| matches!(error, RedisError::Connect { .. });
            patiently(async || open_redis(options.clone()).await, is_not_there, "redis.url").await
        }
        Backend::Embedded | Backend::Memory => unreachable!("these are no engines"),
    }
}

/// How people know it.
pub(crate) fn described(config: &Config) -> String {
    match config.log.backend {
        Backend::JetStream => format!("stream {} of JetStream", config.jetstream.stream),
        Backend::Redis => format!("the stream of Redis with the prefix {}", config.redis.prefix),
        Backend::Embedded | Backend::Memory => unreachable!("these are no engines"),
    }
}

/// Where it is, and under which name there.
pub(crate) fn place(config: &Config) -> String {
    match config.log.backend {
        Backend::JetStream => format!("{} {}", config.jetstream.servers.join(","), config.jetstream.stream),
        Backend::Redis => format!("{} {}", config.redis.url, config.redis.prefix),
        Backend::Embedded | Backend::Memory => unreachable!("these are no engines"),
    }
}

/// Servers that start with us need a while to serve, or to choose a leader: what may end by itself is tried again. `key` says
/// where they are.
async fn patiently<E: std::error::Error + Send + Sync + 'static>(
    open: impl AsyncFn() -> Result<Engine, E>,
    may_end: impl Fn(&E) -> bool,
    key: &str,
) -> anyhow::Result<Engine> {
    let until = Instant::now() + START_PATIENCE;
    let mut said = String::new();
    loop {
        match open().await {
            Ok(engine) => return Ok(engine),
            Err(error) if may_end(&error) && Instant::now() < until => {
                let text = error.to_string();
                if said != text {
                    tracing::warn!(
                        error = text,
                        "the engine is not ready; it is tried again for {START_PATIENCE:?}"
                    );
                    said = text;
                }
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(error) if may_end(&error) => {
                let tried = START_PATIENCE.as_secs();
                anyhow::bail!("{error}; tried for {tried} s. Start it, or say with `{key}` where it is");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_not_ready(error: &JetStreamError) -> bool {
    matches!(error, JetStreamError::Connect { .. } | JetStreamError::Setup { .. })
}

fn jetstream_options(config: &Config) -> anyhow::Result<JetStreamOptions> {
    let nats = &config.jetstream;
    let limits = &config.retention.all;
    Ok(JetStreamOptions {
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
    })
}

async fn open_jetstream(options: JetStreamOptions) -> Result<Engine, JetStreamError> {
    let engine = JetStream::connect(options).await?;
    let meta = engine.meta(Arc::new(SystemClock)).await?;
    Ok((Arc::new(engine), Arc::new(meta)))
}

fn redis_options(config: &Config) -> anyhow::Result<RedisOptions> {
    let (redis, limits) = (&config.redis, &config.retention.all);
    let default = RedisOptions::default();
    Ok(RedisOptions {
        url: redis.url.clone(),
        user: redis.user.clone(),
        password: redis.password_file.as_deref().map(secret).transpose()?,
        tls_ca: redis.tls_ca.clone(),
        prefix: redis.prefix.clone(),
        retention: RedisRetention {
            max_age: limits.max_age,
            max_bytes: limits.max_bytes,
            max_events: limits.max_events,
        },
        repeat_window: default.repeat_window.max(config.log.engine_timeout * 2),
        timeout: config.log.engine_timeout,
    })
}

async fn open_redis(options: RedisOptions) -> Result<Engine, RedisError> {
    let engine = Redis::connect(options).await?;
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
