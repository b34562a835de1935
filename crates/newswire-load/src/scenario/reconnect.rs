//! A crowd that lost its connections comes back at once and wants what it missed.

use std::time::Instant;

use anyhow::Context;

use super::stage::Stage;
use super::{Sample, Settings};
use crate::peer::{Interest, Peer, Purpose};
use crate::swarm::{Group, Joining, Swarm};

/// Live subscribers beside the crowd.
const LIVE: usize = 50;
/// Events a second meanwhile: few, because everybody who has come back gets them too.
const RATE: u32 = 20;
/// Connections that are being opened at the same moment; what a listener's queue holds.
const AT_ONCE: usize = 1_000;

/// The time until everybody has caught up, and what live subscribers feel of it.
///
/// # Errors
/// When the system fails or cannot resume.
pub fn reconnect(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Resume)?;
    let live = stage.subscribe(LIVE, Group::Live)?;
    let calm = calm(&mut stage, settings)?;
    let mut returning = go_away(&mut stage, settings)?.into_iter();
    let joining = Joining { group: Group::Aside, next: stage.source.next - settings.missed, every: true };
    let (addr, crowd, goal) = (stage.running.addr(), returning.len(), stage.source.next);
    stage.swarm.aim_at(goal);
    stage.swarm.record_latency();
    let (meter, started) = (stage.meter(), Instant::now());
    let (mut first, mut all_connected) = (None, None);
    stage.steady(RATE, |swarm| {
        while swarm.opening() < AT_ONCE
            && let Some(subscriber) = returning.next()
        {
            let id = swarm.join(addr, joining, subscriber)?;
            first.get_or_insert(id);
        }
        if returning.len() == 0 && swarm.opening() == 0 {
            all_connected.get_or_insert_with(|| started.elapsed().as_secs_f64());
        }
        anyhow::ensure!(started.elapsed().as_secs() < 120, "only {} of {crowd} caught up", swarm.arrived());
        Ok(swarm.arrived() == crowd)
    })?;
    let measured = meter.read(&stage);
    stage.drain()?;
    let meanwhile = p99(&mut stage.swarm)?;
    let mut sample = measured.sample();
    sample.less("all caught up", "s", measured.seconds);
    sample.less("all connected", "s", all_connected.unwrap_or(measured.seconds));
    sample.more("replayed", "/s", crowd as f64 * settings.missed as f64 / measured.seconds);
    sample.less("live p99 meanwhile", "ms", meanwhile);
    sample.less("live p99 calm", "ms", calm);
    sample.less("live p99, meanwhile to calm", "×", meanwhile / calm);
    stage.note_faults(&mut sample, live);
    if let Some(first) = first {
        stage.note_faults(&mut sample, first..first + crowd);
    }
    Ok(sample)
}

/// p99 of the live subscribers while nothing else happens.
fn calm(stage: &mut Stage, settings: &Settings) -> anyhow::Result<f64> {
    stage.swarm.record_latency();
    let started = Instant::now();
    stage.steady(RATE, |_| Ok(started.elapsed() >= settings.time))?;
    stage.drain()?;
    p99(&mut stage.swarm)
}

/// The crowd connects, gets one event to remember, and is cut off; then come the events it misses.
fn go_away(stage: &mut Stage, settings: &Settings) -> anyhow::Result<Vec<Box<dyn crate::peer::Subscriber>>> {
    let joining = Joining { group: Group::Aside, next: stage.source.next, every: true };
    let running = &stage.running;
    let crowd = (0..settings.crowd).map(|_| running.subscriber(&Interest::Resumable));
    let ids = stage.swarm.subscribe(running.addr(), joining, crowd)?;
    let goal = stage.swarm.received() + (settings.crowd + LIVE) as u64;
    let limit = stage.source.next + 1;
    stage.publish_and_wait(limit, 1)?;
    stage.swarm.wait(|swarm| swarm.received() >= goal)?;
    let returning = stage.swarm.cut(ids)?;
    let limit = stage.source.next + settings.missed;
    stage.publish_and_wait(limit, settings.window)?;
    Ok(returning)
}

fn p99(swarm: &mut Swarm) -> anyhow::Result<f64> {
    let histogram = swarm.record_latency().context("latencies were recorded")?;
    Ok(histogram.value_at_quantile(0.99) as f64 / 1e3)
}
