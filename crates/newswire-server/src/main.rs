//! The `newswire` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    newswire_server::cli::main()
}
