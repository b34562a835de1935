//! The commands of the binary, a module each: `Args` and `run`.

pub mod bench;
pub mod check;
pub mod demo;
pub mod publish;
pub(crate) mod reach;
pub mod serve;
pub mod tail;

use std::process::ExitCode;

/// Wrong arguments or configuration.
pub const EXIT_USAGE: u8 = 2;
/// Another server has the data directory.
pub const EXIT_IN_USE: u8 = 3;
/// The log is damaged.
pub const EXIT_DAMAGED: u8 = 4;

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
