//! The limit of the machine: an epoll loop that writes the same bytes to every subscriber, and does nothing else.
//!
//! No log, no subscriptions, no sessions, no heartbeats. It upgrades whoever connects, takes ready-made frames from one
//! publisher, and writes each of them (or a number of them at once) to everybody. What no server can beat, a server can be
//! held against.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest as Readiness, Poll, Token};
use newswire_protocol::command::{FilterChange, Start};
use newswire_protocol::frame::text_header;
use newswire_protocol::{Draft, Limits, UnixMicros};

use crate::newswire::subscription;
use crate::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Running, State, Subscriber, Transport,
};
use crate::process::Process;
use crate::websocket::parse_header;

const SUBSCRIBERS: Token = Token(0);
const PUBLISHERS: Token = Token(1);
const FIRST: usize = 2;
/// How long it waits for frames that complete a write, while none come.
const LINGER: Duration = Duration::from_millis(1);
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Writes until it is killed.
///
/// # Errors
/// When it cannot listen.
pub fn run(frames_a_write: usize, mut announce: impl FnMut(SocketAddr, SocketAddr)) -> anyhow::Result<()> {
    let mut writer = Writer::new(frames_a_write.max(1))?;
    announce(writer.subscribers.local_addr()?, writer.publishers.local_addr()?);
    loop {
        writer.turn()?;
    }
}

/// A connection and what could not be written to it yet.
struct Link {
    stream: TcpStream,
    /// A publisher's incomplete frame, or the head of a request.
    unread: Vec<u8>,
    unwritten: Vec<u8>,
    /// Whether it is to get frames.
    member: bool,
    publishes: bool,
}

struct Writer {
    poll: Poll,
    events: Events,
    subscribers: TcpListener,
    publishers: TcpListener,
    links: Vec<Option<Link>>,
    buffer: Vec<u8>,
    frames_a_write: usize,
    /// Frames that wait for their write to be complete.
    gathered: Vec<u8>,
    frames: usize,
}

impl Writer {
    fn new(frames_a_write: usize) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (mut subscribers, mut publishers) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
        poll.registry().register(&mut subscribers, SUBSCRIBERS, Readiness::READABLE)?;
        poll.registry().register(&mut publishers, PUBLISHERS, Readiness::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            subscribers,
            publishers,
            links: Vec::new(),
            buffer: vec![0; 256 << 10],
            frames_a_write,
            gathered: Vec::new(),
            frames: 0,
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let timeout = (self.frames > 0).then_some(LINGER);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        if self.events.is_empty() {
            self.write_gathered();
            return Ok(());
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                token @ (SUBSCRIBERS | PUBLISHERS) => self.accept(token == PUBLISHERS)?,
                Token(token) => {
                    if event.is_writable() {
                        self.flush(token - FIRST);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        self.read(token - FIRST);
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self, publishes: bool) -> anyhow::Result<()> {
        let listener = if publishes { &self.publishers } else { &self.subscribers };
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.links.len() + FIRST);
            self.poll.registry().register(&mut stream, token, Readiness::READABLE | Readiness::WRITABLE)?;
            let (unread, unwritten) = (Vec::new(), Vec::new());
            self.links.push(Some(Link { stream, unread, unwritten, member: false, publishes }));
        }
    }

    fn read(&mut self, at: usize) {
        loop {
            let Some(link) = &mut self.links[at] else { return };
            match link.stream.read(&mut self.buffer) {
                Ok(read @ 1..) => {
                    let publishes = link.publishes;
                    if publishes || !link.member {
                        link.unread.extend_from_slice(&self.buffer[..read]);
                    }
                    if publishes {
                        self.take_frames(at);
                    } else {
                        link.upgrade();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    self.links[at] = None;
                    return;
                }
            }
        }
    }

    /// Takes whole frames off a publisher's bytes, writing whenever enough are together.
    fn take_frames(&mut self, at: usize) {
        let Some(link) = &mut self.links[at] else { return };
        let unread = std::mem::take(&mut link.unread);
        let mut rest = &unread[..];
        while let Some((_, length, header)) = parse_header(rest)
            && let Some((frame, behind)) = rest.split_at_checked(header + length as usize)
        {
            self.gathered.extend_from_slice(frame);
            self.frames += 1;
            rest = behind;
            if self.frames >= self.frames_a_write {
                self.write_gathered();
            }
        }
        let kept = rest.to_vec();
        if let Some(link) = &mut self.links[at] {
            link.unread = kept;
        }
    }

    fn write_gathered(&mut self) {
        for link in &mut self.links {
            if let Some(member) = link.as_mut().filter(|link| link.member)
                && !member.write(&self.gathered)
            {
                *link = None;
            }
        }
        self.gathered.clear();
        self.frames = 0;
    }

    fn flush(&mut self, at: usize) {
        let Some(link) = &mut self.links[at] else { return };
        let waiting = std::mem::take(&mut link.unwritten);
        if !waiting.is_empty() && !link.write(&waiting) {
            self.links[at] = None;
        }
    }
}

impl Link {
    fn upgrade(&mut self) {
        if !self.member && self.unread.ends_with(b"\r\n\r\n") {
            self.unread = Vec::new();
            self.member = true;
            self.write(UPGRADED);
        }
    }

    /// False when the connection is gone.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if !self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(bytes);
            return true;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unwritten.extend_from_slice(rest);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// The bare writer as a peer; its program is the one that calls [`run`].
pub struct BareWriter {
    program: PathBuf,
    /// Said to the program in front of the number of frames a write.
    arguments: Vec<String>,
    frames_a_write: Cell<usize>,
}

impl BareWriter {
    /// Run by this program with these arguments and the number of frames behind them.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { program: program.into(), arguments, frames_a_write: Cell::new(1) }
    }

    /// From the next start on, this many frames go into one write.
    pub fn set_frames_a_write(&self, frames: usize) {
        self.frames_a_write.set(frames.max(1));
    }
}

impl Peer for BareWriter {
    fn name(&self) -> String {
        "bare writer".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, ..Abilities::default() }
    }

    fn configuration(&self) -> String {
        "an epoll loop that writes ready-made frames, and nothing else".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(self.frames_a_write.get().to_string());
        let mut process = Process::start(command, launch.cores, launch.dir)?;
        let (addr, publish_addr) = process.wait_for_output(|output| {
            let (first, second) = output.lines().next()?.split_once(' ')?;
            Some((first.parse().ok()?, second.parse().ok()?))
        })?;
        Ok(Box::new(Instance { process, addr, publish_addr }))
    }
}

struct Instance {
    process: Process,
    addr: SocketAddr,
    publish_addr: SocketAddr,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn publish_addr(&self) -> SocketAddr {
        self.publish_addr
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, _: &Interest) -> Box<dyn Subscriber> {
        Box::new(BareSubscriber)
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(BarePublisher { published: 0 })
    }
}

struct BareSubscriber;

impl Subscriber for BareSubscriber {
    fn transport(&self) -> Transport {
        Transport::websocket("/")
    }

    /// Asks as a subscriber of Newswire does, though nobody listens: to the kernel, a peer that talks first is another one
    /// than a peer that only listens, whose acknowledgements cost the writer less.
    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        out.text(&subscription(FilterChange::Keep, Start::Live));
        State::Ready
    }

    fn message(&mut self, _: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<State> {
        anyhow::bail!("the bare writer says nothing but events")
    }
}

/// Writes the frames that Newswire would send.
struct BarePublisher {
    published: u64,
}

impl Publisher for BarePublisher {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Ready
    }

    fn message(&mut self, _: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        Ok(Progress { state: State::Ready, acknowledged: 0 })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        for event in events {
            self.published += 1;
            let json = as_sent(event, self.published).unwrap_or_default();
            let (header, length) = text_header(json.len());
            out.raw(&header[..length]);
            out.raw(&json);
        }
    }

    fn acknowledges(&self) -> bool {
        false
    }
}

/// The event as Newswire sends it, with a made-up id.
fn as_sent(event: &[u8], offset: u64) -> Option<Vec<u8>> {
    let draft = Draft::parse(std::str::from_utf8(event).ok()?, &Limits::default()).ok()?;
    let id = format!("0197a6b0-3f5e-7c3a-9d4e-{offset:012x}");
    Some(draft.encode(&id, UnixMicros(1_800_000_000_000_000 + offset)).with_offset(offset))
}
