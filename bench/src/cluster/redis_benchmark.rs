//! `redis-benchmark`, the program that comes with Redis, adding to a stream of the Redis peer.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use newswire_load::machine;
use newswire_load::peer::{Launch, Peer, Purpose};
use newswire_load::report::System;
use newswire_load::scenario::{Better, Figure, Sample, Settings, Site};

use crate::peers::{Redis, version_of};

/// As tables show it.
pub(super) const NAME: &str = "redis-benchmark";

/// Events a second that a machine like those it was written on takes; only how long it runs follows from it.
const EXPECTED: f64 = 30_000.0;
/// Publishers that have a whole batch under way, as in the scenario.
const BATCH_CLIENTS: usize = 4;

/// The program.
pub(super) struct RedisBenchmark;

impl RedisBenchmark {
    pub(super) fn system(&self) -> System {
        System {
            name: NAME.to_owned(),
            version: version_of(NAME, &["--version"]),
            configuration: "XADD to the Redis peer: -c 64, then -c 4 -P 64".to_owned(),
        }
    }

    /// What it says of a fresh Redis that syncs every write: one event each, and in batches.
    ///
    /// # Errors
    /// When either does not start, or its figures are not where they are expected.
    pub(super) fn publish(&self, settings: &Settings) -> anyhow::Result<Sample> {
        let dir = tempfile::tempdir()?;
        let launch = Launch { cores: machine::cores(), dir: dir.path(), purpose: Purpose::Durable };
        let redis = Redis::synced().start(&launch)?;
        let run = |clients, pipelined| rate(redis.publish_addr(), settings, clients, pipelined);
        let figure = |name, value| Figure { name, unit: "/s", better: Better::Higher, value };
        let one_each = figure("one each", run(settings.publishers, 1)?);
        let in_batches = figure("in batches", run(BATCH_CLIENTS, settings.batch)?);
        Ok(Sample { figures: vec![one_each, in_batches], ..Sample::default() })
    }
}

fn rate(addr: SocketAddr, settings: &Settings, clients: usize, pipelined: usize) -> anyhow::Result<f64> {
    let requests = (EXPECTED * settings.time.as_secs_f64()) as u64;
    let mut command = Command::new(NAME);
    command.args(["-h", &addr.ip().to_string(), "-p", &addr.port().to_string(), "--csv"]);
    command.args(["-n", &requests.to_string(), "-c", &clients.to_string(), "-P", &pipelined.to_string()]);
    command.args(["XADD", "tasks", "*", "e", &"x".repeat(settings.event_bytes)]);
    let output = machine::on_cores(&Site::here().generator, || command.output())??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    requests_a_second(&text)
}

/// The figure under `"rps"`. It is counted from the end of the line, because the name of the test in front of it may hold
/// anything.
fn requests_a_second(csv: &str) -> anyhow::Result<f64> {
    let mut lines = csv.lines();
    let head = lines.find(|line| line.starts_with("\"test\"")).context("no head")?;
    let behind = head.split(',').rev().position(|name| name == "\"rps\"").context("no rps")?;
    let figures = lines.next().context("no figures")?;
    let figure = figures.rsplit(',').nth(behind).context("too few figures")?;
    Ok(figure.trim_matches('"').parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#;

    #[test]
    fn the_rate_is_found_behind_any_name() {
        let csv = format!(
            "{HEAD}\n\"XADD a * e {{\"a\",\"b\"}}\",\"41666.67\",\"1.2\",\"0.3\",\"1\",\"2\",\"3\",\"4\"\n"
        );
        assert_eq!(requests_a_second(&csv).expect("a figure"), 41_666.67);
    }

    #[test]
    fn what_is_no_figure_is_an_error() {
        for csv in ["", HEAD, "Could not connect to Redis", &format!("{HEAD}\n\"XADD\",\"none\"\n")] {
            assert!(requests_a_second(csv).is_err(), "{csv}");
        }
    }
}
