//! The commands of the binary, a module each: `Args` and `run`.

pub mod backup;
pub mod bench;
pub mod check;
pub mod completions;
pub mod config;
pub mod copy;
pub mod demo;
pub mod export;
pub mod publish;
pub(crate) mod reach;
pub mod schemas;
pub mod serve;
pub mod tail;
pub mod token;

use std::process::ExitCode;

// The table of exit codes stands in docs/operations.md. 0 is done and 1 is any failure without a code of its own.

/// Wrong arguments or configuration; nothing was touched.
pub const EXIT_USAGE: u8 = 2;
/// Another server has the data directory.
pub const EXIT_IN_USE: u8 = 3;
/// A log, or a copy of one, is damaged.
pub const EXIT_DAMAGED: u8 = 4;
/// Done but for a part, which the output names: lines that the server rejected.
pub const EXIT_PARTLY: u8 = 5;
/// What was being read went while it was read.
pub const EXIT_OVERTAKEN: u8 = 6;
/// Left at once at SIGINT, with work undone.
pub const EXIT_INTERRUPTED: u8 = 130;

/// A failure with an exit code of its own, and what to do about it in its text.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), code }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}
