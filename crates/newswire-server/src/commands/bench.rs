//! `newswire bench`: measures this Newswire on this machine.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use newswire_load::compare::{Contestant, interleave};
use newswire_load::machine;
use newswire_load::newswire::{Newswire, Remote, addr_of};
use newswire_load::peer::Peer;
use newswire_load::report::{Report, System};
use newswire_load::scenario::{self, Scenario, Settings, Site};

/// Arguments of `newswire bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Scenarios:
  paced      one publish at a time, each awaited by every subscriber
  flood      as fast as the slowest subscriber receives
  latency    a fixed rate; each delivery timed from when its publish was due
  filtered   10,000 subscriptions on distinct agents, ten of which match
  durable    64 publishers that each wait until their event is synced
  connect    upgrades and subscriptions a second
  memory     what an idle subscribed connection costs
  reconnect  10,000 clients come back at once, each 1,000 events behind
  stall      one reader stalls during a flood
  replay     one subscriber catches up with the whole log

Every sample starts a private server from this binary, with its defaults, on a free port of 127.0.0.1 and over a temporary
directory; it runs on one core and the load generator on another. With --url a server that runs is measured instead: it
gets all those events, on the channel tasks, and its processor time and memory stay unknown.

\"generator\" is how much of its core the load generator used; above 90 % it is marked, because then the server may do more
than was measured.

Examples:
  newswire bench                                   the usual scenarios, about a minute
  newswire bench flood --subscribers 2000          one scenario, larger
  newswire bench latency --rate 1000 --json        figures for a program
  newswire bench paced --url ws://127.0.0.1:8080   a server that runs

Exit codes: 0 measured, 1 failed, 2 wrong arguments.")]
pub struct Args {
    /// What to measure [default: paced, flood, latency, durable, connect, memory, replay]
    #[arg(value_name = "SCENARIO", value_parser = known)]
    scenarios: Vec<&'static str>,
    /// Measure a server that runs, for example ws://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Samples of each scenario; the median counts, and the range is shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Longer measurements, and up to 15,000 idle connections
    #[arg(long)]
    full: bool,
    /// Let the server use all cores, instead of one of its own
    #[arg(long)]
    all_cores: bool,
    /// Subscribers of paced, flood and latency
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    subscribers: u32,
    /// Bytes of an event as it is published
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    event_bytes: u32,
    /// Events a second of latency
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Milliseconds of each measurement that is bounded by time
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=60_000))]
    time_ms: Option<u64>,
    /// Print JSON, with the value of every round
    #[arg(long)]
    json: bool,
}

const USUAL: &[&str] = &["paced", "flood", "latency", "durable", "connect", "memory", "replay"];

fn known(text: &str) -> Result<&'static str, String> {
    let names = || scenario::ALL.iter().map(|scenario| scenario.name);
    let list = names().collect::<Vec<_>>().join(", ");
    names().find(|name| *name == text).ok_or_else(|| format!("one of {list}"))
}

/// Measures, and prints the figures.
///
/// # Errors
/// When the server does not start or cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // The generator is one thread with a poll loop of its own; it must not share a worker with anything.
    tokio::task::spawn_blocking(move || measure(&args)).await.context("measuring")?
}

fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    machine::pin(&Site::here().generator)?;
    let peer: Box<dyn Peer> = match &args.url {
        Some(url) => Box::new(Remote::new(addr_of(url)?)),
        None => Box::new(Newswire::new(std::env::current_exe()?)),
    };
    let settings = settings(args);
    let mut report = Report::begin(std::env::args().collect::<Vec<_>>().join(" "));
    let (name, configuration) = (peer.name(), peer.configuration());
    report.systems.push(System { name, version: peer.version(), configuration });
    for scenario in chosen(args) {
        let contestant =
            Contestant { system: peer.name(), take: Box::new(|| (scenario.run)(&*peer, &settings)) };
        let begins = |round: usize, _: &str| {
            progress(&format!("{} {}/{} …", scenario.name, round + 1, args.rounds));
        };
        let series = interleave(scenario.name, &[contestant], args.rounds as usize, begins, |_| {});
        report.series.extend(series);
        progress("");
        if !args.json {
            // At once, because whatever comes next may fail.
            anstream::print!("{}", report.scenario_table(scenario.name));
        }
    }
    if args.json {
        anstream::println!("{:#}", report.json());
    } else {
        anstream::println!("{}, load average {} before", report.machine, report.load_before);
    }
    let failed = report.series.iter().any(|series| series.failure.is_some() || series.faults() > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn settings(args: &Args) -> Settings {
    let usual = if args.full { Settings::full() } else { Settings::quick() };
    Settings {
        subscribers: args.subscribers as usize,
        event_bytes: args.event_bytes as usize,
        rate: args.rate,
        time: args.time_ms.map_or(usual.time, Duration::from_millis),
        server_cores: if args.all_cores { Vec::new() } else { usual.server_cores },
        ..usual
    }
}

fn chosen(args: &Args) -> Vec<&'static Scenario> {
    let wanted: &[&str] = if args.scenarios.is_empty() { USUAL } else { &args.scenarios };
    let possible = scenario::ALL.iter().filter(|scenario| wanted.contains(&scenario.name));
    // Memory of a process that is not ours is not known.
    possible.filter(|scenario| args.url.is_none() || scenario.name != "memory").collect()
}

/// What is measured at the moment, on a terminal only.
fn progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[2K{text}");
        let _ = terminal.flush();
    }
}
