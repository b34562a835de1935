//! `newswire export`: events as JSON Lines, SQLite or Parquet, from a server or from a data directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use newswire_protocol::SinceSpec;
use newswire_protocol::event::Event;
use tokio::sync::mpsc;

use super::tail::{key_value, since_spec};
use crate::commands::reach::ReachArgs;
use crate::terminal::counted;

mod file;
mod lines;
#[cfg(feature = "export-parquet")]
mod parquet;
mod source;
#[cfg(feature = "export-sqlite")]
mod sqlite;

use file::Unfinished;

/// Pages of events between the reading and the writing side. Overflow: reading waits.
const PAGES_AHEAD: usize = 4;

/// Arguments of `newswire export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The format follows the name of FILE: .jsonl or .ndjson (one event's JSON a line, byte for byte), the same with .gz behind,
.sqlite or .db (a table `events`), .parquet. A file appears only when it is whole, and none is overwritten.

Examples:
  newswire export > events.jsonl                              all that the server has
  newswire export --since 7d tasks budget -o week.sqlite      two channels, for SQL:
    sqlite3 week.sqlite \"select payload ->> '$.agent', count(*) from events group by 1\"
  newswire export --data-dir /var/lib/newswire -o all.parquet without the server, or beside it
  newswire export --filter event_type='task.*' --after 1200 -o tasks.jsonl.gz

Exit codes: 0 all events are written, 1 failed, 2 wrong arguments, 6 retention removed events before they were read.")]
pub struct Args {
    /// Channels; a name ending in * stands for all channels so named [default: *]
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Where to write [default: JSON Lines on standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format, where the name of FILE does not say it
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Only events with this value, as in `newswire tail`
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<(String, String)>,
    /// Begin after this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0, hide_default_value = true)]
    after: u64,
    /// Begin with what was stored since then: a span like 10m, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = since_spec, conflicts_with = "after")]
    since: Option<(String, SinceSpec)>,
    /// Stop after this many events
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// Read this data directory instead of asking a server; it may be in use
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The server
    #[arg(long, env = "NEWSWIRE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    reach: ReachArgs,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One event's JSON a line
    Jsonl,
    /// A database with a table `events`
    Sqlite,
    /// Columns for analytics
    Parquet,
}

/// One event, and its JSON byte for byte.
pub(crate) struct Row {
    event: Event,
    text: String,
}

/// Where rows go.
trait Sink: Send {
    fn write(&mut self, rows: &[Row]) -> anyhow::Result<()>;
    /// Makes what was written whole. Without it what there is counts for nothing.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// Writes every wanted event.
///
/// # Errors
/// When the source cannot be read or the file not be written; no file is left then.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = match &args.output {
        Some(path) => Some(Unfinished::create(path)?),
        None => None,
    };
    let sink = sink(args.format, args.output.as_deref(), output.as_ref())?;
    let (pages, read) = mpsc::channel(PAGES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || write_all(read, sink));
    let result = source::read(&args, pages).await;
    // The writing side first: what it failed of is the reason why reading broke off.
    let written = writing.await.context("writing")?;
    let (events, sink) = written.with_context(|| format!("cannot write {}", args.shown_output()))?;
    result?;
    tokio::task::spawn_blocking(move || sink.finish()).await.context("writing")??;
    if let Some(output) = output {
        output.keep()?;
        anstream::eprintln!("{} written to {}", counted(events, "event"), args.shown_output());
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn shown_output(&self) -> String {
        self.output.as_deref().map_or("standard output".to_owned(), |path| path.display().to_string())
    }
}

fn write_all(
    mut pages: mpsc::Receiver<Vec<Row>>,
    mut sink: Box<dyn Sink>,
) -> anyhow::Result<(u64, Box<dyn Sink>)> {
    let mut events = 0;
    while let Some(rows) = pages.blocking_recv() {
        sink.write(&rows)?;
        events += rows.len() as u64;
    }
    Ok((events, sink))
}

fn sink(
    format: Option<Format>,
    path: Option<&Path>,
    output: Option<&Unfinished>,
) -> anyhow::Result<Box<dyn Sink>> {
    let name = path.map(|path| path.display().to_string().to_lowercase()).unwrap_or_default();
    let (stem, zipped) = name.strip_suffix(".gz").map_or((name.as_str(), false), |stem| (stem, true));
    let by_name = match stem.rsplit_once('.').map(|(_, end)| end) {
        Some("sqlite" | "sqlite3" | "db") => Format::Sqlite,
        Some("parquet") => Format::Parquet,
        _ => Format::Jsonl,
    };
    match (format.unwrap_or(by_name), output) {
        (Format::Jsonl, None) => Ok(Box::new(lines::Lines::new(std::io::stdout(), zipped))),
        (Format::Jsonl, Some(output)) => Ok(Box::new(lines::Lines::new(output.open()?, zipped))),
        #[cfg(feature = "export-sqlite")]
        (Format::Sqlite, Some(output)) => Ok(Box::new(sqlite::Database::create(output.path())?)),
        #[cfg(feature = "export-parquet")]
        (Format::Parquet, Some(output)) => Ok(Box::new(parquet::Columns::new(output.open()?)?)),
        (_, None) => anyhow::bail!("this format needs a file: name it with --output"),
        #[cfg(not(all(feature = "export-sqlite", feature = "export-parquet")))]
        (format, Some(_)) => anyhow::bail!("this newswire was built without {format:?} export"),
    }
}
