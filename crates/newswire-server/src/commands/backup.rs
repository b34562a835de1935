//! `newswire backup` and `newswire restore`: copies of a log, taken beside its server.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use newswire_log::{Copied, CopyError};

use super::{EXIT_DAMAGED, EXIT_IN_USE, Failure};
use crate::terminal::counted;

/// Arguments of `newswire backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server may be running: the copy has every event that was acknowledged before the command began. It is made as
DEST.incomplete, synced, verified as `newswire check` does, and named DEST only when it is whole. It is a data directory like
any other, in an epoch of its own.

Examples:
  newswire backup /backups/$(date +%F)
  newswire backup --data-dir /var/lib/newswire /backups/before-the-upgrade

Exit codes: 0 the backup is whole, 1 failed, 2 wrong arguments, 4 the log, or the copy, is damaged.")]
pub struct BackupArgs {
    /// The new directory; it must not be there yet
    #[arg(value_name = "DEST")]
    to: PathBuf,
    /// Data directory of the log
    #[arg(long, default_value = "./newswire-data", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Arguments of `newswire restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The log begins a new epoch: subscribers that resume are told with a `gap` that offsets of before mean nothing any more, and
get everything that was restored.

Examples:
  newswire restore /backups/2026-11-22
  newswire restore --data-dir /var/lib/newswire /backups/2026-11-22

Exit codes: 0 restored, 1 failed, 2 wrong arguments, 3 a server has the directory, 4 the backup, or the copy, is damaged.")]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "SRC")]
    from: PathBuf,
    /// Data directory to restore into; missing or empty
    #[arg(long, default_value = "./newswire-data", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Copies the log of a data directory.
///
/// # Errors
/// When the copy is not whole; nothing of it is left then.
pub async fn run_backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let BackupArgs { to, data_dir } = args;
    let copied = with_bar(data_dir.clone(), to.clone(), newswire_log::backup).await?;
    tell("Backed up", &copied, &to);
    Ok(ExitCode::SUCCESS)
}

/// Fills a data directory from a backup.
///
/// # Errors
/// When the copy is not whole; no server starts on what is left then.
pub async fn run_restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let RestoreArgs { from, data_dir } = args;
    let copied = with_bar(from, data_dir.clone(), newswire_log::restore).await?;
    tell("Restored", &copied, &data_dir);
    Ok(ExitCode::SUCCESS)
}

type Copy = fn(&Path, &Path, &mut dyn FnMut(u64, u64)) -> Result<Copied, CopyError>;

async fn with_bar(from: PathBuf, to: PathBuf, copy: Copy) -> anyhow::Result<Copied> {
    let bar = bar();
    let shown = bar.clone();
    let work = tokio::task::spawn_blocking(move || {
        copy(&from, &to, &mut |done, all| {
            shown.set_length(all);
            shown.set_position(done);
            if done == all {
                shown.set_message("verifying");
            }
        })
    });
    let copied = work.await.context("copying the log")?;
    bar.finish_and_clear();
    copied.map_err(explain)
}

/// On a terminal only: without one the result is enough.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30.cyan/dim} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn tell(done: &str, copied: &Copied, to: &Path) {
    let Copied { from, epoch, last_offset, events, bytes } = *copied;
    anstream::println!(
        "{done} to {}: {} in segments of {}, up to offset {last_offset}, verified",
        to.display(),
        counted(events, "event"),
        newswire_protocol::time::format_size(bytes),
    );
    anstream::println!("Its epoch is {epoch}; that of the original is {from}");
}

fn explain(error: CopyError) -> anyhow::Error {
    let code = match &error {
        CopyError::InUse(_) => EXIT_IN_USE,
        CopyError::Unsound(_) | CopyError::Source(newswire_log::OpenError::Damaged { .. }) => EXIT_DAMAGED,
        _ => return error.into(),
    };
    Failure::new(code, error.to_string()).into()
}
