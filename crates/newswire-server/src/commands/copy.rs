//! `newswire copy`: moves a log between directories and engines, and compares both.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use newswire_log::moving::{self, Compared, Doing, MoveError, Source};
use newswire_log::{EmbeddedMeta, Entry, Meta, Sequencer, SystemClock};

use super::{EXIT_DAMAGED, EXIT_IN_USE, EXIT_USAGE, Failure};
use crate::auth::REVOCATIONS;
use crate::config::{Backend, Config, Inputs, load};
use crate::server::{engine, storage};
use crate::terminal::{counted, grouped};

mod progress;

use progress::Progress;

/// Arguments of `newswire copy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each side is a data directory, or a configuration file as `newswire serve --config` reads it: what log.backend says there is
where the log is, reached with the addresses and credentials of that file. Variables of the environment do not count.

Everything keeps its place: offsets with their holes, times, the epoch, and ids inside log.dedup_window, so that subscribers
resume and publishers repeat as if nothing had happened. Revocations go along; tickets and sessions of browsers do not, people
sign in again. At the end all of it is read back and compared, and only then a node starts on it.

Stop every server of both sides first. A directory that is in use is refused; of an engine nobody can tell, and what is published
there meanwhile stays behind. What is copied is not changed, but the epoch is now that of the copy: never start both.

The other side must be empty. A copy that broke off goes on where it was when it is repeated, and no node starts on it before.

Examples:
  newswire copy --from /var/lib/newswire --to jetstream.toml      out of files, for several nodes
  newswire copy --from jetstream.toml --to /var/lib/newswire      and back
  newswire copy --from old.toml --to new.toml --verify-only       compare again, change nothing

Exit codes: 0 copied and the same, 1 failed, 2 wrong arguments or configuration, 3 a server has a directory, 4 damaged or not the same.")]
pub struct Args {
    /// Where the log is: a data directory, or a configuration file
    #[arg(long, value_name = "DIR|FILE")]
    from: PathBuf,
    /// Where it is to be: a missing or empty directory, or a configuration file
    #[arg(long, value_name = "DIR|FILE")]
    to: PathBuf,
    /// Only compare what is on both sides; what the other side has beyond does not count
    #[arg(long)]
    verify_only: bool,
}

/// Copies and compares.
///
/// # Errors
/// A [`Failure`] with an exit code of its own where one side cannot be used, or they are not the same.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { from, to, verify_only } = args;
    let (from, to) = (Side::read(&from)?, Side::read(&to)?);
    anyhow::ensure!(from.place() != to.place(), "both sides are the same: {}", from.shown());
    let (compared, revocations) = if verify_only {
        let source = files(&from, &to).await?;
        let compared = compare(&source, &to).await.map_err(explain)?;
        anstream::println!("{} has the same: {}", to.shown(), in_words(&compared));
        (compared, None)
    } else {
        let source = files(&from, &to).await?;
        let revocations = from.revocations().await?;
        let compared = copy(&source, &to, &revocations).await.map_err(explain)?;
        anstream::println!("Copied to {}: {}", to.shown(), in_words(&compared));
        anstream::println!("Its epoch is still {}", source.epoch());
        (compared, Some(revocations.len()))
    };
    anstream::println!("Read back and compared with {}: BLAKE3 {}", from.shown(), compared.digest);
    if let Some(revocations) = revocations {
        anstream::println!(
            "{} copied. Do not start what was there before again",
            counted(revocations as u64, "revocation")
        );
    }
    // Fetched for this only; what cannot be removed does no harm.
    let _ = std::fs::remove_dir_all(to.fetched());
    Ok(ExitCode::SUCCESS)
}

fn in_words(compared: &Compared) -> String {
    format!("{}, up to offset {}", counted(compared.events, "event"), grouped(compared.tail - 1))
}

/// One side.
enum Side {
    Files(PathBuf),
    Engine(Box<Config>),
}

impl Side {
    fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.is_file() {
            if path.extension().is_some_and(|extension| extension == "toml") {
                return Err(Failure::new(EXIT_USAGE, format!("there is no file {}", path.display())).into());
            }
            return Ok(Self::Files(path.to_owned()));
        }
        let file = Some(path.to_owned());
        let inputs = Inputs { file, environment: Vec::new(), set: Vec::new(), flags: Vec::new() };
        let wrong = |text: String| Failure::new(EXIT_USAGE, text);
        let config = load(&inputs).map_err(|error| wrong(error.to_string()))?;
        match config.log.backend {
            Backend::Embedded => Ok(Self::Files(config.data_dir)),
            Backend::Memory => {
                let text = "says log.backend = memory, of which nothing is left when the server stops";
                Err(wrong(format!("{} {text}", path.display())).into())
            }
            _ => Ok(Self::Engine(Box::new(config))),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Files(dir) => dir.display().to_string(),
            Self::Engine(config) => engine::described(config),
        }
    }

    /// Where it is, to tell two of the same name apart.
    fn place(&self) -> String {
        match self {
            Self::Files(dir) => dir.display().to_string(),
            Self::Engine(config) => engine::place(config),
        }
    }

    /// Where what is fetched of an engine stands while it is copied here.
    fn fetched(&self) -> PathBuf {
        match self {
            Self::Files(dir) => {
                let mut name = dir.components().as_path().as_os_str().to_owned();
                name.push(".fetched");
                name.into()
            }
            Self::Engine(config) => config.data_dir.join("fetched"),
        }
    }

    /// Whose credentials count no more.
    async fn revocations(&self) -> anyhow::Result<Vec<(Arc<str>, Entry)>> {
        let meta: Arc<dyn Meta> = match self {
            Self::Engine(config) => engine::connect(config).await?.1,
            Self::Files(dir) => {
                let file = dir.join(storage::META_FILE);
                if !file.is_file() {
                    return Ok(Vec::new());
                }
                Arc::new(
                    EmbeddedMeta::open(&file, Arc::new(SystemClock))
                        .context("cannot read the shared state")?,
                )
            }
        };
        Ok(meta.list(REVOCATIONS).await?)
    }
}

/// The log of one side as files: those of an engine are fetched to where the other side is.
async fn files(from: &Side, to: &Side) -> anyhow::Result<Source> {
    let dir = match from {
        Side::Files(dir) => dir.clone(),
        Side::Engine(config) => {
            let (sequencer, meta) = engine::connect(config).await?;
            let (dedup, patience) = (storage::dedup(config), config.log.engine_timeout);
            let dir = to.fetched();
            let fetched = moving::fetch(sequencer, meta, &dir, dedup, patience);
            let progress = Progress::fetching();
            let fetched = fetched.await.map_err(explain);
            progress.end();
            fetched?
        }
    };
    tokio::task::spawn_blocking(move || Source::open(&dir)).await.context("opening the log")?.map_err(explain)
}

async fn copy(source: &Source, to: &Side, state: &[(Arc<str>, Entry)]) -> Result<Compared, MoveError> {
    let mut progress = Progress::up_to(source.tail() - 1);
    let mut told = |doing: Doing, offset: u64| progress.at(doing, offset);
    match to {
        Side::Files(dir) => moving::into_files(source, dir, (storage::META_FILE, state), &mut told).await,
        Side::Engine(config) => {
            let (sequencer, meta) = connect(config).await?;
            moving::into_engine(source, &*sequencer, &*meta, storage::dedup(config), state, &mut told).await
        }
    }
}

async fn compare(source: &Source, to: &Side) -> Result<Compared, MoveError> {
    let mut progress = Progress::up_to(source.tail() - 1);
    let mut told = |doing: Doing, offset: u64| progress.at(doing, offset);
    match to {
        Side::Files(dir) => moving::compare_with_files(source, &Source::open(dir)?, &mut told).await,
        Side::Engine(config) => {
            let (sequencer, meta) = connect(config).await?;
            moving::compare_with_engine(source, &*sequencer, &*meta, storage::dedup(config), &mut told).await
        }
    }
}

async fn connect(config: &Config) -> Result<(Arc<dyn Sequencer>, Arc<dyn Meta>), MoveError> {
    engine::connect(config).await.map_err(|error| MoveError::State(format!("{error:#}")))
}

fn explain(error: MoveError) -> anyhow::Error {
    let code = match &error {
        MoveError::InUse(_) => EXIT_IN_USE,
        MoveError::Differs { .. }
        | MoveError::Foreign(_)
        | MoveError::Open(newswire_log::OpenError::Damaged { .. })
        | MoveError::Read(newswire_log::ReadError::Damaged { .. }) => EXIT_DAMAGED,
        _ => return error.into(),
    };
    Failure::new(code, error.to_string()).into()
}
