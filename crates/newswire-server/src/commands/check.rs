//! `newswire check`: verifies a log without changing it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::EXIT_DAMAGED;

/// Arguments of `newswire check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads every record of the log and its indexes, and changes nothing. Beside a running server it works too; what the server
writes meanwhile may look unfinished.

Examples:
  newswire check                          the default data directory
  newswire check /var/lib/newswire || mail -s \"the log is damaged\" operator

Exit codes: 0 sound, 1 the directory cannot be read, 2 wrong arguments, 4 damaged.")]
pub struct Args {
    /// Data directory of the log
    #[arg(default_value = "./newswire-data", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Prints what was found, and what to do about it.
///
/// # Errors
/// When the directory cannot be read, or holds no log.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let directory = args.data_dir;
    let shown = directory.display().to_string();
    let check = tokio::task::spawn_blocking(move || newswire_log::check(&directory));
    let report = check.await.context("checking the log")?.with_context(|| format!("cannot check {shown}"))?;
    // Sound in its way, but whoever mistyped the name would take it for the log's.
    anyhow::ensure!(!report.segments.is_empty() || report.damage.is_some(), "{shown} holds no log");
    anstream::println!("{}", report.to_string().trim_end());
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGED) })
}
