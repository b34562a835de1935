//! Every implementation keeps the same promises.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::path::Path;
use std::sync::Arc;

use newswire_log::testing::FaultDisk;
use newswire_log::testing::log_suite::{self, Setup};
use newswire_log::testing::placed_suite::{self, PlacedLog};
use newswire_log::{EmbeddedLog, EmbeddedOptions, EventLog, MemoryLog, MemoryOptions, OsDisk};

fn memory(setup: &Setup) -> MemoryLog {
    let Setup { clock, dedup, retention } = setup;
    let options = MemoryOptions {
        clock: clock.clone(),
        dedup: *dedup,
        retention: retention.clone(),
        ..MemoryOptions::default()
    };
    MemoryLog::new(options).unwrap()
}

#[test]
fn memory_log() {
    log_suite::run(&|setup| Box::new(memory(setup)) as Box<dyn EventLog>);
}

#[test]
fn memory_log_at_given_offsets() {
    placed_suite::run(&|setup| Box::new(memory(setup)) as Box<dyn PlacedLog>);
}

fn embedded_options(setup: &Setup) -> EmbeddedOptions {
    EmbeddedOptions {
        clock: setup.clock.clone(),
        dedup: setup.dedup,
        retention: setup.retention.clone(),
        ..EmbeddedOptions::default()
    }
}

#[test]
fn embedded_log_on_the_operating_system() {
    let root = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    log_suite::run(&|setup: &Setup| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = root.path().join(number.to_string());
        let log = EmbeddedLog::open(&dir, embedded_options(setup), Arc::new(OsDisk)).unwrap();
        Box::new(log) as Box<dyn EventLog>
    });
}

fn small_segments(setup: &Setup) -> EmbeddedLog {
    let options = EmbeddedOptions { segment_bytes: 1500, ..embedded_options(setup) };
    EmbeddedLog::open(Path::new("/log"), options, Arc::new(FaultDisk::new())).unwrap()
}

#[test]
fn embedded_log_of_many_small_segments() {
    log_suite::run(&|setup| Box::new(small_segments(setup)) as Box<dyn EventLog>);
}

#[test]
fn embedded_log_at_given_offsets() {
    placed_suite::run(&|setup| Box::new(small_segments(setup)) as Box<dyn PlacedLog>);
}
