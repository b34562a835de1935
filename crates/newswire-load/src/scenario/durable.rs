//! Publishes that are acknowledged when they are synced.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::stage::{Measured, Source, Stage, WARM_UP};
use super::{Sample, Settings};
use crate::peer::{Peer, Publisher, Purpose};

/// Publishers that each have a batch of events at a time; so few, because the events of all of them are under way at once.
const BATCH_PUBLISHERS: usize = 4;

/// Many publishers, each waiting for its acknowledgement before it publishes again.
///
/// # Errors
/// When the system fails, refuses an event, or acknowledges nothing at all.
pub fn durable(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Durable)?;
    let (count, measured) = one_each(&mut stage, settings)?;
    let mut sample = measured.sample();
    sample.more("acknowledged", "/s", count / measured.seconds);
    if measured.cpu > 0.0 {
        sample.less("CPU a publish", "µs", measured.cpu / count * 1e6);
    }
    Ok(sample)
}

/// As [`durable`], and then a few publishers that each wait until a whole batch is acknowledged.
///
/// # Errors
/// As there.
pub fn durable_batches(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Durable)?;
    let (single, of_single) = one_each(&mut stage, settings)?;
    let batch = settings.batch;
    let publishers: Vec<_> = (0..BATCH_PUBLISHERS).map(|_| stage.running.batch_publisher(batch)).collect();
    let (batched, of_batched) = measure(&mut stage, publishers, batch, settings)?;
    let mut sample = of_batched.sample();
    sample.busy = of_single.busy.max(of_batched.busy);
    sample.others = of_single.others.max(of_batched.others);
    sample.more("one each", "/s", single / of_single.seconds);
    sample.more("in batches", "/s", batched / of_batched.seconds);
    if of_single.cpu > 0.0 {
        sample.less("one each, CPU", "µs", of_single.cpu / single * 1e6);
        sample.less("in batches, CPU", "µs", of_batched.cpu / batched * 1e6);
    }
    Ok(sample)
}

fn one_each(stage: &mut Stage, settings: &Settings) -> anyhow::Result<(f64, Measured)> {
    let publishers = (0..settings.publishers).map(|_| stage.running.publisher()).collect();
    measure(stage, publishers, 1, settings)
}

/// How many events were acknowledged while it was measured, each publisher having so many under way.
fn measure(
    stage: &mut Stage,
    publishers: Vec<Box<dyn Publisher>>,
    batch: usize,
    settings: &Settings,
) -> anyhow::Result<(f64, Measured)> {
    let mut connected = Vec::new();
    for publisher in publishers {
        let id = stage.swarm.publisher(stage.running.publish_addr(), publisher)?;
        connected.push((id, Source::new(id, settings.event_bytes)));
    }
    publish(stage, &mut connected, batch, WARM_UP)?;
    let acknowledged = |stage: &Stage, publishers: &[(usize, Source)]| -> u64 {
        publishers.iter().map(|(id, _)| stage.swarm.acknowledged(*id)).sum()
    };
    let (meter, before) = (stage.meter(), acknowledged(stage, &connected));
    publish(stage, &mut connected, batch, settings.time)?;
    let measured = meter.read(stage);
    let count = (acknowledged(stage, &connected) - before) as f64;
    // Whoever acknowledges nothing is broken, or its adapter is; as a figure it would be beaten by everybody.
    ensure!(count > 0.0, "nothing was acknowledged in {:.1} s", measured.seconds);
    Ok((count, measured))
}

fn publish(
    stage: &mut Stage,
    publishers: &mut [(usize, Source)],
    batch: usize,
    time: Duration,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        for (id, source) in &mut *publishers {
            if stage.swarm.acknowledged(*id) == source.next {
                let limit = source.next + batch as u64;
                source.publish_to(&mut stage.swarm, limit, |_| 0)?;
            }
        }
        stage.swarm.turn(Some(Duration::from_millis(100)))?;
    }
    Ok(())
}
