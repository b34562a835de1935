//! One connection of the swarm: what arrives on it and what it answers, without the socket.

use anyhow::{Context, bail, ensure};

use crate::event::Mark;
use crate::peer::{Outgoing, Publisher, State, Subscriber, Transport};
use crate::scan::Scanner;
use crate::websocket::{self, Deframer, Opcode, Piece};

/// Bytes of a message that arrives in pieces, or of an HTTP head, at most.
const MAX_PARTIAL: usize = 4 << 20;

/// Who talks.
pub(crate) enum Role {
    Subscriber(Box<dyn Subscriber>),
    Publisher { publisher: Box<dyn Publisher>, acknowledged: u64 },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Upgrading,
    Talking,
    Ready,
}

/// How events are looked for; the same for all connections to one system.
pub(crate) struct Looking<'f> {
    pub(crate) finder: &'f memchr::memmem::Finder<'static>,
    pub(crate) batches: bool,
}

pub(crate) struct Connection {
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    pub(crate) scanner: Scanner,
    /// Bytes that wait to be written.
    pub(crate) out: Vec<u8>,
    transport: Transport,
    deframer: Deframer,
    /// A message, or an HTTP head, that is not complete yet.
    partial: Vec<u8>,
    control: Vec<u8>,
    /// Whether the message under way holds an event.
    found: bool,
    wants_events: bool,
}

impl Connection {
    pub(crate) fn subscriber(subscriber: Box<dyn Subscriber>, scanner: Scanner) -> Self {
        let (transport, wants_events) = (subscriber.transport(), subscriber.wants_events());
        Self::new(Role::Subscriber(subscriber), transport, scanner, wants_events)
    }

    pub(crate) fn publisher(publisher: Box<dyn Publisher>) -> Self {
        let transport = publisher.transport();
        Self::new(Role::Publisher { publisher, acknowledged: 0 }, transport, Scanner::default(), false)
    }

    fn new(role: Role, transport: Transport, scanner: Scanner, wants_events: bool) -> Self {
        let (deframer, phase) = (Deframer::default(), Phase::Connecting);
        let (out, partial, control) = (Vec::new(), Vec::new(), Vec::new());
        Self { role, phase, scanner, out, transport, deframer, partial, control, found: false, wants_events }
    }

    /// The TCP connection stands.
    pub(crate) fn connected(&mut self, host: &str) {
        if let Transport::WebSocket { path, headers } = &self.transport {
            self.out.extend(websocket::upgrade_request(host, path, headers));
            self.phase = Phase::Upgrading;
        } else {
            self.opened();
        }
    }

    /// What arrived; each event is given with the number that was expected before it.
    ///
    /// # Errors
    /// When the other side refused something, closed, or broke its protocol.
    pub(crate) fn received(
        &mut self,
        looking: &Looking<'_>,
        bytes: &[u8],
        each: &mut impl FnMut(u64, &Scanner, Mark),
    ) -> anyhow::Result<()> {
        let mut rest = bytes;
        if self.phase == Phase::Upgrading {
            let before = self.partial.len();
            self.partial.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&self.partial, b"\r\n\r\n").map(|at| at + 4) else {
                ensure!(self.partial.len() < MAX_PARTIAL, "an endless answer to the upgrade");
                return Ok(());
            };
            let answer = String::from_utf8_lossy(&self.partial[..end]);
            ensure!(answer.starts_with("HTTP/1.1 101"), "the upgrade was refused: {answer}");
            rest = &bytes[end - before..];
            self.partial.clear();
            self.opened();
        }
        if matches!(self.transport, Transport::Raw) {
            return self.raw(looking, rest, each);
        }
        while let Some(piece) = self.deframer.next(&mut rest)? {
            self.piece(looking, piece, each)?;
        }
        Ok(())
    }

    fn opened(&mut self) {
        let mut out = Outgoing::new(&mut self.out);
        let state = match &mut self.role {
            Role::Subscriber(subscriber) => subscriber.opened(&mut out),
            Role::Publisher { publisher, .. } => publisher.opened(&mut out),
        };
        self.phase = if state == State::Ready { Phase::Ready } else { Phase::Talking };
    }

    fn raw(
        &mut self,
        looking: &Looking<'_>,
        bytes: &[u8],
        each: &mut impl FnMut(u64, &Scanner, Mark),
    ) -> anyhow::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let events = self.scan_stream(looking, bytes, each);
        if !events || self.wants_events || self.phase != Phase::Ready { self.message(bytes) } else { Ok(()) }
    }

    fn piece(
        &mut self,
        looking: &Looking<'_>,
        piece: Piece<'_>,
        each: &mut impl FnMut(u64, &Scanner, Mark),
    ) -> anyhow::Result<()> {
        if matches!(piece.opcode, Opcode::Close | Opcode::Ping | Opcode::Pong) {
            return self.control(piece);
        }
        let begins = piece.first && piece.opcode != Opcode::Continuation;
        if matches!(self.role, Role::Subscriber(_)) {
            if looking.batches {
                self.found |= self.scan_stream(looking, piece.bytes, each);
            } else if !self.found {
                let expected = self.scanner.next();
                let mut met = None;
                self.found =
                    self.scanner.message(looking.finder, piece.bytes, begins, |mark| met = Some(mark));
                if let Some(mark) = met {
                    each(expected, &self.scanner, mark);
                }
            }
        }
        let ends = piece.last && piece.end_of_message;
        let handed_over = !self.found || self.wants_events || self.phase != Phase::Ready;
        if ends {
            self.found = false;
        }
        if !handed_over {
            self.partial.clear();
            return Ok(());
        }
        if begins && ends {
            return self.message(piece.bytes);
        }
        ensure!(
            self.partial.len() + piece.bytes.len() <= MAX_PARTIAL,
            "a message without an event is too long"
        );
        self.partial.extend_from_slice(piece.bytes);
        if ends {
            let message = std::mem::take(&mut self.partial);
            self.message(&message)?;
            self.partial = message;
            self.partial.clear();
        }
        Ok(())
    }

    fn scan_stream(
        &mut self,
        looking: &Looking<'_>,
        bytes: &[u8],
        each: &mut impl FnMut(u64, &Scanner, Mark),
    ) -> bool {
        let (mut rest, mut found) = (bytes, false);
        loop {
            let expected = self.scanner.next();
            let Some(mark) = self.scanner.next_in_stream(looking.finder, &mut rest) else { return found };
            each(expected, &self.scanner, mark);
            found = true;
        }
    }

    fn control(&mut self, piece: Piece<'_>) -> anyhow::Result<()> {
        self.control.extend_from_slice(piece.bytes);
        if !piece.last {
            return Ok(());
        }
        let body = std::mem::take(&mut self.control);
        match piece.opcode {
            Opcode::Close => {
                let code = body.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                bail!("closed with {code}: {}", String::from_utf8_lossy(body.get(2..).unwrap_or_default()));
            }
            Opcode::Ping => websocket::write_frame(&mut self.out, Opcode::Pong, &body),
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let mut out = Outgoing::new(&mut self.out);
        let state = match &mut self.role {
            Role::Subscriber(subscriber) => subscriber.message(message, &mut out)?,
            Role::Publisher { publisher, acknowledged } => {
                let progress = publisher.message(message, &mut out).context("publishing")?;
                *acknowledged += progress.acknowledged as u64;
                progress.state
            }
        };
        if state == State::Ready {
            self.phase = Phase::Ready;
        }
        Ok(())
    }
}
