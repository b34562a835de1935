//! The seam between the load generator and what it measures.
//!
//! A [`Peer`] is a system that can be started; [`Running`] is a private instance of it; [`Subscriber`] and [`Publisher`]
//! are what one connection says. They own no sockets: they are given what arrived and append what goes out, so that one
//! thread drives thousands of them and every system is measured by the same loop.
//!
//! # How to write a peer
//!
//! 1. `start` spawns the system with [`Launch::serve`], whose [`Process`] pins it to [`Launch::cores`], keeps its
//!    output for the error message and kills it when dropped. Files go into [`Launch::dir`], which is fresh and vanishes.
//! 2. A subscriber over WebSocket gives its [`Transport`] (path and headers), says in `opened` what it sends first, and
//!    answers `Ready` to the message that confirms its subscription. The generator does the upgrade, the framing and the
//!    pings of the protocol. Everything else is [`Transport::Raw`]: bytes as they come, in pieces.
//! 3. Once it is ready, messages with an event in them are only counted, not handed over (see
//!    [`Subscriber::wants_events`]); the others (heartbeats of the application) still reach `message`.
//! 4. Events are found by [`Running::marker`], the first bytes of the payload, in whatever surrounds them. A system that
//!    passes the event on as a JSON string escapes its quotes: its marker is `{\"t\":`.
//! 5. A publisher is given events as complete JSON texts and passes them on unchanged, as the system documents it.
//!    `message` counts what was acknowledged; a system that acknowledges nothing says so in `acknowledges`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::websocket::{self, Opcode};

/// A system under measurement.
pub trait Peer {
    /// As tables show it, for example `Socket.IO`.
    fn name(&self) -> String;

    /// Version of what is installed.
    ///
    /// # Errors
    /// When it is not installed: what is missing, and how to get it. Its goals are then unmet, not passed.
    fn version(&self) -> Result<String, String>;

    /// What it can take part in.
    fn abilities(&self) -> Abilities;

    /// The configuration in one line, for the report.
    fn configuration(&self) -> String;

    /// Starts a private instance on free ports of 127.0.0.1 and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>>;
}

/// What a peer can take part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Many subscribers receive every event in order: paced, flood, latency, memory, connection rate.
    pub fan_out: bool,
    /// The server evaluates filters (`Interest::Agent`).
    pub filters: bool,
    /// A publish is acknowledged when it was synced to disk.
    pub durable: bool,
    /// A client that comes back gets what it missed ([`Subscriber::resumed`]).
    pub resume: bool,
}

/// What an instance is started for: some systems are configured differently for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Live events to many subscribers.
    FanOut,
    /// Publishes that are synced before they are acknowledged.
    Durable,
    /// Clients that come back for 1,000 events and more.
    Resume,
}

/// How an instance is to be started.
pub struct Launch<'a> {
    /// The cores it may run on.
    pub cores: &'a [usize],
    /// An empty directory for its files.
    pub dir: &'a Path,
    /// What it is started for.
    pub purpose: Purpose,
}

impl Launch<'_> {
    /// Starts the system so, and waits until it accepts connections at this address.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub fn serve(&self, command: Command, addr: SocketAddr) -> anyhow::Result<Process> {
        let mut process = Process::start(command, self.cores, self.dir)?;
        process.wait_for_port(addr)?;
        Ok(process)
    }
}

/// A private instance; dropping it stops it.
pub trait Running {
    /// Where subscribers connect.
    fn addr(&self) -> SocketAddr;

    /// Where publishers connect.
    fn publish_addr(&self) -> SocketAddr {
        self.addr()
    }

    /// Where subscribers connect to each of its nodes, that which publishers connect to first.
    fn nodes(&self) -> Vec<SocketAddr> {
        vec![self.addr()]
    }

    /// The process that was started; `None` if somebody else runs it.
    fn process(&self) -> Option<&Process>;

    /// Its processes, all whose processor time and memory count.
    fn pids(&self) -> Vec<u32> {
        self.process().map(Process::tree).unwrap_or_default()
    }

    /// What one subscriber says.
    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber>;

    /// What one publisher says.
    fn publisher(&self) -> Box<dyn Publisher>;

    /// What a publisher says that has so many events at a time, and is answered for all of them before it has more.
    fn batch_publisher(&self, _most: usize) -> Box<dyn Publisher> {
        self.publisher()
    }

    /// The bytes in front of an event's first number, where its payload begins.
    fn marker(&self) -> &'static [u8] {
        crate::event::MARKER
    }

    /// Whether a message may hold several events.
    fn batches(&self) -> bool {
        false
    }

    /// Events and writes to subscribers' sockets so far, where the system counts them.
    ///
    /// # Errors
    /// When it counts them and cannot be asked.
    fn writes(&self) -> anyhow::Result<Option<Writes>> {
        Ok(None)
    }
}

/// What went to subscribers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Events sent, once for each subscriber.
    pub events: u64,
    /// Calls of the kernel that sent them.
    pub writes: u64,
}

/// What a subscriber wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every event of the one channel that is published to.
    Everything,
    /// As `Everything`; the subscriber remembers its position, so that [`Subscriber::resumed`] can go on from there.
    Resumable,
    /// Only events with this `agent_id`, selected by the server.
    Agent(String),
}

/// How bytes travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket, upgraded at this path (with query); each header as `Name: value`.
    WebSocket {
        /// Path and query.
        path: String,
        /// Headers beyond those of the protocol.
        headers: Vec<String>,
    },
    /// A plain TCP stream.
    Raw,
}

impl Transport {
    /// A WebSocket at a path, without further headers.
    pub fn websocket(path: impl Into<String>) -> Self {
        Self::WebSocket { path: path.into(), headers: Vec::new() }
    }
}

/// Whether a connection has got where it wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More must be said first; behind `Ready` it means nothing.
    Waiting,
    /// A subscriber's subscription holds; a publisher may publish.
    Ready,
}

/// What one subscriber says.
pub trait Subscriber {
    /// How its bytes travel.
    fn transport(&self) -> Transport;

    /// The connection (and the upgrade) stands: what is said first. Returns `Ready` where nothing will be answered.
    fn opened(&mut self, out: &mut Outgoing<'_>) -> State;

    /// A message arrived: a whole WebSocket message, or a piece of a raw stream. Before `Ready` every message is handed
    /// over; afterwards those without an event.
    ///
    /// # Errors
    /// When it says that something went wrong; the measurement fails with it.
    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State>;

    /// Whether messages with events are to be handed over as well, for systems that are asked for each portion, and to
    /// remember positions. Costs the generator time.
    fn wants_events(&self) -> bool {
        false
    }

    /// The subscriber that comes back after its connection was cut and asks for everything since; `None` where the
    /// system cannot resume.
    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        None
    }
}

/// What became of publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether it may publish now (stays `Ready` once it was).
    pub state: State,
    /// Events acknowledged by this message.
    pub acknowledged: usize,
}

/// What one publisher says.
pub trait Publisher {
    /// How its bytes travel.
    fn transport(&self) -> Transport;

    /// The connection (and the upgrade) stands.
    fn opened(&mut self, out: &mut Outgoing<'_>) -> State;

    /// A message arrived, as for [`Subscriber::message`].
    ///
    /// # Errors
    /// When a publish was refused or something else went wrong.
    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Progress>;

    /// How many events it takes at this moment, for systems that answer one request after the other. At least one once
    /// everything is acknowledged.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// Publishes these events in this order; never more than there is room for.
    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>);

    /// Whether publishes are acknowledged one way or another.
    fn acknowledges(&self) -> bool {
        true
    }
}

/// Where a connection's bytes go out.
pub struct Outgoing<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Outgoing<'a> {
    /// Appends to these bytes.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// One text message of a WebSocket.
    pub fn text(&mut self, text: &[u8]) {
        websocket::write_frame(self.bytes, Opcode::Text, text);
    }

    /// One binary message of a WebSocket.
    pub fn binary(&mut self, bytes: &[u8]) {
        websocket::write_frame(self.bytes, Opcode::Binary, bytes);
    }

    /// Bytes as they are, for raw streams.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}
