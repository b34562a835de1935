//! The Newswire server and command line.

pub mod cli;
pub mod commands;
pub mod config;
pub mod logging;
pub mod server;
mod telemetry;
pub mod terminal;
