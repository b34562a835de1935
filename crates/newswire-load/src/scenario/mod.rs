//! What is measured. A scenario is a function: a system and the settings in, one sample out.
//!
//! The server runs on cores of its own and the generator on another. Every instance is private, fresh and gone
//! afterwards, so that no sample sees what the one before left. Samples of different systems are interleaved by the
//! caller.

mod durable;
mod fan_out;
mod filtered;
mod memory;
mod nodes;
mod reconnect;
mod replay;
mod stage;
mod stall;

use std::time::Duration;

use crate::machine;
use crate::peer::{Abilities, Peer};

pub use durable::{durable, durable_batches};
pub use fan_out::{flood, latency, paced};
pub use filtered::filtered;
pub use memory::{connect, memory};
pub use nodes::nodes;
pub use reconnect::reconnect;
pub use replay::replay;
pub use stall::stall;

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cores of the server; empty leaves it where the system puts it.
    pub server_cores: Vec<usize>,
    /// Bytes of an event as it is published.
    pub event_bytes: usize,
    /// Subscribers of the fan-out.
    pub subscribers: usize,
    /// Time of a measurement that is bounded by time, behind its warm-up.
    pub time: Duration,
    /// In a flood: events that are published ahead of the slowest subscriber.
    pub window: u64,
    /// Events a second where the rate is fixed.
    pub rate: u32,
    /// Publishers that each wait for their acknowledgement.
    pub publishers: usize,
    /// Events that a publisher of batches waits for at a time.
    pub batch: usize,
    /// Connections of the large scenarios: filtered, reconnecting.
    pub crowd: usize,
    /// Events that each of the crowd missed while it was away.
    pub missed: u64,
    /// Steps at which idle memory is looked at.
    pub idle: Vec<usize>,
    /// How long idle connections are left alone before their memory is read.
    pub rest: Duration,
    /// How long the slow reader reads nothing.
    pub stall: Duration,
    /// Events of a replay.
    pub replayed: u64,
}

impl Settings {
    /// Short enough to be run while one waits.
    pub fn quick() -> Self {
        let files = machine::raise_open_files();
        // The generator holds a file for each connection, and so does the server, which is bounded alike.
        let most = |wanted: usize| wanted.min(files.saturating_sub(500));
        Self {
            server_cores: Site::here().server,
            event_bytes: 400,
            subscribers: 500,
            time: Duration::from_millis(1_500),
            window: 1_024,
            rate: 200,
            publishers: 64,
            batch: 64,
            crowd: most(10_000),
            missed: 1_000,
            idle: vec![most(1_000), most(5_000)],
            rest: Duration::from_secs(1),
            stall: Duration::from_secs(3),
            replayed: 100_000,
        }
    }

    /// As the published figures are taken.
    pub fn full() -> Self {
        let quick = Self::quick();
        let most = quick.crowd.max(machine::raise_open_files().saturating_sub(500)).min(15_000);
        Self {
            time: Duration::from_secs(2),
            idle: vec![most / 3, most / 3 * 2, most],
            rest: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            replayed: 200_000,
            ..quick
        }
    }
}

/// Which core does what.
#[derive(Clone, Debug)]
pub struct Site {
    /// The server's.
    pub server: Vec<usize>,
    /// The generator's.
    pub generator: Vec<usize>,
}

impl Site {
    /// The first core of this machine for the server, the last for the generator; both the same where there is only one.
    pub fn here() -> Self {
        let cores = machine::cores();
        let one = |core: Option<&usize>| core.copied().into_iter().collect();
        Self { server: one(cores.first()), generator: one(cores.last()) }
    }
}

/// What is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More of it.
    Higher,
    /// Less of it.
    Lower,
}

/// One figure of a sample.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is, for example `p99`.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What is better.
    pub better: Better,
    /// How much.
    pub value: f64,
}

/// What one run of a scenario gave.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Its figures, the most important first.
    pub figures: Vec<Figure>,
    /// How much of its core the generator used while it was measured, from 0 to 1.
    pub busy: f64,
    /// How much of the server's own cores somebody else used meanwhile, from 0 to 1: the kernel's threads a little, another
    /// program too much.
    pub others: f64,
    /// Events that did not arrive, arrived twice or in the wrong order.
    pub faults: u64,
}

impl Sample {
    fn more(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.figures.push(Figure { name, unit, better: Better::Higher, value });
    }

    fn less(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.figures.push(Figure { name, unit, better: Better::Lower, value });
    }

    /// The figure of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }
}

/// A measurement by name.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As the command line names it.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Who can take part.
    pub fits: fn(Abilities) -> bool,
    /// Takes one sample.
    pub run: fn(&dyn Peer, &Settings) -> anyhow::Result<Sample>,
}

/// All of them, in the order in which they are run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "paced",
        about: "one publish at a time, each awaited by every subscriber",
        fits: |can| can.fan_out,
        run: paced,
    },
    Scenario {
        name: "flood",
        about: "as fast as the slowest subscriber receives, a window of events ahead of it",
        fits: |can| can.fan_out,
        run: flood,
    },
    Scenario {
        name: "latency",
        about: "a fixed rate; each delivery timed from when its publish was due",
        fits: |can| can.fan_out,
        run: latency,
    },
    Scenario {
        name: "filtered",
        about: "many subscriptions on distinct agents, ten of which match each event",
        fits: |can| can.filters,
        run: filtered,
    },
    Scenario {
        name: "durable",
        about: "publishers that each wait until their event is synced",
        fits: |can| can.durable,
        run: durable,
    },
    Scenario {
        name: "connect",
        about: "upgrades and subscriptions a second",
        fits: |can| can.fan_out,
        run: connect,
    },
    Scenario {
        name: "memory",
        about: "what an idle subscribed connection costs",
        fits: |can| can.fan_out,
        run: memory,
    },
    Scenario {
        name: "reconnect",
        about: "a crowd comes back at once and catches up, beside live subscribers",
        fits: |can| can.resume,
        run: reconnect,
    },
    Scenario {
        name: "stall",
        about: "one reader stalls during a flood; what the others lose",
        fits: |can| can.fan_out,
        run: stall,
    },
    Scenario {
        name: "replay",
        about: "one subscriber catches up with the whole log",
        fits: |can| can.resume,
        run: replay,
    },
];

/// Those of systems of several nodes, which have their own contestants.
pub const OF_NODES: &[Scenario] = &[
    Scenario {
        name: "cluster latency",
        about: "events at a fixed rate to one node, a subscriber on it and one on another",
        fits: |can| can.durable,
        run: nodes,
    },
    Scenario {
        name: "cluster publish",
        about: "publishers that each wait until their event, or their batch of events, is acknowledged",
        fits: |can| can.durable,
        run: durable_batches,
    },
];
