//! Moving a log to where it is to be kept from now on, with its offsets, times and epoch.
//!
//! ```text
//! files ──▶ Source ──▶ into_engine ──▶ engine      engine ──▶ fetch ──▶ files ──▶ into_files
//! ```
//!
//! `item` is what is moved, `source` reads it from files, `compare` reads it back from both sides. What is moved is not used by
//! anybody meanwhile: it would go on beyond what was moved, under the same epoch.

mod compare;
mod item;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use newswire_protocol::Epoch;

pub use self::compare::Compared;
pub use self::source::Source;
use crate::backup::{CopyError, backup_in};
use crate::clock::{Clock, SystemClock};
use crate::dedup::DedupOptions;
use crate::embedded::disk::{Disk, OsDisk};
use crate::embedded::{EmbeddedOptions, OpenError};
use crate::event_log::{EventLog, ReadError};
use crate::meta::{EmbeddedMeta, Entry, Expect, Meta};
use crate::remote::agreement::{self, Disagreement, Found};
use crate::remote::{RemoteError, RemoteLog, RemoteOptions, SequenceError, Sequencer};
use crate::retention::RetentionOptions;

/// Why a log was not moved, or is not the same where it was moved to.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is nothing to move.
    #[error("{0} holds no log")]
    NoLog(String),
    /// Its server runs.
    #[error("{} is in use by a server; stop it first", .0.display())]
    InUse(PathBuf),
    /// The end of its log is not proven.
    #[error(
        "the server of {} was not stopped in order: start it once more on this directory, stop it with SIGTERM, and repeat",
        .0.display()
    )]
    Unclean(PathBuf),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event is not as this version writes them.
    #[error("the event at offset {0} is not as Newswire writes events, and cannot be moved")]
    Foreign(u64),
    /// The engine failed. What was moved stays; repeating goes on behind it.
    #[error("{0}; what was moved so far stays there: repeat the command to go on")]
    Engine(#[from] SequenceError),
    /// The engine's shared state failed.
    #[error("{0}")]
    State(String),
    /// A log is there, or a part of another one.
    #[error(
        "there is a log already, in epoch {there}, which is left alone: move into another stream, or remove that one and its \
         shared state first"
    )]
    Taken {
        /// Its epoch.
        there: Epoch,
    },
    /// There are messages that are no part of this log.
    #[error(
        "there are messages already, up to {last}, which are left alone: move into another stream, or remove that one first"
    )]
    NotEmpty {
        /// The newest.
        last: u64,
    },
    /// Files were not written.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The engine could not be followed.
    #[error(transparent)]
    Fetch(#[from] RemoteError),
    /// It is not the same.
    #[error("not the same: offset {offset} {what}")]
    Differs {
        /// The first offset at which that is so.
        offset: u64,
        /// What is the matter there.
        what: String,
    },
}

impl From<Disagreement> for MoveError {
    fn from(error: Disagreement) -> Self {
        Self::State(error.to_string())
    }
}

/// Moves a log from files into an engine that is empty, or that has a part of it since an attempt before; reads it back,
/// compares, and only then lets nodes begin with it, and with `state`. `told` hears up to which offset things are done, and what is done.
///
/// # Errors
/// [`MoveError`]. Until this has succeeded no node begins with what is there. Dropping the future is like an error.
pub async fn into_engine(
    source: &Source,
    engine: &dyn Sequencer,
    meta: &dyn Meta,
    dedup: DedupOptions,
    state: &State,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    let extent = engine.extent().await?;
    let mut last = match agreement::begin_move(meta, source.epoch(), &extent).await? {
        Found::Nothing | Found::Part => extent.last,
        Found::Log(there) => return Err(MoveError::Taken { there }),
        Found::Messages => return Err(MoveError::NotEmpty { last: extent.last }),
    };
    let facts = source.look(dedup).await?;
    let mut pages = source.items(last, &facts);
    while let Some(page) = pages.recv().await {
        let messages: Result<Vec<_>, _> = page?.iter().map(item::Item::message).collect();
        let messages = messages?;
        let reached = messages.last().map_or(last, |(offset, _)| *offset);
        engine.place(last, messages).await?;
        last = reached;
        told(Doing::Moving, last);
    }
    engine.placed(last, source.tail()).await?;
    let compared = compare::with_engine(source, &facts, engine, told).await?;
    put(state, meta).await?;
    agreement::end_move(meta, source.epoch(), &engine.extent().await?).await?;
    Ok(compared)
}

/// What goes along of the shared state: keys with what they have, until when.
pub type State = [(Arc<str>, Entry)];

/// What is over by now does not go along.
async fn put(state: &State, meta: &dyn Meta) -> Result<(), MoveError> {
    for (key, entry) in state {
        let ttl = entry.expires_at.map(|at| Duration::from_micros(at.0.saturating_sub(SystemClock.now().0)));
        if ttl != Some(Duration::ZERO) {
            meta.put(key, entry.value.clone(), Expect::Any, ttl).await.map_err(Disagreement::from)?;
        }
    }
    Ok(())
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Events are stored.
    Moving,
    /// They are read back and compared.
    Comparing,
}

/// Compares a log in files with what an engine has of it, and changes nothing. What the engine has beyond it does not count.
///
/// # Errors
/// [`MoveError::Differs`], with the first offset; others where one of them cannot be read.
pub async fn compare_with_engine(
    source: &Source,
    engine: &dyn Sequencer,
    meta: &dyn Meta,
    dedup: DedupOptions,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    same_epoch(source, agreement::current_epoch(meta).await?)?;
    let facts = source.look(dedup).await?;
    compare::with_engine(source, &facts, engine, told).await
}

/// As [`compare_with_engine`], with files.
///
/// # Errors
/// As there.
pub async fn compare_with_files(
    source: &Source,
    other: &Source,
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    same_epoch(source, Some(other.epoch()))?;
    compare::with_files(source, other, told).await
}

fn same_epoch(source: &Source, other: Option<Epoch>) -> Result<(), MoveError> {
    match other {
        Some(other) if other == source.epoch() => Ok(()),
        Some(other) => Err(MoveError::State(format!(
            "not the same: one log is in epoch {}, the other one in {other}",
            source.epoch()
        ))),
        None => Err(MoveError::NoLog("the engine".to_owned())),
    }
}

/// Copies a log from files into the directory `to`, missing or empty, in the same epoch, with `state` in a file of that name
/// beside it. Made as `to` with `.moving` behind it, and named `to` when it was compared; what an attempt before has left of it
/// is removed.
///
/// # Errors
/// [`MoveError`].
pub async fn into_files(
    source: &Source,
    to: &Path,
    (meta_file, state): (&str, &State),
    told: &mut (dyn FnMut(Doing, u64) + Send),
) -> Result<Compared, MoveError> {
    let unfinished = beside(to, ".moving");
    let (from, dir, epoch) = (source.dir().to_owned(), unfinished.clone(), source.epoch());
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CopyError::NotEmpty(to.to_owned()).into());
    }
    let copy = move || {
        // What is not there, or cannot be removed, is found by what follows.
        for left in [&beside(&dir, ".incomplete"), &dir] {
            let _ = std::fs::remove_dir_all(left);
        }
        backup_in(&from, &dir, epoch, &mut |_, _| {})
    };
    blocking(copy).await??;
    let compared = compare::with_files(source, &Source::open(&unfinished)?, told).await?;
    if !state.is_empty() {
        let meta = EmbeddedMeta::open(&unfinished.join(meta_file), Arc::new(SystemClock));
        put(state, &meta.map_err(|error| MoveError::State(error.to_string()))?).await?;
    }
    std::fs::rename(&unfinished, to).map_err(io("renaming to", to))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    OsDisk.sync_dir(parent).map_err(io("syncing", parent))?;
    Ok(compared)
}

fn io<'a>(doing: &'static str, file: &'a Path) -> impl FnOnce(std::io::Error) -> MoveError + 'a {
    move |error| CopyError::Io { doing, file: file.to_owned(), error }.into()
}

/// The name of a directory with more behind it.
fn beside(dir: &Path, more: &str) -> PathBuf {
    // The last slash of `data/` is not part of the name.
    let mut name = dir.components().as_path().as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}

/// Fetches the log of an engine into files beneath `dir`, in the engine's epoch; answers in which directory they are. What
/// an attempt before has fetched is not fetched again.
///
/// # Errors
/// [`MoveError`].
pub async fn fetch(
    engine: Arc<dyn Sequencer>,
    meta: Arc<dyn Meta>,
    dir: &Path,
    dedup: DedupOptions,
    patience: Duration,
) -> Result<PathBuf, MoveError> {
    if agreement::current_epoch(&*meta).await?.is_none() {
        return Err(MoveError::NoLog(engine.name().to_owned()));
    }
    let copy =
        EmbeddedOptions { retention: RetentionOptions::unbounded(), dedup, ..EmbeddedOptions::default() };
    let options = RemoteOptions { dir: dir.to_owned(), copy, patience, start_patience: patience };
    let log = RemoteLog::open(engine, meta, options).await?;
    let dir = log.dir();
    blocking(move || log.close()).await?;
    Ok(dir)
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(act).await.map_err(|_| ReadError::Closed)
}
