//! For tests of the log and of whatever stands on it: a disk that fails, and suites that every implementation passes.
//! Tests are the only users, so a broken expectation panics.
#![allow(clippy::unwrap_used)]

mod counting_disk;
pub mod events;
mod fault_disk;
pub mod log_suite;
mod memory_engine;
pub mod meta_suite;
pub mod placed_suite;
pub mod sequencer_suite;

pub use counting_disk::CountingDisk;
pub use fault_disk::{CrashMode, FaultDisk};
pub use memory_engine::MemoryEngine;

/// Reads bytes as every shape the log stores, as a fuzz target does: whatever they are, it must return.
pub fn read_log_bytes(bytes: &[u8]) {
    crate::embedded::inspect::read_anything(bytes);
    crate::remote::read_anything(bytes);
}
