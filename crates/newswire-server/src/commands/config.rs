//! `newswire config`: what the server would be told, without starting it.

use std::process::ExitCode;

use clap::Subcommand;

use super::serve::ConfigArgs;

/// Arguments of `newswire config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong with a configuration, without starting a server.
    #[command(after_help = "\
Reads flags, environment and file exactly as `newswire serve` does, so it takes the same ones.

Examples:
  newswire config check                                  newswire.toml of this directory, if it is there
  newswire config check --config /etc/newswire.toml      before a restart or a reload
  newswire config check --set log.sync=interval          with a change that is only considered

Exit codes: 0 the server would start with it, 2 something is wrong; all of it is said at once.")]
    Check(ConfigArgs),
}

/// Checks the configuration.
///
/// # Errors
/// When something is wrong with it; exit code 2.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = args.command;
    let file = args.file();
    args.load()?;
    match file {
        Some(file) => anstream::println!("{}: nothing is wrong with the configuration", file.display()),
        None => anstream::println!("nothing is wrong with the configuration (there is no file)"),
    }
    Ok(ExitCode::SUCCESS)
}
