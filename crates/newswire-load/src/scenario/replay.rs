//! One subscriber that was away for long.

use super::stage::Stage;
use super::{Sample, Settings};
use crate::peer::{Interest, Peer, Purpose};
use crate::swarm::{Group, Joining};

/// How fast one connection is sent everything that is in the log.
///
/// # Errors
/// When the system fails or cannot resume.
pub fn replay(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Resume)?;
    // Somebody has to hold the publisher's window.
    stage.subscribe(1, Group::Live)?;
    let joining = Joining { group: Group::Aside, next: 0, every: true };
    let away = stage.running.subscriber(&Interest::Resumable);
    let ids = stage.swarm.subscribe(stage.running.addr(), joining, std::iter::once(away))?;
    stage.publish_and_wait(1, 1)?;
    stage.swarm.wait(|swarm| swarm.received() >= 2)?;
    let returning = stage.swarm.cut(ids)?;
    stage.publish_and_wait(settings.replayed + 1, settings.window)?;
    stage.swarm.aim_at(settings.replayed + 1);
    let joining = Joining { next: 1, ..joining };
    let meter = stage.meter();
    let ids = stage.swarm.subscribe(stage.running.addr(), joining, returning.into_iter())?;
    stage.swarm.wait(|swarm| swarm.arrived() == 1)?;
    let measured = meter.read(&stage);
    let mut sample = measured.sample();
    sample.more("replayed", "/s", settings.replayed as f64 / measured.seconds);
    if measured.cpu > 0.0 {
        sample.less("CPU an event", "µs", measured.cpu / settings.replayed as f64 * 1e6);
    }
    stage.note_faults(&mut sample, ids);
    Ok(sample)
}
