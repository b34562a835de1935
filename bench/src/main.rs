//! `newswire-bench`: measures everybody side by side, prints tables, and writes them as Markdown, JSON and SVG.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are this program's output")]

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Parser;
use newswire_bench::contest::{self, Field};
use newswire_bench::report::Report;
use newswire_bench::{
    bare_door, cluster, filtered, goals, handshakes, log, peers, publishing, scaling, security,
};
use newswire_load::compare::{Contestant, interleave};
use newswire_load::machine;
use newswire_load::scenario::{Settings, Site};
use newswire_load::{bare, chart};

/// Measured by this process itself, not by a scenario that others take part in.
const IN_PROCESS: [&str; 5] = ["log", "filtered-core", "scaling", "security", "handshakes"];

/// Several nodes over one log; its scenarios have contestants of their own.
const CLUSTER: &str = "cluster";

/// What the plot shows.
const PLOTTED: &[(&str, &str)] = &[
    ("flood", "deliveries"),
    ("paced", "deliveries a CPU second"),
    ("latency", "p99"),
    ("memory", "user memory a connection"),
    ("durable", "acknowledged"),
    ("connect", "connections"),
    ("reconnect", "all caught up"),
];

/// Measures Newswire and others on this machine.
#[derive(Parser)]
struct Args {
    /// What to measure: paced, flood, latency, filtered, durable, connect, memory, reconnect, stall, replay, log,
    /// cluster, filtered-core, scaling, security, handshakes;
    /// everything if nothing is named
    what: Vec<String>,
    /// Interleaved rounds of each scenario; ratios are taken round by round, and their median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pairs: usize,
    /// As the published figures are taken: longer, with more connections
    #[arg(long)]
    full: bool,
    /// Only systems whose name holds this word, beside Newswire; may be repeated
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Bytes of an event
    #[arg(long, default_value_t = 400)]
    event_bytes: usize,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// Measures nothing; lists all peers and tries those that are installed, or only those named
    #[arg(long, value_name = "NAME", num_args = 0..)]
    peers: Option<Vec<String>>,
    /// Becomes the bare writer, which gathers this many frames a write
    #[arg(long, value_name = "FRAMES", hide = true)]
    bare_writer: Option<usize>,
    /// Becomes the bare door, with segments in this directory
    #[arg(long, value_name = "DIR", hide = true)]
    bare_door: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(frames) = args.bare_writer {
        return bare::run(frames, |subscribers, publishers| {
            println!("{subscribers} {publishers}");
            let _ = std::io::stdout().flush();
        });
    }
    if let Some(dir) = &args.bare_door {
        return bare_door::run(dir, |addr| {
            println!("{addr}");
            let _ = std::io::stdout().flush();
        });
    }
    if let Some(names) = &args.peers {
        return peers::try_out(names);
    }
    let mut report = Report::begin(command());
    let (in_process, mut scenarios): (Vec<String>, Vec<String>) =
        args.what.iter().cloned().partition(|what| IN_PROCESS.contains(&what.as_str()));
    let cluster = scenarios.iter().any(|what| what == CLUSTER);
    scenarios.retain(|what| what != CLUSTER);
    let everything = args.what.is_empty();
    for what in IN_PROCESS.iter().filter(|what| everything || in_process.iter().any(|named| named == **what))
    {
        eprintln!("{what} …");
        measure_in_process(what, &args, &mut report)?;
        write(&report, &args.out)?;
    }
    if everything || !in_process.is_empty() {
        println!("\n{}", report.plain_table());
    }
    if everything || !scenarios.is_empty() {
        measure_systems(&args, &scenarios, &mut report)?;
    }
    if everything || cluster {
        measure_cluster(&args, &mut report)?;
    }
    write(&report, &args.out)?;
    eprintln!("written to {}", args.out.display());
    Ok(())
}

fn measure_systems(args: &Args, names: &[String], report: &mut Report) -> anyhow::Result<()> {
    machine::pin(&Site::here().generator)?;
    let usual = if args.full { Settings::full() } else { Settings::quick() };
    let settings = Settings { event_bytes: args.event_bytes, ..usual };
    let field = Field::new(args.only.clone())?;
    report.systems = field.systems();
    for scenario in contest::chosen(names)? {
        let contestants = field.contestants(scenario, &settings);
        run(args, scenario.name, &contestants, report, |report| report.outcomes = goals::judge(report))?;
    }
    Ok(())
}

fn measure_cluster(args: &Args, report: &mut Report) -> anyhow::Result<()> {
    machine::pin(&Site::here().generator)?;
    let settings = cluster::settings(args.full, args.event_bytes);
    let field = cluster::Field::new(&args.only);
    report.systems.extend(field.systems());
    for scenario in cluster::scenarios() {
        let contestants = field.contestants(scenario, &settings);
        run(args, scenario.name, &contestants, report, |report| report.ratios = cluster::ratios(report))?;
    }
    println!("{}", report.ratio_table());
    Ok(())
}

fn run(
    args: &Args,
    scenario: &str,
    contestants: &[Contestant<'_>],
    report: &mut Report,
    judge: fn(&mut Report),
) -> anyhow::Result<()> {
    let (before, mut written) = (report.series.len(), Ok(()));
    let begins = |round: usize, system: &str| {
        eprintln!("{scenario} {}/{}: {system}", round + 1, args.pairs);
    };
    // After each round, because a run is long and may be cut off.
    interleave(scenario, contestants, args.pairs, begins, |series| {
        report.series.truncate(before);
        report.series.extend_from_slice(series);
        judge(report);
        written = write(report, &args.out);
    });
    written?;
    println!("\n{}", report.scenario_table(scenario));
    Ok(())
}

fn measure_in_process(what: &str, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    match what {
        "filtered-core" => filtered::measure(report, args.pairs.max(15), args.event_bytes)?,
        "handshakes" => handshakes::measure(report, args.pairs.max(15))?,
        "security" => security::measure(report, args.pairs.max(15), args.event_bytes)?,
        "scaling" => {
            scaling::measure(report, args.pairs.max(15), args.event_bytes);
            publishing::measure(report, args.pairs.max(15), args.event_bytes)?;
        }
        _ => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            return runtime.block_on(log::measure(report, 64, args.pairs, args.event_bytes));
        }
    }
    Ok(())
}

fn write(report: &Report, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("latest.md"), report.markdown())?;
    std::fs::write(dir.join("latest.json"), format!("{:#}\n", report.json()))?;
    std::fs::write(dir.join("latest.svg"), chart::svg(report, PLOTTED))?;
    Ok(())
}

/// How to repeat this run.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p newswire-bench -- {}", arguments.join(" "))
        .trim_end_matches(" -- ")
        .to_owned()
}
