//! Measurements of Newswire, each beside a physical limit or a plain figure of the same run.
//!
//! Everything runs against loopback and a temporary directory, bounded in count and time. The server is the release
//! binary in a process of its own; the log is also measured in this process, beside a bare segment writer.

#![allow(clippy::print_stdout, reason = "figures are this program's output")]

pub mod bare;
pub mod delivery;
pub mod durable;
pub mod filtered;
pub mod log;
pub mod machine;
pub mod memory;
pub mod peers;
pub mod replay;
pub mod report;
pub mod scaling;
pub mod wire;
