//! The limit of publishing durably over sockets, one event at a time: an epoll loop that reads what has come, writes it
//! into a segment, syncs it and answers everybody.
//!
//! It speaks as Newswire does and does nothing of what makes a feed: no event is looked into, no offset is ever needed
//! again, nobody subscribes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest as Readiness, Poll, Token};
use newswire_load::newswire::Remote;
use newswire_load::peer::{Abilities, Interest, Launch, Peer, Publisher, Running, Subscriber};
use newswire_load::process::Process;
use newswire_protocol::FrameDecoder;
use newswire_protocol::frame::{Item, encode_text};
use newswire_protocol::limits::MAX_FRAME_BYTES;
use newswire_protocol::reply;

use crate::bare::Bare;

/// As tables show it.
pub const NAME: &str = "bare door";

/// Read from a socket at once.
const READ_BYTES: usize = 8 << 10;
const ARRIVALS: Token = Token(usize::MAX);
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const EVENT_ID: &str = "0197a6b0-3f5e-7c3a-9d4e-000000000001";

/// Answers publishes until it is killed; segments go into `dir`.
///
/// # Errors
/// When it cannot listen or write.
pub fn run(dir: &Path, announce: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let mut door = Door::open(dir)?;
    announce(door.arrivals.local_addr()?);
    loop {
        door.turn()?;
    }
}

struct Link {
    stream: TcpStream,
    decoder: FrameDecoder,
    upgraded: bool,
}

struct Door {
    poll: Poll,
    events: Events,
    arrivals: TcpListener,
    links: Vec<Option<Link>>,
    log: Bare,
    next: u64,
    /// What has come in this turn, and from whom.
    records: Vec<Vec<u8>>,
    publishers: Vec<usize>,
}

impl Door {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut arrivals = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        poll.registry().register(&mut arrivals, ARRIVALS, Readiness::READABLE)?;
        let (log, events) = (Bare::create(dir)?, Events::with_capacity(1024));
        let (links, records, publishers) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poll, events, arrivals, links, log, next: 1, records, publishers })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                ARRIVALS => self.accept()?,
                Token(at) => self.read(at)?,
            }
        }
        self.events = events;
        self.commit()
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let mut stream = match self.arrivals.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            stream.set_nodelay(true)?;
            self.poll.registry().register(&mut stream, Token(self.links.len()), Readiness::READABLE)?;
            let decoder = FrameDecoder::new(MAX_FRAME_BYTES, MAX_FRAME_BYTES);
            self.links.push(Some(Link { stream, decoder, upgraded: false }));
        }
    }

    /// Takes what has come on a connection. Less than the buffer holds is all there was.
    fn read(&mut self, at: usize) -> anyhow::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let mut read = READ_BYTES;
        while read == READ_BYTES {
            let Some(link) = &mut self.links[at] else { return Ok(()) };
            read = match link.stream.read(&mut buffer) {
                Ok(read @ 1..) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(0) | Err(_) => {
                    self.links[at] = None;
                    return Ok(());
                }
            };
            self.take(at, &buffer[..read])?;
        }
        Ok(())
    }

    fn take(&mut self, at: usize, mut bytes: &[u8]) -> anyhow::Result<()> {
        let Some(link) = &mut self.links[at] else { return Ok(()) };
        if !std::mem::replace(&mut link.upgraded, true) {
            return Ok(link.stream.write_all(UPGRADED)?);
        }
        while !bytes.is_empty() {
            let item = link.decoder.decode(&mut bytes).map_err(|bad| anyhow::anyhow!(bad.reason))?;
            if let Some(Item::Text(text)) = item {
                self.records.push(text.into_bytes());
                self.publishers.push(at);
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.log.append(self.records.iter().map(Vec::as_slice))?;
        self.records.clear();
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        for at in self.publishers.drain(..) {
            text.clear();
            frame.clear();
            reply::published(&mut text, None, self.next, EVENT_ID, false);
            encode_text(&mut frame, &text);
            self.next += 1;
            if let Some(link) = &mut self.links[at]
                && link.stream.write_all(&frame).is_err()
            {
                self.links[at] = None;
            }
        }
        Ok(())
    }
}

/// The bare door as a peer; its program is the one that calls [`run`].
pub struct BareDoor {
    program: PathBuf,
    argument: &'static str,
}

impl BareDoor {
    /// Run by this program with this argument and the directory behind it.
    pub fn new(program: impl Into<PathBuf>, argument: &'static str) -> Self {
        Self { program: program.into(), argument }
    }
}

impl Peer for BareDoor {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn version(&self) -> Result<String, String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn abilities(&self) -> Abilities {
        Abilities { durable: true, ..Abilities::default() }
    }

    fn configuration(&self) -> String {
        "an epoll loop that reads, writes a segment, syncs it and answers, and nothing else".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let mut command = Command::new(&self.program);
        command.arg(self.argument).arg(launch.dir);
        let mut process = Process::start(command, launch.cores, launch.dir)?;
        let addr = process.wait_for_output(|output| output.lines().next()?.parse().ok())?;
        let spoken = Remote::new(addr).start(launch)?;
        Ok(Box::new(Instance { process, spoken }))
    }
}

/// Whoever talks to it talks as to Newswire.
struct Instance {
    process: Process,
    spoken: Box<dyn Running>,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.spoken.addr()
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        self.spoken.subscriber(interest)
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        self.spoken.publisher()
    }
}
