//! Filters: the cost of a publish must follow its matches, not the subscriptions there are.

use std::time::Instant;

use super::stage::{Stage, WARM_UP};
use super::{Sample, Settings};
use crate::event::agent_id;
use crate::peer::{Interest, Peer, Purpose};
use crate::swarm::{Group, Joining};

/// Subscribers that want the agent of the events.
const MATCHING: usize = 10;
const FEW: usize = 1_000;

/// The same publishes beside few and beside many subscriptions on distinct agents, ten of which match.
///
/// # Errors
/// When the system fails.
pub fn filtered(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let few = beside(peer, settings, FEW.min(settings.crowd))?;
    let many = beside(peer, settings, settings.crowd)?;
    let mut sample =
        Sample { busy: few.busy.max(many.busy), faults: few.faults + many.faults, ..Sample::default() };
    sample.less("many to few, time a publish", "×", many.time_us / few.time_us);
    sample.less("time a publish, few", "µs", few.time_us);
    sample.less("time a publish, many", "µs", many.time_us);
    if few.cpu_us > 0.0 {
        sample.less("many to few, CPU a publish", "×", many.cpu_us / few.cpu_us);
        sample.less("CPU a publish, many", "µs", many.cpu_us);
    }
    Ok(sample)
}

struct Cost {
    time_us: f64,
    cpu_us: f64,
    busy: f64,
    faults: u64,
}

fn beside(peer: &dyn Peer, settings: &Settings, subscriptions: usize) -> anyhow::Result<Cost> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let joining = Joining { group: Group::Live, next: 0, every: false };
    let others = subscriptions.saturating_sub(MATCHING);
    let agents = (1..=others).chain(std::iter::repeat_n(0, MATCHING));
    let running = &stage.running;
    let subscribers = agents.map(|agent| running.subscriber(&Interest::Agent(agent_id(agent))));
    let ids = stage.swarm.subscribe(running.addr(), joining, subscribers)?;
    publish(&mut stage, WARM_UP)?;
    let meter = stage.meter();
    publish(&mut stage, settings.time / 2)?;
    let measured = meter.read(&stage);
    let mut sample = Sample::default();
    stage.note_faults(&mut sample, ids);
    let of_publish = 1e6 / measured.published;
    Ok(Cost {
        time_us: measured.seconds * of_publish,
        cpu_us: measured.cpu * of_publish,
        busy: measured.busy,
        faults: sample.faults,
    })
}

/// One publish at a time, each awaited by those who match.
fn publish(stage: &mut Stage, time: std::time::Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        let (now, goal) = (stage.swarm.now_us(), stage.swarm.received() + MATCHING as u64);
        let limit = stage.source.next + 1;
        stage.source.publish_to(&mut stage.swarm, limit, |_| now)?;
        stage.swarm.wait(|swarm| swarm.received() >= goal)?;
    }
    Ok(())
}
