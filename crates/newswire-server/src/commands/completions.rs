//! `newswire completions`: what a shell needs to complete commands and flags.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::Shell;

/// Arguments of `newswire completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  newswire completions bash > ~/.local/share/bash-completion/completions/newswire
  newswire completions zsh > \"${fpath[1]}/_newswire\"
  newswire completions fish > ~/.config/fish/completions/newswire.fish
  newswire completions powershell | Out-String | Invoke-Expression

Exit codes: 0 written, 2 wrong arguments.")]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Writes the script to standard output.
///
/// # Errors
/// When standard output fails.
pub async fn run(args: Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "newswire", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).context("writing the script")?;
    Ok(ExitCode::SUCCESS)
}
