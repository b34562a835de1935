//! Connections that only stand there: how fast they are made and what they cost.

use std::time::{Duration, Instant};

use super::stage::Stage;
use super::{Sample, Settings};
use crate::machine;
use crate::peer::{Peer, Purpose};
use crate::swarm::Group;

/// Upgrades and subscriptions a second.
///
/// # Errors
/// When the system fails.
pub fn connect(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    stage.subscribe(settings.crowd / 20, Group::Live)?;
    let meter = stage.meter();
    let count = settings.crowd / 2;
    stage.subscribe(count, Group::Live)?;
    let measured = meter.read(&stage);
    let mut sample = measured.sample();
    sample.more("connections", "/s", count as f64 / measured.seconds);
    if measured.cpu > 0.0 {
        sample.less("CPU a connection", "µs", measured.cpu / count as f64 * 1e6);
    }
    Ok(sample)
}

/// Memory of idle subscribed connections: the slope between the first and the last step, so that what the process needs
/// anyway does not count. The kernel's part holds both ends of each connection, since both are on this machine.
///
/// # Errors
/// When the system fails, or its memory cannot be read.
pub fn memory(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let pids = stage.running.pids();
    anyhow::ensure!(!pids.is_empty(), "the server's processes are not known");
    let meter = stage.meter();
    let (mut seen, mut connected) = (Vec::new(), 0);
    for &step in &settings.idle {
        stage.subscribe(step - connected, Group::Live)?;
        connected = step;
        idle(&mut stage, settings.rest)?;
        let user = settled(&mut stage, &pids)?;
        seen.push((step as f64, user as f64, machine::kernel_memory_bytes() as f64));
    }
    let mut sample = meter.read(&stage).sample();
    if let (Some(first), Some(last)) = (seen.first(), seen.last())
        && last.0 > first.0
    {
        let connections = last.0 - first.0;
        sample.less("user memory a connection", "kB", (last.1 - first.1) / connections / 1024.0);
        sample.less("kernel memory a connection", "kB", (last.2 - first.2) / connections / 1024.0);
        sample.less("user memory in all", "MB", last.1 / 1e6);
    }
    Ok(sample)
}

/// Lets time pass while pings are answered.
fn idle(stage: &mut Stage, time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while let Some(left) = time.checked_sub(started.elapsed()) {
        stage.swarm.turn(Some(left))?;
    }
    Ok(())
}

/// User memory once it has stopped moving.
fn settled(stage: &mut Stage, pids: &[u32]) -> anyhow::Result<u64> {
    let mut last = machine::user_memory_bytes(pids);
    for _ in 0..20 {
        idle(stage, Duration::from_millis(300))?;
        let now = machine::user_memory_bytes(pids);
        if now.abs_diff(last) < 64 << 10 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
