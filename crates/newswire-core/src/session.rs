//! One connection's protocol state machine: commands in, outputs out.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::command::Subscribe;
use newswire_protocol::{CloseCode, Draft, Refusal};
use parking_lot::Mutex;

use crate::config::{Now, SessionConfig};
use crate::heartbeat::Beat;
use crate::hub::{ConnId, Hub};
use crate::principal::Principal;
use crate::read::{Page, ReadRequest};
use crate::view::LogView;

/// What the shell is to do next.
#[derive(Debug)]
pub enum Output {
    /// Write what was put into `out`, all of it, in order; then ask again.
    Write,
    /// Read the log and answer with [`Session::on_page`] or [`Session::on_read_failed`]. At most one read is under way;
    /// go on asking for outputs meanwhile.
    Read(ReadRequest),
    /// Store an event and answer with [`Session::on_published`]; in the order in which they come out. Go on asking.
    Publish(Ticket, Box<Draft>),
    /// Send a close frame with this code and reason, and end. Nothing comes after it.
    Close(CloseCode, String),
    /// Nothing to do: wait for a frame, the waker, an answer that is awaited, or until this time.
    Idle(Duration),
}

/// Ties the answer to a publish to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// An event is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub offset: u64,
    /// Its id, given or made.
    pub event_id: String,
    /// It was there already.
    pub duplicate: bool,
}

/// One connection. Owned by its task; does no I/O, never waits, and locks the hub for moments only.
#[derive(Debug)]
pub struct Session {
    id: ConnId,
}

impl Session {
    /// Registers a connection. `jitter` stretches the interval of its pings (0.9 to 1.1, drawn by the shell).
    pub fn open(
        hub: &Mutex<Hub>,
        config: Arc<SessionConfig>,
        principal: Principal,
        jitter: f64,
        now: Now,
    ) -> Self {
        let _ = (config, jitter, now);
        let (id, ..) = hub.lock().connect(principal.id);
        Self { id }
    }

    /// Its name in the hub.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Whether another command may be handled. Ask before each [`Session::handle`]; while it says no, stop reading
    /// from the socket (the stated overflow of everything that commands fill) and ask again after each output.
    pub fn wants_commands(&self) -> bool {
        true
    }

    /// Handles one text frame of the client.
    pub fn handle(&mut self, frame: &str, now: Now, hub: &Mutex<Hub>, log: &dyn LogView) {
        let _ = (frame, now, hub, log);
    }

    /// Subscribes without a frame, for what the request's path and query asked. Answered like a command.
    ///
    /// # Errors
    /// A bound is exceeded; nothing was changed then.
    pub fn subscribe(
        &mut self,
        ask: &Subscribe,
        now: Now,
        hub: &Mutex<Hub>,
        log: &dyn LogView,
    ) -> Result<(), Refusal> {
        let _ = (ask, now, hub, log);
        Ok(())
    }

    /// Whom to wake when something comes. Register before asking for the output that may be [`Output::Idle`].
    pub fn register(&self, waker: &Waker) {
        let _ = waker;
    }

    /// What is to be done next. `out` is cleared; with [`Output::Write`] it holds about `budget` bytes (more only for
    /// one large event or message). Call it only when everything before was written.
    pub fn next_output(
        &mut self,
        now: Now,
        hub: &Mutex<Hub>,
        log: &dyn LogView,
        out: &mut Vec<Bytes>,
        budget: usize,
    ) -> Output {
        let _ = (now, hub, log, out, budget);
        Output::Idle(Duration::MAX)
    }

    /// The answer to [`Output::Read`].
    pub fn on_page(&mut self, page: Page, log: &dyn LogView) {
        let _ = (page, log);
    }

    /// The read failed: the connection will be closed so that the client resumes elsewhere or later.
    pub fn on_read_failed(&mut self) {}

    /// The answer to [`Output::Publish`].
    pub fn on_published(&mut self, ticket: Ticket, outcome: Result<Published, Refusal>) {
        let _ = (ticket, outcome);
    }

    /// Bytes came from the peer, whatever they are.
    pub fn on_received(&mut self, now: Now) {
        let _ = now;
    }

    /// The peer sent a WebSocket ping: it is answered with a pong, at once. Of several only the last counts.
    pub fn on_peer_ping(&mut self, body: &[u8]) {
        let _ = body;
    }

    /// Part of the output was written, the rest waits.
    pub fn write_progress(&mut self, now: Now) {
        let _ = now;
    }

    /// The peer takes no bytes: how long to go on waiting, or that it is to be closed. Never [`Beat::Ping`].
    pub fn write_blocked(&mut self, now: Now) -> Beat {
        let _ = now;
        Beat::Wait(Duration::MAX)
    }

    /// Leaves the hub. To be called in any case when the connection ends; [`Hub::disconnect`] does the same.
    pub fn close(&mut self, hub: &Mutex<Hub>) {
        hub.lock().disconnect(self.id);
    }
}
