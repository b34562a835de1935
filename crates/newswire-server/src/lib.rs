//! The Newswire server and command line.

mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod logging;
pub mod server;
mod telemetry;
pub mod terminal;
