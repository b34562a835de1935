//! The log that the configuration asks for.

use std::sync::Arc;

use anyhow::Context;
use newswire_log::{
    BatchOptions, DedupOptions, EmbeddedLog, EmbeddedMeta, EmbeddedOptions, EventLog, MemoryLog, MemoryMeta,
    MemoryOptions, Meta, Observer, OpenError, OsDisk, RetentionOptions, RetentionPolicy, SyncMode,
    SystemClock,
};

use crate::commands::{EXIT_DAMAGED, EXIT_IN_USE, Failure};
use crate::config::{Backend, Config, RetentionLimits, Sync};

/// Beside the log's own files, in the same directory and under the same lock.
const META_FILE: &str = "meta.redb";

/// Opens the log; `observer` hears of its commits.
///
/// # Errors
/// A [`Failure`] with its exit code where another server has the directory, or the log is damaged; its text says what
/// to do.
pub async fn open(
    config: &Config,
    new_epoch: bool,
    observer: Arc<dyn Observer>,
) -> anyhow::Result<Arc<dyn EventLog>> {
    match config.log.backend {
        Backend::Memory => {
            tracing::warn!("log.backend = memory: all events are gone when the server stops");
            let log = MemoryLog::new(memory_options(config, observer)).context("cannot start the log")?;
            Ok(Arc::new(log))
        }
        Backend::Embedded => {
            let (directory, options) =
                (config.data_dir.clone(), embedded_options(config, new_epoch, observer));
            let open = move || EmbeddedLog::open(&directory, options, Arc::new(OsDisk));
            let log = tokio::task::spawn_blocking(open).await.context("opening the log")?.map_err(explain)?;
            tracing::info!(directory = %log.dir().display(), "log open");
            Ok(Arc::new(log))
        }
    }
}

/// The store of what has to outlive the process beside the log, as durable as that is.
pub(super) async fn open_meta(config: &Config) -> anyhow::Result<Arc<dyn Meta>> {
    let clock = Arc::new(SystemClock);
    match config.log.backend {
        Backend::Memory => {
            Ok(Arc::new(MemoryMeta::new(clock).context("cannot start the store of shared state")?))
        }
        Backend::Embedded => {
            let file = config.data_dir.join(META_FILE);
            let open = move || EmbeddedMeta::open(&file, clock);
            Ok(Arc::new(
                tokio::task::spawn_blocking(open).await.context("opening the store of shared state")??,
            ))
        }
    }
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

fn dedup(config: &Config) -> DedupOptions {
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
