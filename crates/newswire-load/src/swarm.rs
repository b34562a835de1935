//! Thousands of connections in one thread and one poll loop.
//!
//! Frugal, because a load generator that is the bottleneck measures itself: one large buffer to read into for all
//! connections, no allocation for an event, no parsing. What it costs is in [`Swarm::share`].

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Looking, Phase, Role};
use crate::event::Mark;
use crate::machine;
use crate::peer::{Outgoing, Publisher, Running, Subscriber};
use crate::scan::{Scanner, Tally};
use crate::timer::Timer;

/// What one read takes at most.
const BUFFER_BYTES: usize = 256 << 10;
/// Connections that are being opened at the same time.
const OPENING: usize = 128;
/// How long nothing at all may happen while something is awaited.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMER: Token = Token(usize::MAX - 1);

/// Which connections are looked at how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Their latency counts, and the slowest of them holds the window.
    Live,
    /// Only their tally counts.
    Aside,
}

/// How subscribers are to be connected.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// Which group they belong to.
    pub group: Group,
    /// The number of the first event they will get.
    pub next: u64,
    /// Whether they get every number, or (filtered) only rising ones.
    pub every: bool,
}

struct Slot {
    stream: TcpStream,
    connection: Connection,
    host: SocketAddr,
    group: Group,
    every: bool,
    stalled: bool,
    /// `None`: not recorded.
    arrivals: Option<Vec<Arrival>>,
}

/// An event that came to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it says of itself.
    pub mark: Mark,
    /// When it came, as [`Swarm::now_us`] counts.
    pub at_us: u64,
}

/// What is counted over all connections.
struct Counts {
    started: Instant,
    ready: usize,
    /// How many live subscribers have got each number from `base` on.
    window: VecDeque<u32>,
    base: u64,
    live: u32,
    latency: Option<Histogram<u64>>,
    /// Connections aside that have got everything below a number.
    target: u64,
    arrived: usize,
    received: u64,
}

/// The connections.
pub struct Swarm {
    poll: Poll,
    events: Events,
    slots: Vec<Option<Slot>>,
    buffer: Vec<u8>,
    finder: Finder<'static>,
    batches: bool,
    counts: Counts,
    timer: Option<Timer>,
    ticks: u64,
    spins: bool,
    /// Time in which nothing was there, while it spun.
    idle: Duration,
}

impl Swarm {
    /// No connection yet, for this system.
    ///
    /// # Errors
    /// When the kernel gives no poll.
    pub fn new(running: &dyn Running) -> anyhow::Result<Self> {
        let counts = Counts {
            started: Instant::now(),
            ready: 0,
            window: VecDeque::new(),
            base: 0,
            live: 0,
            latency: None,
            target: u64::MAX,
            arrived: 0,
            received: 0,
        };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            slots: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            finder: Finder::new(running.marker()),
            batches: running.batches(),
            counts,
            timer: None,
            ticks: 0,
            spins: false,
            idle: Duration::ZERO,
        })
    }

    /// Connects subscribers and waits until all their subscriptions hold; gives their ids.
    ///
    /// # Errors
    /// When one is refused, or nothing happens for half a minute.
    pub fn subscribe(
        &mut self,
        addr: SocketAddr,
        joining: Joining,
        subscribers: impl Iterator<Item = Box<dyn Subscriber>>,
    ) -> anyhow::Result<Range<usize>> {
        let first = self.slots.len();
        for subscriber in subscribers {
            self.wait(|swarm| swarm.opening() < OPENING)?;
            self.join(addr, joining, subscriber)?;
        }
        self.wait(|swarm| swarm.opening() == 0).context("subscribing")?;
        Ok(first..self.slots.len())
    }

    /// Begins to connect one subscriber and gives its id.
    ///
    /// # Errors
    /// When there is no socket for it.
    pub fn join(
        &mut self,
        addr: SocketAddr,
        joining: Joining,
        subscriber: Box<dyn Subscriber>,
    ) -> anyhow::Result<usize> {
        let scanner = Scanner::new(joining.next, joining.every);
        self.open(addr, joining.group, joining.every, Connection::subscriber(subscriber, scanner))
    }

    /// Connections that are not ready yet.
    pub fn opening(&self) -> usize {
        self.slots.len() - self.counts.ready
    }

    /// Connects a publisher and waits until it may publish; gives its id.
    ///
    /// # Errors
    /// When it is refused, or nothing happens for half a minute.
    pub fn publisher(&mut self, addr: SocketAddr, publisher: Box<dyn Publisher>) -> anyhow::Result<usize> {
        let id = self.open(addr, Group::Aside, false, Connection::publisher(publisher))?;
        self.wait(|swarm| swarm.opening() == 0).context("connecting a publisher")?;
        Ok(id)
    }

    /// How many events this publisher takes now.
    pub fn room(&self, publisher: usize) -> usize {
        match self.slots[publisher].as_ref().map(|slot| &slot.connection.role) {
            Some(Role::Publisher { publisher, .. }) => publisher.room(),
            _ => 0,
        }
    }

    /// How many events were acknowledged to this publisher.
    pub fn acknowledged(&self, publisher: usize) -> u64 {
        match self.slots[publisher].as_ref().map(|slot| &slot.connection.role) {
            Some(Role::Publisher { acknowledged, .. }) => *acknowledged,
            _ => 0,
        }
    }

    /// Publishes these events now.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn publish(&mut self, publisher: usize, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let slot = self.slots[publisher].as_mut().context("the publisher is gone")?;
        if let Role::Publisher { publisher, .. } = &mut slot.connection.role {
            publisher.publish(events, &mut Outgoing::new(&mut slot.connection.out));
        }
        slot.flush()
    }

    /// Waits for something to happen, at most this long, and does it.
    ///
    /// # Errors
    /// When a connection fails.
    pub fn turn(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        self.await_events(timeout)?;
        let looking = Looking { finder: &self.finder, batches: self.batches };
        for event in &self.events {
            if event.token() == TIMER {
                self.ticks += self.timer.as_mut().map_or(0, Timer::expirations);
                continue;
            }
            let Some(slot) = self.slots[event.token().0].as_mut() else { continue };
            if event.is_writable() || event.is_error() {
                slot.writable(&mut self.counts)?;
            }
            if (event.is_readable() || event.is_read_closed()) && !slot.stalled {
                slot.readable(&looking, &mut self.buffer, event.is_read_closed(), &mut self.counts)?;
            }
        }
        Ok(())
    }

    fn await_events(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        let entered = Instant::now();
        let mut looked = entered;
        loop {
            let wait = if self.spins { Some(Duration::ZERO) } else { timeout };
            match self.poll.poll(&mut self.events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => done?,
            }
            let waited = looked - entered;
            if !self.events.is_empty() || !self.spins || timeout.is_some_and(|timeout| waited >= timeout) {
                self.idle += waited;
                return Ok(());
            }
            looked = Instant::now();
        }
    }

    /// Keeps looking instead of sleeping from now on, for a generator with a core of its own: no system then pays for
    /// waking it, which costs more than a write where cores are virtual.
    pub fn spin(&mut self) {
        self.spins = true;
    }

    /// Takes turns until something is so.
    ///
    /// # Errors
    /// When a connection fails, or it is not so after half a minute in which no event arrived.
    pub fn wait(&mut self, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut moved = Instant::now();
        let mut before = (self.counts.ready, self.counts.received);
        while !done(self) {
            self.turn(Some(Duration::from_secs(1)))?;
            let now = (self.counts.ready, self.counts.received);
            if now != before {
                (before, moved) = (now, Instant::now());
            }
            ensure!(moved.elapsed() < PATIENCE, "nothing happens any more ({} events came)", now.1);
        }
        Ok(())
    }

    /// Begins to tick; [`Swarm::ticks`] counts.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn tick_every(&mut self, interval: Duration) -> anyhow::Result<()> {
        self.ticks = 0;
        self.timer = Some(Timer::start(interval, self.poll.registry(), TIMER)?);
        Ok(())
    }

    /// Ends the ticks.
    pub fn stop_ticking(&mut self) {
        self.timer = None;
    }

    /// Ticks since [`Swarm::tick_every`].
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Microseconds since the swarm began; what events are stamped with.
    pub fn now_us(&self) -> u64 {
        self.counts.started.elapsed().as_micros() as u64
    }

    /// The lowest number that not every live subscriber has got yet.
    pub fn slowest(&self) -> u64 {
        self.counts.base
    }

    /// Events received on all connections.
    pub fn received(&self) -> u64 {
        self.counts.received
    }

    /// Begins to record latencies of live subscribers anew, and gives those recorded before, in microseconds.
    pub fn record_latency(&mut self) -> Option<Histogram<u64>> {
        // From 1 µs to a minute, three digits: bounds that the type accepts.
        self.counts.latency.replace(Histogram::new_with_bounds(1, 60_000_000, 3).ok()?)
    }

    /// Begins to record every event that comes to this connection anew, and gives those recorded before: 24 bytes an event.
    pub fn record_arrivals(&mut self, id: usize) -> Vec<Arrival> {
        let slot = self.slots[id].as_mut();
        slot.and_then(|slot| slot.arrivals.replace(Vec::new())).unwrap_or_default()
    }

    /// Begins to count the connections aside that have got everything below `number`.
    pub fn aim_at(&mut self, number: u64) {
        (self.counts.target, self.counts.arrived) = (number, 0);
    }

    /// Connections that reached what [`Swarm::aim_at`] named.
    pub fn arrived(&self) -> usize {
        self.counts.arrived
    }

    /// What these connections received.
    pub fn tally(&self, ids: Range<usize>) -> Tally {
        let mut sum = Tally::default();
        self.slots[ids].iter().flatten().for_each(|slot| sum.add(slot.connection.scanner.tally()));
        sum
    }

    /// Stops or goes on reading from a connection.
    ///
    /// # Errors
    /// When it fails as it is read again.
    pub fn stall(&mut self, id: usize, stalled: bool) -> anyhow::Result<()> {
        let looking = Looking { finder: &self.finder, batches: self.batches };
        let slot = self.slots[id].as_mut().context("the subscriber is gone")?;
        slot.stalled = stalled;
        if !stalled {
            slot.readable(&looking, &mut self.buffer, false, &mut self.counts)?;
        }
        Ok(())
    }

    /// Cuts subscribers' connections and gives those who come back, in order.
    ///
    /// # Errors
    /// When one of them cannot resume.
    pub fn cut(&mut self, ids: Range<usize>) -> anyhow::Result<Vec<Box<dyn Subscriber>>> {
        let mut resumed = Vec::with_capacity(ids.len());
        for slot in self.slots[ids].iter_mut().filter_map(Option::take) {
            self.counts.live -= u32::from(slot.group == Group::Live && slot.every);
            if let Role::Subscriber(subscriber) = &slot.connection.role {
                resumed.push(subscriber.resumed().context("a subscriber cannot resume")?);
            }
        }
        Ok(resumed)
    }

    /// Begins to count what the generator itself costs.
    pub fn busy(&self) -> Busy {
        Busy { since: Instant::now(), cpu: machine::own_cpu_seconds(), idle: self.idle }
    }

    /// How much of its core the generator had to use since then, from 0 to 1; looking in vain does not count.
    pub fn share(&self, busy: &Busy) -> f64 {
        let elapsed = busy.since.elapsed().as_secs_f64().max(1e-9);
        if self.spins {
            return 1.0 - (self.idle - busy.idle).as_secs_f64() / elapsed;
        }
        (machine::own_cpu_seconds() - busy.cpu) / elapsed
    }

    fn open(
        &mut self,
        addr: SocketAddr,
        group: Group,
        every: bool,
        connection: Connection,
    ) -> anyhow::Result<usize> {
        let mut stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
        let id = self.slots.len();
        self.poll.registry().register(&mut stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        self.counts.live += u32::from(group == Group::Live && every);
        self.slots.push(Some(Slot {
            stream,
            connection,
            host: addr,
            group,
            every,
            stalled: false,
            arrivals: None,
        }));
        Ok(id)
    }
}

/// A moment from which [`Swarm::share`] counts.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    since: Instant,
    cpu: f64,
    idle: Duration,
}

impl Slot {
    fn writable(&mut self, counts: &mut Counts) -> anyhow::Result<()> {
        if self.connection.phase == Phase::Connecting {
            if let Some(error) = self.stream.take_error()? {
                bail!("connecting to {}: {error}", self.host);
            }
            if self.stream.peer_addr().is_err() {
                return Ok(());
            }
            self.stream.set_nodelay(true)?;
            // Cut connections vanish instead of holding their ports for a minute.
            rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
            self.connection.connected(&self.host.to_string());
            // Some have nothing to say first, and are never answered.
            counts.ready += usize::from(self.connection.phase == Phase::Ready);
        }
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let out = &mut self.connection.out;
        let mut written = 0;
        while written < out.len() {
            match self.stream.write(&out[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing"),
            }
        }
        out.drain(..written);
        Ok(())
    }

    fn readable(
        &mut self,
        looking: &Looking<'_>,
        buffer: &mut [u8],
        until_end: bool,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => {
                    self.received(looking, &buffer[..read], counts)?;
                    // Less than asked for means that the socket is empty, and the next event will say more.
                    if read < buffer.len() && !until_end {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading"),
            }
        }
    }

    fn received(&mut self, looking: &Looking<'_>, bytes: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
        let was_ready = self.connection.phase == Phase::Ready;
        let (group, every) = (self.group, self.every);
        // One reading of the clock serves all events that one read brought.
        let mut now = None;
        let arrivals = &mut self.arrivals;
        self.connection.received(looking, bytes, &mut |expected, scanner, mark| {
            counts.received += 1;
            if let Some(arrivals) = arrivals {
                let at_us = *now.get_or_insert_with(|| counts.started.elapsed().as_micros() as u64);
                arrivals.push(Arrival { mark, at_us });
            }
            match group {
                Group::Live => counts.live_event(expected, scanner.next(), every, mark.due_us, &mut now),
                Group::Aside => {
                    counts.arrived +=
                        usize::from(expected < counts.target && scanner.next() >= counts.target);
                }
            }
        })?;
        counts.ready += usize::from(!was_ready && self.connection.phase == Phase::Ready);
        if self.connection.out.is_empty() { Ok(()) } else { self.flush() }
    }
}

impl Counts {
    fn live_event(&mut self, expected: u64, next: u64, every: bool, due_us: u64, now: &mut Option<u64>) {
        if let Some(latency) = &mut self.latency {
            let now = *now.get_or_insert_with(|| self.started.elapsed().as_micros() as u64);
            latency.saturating_record(now.saturating_sub(due_us).max(1));
        }
        if !every {
            return;
        }
        // What was lost counts as got: it will not come, and the publisher must not wait for it.
        for number in expected.max(self.base)..next {
            let at = (number - self.base) as usize;
            if at >= self.window.len() {
                self.window.resize(at + 1, 0);
            }
            self.window[at] += 1;
        }
        while self.window.front().is_some_and(|&got| got >= self.live) {
            self.window.pop_front();
            self.base += 1;
        }
    }
}
