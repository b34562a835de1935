//! `newswire demo`: a sample company whose work goes through the feed.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use newswire_client::{Backoff, Client, HistoryQuery, Interest, Outcome};
use newswire_protocol::UnixMicros;
use tokio::time::Instant;

use crate::terminal::{DIM, Outage, YELLOW, columns, counted, grouped, interrupted, paint, spoken};

use super::publish::pace::Pace;
use super::reach::{backoff, until_reached};
use super::tail::render::Look;
use super::tail::{End, View, for_people};
use crate::commands::reach::ReachArgs;

mod company;
mod event;
mod office;
mod script;
mod work;

use company::{Beat, Company};

/// 2026-01-05T09:00:00Z, a Monday: when the printed story begins.
const FIRST_DAY: UnixMicros = UnixMicros(1_767_603_600_000_000);

/// So far back in a log full of other events the company looks for its own story; beyond, it begins anew.
const HISTORY_PAGES: u32 = 200;

const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Arguments of `newswire demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  newswire demo --watch                            play and show the feed in this terminal
  newswire demo --rate 50 --events 1000            a thousand events, fast
  newswire demo --print --events 500 > events.jsonl

The story (people, tasks, spending, messages, an error now and then) depends on the seed alone. Played again on the same \
server, it goes on where it stopped; another seed is another company.

Exit codes: 0 done or stopped by Ctrl-C, 1 the server refused, 2 wrong arguments.")]
pub struct Args {
    /// Which company
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Events a second, on average
    #[arg(long, default_value_t = 4.0, value_parser = rate)]
    rate: f64,
    /// real: with the pauses of the story; 10x: ten times as fast; max: without pauses
    #[arg(long, default_value = "real", value_name = "max|real|10x")]
    pace: Pace,
    /// Stop after this many events [default: play forever]
    #[arg(long, value_name = "N|forever", value_parser = events, default_value = "forever", hide_default_value = true)]
    events: Events,
    /// Write the events to standard output as JSON Lines, dated from a fixed day, instead of publishing them
    #[arg(long, conflicts_with = "watch")]
    print: bool,
    /// Show the live feed while it plays
    #[arg(long)]
    watch: bool,
    /// The server
    #[arg(long, env = "NEWSWIRE_URL", default_value = DEFAULT_URL)]
    url: String,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Events(u64);

fn events(text: &str) -> Result<Events, String> {
    match text {
        "forever" => Ok(Events(u64::MAX)),
        _ => text.parse().map(Events).map_err(|_| "neither a number nor `forever`".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=100_000.0).contains(rate))
        .ok_or_else(|| "a number of events a second, above 0".to_owned())
}

/// Plays the company until it is interrupted or the wanted events are told.
///
/// # Errors
/// When the server refuses an event, or standard output fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.print {
        print(&args).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = args.reach.client(&args.url)?;
    let mut stage = Stage { client: client.clone(), args, told: 0, last_offset: None };
    stage.introduce();
    let watching =
        stage.args.watch.then(|| client.subscribe_with([Interest::in_channels(["*"])], for_people()));
    let mut view = View::new(&stage.args.url, false, Look { columns: columns(), ..Look::default() });
    let watch = async {
        match watching {
            Some(feed) => view.follow(feed).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        played = stage.play() => played?,
        end = watch => {
            if end? == End::Closed { return Ok(ExitCode::SUCCESS) }
        }
        () = interrupted() => {}
    }
    stage.sum_up();
    Ok(ExitCode::SUCCESS)
}

/// The story with the dates it would have had.
fn print(args: &Args) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut at = FIRST_DAY;
    for beat in Company::new(args.seed).take(usize::try_from(args.events.0).unwrap_or(usize::MAX)) {
        at = at.saturating_add(args.pause(&beat));
        writeln!(out, "{}", beat.event.to_json(Some(&rfc3339(at))))?;
    }
    out.flush()
}

fn rfc3339(at: UnixMicros) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}

impl Args {
    fn pause(&self, beat: &Beat) -> Duration {
        match self.pace {
            Pace::Max => Duration::ZERO,
            Pace::Times(times) => Duration::from_secs_f64(beat.pause / self.rate / times),
        }
    }
}

/// The company, playing to a server.
struct Stage {
    client: Client,
    args: Args,
    told: u64,
    last_offset: Option<u64>,
}

impl Stage {
    fn introduce(&self) {
        let Args { url, seed, .. } = &self.args;
        let speed = match self.args.pace {
            Pace::Max => "as fast as it takes them".to_owned(),
            Pace::Times(times) => format!("about {} events a second", self.args.rate * times),
        };
        anstream::eprintln!("{} plays to {url}, {speed}.", script::COMPANY);
        let at = if url == DEFAULT_URL { String::new() } else { format!(" --url {url}") };
        let more = format!(
            r#"  watch    newswire tail tasks --filter agent=programmer{at}
  publish  echo '{{"channel":"tasks","event_type":"task.created","payload":{{"title":"Hi"}}}}' | newswire publish{at}
  stop     Ctrl-C; played again (seed {seed}), the story goes on
"#
        );
        anstream::eprintln!("{}", paint(DIM, &more));
    }

    /// Tells one event after the other; each is durable before the next is told.
    async fn play(&mut self) -> anyhow::Result<()> {
        let mut outage = Outage::default();
        let mut company = Company::new(self.args.seed);
        let told_before = self.told_before(&mut outage).await;
        if told_before > 0 {
            let note = format!("The story goes on after its first {}.", counted(told_before, "event"));
            anstream::eprintln!("{}", paint(DIM, &note));
            company.by_ref().take_while(|beat| beat.event.number < told_before).for_each(drop);
        }
        let mut backoff = backoff();
        let mut due = Instant::now();
        for beat in company {
            if self.told >= self.args.events.0 {
                break;
            }
            // Late events (the server was away) are not hurried through.
            due = (due + self.args.pause(&beat)).max(Instant::now() - Duration::from_secs(1));
            tokio::time::sleep_until(due).await;
            self.tell(&beat, &mut backoff, &mut outage).await?;
        }
        Ok(())
    }

    /// How much of this story the server has already: the number of its newest event.
    async fn told_before(&self, outage: &mut Outage) -> u64 {
        let newest =
            HistoryQuery::new().with("source", &Company::source(self.args.seed)).newest_first().limit(1);
        let mut query = newest.clone();
        for _page in 0..HISTORY_PAGES {
            let asked = until_reached(
                async || self.client.history(&query).await,
                |reason| self.trouble(outage, reason),
            );
            let page = match asked.await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%error, "no history to go on from");
                    return 0;
                }
            };
            let number_of = |id: &str| Company::number_of(self.args.seed, id);
            if let Some(number) = page.events.first().and_then(|newest| number_of(&newest.event.event_id)) {
                return number;
            }
            // A rare filter may give an empty page with more behind it.
            let Some(next) = page.next else { return 0 };
            query = newest.clone().before(next);
        }
        0
    }

    async fn tell(&mut self, beat: &Beat, backoff: &mut Backoff, outage: &mut Outage) -> anyhow::Result<()> {
        let text = beat.event.to_json(None);
        loop {
            let waiting = |reason: &str, _wait| self.trouble(outage, reason);
            let outcomes = self
                .client
                .publish_until_answered(&[&text], backoff, waiting)
                .await
                .with_context(|| format!("cannot play to {}", self.args.url))?;
            match outcomes.into_iter().next() {
                Some(Outcome::Stored { offset, .. } | Outcome::Duplicate { offset, .. }) => {
                    if let Some(away) = outage.over() {
                        anstream::eprintln!(
                            "{}",
                            paint(YELLOW, &format!("— the server is back after {}", spoken(away)))
                        );
                    }
                    self.told += 1;
                    self.last_offset = Some(offset);
                    return Ok(());
                }
                Some(outcome @ Outcome::Refused { .. }) if outcome.is_temporary() => {
                    self.trouble(outage, "the server cannot store events now");
                    tokio::time::sleep(backoff.next(&mut fastrand::Rng::new())).await;
                }
                Some(Outcome::Refused { error, detail, .. }) => {
                    let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
                    anyhow::bail!(
                        "the server refused a {} for channel {}: {error}{detail}",
                        beat.event.event_type,
                        beat.event.channel
                    );
                }
                None => anyhow::bail!("the server gave no result"),
            }
        }
    }

    /// Watching tells of a lost connection by itself; one voice is enough.
    fn trouble(&self, outage: &mut Outage, reason: &str) {
        let told = outage.failed(reason);
        if let Some(told) = told.filter(|_| !self.args.watch) {
            anstream::eprintln!("{}", paint(YELLOW, &format!("— {}: {told}", self.args.url)));
        }
    }

    fn sum_up(&self) {
        let told = counted(self.told, "event");
        let last = self
            .last_offset
            .map_or(String::new(), |offset| format!(", the last at offset {}", grouped(offset)));
        anstream::eprintln!("{}", paint(DIM, &format!("\n{told} published{last}.")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_printed_day_is_a_monday_morning() {
        assert_eq!(rfc3339(FIRST_DAY), "2026-01-05T09:00:00.000000Z");
    }

    #[test]
    fn how_many_and_how_fast() {
        assert_eq!(events("forever"), Ok(Events(u64::MAX)));
        assert_eq!(events("500"), Ok(Events(500)));
        assert!(events("-1").is_err() && events("many").is_err());
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("x").is_err());
    }
}
