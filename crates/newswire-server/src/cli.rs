//! The command line: which commands there are, and how their failures are shown.

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    Failure, backup, bench, check, completions, config, copy, demo, export, publish, schemas, serve, tail,
    token,
};

#[derive(Debug, Parser)]
#[command(name = "newswire", version, about = "A durable, live event feed: one log, many subscribers.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Play a sample company through a running server.
    Demo(demo::Args),
    /// Publish events from a file or standard input.
    Publish(publish::Args),
    /// Show events, live and from any point of the past.
    Tail(tail::Args),
    /// Make secrets, tokens and API keys.
    Token(token::Args),
    /// Verify a log without changing it.
    Check(check::Args),
    /// Copy a log, also while its server runs.
    Backup(backup::BackupArgs),
    /// Fill a data directory from a backup.
    Restore(backup::RestoreArgs),
    /// Move a log to another engine or directory, with its offsets and its epoch.
    Copy(copy::Args),
    /// Write events as JSON Lines, SQLite or Parquet.
    Export(export::Args),
    /// Look at the configuration without starting a server.
    Config(config::Args),
    /// Write what a shell needs to complete commands and flags.
    Completions(completions::Args),
    /// Measure this Newswire on this machine.
    Bench(bench::Args),
    /// Write what describes this version to programs: JSON Schemas, OpenAPI, AsyncAPI.
    Schemas(schemas::Args),
}

/// The commands with their flags, for what is written about them.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name.
///
/// Exit codes are those of [`crate::commands`]; the help of each command says which it uses.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let code = runtime.block_on(run(cli.command)).unwrap_or_else(|error| fail(&error));
    // Blocking reads of standard input cannot be cancelled; nobody waits for them any more.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Backup(args) => backup::run_backup(args).await,
        Command::Restore(args) => backup::run_restore(args).await,
        Command::Copy(args) => copy::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Config(args) => config::run(args).await,
        Command::Completions(args) => completions::run(args, self::command()).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Schemas(args) => schemas::run(&args),
    }
}

/// One line for people, with the causes behind it. A reader that left (`newswire … | head`) is no failure.
fn fail(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    anstream::eprintln!("newswire: {error:#}");
    error.downcast_ref::<Failure>().map_or(ExitCode::FAILURE, Failure::code)
}
