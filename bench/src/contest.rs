//! Who takes part in which scenario.

use newswire_load::bare::BareWriter;
use newswire_load::compare::Contestant;
use newswire_load::newswire::Newswire;
use newswire_load::peer::Peer;
use newswire_load::report::System;
use newswire_load::scenario::{self, Sample, Scenario, Settings};
use newswire_street_tests::binary;

use crate::bare_door::BareDoor;
use crate::{peers, segment};

/// Newswire with its defaults.
pub const OURS: &str = "Newswire";
/// The limit of the fan-out.
pub const LIMIT: &str = "bare writer";
/// Newswire on all cores, beside [`OURS`] on one.
pub const ALL_CORES: &str = "Newswire, all cores";
const MEMORY_LOG: &str = "Newswire, memory log";

/// Scenarios in which one core is compared with all of them.
const SCALED: [&str; 2] = ["flood", "durable"];
/// Scenarios that say something about Newswire only.
const ALONE: [&str; 2] = ["stall", "replay"];

/// Everybody there is.
pub struct Field {
    ours: Newswire,
    over_http: Newswire,
    memory_log: Newswire,
    limit: BareWriter,
    /// The limit of durable publishing over sockets.
    door: BareDoor,
    peers: Vec<Box<dyn Peer>>,
    /// Names that are wanted; empty wants everybody.
    only: Vec<String>,
}

impl Field {
    /// Everybody, or those whose names hold one of these words (and Newswire always).
    ///
    /// # Errors
    /// When this program does not know where it lies.
    pub fn new(only: Vec<String>) -> anyhow::Result<Self> {
        let binary = binary::newswire();
        Ok(Self {
            ours: Newswire::new(binary),
            over_http: Newswire::new(binary).over_http(),
            memory_log: Newswire::new(binary).with(MEMORY_LOG, &["log.backend=memory"]),
            limit: BareWriter::new(std::env::current_exe()?, &["--bare-writer"]),
            door: BareDoor::new(std::env::current_exe()?, "--bare-door"),
            peers: peers::all().into_iter().filter(|peer| peer.name() != OURS).collect(),
            only: only.into_iter().map(|word| word.to_lowercase()).collect(),
        })
    }

    /// All of them for the report, also those that are not installed.
    pub fn systems(&self) -> Vec<System> {
        let fixed: [&dyn Peer; 5] = [&self.ours, &self.over_http, &self.memory_log, &self.limit, &self.door];
        let peers = self.peers.iter().map(|peer| &**peer);
        let system = |peer: &dyn Peer| System {
            name: peer.name(),
            version: peer.version(),
            configuration: peer.configuration(),
        };
        fixed.into_iter().chain(peers).filter(|peer| self.wants(&peer.name())).map(system).collect()
    }

    /// Those who take part in a scenario, in the order of each round: ours first, because the limit is told how many
    /// frames we gathered.
    pub fn contestants<'a>(
        &'a self,
        scenario: &'static Scenario,
        settings: &'a Settings,
    ) -> Vec<Contestant<'a>> {
        let mut all = vec![self.ours(scenario, settings)];
        let mut add = |peer: &'a dyn Peer| all.push(plain(scenario, peer, settings));
        if scenario.name == "durable" {
            add(&self.over_http);
            add(&self.door);
        }
        if ["paced", "flood", "latency"].contains(&scenario.name) {
            add(&self.limit);
        }
        if ["paced", "flood", "latency", "durable"].contains(&scenario.name) {
            add(&self.memory_log);
        }
        if !ALONE.contains(&scenario.name) {
            let peers = self.peers.iter().map(|peer| &**peer);
            let able = peers.filter(|peer| (scenario.fits)(peer.abilities()) && peer.version().is_ok());
            able.for_each(&mut add);
        }
        if scenario.name == "durable" {
            let take = Box::new(|| segment::durable(settings));
            all.push(Contestant { system: segment::NAME.to_owned(), take });
        }
        if SCALED.contains(&scenario.name) && settings.server_cores.len() == 1 {
            all.push(self.on_all_cores(scenario, settings));
        }
        all.retain(|contestant| self.wants(&contestant.system));
        all
    }

    fn ours<'a>(&'a self, scenario: &'static Scenario, settings: &'a Settings) -> Contestant<'a> {
        let take = move || {
            let sample = (scenario.run)(&self.ours, settings)?;
            self.limit.set_frames_a_write(frames_a_write(scenario, &sample));
            Ok(sample)
        };
        Contestant { system: OURS.to_owned(), take: Box::new(take) }
    }

    fn on_all_cores<'a>(&'a self, scenario: &'static Scenario, settings: &'a Settings) -> Contestant<'a> {
        let take = move || {
            let settings = Settings { server_cores: Vec::new(), ..settings.clone() };
            (scenario.run)(&self.ours, &settings)
        };
        Contestant { system: ALL_CORES.to_owned(), take: Box::new(take) }
    }

    fn wants(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let named = self.only.iter().any(|word| name.contains(word.as_str()));
        self.only.is_empty() || name == OURS.to_lowercase() || named
    }
}

fn plain<'a>(scenario: &'static Scenario, peer: &'a dyn Peer, settings: &'a Settings) -> Contestant<'a> {
    Contestant { system: peer.name(), take: Box::new(move || (scenario.run)(peer, settings)) }
}

/// What the limit is told: in a flood it gathers as many frames as we did, elsewhere none.
fn frames_a_write(scenario: &Scenario, ours: &Sample) -> usize {
    let gathered = ours.value("frames a write").filter(|_| scenario.name == "flood");
    gathered.map_or(1, |frames| frames.round().max(1.0) as usize)
}

/// The scenarios of these names, or all.
///
/// # Errors
/// For a name that is none.
pub fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(scenario::ALL.iter().collect());
    }
    let named = |name: &String| {
        let known = scenario::ALL.iter().find(|scenario| scenario.name == *name);
        known.ok_or_else(|| anyhow::anyhow!("there is no scenario {name}"))
    };
    names.iter().map(named).collect()
}
