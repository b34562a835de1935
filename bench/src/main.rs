//! `newswire-bench`: measures, prints a table, and writes the same figures as JSON.

#![allow(clippy::print_stdout, reason = "figures are this program's output")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use newswire_bench::report::Report;
use newswire_bench::{delivery, durable, filtered, log, memory, peers, replay, scaling};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Publish to receive, at a steady rate with many subscribers.
    Delivery,
    /// Durable publishes a second over HTTP.
    Durable,
    /// A publish with few and with many filtered subscriptions, in this process.
    FilteredCore,
    /// From one core to two, in this process.
    Scaling,
    /// The log in this process, beside a bare segment writer.
    Log,
    /// Catching up over a socket.
    Replay,
    /// Resident memory of an idle connection.
    Memory,
}

const ALL: [What; 7] =
    [What::Log, What::FilteredCore, What::Scaling, What::Durable, What::Delivery, What::Replay, What::Memory];

/// Measures Newswire on this machine.
#[derive(Parser)]
struct Args {
    /// What to measure; everything if nothing is named
    what: Vec<What>,
    /// Measures nothing; lists all peers and tries those that are installed, or only those named
    #[arg(long, value_name = "NAME", num_args = 0..)]
    peers: Option<Vec<String>>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// Events a second, for `delivery`
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Subscribers, for `delivery`
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Publishers, for `durable` and `log`
    #[arg(long, default_value_t = 64)]
    publishers: usize,
    /// Seconds of each measurement that is bounded by time
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Interleaved rounds of each pair; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of an event
    #[arg(long, default_value_t = 400)]
    event_bytes: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(names) = &args.peers {
        return peers::try_out(names);
    }
    let what = if args.what.is_empty() { ALL.to_vec() } else { args.what.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::new();
    for what in what {
        println!("measuring {what:?} …");
        runtime.block_on(measure(what, &args, &mut report))?;
    }
    println!("\n{}", report.table());
    let path = report.write(&args.out)?;
    println!("written to {}", path.display());
    Ok(())
}

async fn measure(what: What, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let time = Duration::from_secs(args.seconds);
    match what {
        What::Delivery => {
            delivery::measure(report, args.rate, args.subscribers, time, args.event_bytes).await
        }
        What::Durable => durable::measure(report, args.publishers, time, args.rounds, args.event_bytes).await,
        What::FilteredCore => filtered::measure(report, args.rounds.max(15), args.event_bytes),
        What::Scaling => {
            scaling::measure(report, args.rounds.max(15), args.event_bytes);
            Ok(())
        }
        What::Log => log::measure(report, args.publishers, args.rounds, args.event_bytes).await,
        What::Replay => replay::measure(report, args.rounds, args.event_bytes).await,
        What::Memory => memory::measure(report).await,
    }
}
