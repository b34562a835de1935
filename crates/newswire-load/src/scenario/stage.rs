//! What every scenario stands on: a started system, its swarm, one publisher and the events it sends.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::event::{EventText, Mark};
use crate::machine;
use crate::peer::{Interest, Launch, Peer, Purpose, Running};
use crate::scenario::{Sample, Settings, Site};
use crate::swarm::{Busy, Group, Joining, Swarm};

/// Time before anything is counted.
pub(crate) const WARM_UP: Duration = Duration::from_millis(400);

/// A running system with connections; dropped in this order.
pub(crate) struct Stage {
    pub(crate) swarm: Swarm,
    pub(crate) source: Source,
    pub(crate) running: Box<dyn Running>,
    /// Those that only the server is to use.
    cores: Vec<usize>,
    _dir: TempDir,
}

impl Stage {
    /// Starts the system and connects one publisher.
    pub(crate) fn set(peer: &dyn Peer, settings: &Settings, purpose: Purpose) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let pinned = !settings.server_cores.is_empty();
        let cores = if pinned { &settings.server_cores } else { machine::cores() };
        let running = peer.start(&Launch { cores, dir: dir.path(), purpose })?;
        let mut swarm = Swarm::new(&*running)?;
        let shared = cores.iter().any(|core| Site::here().generator.contains(core));
        // Where a system runs that somebody else started is not known.
        if !shared && !running.pids().is_empty() {
            swarm.spin();
        }
        let publisher = swarm.publisher(running.publish_addr(), running.publisher())?;
        let source = Source::new(publisher, settings.event_bytes);
        let cores = if shared || running.pids().is_empty() { Vec::new() } else { cores.to_vec() };
        Ok(Self { swarm, source, running, cores, _dir: dir })
    }

    /// Connects subscribers that want everything from the next event on.
    pub(crate) fn subscribe(&mut self, count: usize, group: Group) -> anyhow::Result<Range<usize>> {
        self.subscribe_at(self.running.addr(), count, group)
    }

    /// As [`Stage::subscribe`], on one node of several.
    pub(crate) fn subscribe_at(
        &mut self,
        addr: SocketAddr,
        count: usize,
        group: Group,
    ) -> anyhow::Result<Range<usize>> {
        let joining = Joining { group, next: self.source.next, every: true };
        let running = &self.running;
        let subscribers = (0..count).map(|_| running.subscriber(&Interest::Everything));
        self.swarm.subscribe(addr, joining, subscribers)
    }

    /// Publishes as fast as the slowest live subscriber receives, this many events ahead of it.
    pub(crate) fn flood(&mut self, window: u64, time: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            let now = self.swarm.now_us();
            let limit = self.swarm.slowest() + window;
            self.source.publish_to(&mut self.swarm, limit, |_| now)?;
            self.swarm.turn(Some(Duration::from_millis(100)))?;
        }
        Ok(())
    }

    /// Publishes up to this number and waits until all live subscribers have it.
    pub(crate) fn publish_and_wait(&mut self, limit: u64, window: u64) -> anyhow::Result<()> {
        let moved = Instant::now();
        while self.swarm.slowest() < limit {
            let now = self.swarm.now_us();
            let ahead = (self.swarm.slowest() + window).min(limit);
            self.source.publish_to(&mut self.swarm, ahead, |_| now)?;
            self.swarm.turn(Some(Duration::from_millis(100)))?;
            anyhow::ensure!(moved.elapsed() < Duration::from_secs(60), "the events do not arrive");
        }
        Ok(())
    }

    /// Waits until everything that was published has arrived at the live subscribers.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        let all = self.source.next;
        self.swarm.wait(|swarm| swarm.slowest() >= all)
    }

    /// Publishes at a steady rate until `done`; each event is due at its tick, however late it is sent.
    pub(crate) fn steady(
        &mut self,
        rate: u32,
        mut each_turn: impl FnMut(&mut Swarm) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let (first, start) = (self.source.next, self.swarm.now_us());
        let interval_us = 1e6 / f64::from(rate);
        self.swarm.tick_every(Duration::from_secs(1) / rate)?;
        while !each_turn(&mut self.swarm)? {
            let limit = first + self.swarm.ticks();
            let due = |number: u64| start + ((number - first + 1) as f64 * interval_us) as u64;
            self.source.publish_to(&mut self.swarm, limit, due)?;
            self.swarm.turn(Some(Duration::from_millis(100)))?;
        }
        self.swarm.stop_ticking();
        Ok(())
    }

    /// Begins to measure.
    pub(crate) fn meter(&self) -> Meter {
        let pids = self.running.pids();
        Meter {
            cpu: machine::cpu_seconds(&pids),
            pids,
            received: self.swarm.received(),
            published: self.source.next,
            busy: self.swarm.busy(),
            cores_busy: machine::core_busy_seconds(&self.cores),
            cores: self.cores.clone(),
            started: Instant::now(),
        }
    }

    /// Adds to a sample what did not arrive as it should at these subscribers.
    pub(crate) fn note_faults(&self, sample: &mut Sample, ids: Range<usize>) {
        let tally = self.swarm.tally(ids);
        sample.faults += tally.lost + tally.misplaced;
    }
}

/// Counts from a moment on.
pub(crate) struct Meter {
    started: Instant,
    pids: Vec<u32>,
    cpu: f64,
    received: u64,
    published: u64,
    busy: Busy,
    cores: Vec<usize>,
    cores_busy: f64,
}

/// What was counted.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Of the server; zero where its processes are not known.
    pub(crate) cpu: f64,
    pub(crate) deliveries: f64,
    pub(crate) published: f64,
    pub(crate) busy: f64,
    /// What others took of the server's cores, from 0 to 1; zero where it had none of its own.
    pub(crate) others: f64,
}

impl Measured {
    /// A sample that so far only knows how it was taken.
    pub(crate) fn sample(&self) -> Sample {
        Sample { busy: self.busy, others: self.others, ..Sample::default() }
    }
}

impl Meter {
    pub(crate) fn read(&self, stage: &Stage) -> Measured {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu = machine::cpu_seconds(&self.pids) - self.cpu;
        let of_all = machine::core_busy_seconds(&self.cores) - self.cores_busy;
        Measured {
            seconds,
            cpu,
            others: if self.cores.is_empty() { 0.0 } else { ((of_all - cpu) / seconds).max(0.0) },
            deliveries: (stage.swarm.received() - self.received) as f64,
            published: (stage.source.next - self.published) as f64,
            busy: stage.swarm.share(&self.busy),
        }
    }
}

/// The events of one publisher.
pub(crate) struct Source {
    publisher: usize,
    text: EventText,
    /// The number of the next event.
    pub(crate) next: u64,
    batch: Vec<Vec<u8>>,
}

impl Source {
    pub(crate) fn new(publisher: usize, event_bytes: usize) -> Self {
        Self { publisher, text: EventText::new(event_bytes), next: 0, batch: Vec::new() }
    }

    /// Publishes the events below `limit`, as many as the publisher has room for.
    pub(crate) fn publish_to(
        &mut self,
        swarm: &mut Swarm,
        limit: u64,
        due_us: impl Fn(u64) -> u64,
    ) -> anyhow::Result<()> {
        let count = limit.saturating_sub(self.next).min(swarm.room(self.publisher) as u64) as usize;
        if count == 0 {
            return Ok(());
        }
        self.batch.resize_with(self.batch.len().max(count), Vec::new);
        for event in &mut self.batch[..count] {
            let mark = Mark { due_us: due_us(self.next), number: self.next };
            event.clear();
            event.extend_from_slice(self.text.write(mark));
            self.next += 1;
        }
        swarm.publish(self.publisher, &self.batch[..count])
    }
}
