//! The log that the configuration asks for.

use std::sync::Arc;

use anyhow::Context;
use newswire_log::{
    BatchOptions, DedupOptions, EventLog, MemoryLog, MemoryOptions, RetentionOptions, RetentionPolicy,
};

use crate::config::{Backend, Config, RetentionLimits};

/// Opens the log. Blocks other work on the disk, not the runtime.
///
/// # Errors
/// A [`Failure`](crate::commands::Failure) with its exit code where another server has the directory, or the log is
/// damaged; its text says what to do.
pub async fn open(config: &Config) -> anyhow::Result<Arc<dyn EventLog>> {
    match config.log.backend {
        Backend::Memory => {
            tracing::warn!("log.backend = memory: all events are gone when the server stops");
            let log = MemoryLog::new(memory_options(config)).context("cannot start the log")?;
            Ok(Arc::new(log))
        }
        Backend::Embedded => anyhow::bail!("todo"),
    }
}

fn memory_options(config: &Config) -> MemoryOptions {
    MemoryOptions {
        dedup: dedup(config),
        retention: retention(config),
        batch: batch(config),
        ..Default::default()
    }
}

fn dedup(config: &Config) -> DedupOptions {
    DedupOptions { window: config.log.dedup_window, max_ids: config.log.dedup_max_ids }
}

fn retention(config: &Config) -> RetentionOptions {
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
