//! The Newswire server and command line.

mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod logging;
pub mod server;
mod telemetry;
pub mod terminal;

/// For the fuzz targets, and the replay of their inputs.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::auth::fuzzing::token;
}
