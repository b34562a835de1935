//! One reader that reads nothing, beside many that do.

use std::time::Duration;

use super::stage::{Measured, Stage, WARM_UP};
use super::{Sample, Settings};
use crate::machine;
use crate::peer::{Peer, Purpose};
use crate::swarm::Group;

/// The throughput of the others with and without the stall, and what the server holds for the one that reads nothing.
///
/// # Errors
/// When the system fails.
pub fn stall(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let ids = stage.subscribe(settings.subscribers, Group::Live)?;
    let slow = stage.subscribe(1, Group::Aside)?.start;
    stage.flood(settings.window, WARM_UP)?;
    let pids = stage.running.pids();
    // Calm before and behind, so that what drifts with the size of the log is the same for both.
    let before = flood(&mut stage, settings, settings.stall / 2)?;
    let memory = machine::user_memory_bytes(&pids);
    stage.swarm.stall(slow, true)?;
    let during = flood(&mut stage, settings, settings.stall)?;
    let held = machine::user_memory_bytes(&pids) as f64 - memory as f64;
    stage.drain()?;
    let missed = stage.source.next;
    stage.swarm.aim_at(missed);
    // A system may have closed the connection, which is its right; then nobody catches up.
    let back = stage.swarm.stall(slow, false).and_then(|()| stage.swarm.wait(|swarm| swarm.arrived() == 1));
    let mut sample = during.sample();
    if back.is_ok() {
        let after = flood(&mut stage, settings, settings.stall / 2)?;
        stage.drain()?;
        stage.note_faults(&mut sample, slow..slow + 1);
        let calm = (before.deliveries + after.deliveries) / (before.seconds + after.seconds);
        sample.more("stalled to calm, deliveries", "×", during.deliveries / during.seconds / calm);
    } else {
        let calm = before.deliveries / before.seconds;
        sample.more("stalled to calm, deliveries", "×", during.deliveries / during.seconds / calm);
    }
    sample.more("deliveries, stalled", "/s", during.deliveries / during.seconds);
    if !pids.is_empty() {
        sample.less("memory held for the stalled", "MB", held / 1e6);
    }
    sample.more("the stalled one caught up", "", f64::from(u8::from(back.is_ok())));
    stage.note_faults(&mut sample, ids);
    Ok(sample)
}

fn flood(stage: &mut Stage, settings: &Settings, time: Duration) -> anyhow::Result<Measured> {
    let meter = stage.meter();
    stage.flood(settings.window, time)?;
    Ok(meter.read(stage))
}
