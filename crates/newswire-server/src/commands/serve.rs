//! `newswire serve`: runs the server until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, Inputs, docs, load};

use super::{EXIT_USAGE, Failure};

/// Arguments of `newswire serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = docs::help())]
pub struct Args {
    /// Address to listen on [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Directory of the log [default: ./newswire-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Configuration file [default: newswire.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "NEWSWIRE_CONFIG")]
    config: Option<PathBuf>,
    /// Set any configuration key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write docs/configuration.md to standard output
    #[arg(long, hide = true)]
    print_config_docs: bool,
    /// Write newswire.example.toml to standard output
    #[arg(long, hide = true, conflicts_with = "print_config_docs")]
    print_config_example: bool,
}

/// Serves until SIGTERM or SIGINT. Exit codes beside the common ones: 3 if another server has the data directory, 4 if
/// the log is damaged.
///
/// # Errors
/// When the configuration is wrong, the log cannot be opened or the address cannot be listened on.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.print_config_docs {
        anstream::print!("{}", docs::markdown());
        return Ok(ExitCode::SUCCESS);
    }
    if args.print_config_example {
        anstream::print!("{}", docs::example_file());
        return Ok(ExitCode::SUCCESS);
    }
    let _config = configuration(args)?;
    Ok(ExitCode::SUCCESS)
}

fn configuration(args: Args) -> anyhow::Result<Config> {
    let mut inputs = Inputs::from_process(args.config);
    inputs.set = args.set;
    inputs.flags.extend(args.listen.map(|listen| ("--listen", "listen", listen)));
    inputs.flags.extend(args.data_dir.map(|directory| ("--data-dir", "data_dir", directory)));
    load(&inputs).map_err(|error| Failure::new(EXIT_USAGE, error.to_string()).into())
}
