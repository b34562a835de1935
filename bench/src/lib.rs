//! Measurements of Newswire beside others, and beside a physical limit of the same run.
//!
//! Everything runs against loopback and temporary directories, bounded in count and time. Systems are processes of their
//! own, driven by `newswire-load`; the log and the core are also measured in this process.

#![allow(clippy::print_stdout, reason = "figures are this program's output")]

pub mod bare;
pub mod bare_door;
pub mod cluster;
pub mod contest;
pub mod filtered;
pub mod goals;
pub mod handshakes;
pub mod in_process;
pub mod log;
pub mod peers;
pub mod publishing;
pub mod report;
pub mod scaling;
pub mod security;
pub mod segment;
pub mod wire;
