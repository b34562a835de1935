//! Every event to every subscriber: one at a time, as fast as it goes, and at a fixed rate.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::stage::{Measured, Stage, WARM_UP};
use super::{Sample, Settings};
use crate::peer::{Peer, Purpose};
use crate::swarm::Group;

/// One publish at a time, each awaited by every subscriber: what a delivery costs when nothing can be gathered.
///
/// # Errors
/// When the system fails.
pub fn paced(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let ids = stage.subscribe(settings.subscribers, Group::Live)?;
    one_by_one(&mut stage, WARM_UP)?;
    let meter = stage.meter();
    one_by_one(&mut stage, settings.time)?;
    let measured = meter.read(&stage);
    let mut sample = measured.sample();
    per_cpu(&mut sample, &measured);
    sample.less("time a publish", "ms", measured.seconds / measured.published * 1e3);
    stage.note_faults(&mut sample, ids);
    Ok(sample)
}

fn one_by_one(stage: &mut Stage, time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        let limit = stage.source.next + 1;
        stage.publish_and_wait(limit, 1)?;
    }
    Ok(())
}

/// A closed loop with a window: how much gets through, and what it costs when there is much to gather.
///
/// # Errors
/// When the system fails.
pub fn flood(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let ids = stage.subscribe(settings.subscribers, Group::Live)?;
    stage.flood(settings.window, WARM_UP)?;
    let (meter, writes) = (stage.meter(), stage.running.writes()?);
    stage.flood(settings.window, settings.time)?;
    let (measured, writes_after) = (meter.read(&stage), stage.running.writes()?);
    let mut sample = measured.sample();
    sample.more("deliveries", "/s", measured.deliveries / measured.seconds);
    per_cpu(&mut sample, &measured);
    sample.more("publishes", "/s", measured.published / measured.seconds);
    if let (Some(before), Some(after)) = (writes, writes_after) {
        let frames = (after.events - before.events) as f64 / (after.writes - before.writes).max(1) as f64;
        sample.more("frames a write", "", frames);
    }
    stage.drain()?;
    stage.note_faults(&mut sample, ids);
    Ok(sample)
}

fn per_cpu(sample: &mut Sample, measured: &Measured) {
    if measured.cpu > 0.0 {
        sample.more("deliveries a CPU second", "/s", measured.deliveries / measured.cpu);
        sample.less("CPU a delivery", "µs", measured.cpu / measured.deliveries * 1e6);
    }
}

/// A fixed rate: how long a delivery takes from the moment its publish was due, so that a stall shows in every event that
/// it delayed.
///
/// # Errors
/// When the system fails.
pub fn latency(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::FanOut)?;
    let ids = stage.subscribe(settings.subscribers, Group::Live)?;
    let warm = Instant::now();
    stage.steady(settings.rate, |_| Ok(warm.elapsed() >= WARM_UP))?;
    stage.drain()?;
    stage.swarm.record_latency();
    let meter = stage.meter();
    let started = Instant::now();
    stage.steady(settings.rate, |_| Ok(started.elapsed() >= settings.time))?;
    let measured = meter.read(&stage);
    stage.drain()?;
    let histogram = stage.swarm.record_latency().context("latencies were recorded")?;
    let mut sample = measured.sample();
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("longest", 1.0)] {
        sample.less(name, "ms", histogram.value_at_quantile(quantile) as f64 / 1e3);
    }
    per_cpu(&mut sample, &measured);
    stage.note_faults(&mut sample, ids);
    Ok(sample)
}
