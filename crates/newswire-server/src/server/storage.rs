//! The log that the configuration asks for.

use std::sync::Arc;

use anyhow::Context;
use newswire_core::LogView;
use newswire_log::{
    BatchOptions, DedupOptions, EmbeddedLog, EmbeddedMeta, EmbeddedOptions, EventLog, MemoryLog, MemoryMeta,
    MemoryOptions, Meta, Observer, OpenError, OsDisk, RemoteError, RemoteLog, RemoteOptions,
    RetentionOptions, RetentionPolicy, SyncMode, SystemClock,
};

use super::engine;
use crate::commands::{EXIT_DAMAGED, EXIT_IN_USE, Failure};
use crate::config::{Backend, Config, RetentionLimits, Sync};

/// Beside the log's own files, in the same directory and under the same lock.
pub(crate) const META_FILE: &str = "meta.redb";
/// Where a node keeps its copies of a log that an engine keeps.
const COPIES: &str = "copies";

/// What outlives the process: the log, and the small state beside it.
pub struct Storage {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// What an engine keeps beside the log; otherwise it is opened where somebody needs it.
    meta: Option<Arc<dyn Meta>>,
}

impl Storage {
    /// The store of what has to outlive the process beside the log, as durable as that is.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(super) async fn meta(&self, config: &Config) -> anyhow::Result<Arc<dyn Meta>> {
        match &self.meta {
            Some(meta) => Ok(Arc::clone(meta)),
            None => open_meta(config).await,
        }
    }
}

/// Opens the log; `observer` hears of its commits.
///
/// # Errors
/// A [`Failure`] with its exit code where another server has the directory, or the log is damaged; its text says what
/// to do.
pub async fn open(config: &Config, new_epoch: bool, observer: Arc<dyn Observer>) -> anyhow::Result<Storage> {
    let log: Arc<dyn EventLog> = match config.log.backend {
        Backend::Memory => {
            tracing::warn!("log.backend = memory: all events are gone when the server stops");
            let log = MemoryLog::new(memory_options(config, observer)).context("cannot start the log")?;
            Arc::new(log)
        }
        Backend::Embedded => {
            let (directory, options) =
                (config.data_dir.clone(), embedded_options(config, new_epoch, observer));
            let open = move || EmbeddedLog::open(&directory, options, Arc::new(OsDisk));
            let log = tokio::task::spawn_blocking(open).await.context("opening the log")?.map_err(explain)?;
            tracing::info!(directory = %log.dir().display(), "log open");
            Arc::new(log)
        }
        Backend::JetStream | Backend::Redis => return open_remote(config, observer).await,
    };
    Ok(Storage { log, meta: None })
}

async fn open_meta(config: &Config) -> anyhow::Result<Arc<dyn Meta>> {
    let clock = Arc::new(SystemClock);
    if config.log.backend == Backend::Memory {
        return Ok(Arc::new(MemoryMeta::new(clock).context("cannot start the store of shared state")?));
    }
    let file = config.data_dir.join(META_FILE);
    let open = move || EmbeddedMeta::open(&file, clock);
    Ok(Arc::new(tokio::task::spawn_blocking(open).await.context("opening the store of shared state")??))
}

/// Opens this node's copy of the log that an engine keeps.
async fn open_remote(config: &Config, observer: Arc<dyn Observer>) -> anyhow::Result<Storage> {
    let (engine, meta) = engine::connect(config).await?;
    let name = engine.name();
    let options = RemoteOptions {
        dir: config.data_dir.join(COPIES),
        copy: embedded_options(config, false, observer),
        patience: config.log.engine_timeout,
        start_patience: engine::START_PATIENCE,
    };
    let log = RemoteLog::open(engine, Arc::clone(&meta), options).await.map_err(|error| match error {
        RemoteError::Copy(error) => explain(error),
        error @ RemoteError::Engine(_) => anyhow::Error::new(error).context("cannot follow the log"),
    })?;
    tracing::info!(engine = name, epoch = %log.epoch(), offset = log.tail() - 1, "log open");
    Ok(Storage { log: Arc::new(log), meta: Some(meta) })
}

fn explain(error: OpenError) -> anyhow::Error {
    let code = match &error {
        OpenError::Locked { .. } => EXIT_IN_USE,
        OpenError::Damaged { .. } => EXIT_DAMAGED,
        _ => return anyhow::Error::new(error).context("cannot open the log"),
    };
    Failure::new(code, error.to_string()).into()
}

fn embedded_options(config: &Config, new_epoch: bool, observer: Arc<dyn Observer>) -> EmbeddedOptions {
    EmbeddedOptions {
        sync: match config.log.sync {
            Sync::Always => SyncMode::Always,
            Sync::Interval => SyncMode::Interval(config.log.sync_interval),
            Sync::Os => SyncMode::Os,
        },
        segment_bytes: config.log.segment_bytes,
        retention: retention(config),
        dedup: dedup(config),
        batch: batch(config),
        verify_on_open: config.log.verify_on_start,
        new_epoch,
        observer: Some(observer),
        ..Default::default()
    }
}

fn memory_options(config: &Config, observer: Arc<dyn Observer>) -> MemoryOptions {
    MemoryOptions {
        dedup: dedup(config),
        retention: retention(config),
        batch: batch(config),
        observer: Some(observer),
        ..Default::default()
    }
}

/// How far back the configuration has repeats recognised.
pub(crate) fn dedup(config: &Config) -> DedupOptions {
    DedupOptions { window: config.log.dedup_window, max_ids: config.log.dedup_max_ids }
}

/// The retention policy of the configuration.
pub(super) fn retention(config: &Config) -> RetentionOptions {
    let channels = &config.retention.channels;
    RetentionOptions {
        all: policy(&config.retention.all),
        channels: channels.iter().map(|(name, limits)| (name.clone(), policy(limits))).collect(),
        ..Default::default()
    }
}

fn policy(limits: &RetentionLimits) -> RetentionPolicy {
    let RetentionLimits { max_age, max_bytes, max_events } = *limits;
    RetentionPolicy { max_age, max_bytes, max_events }
}

/// A whole request is one append, and its events grow by what the server adds to each.
fn batch(config: &Config) -> BatchOptions {
    let default = BatchOptions::default();
    BatchOptions {
        max_append_bytes: default.max_append_bytes.max(config.limits.request_bytes * 2),
        ..default
    }
}
