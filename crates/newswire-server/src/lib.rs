//! The Newswire server and command line.

pub mod cli;
pub mod commands;
pub mod config;
pub mod logging;
pub mod server;
pub mod terminal;
