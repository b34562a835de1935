//! Publishes that are acknowledged when they are synced.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::stage::{Source, Stage, WARM_UP};
use super::{Sample, Settings};
use crate::peer::{Peer, Purpose};

/// Many publishers, each waiting for its acknowledgement before it publishes again.
///
/// # Errors
/// When the system fails, refuses an event, or acknowledges nothing at all.
pub fn durable(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Durable)?;
    let mut publishers = Vec::new();
    for _ in 0..settings.publishers {
        let id = stage.swarm.publisher(stage.running.publish_addr(), stage.running.publisher())?;
        publishers.push((id, Source::new(id, settings.event_bytes)));
    }
    publish(&mut stage, &mut publishers, WARM_UP)?;
    let acknowledged = |stage: &Stage, publishers: &[(usize, Source)]| -> u64 {
        publishers.iter().map(|(id, _)| stage.swarm.acknowledged(*id)).sum()
    };
    let (meter, before) = (stage.meter(), acknowledged(&stage, &publishers));
    publish(&mut stage, &mut publishers, settings.time)?;
    let measured = meter.read(&stage);
    let count = (acknowledged(&stage, &publishers) - before) as f64;
    // Whoever acknowledges nothing is broken, or its adapter is; as a figure it would be beaten by everybody.
    ensure!(count > 0.0, "nothing was acknowledged in {:.1} s", measured.seconds);
    let mut sample = measured.sample();
    sample.more("acknowledged", "/s", count / measured.seconds);
    if measured.cpu > 0.0 {
        sample.less("CPU a publish", "µs", measured.cpu / count * 1e6);
    }
    Ok(sample)
}

fn publish(stage: &mut Stage, publishers: &mut [(usize, Source)], time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        for (id, source) in &mut *publishers {
            if stage.swarm.acknowledged(*id) == source.next {
                let limit = source.next + 1;
                source.publish_to(&mut stage.swarm, limit, |_| 0)?;
            }
        }
        stage.swarm.turn(Some(Duration::from_millis(100)))?;
    }
    Ok(())
}
