//! The same events over every node of one system: what it adds that a subscriber is on another node than the publisher.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::ensure;

use super::stage::{Stage, WARM_UP};
use super::{Sample, Settings};
use crate::peer::{Peer, Purpose};
use crate::swarm::{Arrival, Group};

/// A fixed rate to the first node, with one subscriber on each: how long events take to either from the moment their publish
/// was due, and how much later each comes on the last node than on the first. A system of one node has the first alone.
///
/// # Errors
/// When the system fails, or an event does not come.
pub fn nodes(peer: &dyn Peer, settings: &Settings) -> anyhow::Result<Sample> {
    let mut stage = Stage::set(peer, settings, Purpose::Durable)?;
    let mut subscribers = Vec::new();
    for addr in stage.running.nodes() {
        subscribers.push(stage.subscribe_at(addr, 1, Group::Live)?.start);
    }
    let warm = Instant::now();
    stage.steady(settings.rate, |_| Ok(warm.elapsed() >= WARM_UP))?;
    stage.drain()?;
    for &id in &subscribers {
        stage.swarm.record_arrivals(id);
    }
    let meter = stage.meter();
    let started = Instant::now();
    stage.steady(settings.rate, |_| Ok(started.elapsed() >= settings.time))?;
    let measured = meter.read(&stage);
    stage.drain()?;
    let arrivals: Vec<Vec<Arrival>> = subscribers.iter().map(|&id| stage.swarm.record_arrivals(id)).collect();
    let mut sample = measured.sample();
    if let Some(here) = arrivals.first() {
        add(&mut sample, ["p50", "p99"], latencies(here))?;
    }
    if let [here, .., there] = &arrivals[..] {
        add(&mut sample, ["other node p50", "other node p99"], latencies(there))?;
        add(&mut sample, ["added p50", "added p99"], later(here, there))?;
    }
    if measured.cpu > 0.0 {
        sample.less("CPU an event", "µs", measured.cpu / measured.published * 1e6);
    }
    subscribers.iter().for_each(|&id| stage.note_faults(&mut sample, id..id + 1));
    Ok(sample)
}

/// The middle one, and that which one in a hundred exceeds.
fn add(sample: &mut Sample, names: [&'static str; 2], mut values_us: Vec<i64>) -> anyhow::Result<()> {
    ensure!(!values_us.is_empty(), "no event came");
    values_us.sort_unstable();
    for (name, share) in names.into_iter().zip([50, 99]) {
        let place = (values_us.len() * share).div_ceil(100).saturating_sub(1);
        sample.less(name, "ms", values_us[place] as f64 / 1e3);
    }
    Ok(())
}

fn latencies(arrivals: &[Arrival]) -> Vec<i64> {
    arrivals.iter().map(|came| came.at_us as i64 - came.mark.due_us as i64).collect()
}

/// How much later each event came there than here; less than nothing where it was there first.
fn later(here: &[Arrival], there: &[Arrival]) -> Vec<i64> {
    let here: HashMap<u64, u64> = here.iter().map(|came| (came.mark.number, came.at_us)).collect();
    let both = |came: &Arrival| Some(came.at_us as i64 - *here.get(&came.mark.number)? as i64);
    there.iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Mark;

    fn came(number: u64, due_us: u64, at_us: u64) -> Arrival {
        Arrival { mark: Mark { due_us, number }, at_us }
    }

    #[test]
    fn what_another_node_adds_is_counted_event_by_event() {
        let here = [came(0, 100, 300), came(1, 200, 900), came(2, 300, 950)];
        // In another order, one of them earlier than here, and one that never came here.
        let there = [came(1, 200, 800), came(0, 100, 350), came(3, 400, 990), came(2, 300, 1000)];
        assert_eq!(later(&here, &there), [-100, 50, 50]);
        assert_eq!(latencies(&here), [200, 700, 650]);
    }

    #[test]
    fn the_worst_of_a_hundred_is_the_ninety_ninth() {
        let mut sample = Sample::default();
        add(&mut sample, ["p50", "p99"], (1..=100).rev().map(|value| value * 1000).collect())
            .expect("values");
        assert_eq!((sample.value("p50"), sample.value("p99")), (Some(50.0), Some(99.0)));
        assert!(add(&mut sample, ["p50", "p99"], Vec::new()).is_err(), "nothing came");
    }
}
