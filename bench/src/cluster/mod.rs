//! Several nodes over one log, beside the engine that keeps it: what a node more on the way of an event costs, and how much
//! of what the engine takes is left to those who publish through Newswire.
//!
//! The engine alone and Newswire over the same engine are driven by the same generator, with the same events and as many
//! under way. Servers and nodes have all cores, which the generator shares.

mod nodes;
mod redis_benchmark;

use std::time::Duration;

use newswire_load::compare::Contestant;
use newswire_load::newswire::Newswire;
use newswire_load::peer::Peer;
use newswire_load::report::{Ratio, Report, System};
use newswire_load::scenario::{OF_NODES, Scenario, Settings};
use newswire_load::stats::{self, Estimate};
use newswire_street_tests::binary;

use self::nodes::Nodes;
use self::redis_benchmark::RedisBenchmark;
use crate::contest::OURS;
use crate::peers::{Nats, Redis};

/// The scenarios, by the names that [`OF_NODES`] gives them.
const LATENCY: &str = "cluster latency";
const PUBLISH: &str = "cluster publish";

/// Events a second where their latency is measured.
const RATE: u32 = 1_000;

/// How long and how much: a round takes somewhat more than a minute, with `full` half as much again.
pub fn settings(full: bool, event_bytes: usize) -> Settings {
    let time = Duration::from_millis(if full { 2_000 } else { 1_200 });
    // A system of up to five processes on one core would measure how they wait for each other.
    Settings { rate: RATE, time, event_bytes, server_cores: Vec::new(), ..Settings::quick() }
}

/// Everybody who takes part: one node with its own log, each engine alone, and two nodes over it.
pub struct Field {
    alone: Newswire,
    pairs: Vec<(Box<dyn Peer>, Nodes)>,
    redis_benchmark: RedisBenchmark,
    /// Names that are wanted; empty wants everybody.
    only: Vec<String>,
}

impl Field {
    /// Everybody, or those whose names hold one of these words (and one node always).
    pub fn new(only: &[String]) -> Self {
        Self {
            alone: Newswire::new(binary::newswire()),
            pairs: vec![
                (Box::new(Nats::synced()), Nodes::over(Nats::synced())),
                (Box::new(Nats::by_default()), Nodes::over(Nats::by_default())),
                (Box::new(Nats::cluster()), Nodes::over(Nats::cluster())),
                (Box::new(Redis::synced()), Nodes::over(Redis::synced())),
            ],
            redis_benchmark: RedisBenchmark,
            only: only.iter().map(|word| word.to_lowercase()).collect(),
        }
    }

    /// All of them for the report, also those that are not installed.
    pub fn systems(&self) -> Vec<System> {
        let mut all: Vec<&dyn Peer> = vec![&self.alone];
        for (engine, nodes) in &self.pairs {
            all.extend([&**engine, nodes as &dyn Peer]);
        }
        let mut systems: Vec<System> = all
            .into_iter()
            .map(|peer| System {
                name: peer.name(),
                version: peer.version(),
                configuration: peer.configuration(),
            })
            .collect();
        systems.push(self.redis_benchmark.system());
        systems
    }

    /// Those who take part in a scenario, in the order of each round.
    pub fn contestants<'a>(
        &'a self,
        scenario: &'static Scenario,
        settings: &'a Settings,
    ) -> Vec<Contestant<'a>> {
        let plain = |peer: &'a dyn Peer| Contestant {
            system: peer.name(),
            take: Box::new(move || (scenario.run)(peer, settings)),
        };
        let mut all = vec![plain(&self.alone)];
        for (engine, nodes) in &self.pairs {
            let both: [&dyn Peer; 2] = [&**engine, nodes];
            all.extend(both.into_iter().filter(|peer| peer.version().is_ok()).map(plain));
        }
        if scenario.name == PUBLISH && self.redis_benchmark.system().version.is_ok() {
            let take = Box::new(|| self.redis_benchmark.publish(settings));
            all.push(Contestant { system: redis_benchmark::NAME.to_owned(), take });
        }
        all.retain(|contestant| self.wants(&contestant.system));
        all
    }

    fn wants(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.only.is_empty()
            || name == OURS.to_lowercase()
            || self.only.iter().any(|word| name.contains(word.as_str()))
    }
}

/// All scenarios of several nodes.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    OF_NODES.iter()
}

/// A figure of the nodes over an engine by a figure of somebody else, and what it means.
struct Compared {
    scenario: &'static str,
    ours: &'static str,
    theirs: &'static str,
    what: &'static str,
}

const fn compared(
    scenario: &'static str,
    ours: &'static str,
    theirs: &'static str,
    what: &'static str,
) -> Compared {
    Compared { scenario, ours, theirs, what }
}

/// By the engine alone, from its publisher to its consumer.
const BY_ENGINE: [Compared; 6] = [
    compared(LATENCY, "other node p50", "p50", "p50 to the other node, by that of"),
    compared(LATENCY, "other node p99", "p99", "p99 to the other node, by that of"),
    compared(LATENCY, "added p50", "p50", "p50 of what the other node adds, by the p50 of"),
    compared(LATENCY, "added p99", "p99", "p99 of what the other node adds, by the p99 of"),
    compared(PUBLISH, "one each", "one each", "acknowledged, one event each, by those of"),
    compared(PUBLISH, "in batches", "in batches", "acknowledged, in batches, by those of"),
];

/// By one node with a log of its own.
const BY_ONE_NODE: [Compared; 2] = [
    compared(LATENCY, "other node p50", "p50", "p50 to the other node, by that of"),
    compared(PUBLISH, "one each", "one each", "acknowledged, one event each, by those of"),
];

/// Nodes over an engine beside that engine alone, beside others who drive it, and beside one node.
pub fn ratios(report: &Report) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for nodes in report.series.iter().filter(|series| series.scenario == LATENCY) {
        let Some(engine) = nodes.system.strip_prefix(nodes::PREFIX) else { continue };
        for figure in &BY_ENGINE {
            let driven = engines(report, engine).map(|name| figure.ratio(report, &nodes.system, name));
            ratios.extend(driven.flatten());
        }
        ratios.extend(BY_ONE_NODE.iter().filter_map(|figure| figure.ratio(report, &nodes.system, OURS)));
    }
    ratios
}

/// The engine of this name, and who else drives it.
fn engines<'a>(report: &'a Report, engine: &'a str) -> impl Iterator<Item = &'a str> {
    let names = report.systems.iter().map(|system| system.name.as_str());
    names.filter(move |name| *name == engine || (engine == "Redis" && *name == redis_benchmark::NAME))
}

impl Compared {
    /// `None` where one of them does not take part.
    fn ratio(&self, report: &Report, nodes: &str, other: &str) -> Option<Ratio> {
        let (ours, theirs) = (report.find(self.scenario, nodes)?, report.find(self.scenario, other)?);
        let ratios = stats::ratios(&ours.values(self.ours), &theirs.values(self.theirs));
        Some(Ratio { name: format!("{nodes}: {} {other}", self.what), measured: Estimate::of(&ratios) })
    }
}

#[cfg(test)]
mod tests {
    use newswire_load::compare::Series;
    use newswire_load::scenario::{Better, Figure, Sample};

    use super::*;

    fn took_part(report: &mut Report, scenario: &str, system: &str, figures: &[(&'static str, f64)]) {
        let figure = |&(name, value)| Figure { name, unit: "", better: Better::Lower, value };
        let sample = Sample { figures: figures.iter().map(figure).collect(), ..Sample::default() };
        let (scenario, name) = (scenario.to_owned(), system.to_owned());
        report.series.push(Series {
            scenario,
            system: name.clone(),
            samples: vec![sample; 3],
            failure: None,
        });
        report.systems.push(System { name, version: Ok("1".into()), configuration: String::new() });
    }

    #[test]
    fn nodes_stand_beside_their_own_engine_and_beside_one_node() {
        let mut report = Report::begin("bench");
        took_part(&mut report, LATENCY, OURS, &[("p50", 1.0)]);
        took_part(&mut report, LATENCY, "NATS", &[("p50", 2.0)]);
        took_part(&mut report, LATENCY, "NATS, 3 servers", &[("p50", 8.0)]);
        let of_nodes = [("p50", 3.0), ("other node p50", 4.0), ("added p50", 1.0)];
        took_part(&mut report, LATENCY, "Newswire on NATS", &of_nodes);
        let ratios = ratios(&report);
        let of = |what: &str| {
            let found = ratios.iter().find(|ratio| ratio.name == format!("Newswire on NATS: {what}"));
            found.and_then(|ratio| ratio.measured).map(|measured| measured.median)
        };
        assert_eq!(of("p50 to the other node, by that of NATS"), Some(2.0));
        assert_eq!(of("p50 of what the other node adds, by the p50 of NATS"), Some(0.5));
        assert_eq!(of("p50 to the other node, by that of Newswire"), Some(4.0));
        assert!(ratios.iter().all(|ratio| !ratio.name.ends_with("servers")), "{ratios:?}");
    }

    #[test]
    fn who_drives_redis_stands_beside_nodes_on_redis() {
        let mut report = Report::begin("bench");
        took_part(&mut report, LATENCY, "Newswire on Redis", &[]);
        for (system, rate) in [("Newswire on Redis", 10.0), ("Redis", 20.0), (redis_benchmark::NAME, 40.0)] {
            took_part(&mut report, PUBLISH, system, &[("one each", rate)]);
        }
        let ratios: Vec<Ratio> =
            ratios(&report).into_iter().filter(|ratio| ratio.name.contains("one event each")).collect();
        let by = |name: &str| {
            let found = ratios.iter().find(|ratio| ratio.name.ends_with(name));
            found.and_then(|ratio| ratio.measured).map(|measured| measured.median)
        };
        assert_eq!((by("of Redis"), by(redis_benchmark::NAME)), (Some(0.5), Some(0.25)));
    }
}
