//! `newswire schemas`: writes what describes the wire to programs.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Arguments of `newswire schemas`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  newswire schemas schemas             # the directory of the repository, after a change of the wire
  newswire schemas /tmp/newswire-wire  # what this version takes and sends, for a generator of code

A running server serves openapi.json and asyncapi.json below /api/v1, too, and shows them to people at /docs.

Exit codes: 0 written, 1 a file could not be written, 2 wrong arguments.")]
pub struct Args {
    /// The directory to write to; it is made where it is missing, and files of the same name are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes every file, one JSON document each.
///
/// # Errors
/// When a directory or file cannot be written; what was written before stays.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for (path, document) in newswire::descriptions() {
        let file = args.directory.join(path);
        let folder = file.parent().unwrap_or(&args.directory);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&file, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
