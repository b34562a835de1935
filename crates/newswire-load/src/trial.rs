//! A moment of everything a system says it can do, to see that it does it, before anything is measured.

use anyhow::{Context, ensure};

use crate::event::{EventText, Mark, agent_id};
use crate::peer::{Interest, Launch, Peer, Purpose, Running};
use crate::scan::Tally;
use crate::swarm::{Group, Joining, Swarm};

/// Subscribers of a trial.
pub const SUBSCRIBERS: usize = 3;
/// Events of each part of a trial.
pub const EVENTS: u64 = 50;

/// One part of a trial.
type Part = fn(&dyn Running) -> anyhow::Result<()>;

/// Tries everything the peer can; nothing is measured.
///
/// # Errors
/// What did not work.
pub fn run(peer: &dyn Peer) -> anyhow::Result<()> {
    let abilities = peer.abilities();
    let parts: [(bool, Purpose, Part); 4] = [
        (abilities.fan_out, Purpose::FanOut, fan_out),
        (abilities.filters, Purpose::FanOut, filters),
        (abilities.durable, Purpose::Durable, durable),
        (abilities.resume, Purpose::Resume, resume),
    ];
    for (_, purpose, part) in parts.into_iter().filter(|(can, ..)| *can) {
        let dir = tempfile::tempdir()?;
        let cores = crate::machine::cores();
        let running = peer.start(&Launch { cores, dir: dir.path(), purpose })?;
        part(&*running).with_context(|| format!("started for {purpose:?}"))?;
    }
    Ok(())
}

/// Every subscriber gets every event, in order.
fn fan_out(running: &dyn Running) -> anyhow::Result<()> {
    let mut swarm = Swarm::new(running)?;
    let joining = Joining { group: Group::Live, next: 0, every: true };
    let subscribers = (0..SUBSCRIBERS).map(|_| running.subscriber(&Interest::Everything));
    let ids = swarm.subscribe(running.addr(), joining, subscribers)?;
    let publisher = swarm.publisher(running.publish_addr(), running.publisher())?;
    publish(&mut swarm, publisher, 0..EVENTS, 0)?;
    swarm.wait(|swarm| swarm.slowest() == EVENTS)?;
    let expected = Tally { received: EVENTS * SUBSCRIBERS as u64, ..Tally::default() };
    ensure!(swarm.tally(ids.clone()) == expected, "of {expected:?} came {:?}", swarm.tally(ids));
    Ok(())
}

/// Each subscriber gets the events of its agent only.
fn filters(running: &dyn Running) -> anyhow::Result<()> {
    let mut swarm = Swarm::new(running)?;
    let joining = Joining { group: Group::Aside, next: 0, every: false };
    let subscribers = (0..SUBSCRIBERS).map(|agent| running.subscriber(&Interest::Agent(agent_id(agent))));
    let ids = swarm.subscribe(running.addr(), joining, subscribers)?;
    let publisher = swarm.publisher(running.publish_addr(), running.publisher())?;
    for agent in 0..SUBSCRIBERS {
        let first = EVENTS * agent as u64;
        publish(&mut swarm, publisher, first..first + EVENTS, agent)?;
    }
    let all = EVENTS * SUBSCRIBERS as u64;
    swarm.wait(|swarm| swarm.received() == all)?;
    for id in ids {
        let tally = swarm.tally(id..id + 1);
        ensure!(tally == Tally { received: EVENTS, ..Tally::default() }, "subscriber {id} got {tally:?}");
    }
    Ok(())
}

/// Every publish is acknowledged, to the one who published.
fn durable(running: &dyn Running) -> anyhow::Result<()> {
    let mut swarm = Swarm::new(running)?;
    let publisher = swarm.publisher(running.publish_addr(), running.publisher())?;
    let other = swarm.publisher(running.publish_addr(), running.publisher())?;
    publish(&mut swarm, publisher, 0..EVENTS, 0)?;
    swarm.wait(|swarm| swarm.acknowledged(publisher) == EVENTS)?;
    publish(&mut swarm, other, EVENTS..EVENTS + 1, 0)?;
    // What comes to the wrong one came before.
    swarm.wait(|swarm| swarm.acknowledged(other) > 0)?;
    let acknowledged = (swarm.acknowledged(publisher), swarm.acknowledged(other));
    ensure!(acknowledged == (EVENTS, 1), "acknowledged were {acknowledged:?}");
    Ok(())
}

/// Subscribers that were cut off get what they missed.
fn resume(running: &dyn Running) -> anyhow::Result<()> {
    let mut swarm = Swarm::new(running)?;
    let joining = Joining { group: Group::Aside, next: 0, every: true };
    let subscribers = (0..SUBSCRIBERS).map(|_| running.subscriber(&Interest::Resumable));
    let ids = swarm.subscribe(running.addr(), joining, subscribers)?;
    let publisher = swarm.publisher(running.publish_addr(), running.publisher())?;
    publish(&mut swarm, publisher, 0..1, 0)?;
    swarm.wait(|swarm| swarm.received() == SUBSCRIBERS as u64)?;
    let resumed = swarm.cut(ids)?;
    publish(&mut swarm, publisher, 1..EVENTS, 0)?;
    swarm.aim_at(EVENTS);
    let joining = Joining { next: 1, ..joining };
    let ids = swarm.subscribe(running.addr(), joining, resumed.into_iter())?;
    swarm.wait(|swarm| swarm.arrived() == SUBSCRIBERS)?;
    let expected = Tally { received: (EVENTS - 1) * SUBSCRIBERS as u64, ..Tally::default() };
    ensure!(swarm.tally(ids.clone()) == expected, "of {expected:?} came {:?}", swarm.tally(ids));
    Ok(())
}

fn publish(
    swarm: &mut Swarm,
    publisher: usize,
    numbers: std::ops::Range<u64>,
    agent: usize,
) -> anyhow::Result<()> {
    let mut text = EventText::new(400);
    for number in numbers {
        swarm.wait(|swarm| swarm.room(publisher) > 0)?;
        let event = text.write_of(Mark { due_us: swarm.now_us(), number }, agent).to_vec();
        swarm.publish(publisher, &[event])?;
    }
    Ok(())
}
