//! For tests of the log and of whatever stands on it: a disk that fails, and suites that every implementation passes.

mod fault_disk;

pub use fault_disk::{CrashMode, FaultDisk};
