//! `newswire publish`: sends a file or a stream of events, in order, once each.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use super::{EXIT_INTERRUPTED, EXIT_PARTLY};
use crate::commands::reach::ReachArgs;
use crate::terminal::{DIM, counted, grouped, interrupted, paint};

mod journal;
mod line;
pub(crate) mod pace;
mod progress;
mod sender;
mod source;

use journal::{Journal, Mark};
use line::prepare;
use pace::{Pace, Schedule};
use progress::{Progress, summary};
use sender::{Numbered, Sender};
use source::Input;

/// Lines read ahead of the network. Overflow: reading waits.
const READ_AHEAD_LINES: usize = 4_096;
const MAX_BATCH_EVENTS: u16 = 5_000;

/// Arguments of `newswire publish`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  newswire publish events.jsonl                            as fast as the server takes them
  newswire publish events.jsonl.gz --pace 10x              ten times as fast as it happened
  newswire publish events.jsonl --pace real --max-wait 5s  in real time, but cut long silences
  some-program | newswire publish                          each line as it comes

Each line is one event: {\"channel\":\"tasks\",\"event_type\":\"task.created\",\"payload\":{…}}

Events of a file that have no event_id are given one that depends on the file's content and the line, so that publishing \
the same file again doubles nothing

Exit codes: 0 all published or there already, 1 failed, 2 wrong arguments, 5 some lines rejected (the others are \
published), 130 interrupted.")]
pub struct Args {
    /// JSON Lines, plain or gzip; - is standard input
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: String,
    /// max; real: as the timestamps say; 10x: ten times as fast as they say
    #[arg(long, default_value = "max", value_name = "max|real|10x")]
    pace: Pace,
    /// Wait no longer than this between two events, whatever their timestamps say
    #[arg(long, value_name = "SPAN", value_parser = span)]
    max_wait: Option<Duration>,
    /// Begin with this line [default: behind what an earlier run published of this very file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// At most this many events a request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_BATCH_EVENTS)))]
    batch: u16,
    /// Publish the whole file anew: new ids for events that have none of their own
    #[arg(long)]
    again: bool,
    /// The server
    #[arg(long, env = "NEWSWIRE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    reach: ReachArgs,
}

fn span(text: &str) -> Result<Duration, String> {
    newswire_protocol::time::parse_duration(text).ok_or_else(|| "a span like 500ms, 5s or 10m".to_owned())
}

/// Publishes to the end of the input.
///
/// # Errors
/// When the input cannot be read, or the server refuses it as a whole.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.reach.client(&args.url)?;
    let input = Input::named(&args.file);
    let ids = Ids::of(&input, args.again).await.with_context(|| input.cannot_read())?;
    if input == Input::Stdin && std::io::stdin().is_terminal() {
        anstream::eprintln!("{}", paint(DIM, "Reading events from this terminal, one a line. Ctrl-D ends."));
    }
    let progress = Progress::new(ids.lines());
    let journal = ids.file_hash().and_then(|hash| Journal::of(hash, client.base_url().as_str()));
    let mut job = Job {
        args: &args,
        input,
        ids,
        sender: Sender::new(client, progress, journal, usize::from(args.batch)),
    };
    let ended = tokio::select! {
        ended = job.publish() => Some(ended),
        () = interrupted() => None,
    };
    job.conclude(ended)
}

/// One publishing.
struct Job<'a> {
    args: &'a Args,
    input: Input,
    ids: Ids,
    sender: Sender,
}

impl Job<'_> {
    async fn publish(&mut self) -> anyhow::Result<()> {
        let first = match self.args.from_line {
            Some(line) => line,
            None => self.published_before().await?.map_or(1, |mark| mark.line + 1),
        };
        let schedule = Schedule::new(self.args.pace, self.args.max_wait);
        let lines = read(self.input.clone(), self.ids.clone(), first);
        self.sender.send_all(lines, first, schedule).await
    }

    /// The last line that an earlier run published, if this server's log still has it.
    async fn published_before(&mut self) -> anyhow::Result<Option<Mark>> {
        if self.args.again {
            return Ok(None);
        }
        let Some(mark) = self.sender.checked_mark().await? else { return Ok(None) };
        let lines = self.ids.lines().unwrap_or(u64::MAX);
        let note = if mark.line >= lines {
            format!(
                "all {} were published before, the last at offset {}; --again publishes them anew",
                counted(lines, "line"),
                grouped(mark.offset)
            )
        } else {
            format!(
                "{} were published before; going on with line {}",
                counted(mark.line, "line"),
                grouped(mark.line + 1)
            )
        };
        self.sender.progress.aside(&note);
        Ok(Some(mark))
    }

    /// The last words, and the exit code.
    fn conclude(self, ended: Option<anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
        let (tally, next_line) = (self.sender.tally, self.sender.next_line);
        let done = summary(&tally, self.sender.progress.finish());
        let code = match ended {
            Some(Ok(())) => {
                // A file that was published before has had its word.
                if tally.events() > 0 || next_line == 1 {
                    anstream::println!("{done}");
                }
                if self.args.again && tally.duplicates > 0 {
                    anstream::eprintln!(
                        "{}",
                        paint(DIM, "Events with an event_id of their own keep it, also with --again.")
                    );
                }
                return Ok(if tally.rejected > 0 { ExitCode::from(EXIT_PARTLY) } else { ExitCode::SUCCESS });
            }
            Some(Err(error)) => Err(error),
            None => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        };
        if next_line > 1 || code.is_ok() {
            let interrupted = if code.is_ok() { "Interrupted. " } else { "" };
            anstream::eprintln!("{interrupted}{done}");
            anstream::eprintln!("{}", paint(DIM, &how_to_go_on(&self.input, next_line, self.ids.lines())));
        }
        code
    }
}

fn how_to_go_on(input: &Input, next_line: u64, lines: Option<u64>) -> String {
    match (input, lines) {
        (Input::File(path), Some(_)) => format!(
            "The same command goes on with line {}; anywhere else: newswire publish {} --from-line {next_line}",
            grouped(next_line),
            quoted(&path.display().to_string())
        ),
        _ => format!(
            "Lines from {} on were not published, and this input cannot be read again.",
            grouped(next_line)
        ),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Gives ids to events that have none.
#[derive(Clone, Debug)]
enum Ids {
    /// The same file gives the same ids, line by line.
    OfFile { prefix: String, hash: String, lines: u64 },
    /// What cannot be read twice cannot be recognised: ids for this run, so that at least its own retries double nothing.
    OfRun { prefix: String },
}

impl Ids {
    async fn of(input: &Input, again: bool) -> std::io::Result<Self> {
        let run = format!("{:016x}", fastrand::u64(..));
        let Some(path) = input.rereadable().map(ToOwned::to_owned) else {
            return Ok(Self::OfRun { prefix: format!("run-{run}") });
        };
        let identity = tokio::task::spawn_blocking(move || source::identify(&path)).await??;
        let prefix =
            if again { format!("file-{}-{run}", identity.hash) } else { format!("file-{}", identity.hash) };
        Ok(Self::OfFile { prefix, hash: identity.hash, lines: identity.lines })
    }

    fn file_hash(&self) -> Option<&str> {
        match self {
            Self::OfFile { hash, .. } => Some(hash),
            Self::OfRun { .. } => None,
        }
    }

    const fn lines(&self) -> Option<u64> {
        match self {
            Self::OfFile { lines, .. } => Some(*lines),
            Self::OfRun { .. } => None,
        }
    }

    fn id(&self, line: u64) -> String {
        let (Self::OfFile { prefix, .. } | Self::OfRun { prefix }) = self;
        format!("{prefix}-{line}")
    }
}

/// Reads and checks lines on a thread of their own, ahead of the network by a bounded number.
fn read(input: Input, ids: Ids, from_line: u64) -> mpsc::Receiver<anyhow::Result<Numbered>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD_LINES);
    tokio::task::spawn_blocking(move || {
        let lines = match input.open() {
            Ok(lines) => lines,
            // The receiver is only gone when nobody publishes any more.
            Err(error) => {
                return drop(
                    sender.blocking_send(Err(anyhow::Error::new(error).context(input.cannot_read()))),
                );
            }
        };
        for (number, line) in (1..).zip(lines) {
            let prepared = match line {
                _ if number < from_line => continue,
                Ok(line) => Ok(Numbered { number, prepared: prepare(line, || ids.id(number)) }),
                Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read line {number}"))),
            };
            let failed = prepared.is_err();
            if sender.blocking_send(prepared).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::line::Prepared;
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn the_same_file_gives_the_same_ids_unless_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        std::fs::write(&path, "{}\n{}\n").unwrap();
        let input = Input::File(path);
        let once = Ids::of(&input, false).await.unwrap();
        let twice = Ids::of(&input, false).await.unwrap();
        assert_eq!((once.id(1), once.id(2)), (twice.id(1), twice.id(2)));
        assert_eq!(once.lines(), Some(2));
        let again = Ids::of(&input, true).await.unwrap();
        let stream = Ids::of(&Input::Stdin, false).await.unwrap();
        let all =
            BTreeSet::from([once.id(1), once.id(2), again.id(1), again.id(2), stream.id(1), stream.id(2)]);
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|id| newswire_protocol::names::is_event_id(id)));
    }

    #[tokio::test]
    async fn lines_keep_their_numbers_over_blank_bad_and_skipped_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let event = r#"{"channel":"tasks","event_type":"t"}"#;
        std::fs::write(&path, format!("{event}\n\nnonsense\n{event}")).unwrap();
        let input = Input::File(path);
        let ids = Ids::of(&input, false).await.unwrap();
        let mut reading = read(input, ids.clone(), 2);
        let mut seen = Vec::new();
        while let Some(line) = reading.recv().await {
            let Numbered { number, prepared } = line.unwrap();
            match prepared {
                Prepared::Blank => seen.push(format!("{number} blank")),
                Prepared::Rejected(_) => seen.push(format!("{number} rejected")),
                Prepared::Event { text, .. } => {
                    assert!(text.contains(&format!("\"event_id\":\"{}\"", ids.id(number))));
                    seen.push(format!("{number} event"));
                }
            }
        }
        assert_eq!(seen, ["2 blank", "3 rejected", "4 event"]);
    }

    #[test]
    fn words_for_the_shell() {
        assert_eq!(quoted("events-1.jsonl.gz"), "events-1.jsonl.gz");
        assert_eq!(quoted("my events"), "'my events'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
