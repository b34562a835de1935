//! `newswire tail`: shows the feed, live and from any point of the past.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures_util::{FutureExt, StreamExt};
use newswire_client::{Gap, GapCause, Interest, Item, Patience, Received, Start, Subscription};
use newswire_protocol::{Epoch, SinceSpec};

use crate::commands::reach::ReachArgs;
use crate::terminal::{DIM, Outage, YELLOW, columns, counted, grouped, interrupted, paint, spoken};

mod projects;
pub(crate) mod render;
mod summary;

use jiff::Timestamp;
use render::{Look, Renderer};

/// Arguments of `newswire tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  newswire tail                                   everything, from now on
  newswire tail tasks --filter agent=programmer   one agent's tasks
  newswire tail --history 20                      the last 20 events of each channel first
  newswire tail --since 10m --json | jq .payload  the last ten minutes, as JSON Lines
  newswire tail --follow-projects --relative      all projects beside each other, with the age of each event

A lost connection is resumed by itself: every event is shown once, in order. What cannot be shown is told on standard \
error; standard output has events only. Times are UTC. Each channel has its colour; NO_COLOR is honoured, and --color goes before it.

Exit codes: 0 stopped by Ctrl-C or a closed pipe, 1 the server refused, 2 wrong arguments.")]
pub struct Args {
    /// Channels to show; a name ending in * stands for all channels so named [default: *]
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Show only events with this value: event_type (also a prefix: task.*), agent, project, source, correlation_id,
    /// or any key of the payload. Other keys narrow further; the same key again adds a value
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<(String, String)>,
    /// Begin after this offset; 0 is the oldest event kept
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["since", "history"])]
    after: Option<u64>,
    /// The log's epoch in which that offset was seen
    #[arg(long, value_name = "UUID", requires = "after")]
    epoch: Option<Epoch>,
    /// Begin with what was stored since then: a span like 10m, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = since, conflicts_with = "history")]
    since: Option<Start>,
    /// Begin with the last N events of each channel
    #[arg(short = 'n', long, value_name = "N")]
    history: Option<u64>,
    /// Print each event's JSON exactly as the server sent it, one a line
    #[arg(long, conflicts_with_all = ["relative", "follow_projects"])]
    json: bool,
    /// Show times as a distance from now (12 s ago), as it was when the line was written
    #[arg(short, long)]
    relative: bool,
    /// Show to which project each event belongs (its payload's project, else project_id) in a column and a colour of the
    /// project's own, and announce each project on standard error when its first event is shown
    #[arg(long)]
    follow_projects: bool,
    /// When to use colours; auto: on a terminal, unless the environment says otherwise (NO_COLOR, CLICOLOR_FORCE)
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The server
    #[arg(long, env = "NEWSWIRE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    reach: ReachArgs,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// For all that this process writes.
    fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it like agent=programmer".to_owned()),
    }
}

fn since(text: &str) -> Result<Start, String> {
    since_spec(text).map(|(text, since)| match since {
        SinceSpec::Ago(ago) => Start::SinceAgo(ago),
        SinceSpec::At(_) => Start::SinceTime(text),
    })
}

/// A `since` as it is written, and what it means.
pub(crate) fn since_spec(text: &str) -> Result<(String, SinceSpec), String> {
    let none = "neither a span like 90s, 10m or 7d, nor a time like 2026-11-22T15:00:00Z";
    SinceSpec::parse(text).map(|since| (text.to_owned(), since)).ok_or_else(|| none.to_owned())
}

/// Shows events until it is interrupted or nobody reads any more.
///
/// # Errors
/// When the server refuses the subscription, or standard output fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.reach.client(&args.url)?;
    let feed = client.subscribe_with([args.interest()], for_people());
    args.color.apply();
    let look = Look { columns: columns(), relative: args.relative, projects: args.follow_projects };
    let mut view = View::new(&args.url, args.json, look);
    view.limit = args.limit;
    let end = tokio::select! {
        end = view.follow(feed) => end?,
        () = interrupted() => End::Interrupted,
    };
    if end == End::Interrupted && !args.json {
        view.say_how_to_go_on();
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn interest(&self) -> Interest {
        let channels = if self.channels.is_empty() { vec!["*".to_owned()] } else { self.channels.clone() };
        let start = match (self.after, &self.since, self.history) {
            (Some(offset), _, _) => Start::After { offset, epoch: self.epoch },
            (None, Some(since), _) => since.clone(),
            (None, None, Some(events)) => Start::History(events),
            (None, None, None) => Start::Live,
        };
        let interest = Interest::in_channels(channels).start(start);
        self.filters.iter().fold(interest, |interest, (key, value)| interest.filter_like(key, value))
    }
}

/// Somebody waits at the terminal: attempts to reconnect keep close together.
pub(crate) fn for_people() -> Patience {
    Patience { backoff: (Duration::from_millis(300), Duration::from_secs(5)), ..Patience::default() }
}

/// Why the showing ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Interrupted,
    /// Nobody reads standard output any more.
    Closed,
    LimitReached,
}

/// The showing of one subscription on this process's standard output and standard error.
#[derive(Debug)]
pub(crate) struct View {
    url: String,
    json: bool,
    pub(crate) limit: Option<u64>,
    renderer: Renderer,
    out: anstream::AutoStream<io::Stdout>,
    outage: Outage,
    connected: bool,
    shown: u64,
    last_offset: Option<u64>,
}

impl View {
    pub(crate) fn new(url: &str, json: bool, look: Look) -> Self {
        Self {
            url: url.to_owned(),
            json,
            limit: None,
            renderer: Renderer::new(look),
            out: anstream::AutoStream::auto(io::stdout()),
            outage: Outage::default(),
            connected: false,
            shown: 0,
            last_offset: None,
        }
    }

    /// Shows a feed to its end. Output is flushed whenever nothing more waits.
    pub(crate) async fn follow(&mut self, mut feed: Subscription) -> anyhow::Result<End> {
        loop {
            let mut ready = feed.next().await;
            let mut page = Vec::new();
            let mut full = false;
            while let Some(item) = ready {
                match item {
                    Ok(Item::Event(received)) => {
                        if let Some(words) = self.renderer.new_project(&received.event) {
                            if self.print(&mut page)? == Printed::NobodyReads {
                                return Ok(End::Closed);
                            }
                            aside(&words);
                        }
                        full = self.event(&received, &mut page);
                    }
                    // Standard error stays in step with standard output.
                    Ok(item) => {
                        if self.print(&mut page)? == Printed::NobodyReads {
                            return Ok(End::Closed);
                        }
                        self.notice(item)?;
                    }
                    Err(error) => {
                        self.print(&mut page)?;
                        return Err(error).with_context(|| format!("cannot follow {}", self.url));
                    }
                }
                if full || page.len() > 64 * 1024 {
                    break;
                }
                // None also means that the feed is over: its error came before and ended this.
                ready = feed.next().now_or_never().flatten();
            }
            if self.print(&mut page)? == Printed::NobodyReads {
                return Ok(End::Closed);
            }
            if full {
                return Ok(End::LimitReached);
            }
        }
    }

    /// Adds an event to the page; whether it was the last one wanted.
    fn event(&mut self, received: &Received, page: &mut Vec<u8>) -> bool {
        if self.json {
            page.extend_from_slice(received.text.as_bytes());
        } else {
            if let Some(day) = self.renderer.new_day(&received.event) {
                page.extend_from_slice(day.as_bytes());
                page.push(b'\n');
            }
            page.extend_from_slice(self.renderer.line(&received.event, Timestamp::now()).as_bytes());
        }
        page.push(b'\n');
        self.shown += 1;
        self.last_offset = Some(received.event.offset);
        self.limit.is_some_and(|limit| self.shown >= limit)
    }

    fn print(&mut self, page: &mut Vec<u8>) -> anyhow::Result<Printed> {
        let printed = self.out.write_all(page).and_then(|()| self.out.flush());
        page.clear();
        match printed {
            Ok(()) => Ok(Printed::Yes),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
            Err(error) => Err(error).context("cannot write to standard output"),
        }
    }

    /// Everything but events, in words, on standard error.
    fn notice(&mut self, item: Item) -> anyhow::Result<()> {
        match item {
            Item::Event(_) | Item::CaughtUp { .. } | Item::Checkpoint { .. } | Item::Connected { .. } => {}
            Item::Subscribed { channels, rejected, .. } => {
                for (channel, reason) in &rejected {
                    let reason =
                        if reason == "forbidden" { "not permitted" } else { "there is no such channel" };
                    aside(&format!("{channel}: {reason}"));
                }
                anyhow::ensure!(!channels.is_empty(), "nothing to show: no channel of these can be read");
                self.subscribed(&channels);
            }
            Item::Gap(gap) => aside(&gap_in_words(&gap)),
            Item::Disconnected { reason, .. } => {
                if let Some(told) = self.outage.failed(&reason) {
                    let lost = if self.connected { "connection lost" } else { "not connected" };
                    aside(&format!("{lost}: {told}"));
                }
                self.connected = false;
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, channels: &[String]) {
        self.connected = true;
        if let Some(away) = self.outage.over() {
            let from = self
                .last_offset
                .map_or(String::new(), |offset| format!(", going on after offset {}", grouped(offset)));
            aside(&format!("connected after {}{from}", spoken(away)));
        } else if io::stderr().is_terminal() && !self.json {
            let channels = if channels.len() == 1 && channels[0] == "*" {
                "all channels".to_owned()
            } else {
                channels.join(", ")
            };
            anstream::eprintln!(
                "{}",
                paint(DIM, &format!("Following {channels} on {}. Ctrl-C stops.", self.url))
            );
        }
    }

    fn say_how_to_go_on(&self) {
        let Some(offset) = self.last_offset.filter(|_| io::stderr().is_terminal()) else { return };
        let shown = counted(self.shown, "event");
        anstream::eprintln!("{}", paint(DIM, &format!("\n{shown} shown. Go on from here: --after {offset}")));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Printed {
    Yes,
    NobodyReads,
}

/// A word beside the events.
fn aside(text: &str) {
    anstream::eprintln!("{}", paint(YELLOW, &format!("— {text}")));
}

fn gap_in_words(gap: &Gap) -> String {
    let of = match gap.channels.as_slice() {
        [] => String::new(),
        channels => format!(" of {}", channels.join(", ")),
    };
    let between = format!("{} to {}", grouped(gap.from), grouped(gap.to));
    match &gap.cause {
        GapCause::Backlog => {
            format!("gap: this reader was too slow, and the server dropped events{of} among offsets {between}")
        }
        GapCause::Retention => format!("gap: events{of} among offsets {between} are no longer kept"),
        GapCause::Epoch(_) => {
            "gap: the log began anew; offsets of before mean nothing now, and what it keeps follows from the start".to_owned()
        }
        GapCause::Forbidden => {
            format!("gap: the past of some channels{of} may not be read; events among offsets {between} may be missing")
        }
        GapCause::HistoryCut => {
            format!("gap: the connection broke within the history; older events{of} among offsets {between} may be missing")
        }
        GapCause::Other(reason) => format!("gap ({reason}): events{of} among offsets {between} may be missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_split_at_the_first_equals_sign() {
        assert_eq!(key_value("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(key_value("a=").unwrap(), ("a".into(), String::new()));
        assert!(key_value("ab").is_err() && key_value("=b").is_err());
    }

    #[test]
    fn starts() {
        assert_eq!(since("10m").unwrap(), Start::SinceAgo(Duration::from_secs(600)));
        let time = "2026-11-22T15:00:00Z";
        assert_eq!(since(time).unwrap(), Start::SinceTime(time.into()));
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn gaps_are_words() {
        let gap = |cause| Gap { sub: None, channels: vec!["tasks".into()], from: 5, to: 1_200, cause };
        assert_eq!(
            gap_in_words(&gap(GapCause::Retention)),
            "gap: events of tasks among offsets 5 to 1,200 are no longer kept"
        );
        assert!(gap_in_words(&gap(GapCause::Backlog)).contains("too slow"));
        assert!(gap_in_words(&gap(GapCause::Epoch(None))).contains("began anew"));
    }
}
