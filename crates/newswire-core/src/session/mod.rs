//! One connection's protocol state machine: commands in, outputs out.

mod access;
mod command;
mod job;
mod lag;
mod noted;
mod replay;
mod replies;
mod stream;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::command::{Command, CommandFrame, CommandId, Credential, parse_command, too_large};
use newswire_protocol::frame::{Opcode, encode_control};
use newswire_protocol::{CloseCode, Draft, Epoch, ErrorCode, Limits, Refusal, reply};
use parking_lot::Mutex;

use crate::channel::ChannelPattern;
use crate::config::{Backlog, Now, SessionConfig};
use crate::filter::Filter;
use crate::grants::Channels;
use crate::heartbeat::{Beat, Heartbeat};
use crate::hub::{ConnId, Hub};
use crate::notice::Form;
use crate::outbox::{DirectSink, Dispatched, MAX_PENDING_ANSWERS, Outbox};
use crate::packed::Position;
use crate::principal::Principal;
use crate::read::{Page, ReadRequest};
use crate::seeded::seeded_bug;
use crate::selector::Selector;
use crate::subscriptions::SetList;
use crate::view::LogView;

use access::Access;
use job::Job;
use lag::Lag;
use replies::Replies;
use writer::{Writer, frame};

pub use access::{Admitted, Standing};
pub use noted::Noted;
pub use writer::Piece;

/// What the shell is to do next.
#[derive(Debug)]
pub enum Output {
    /// Write what was put into `out`, all of it, in order; then ask again ([`Session::idle_after_write`] says when that
    /// can wait).
    Write,
    /// Read the log and answer with [`Session::on_page`]; where that fails, close. At most one read is under way;
    /// go on asking for outputs meanwhile.
    Read(ReadRequest),
    /// Store an event and answer with [`Session::on_published`]; in the order in which they come out. Go on asking.
    Publish(Ticket, Box<Draft>),
    /// Check a credential and answer with [`Session::on_authenticated`]; meanwhile the session wants no commands. Go on asking.
    Authenticate(Credential),
    /// Send a close frame with this code and reason, and end. Nothing comes after it.
    Close(CloseCode, String),
    /// Nothing to write yet, but more to do: let others run, then ask again.
    Yield,
    /// Nothing to do: wait for a frame, the waker, an answer that is awaited, or until this time.
    Idle(Duration),
}

/// Ties the answer to a publish to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    config: Arc<SessionConfig>,
    principal: Principal,
    /// There was room for its variant of payloads.
    is_shown: bool,
    /// How it speaks.
    form: Form,
    outbox: Arc<Outbox>,
    dispatched: Arc<Dispatched>,
    /// The epoch of the stream; the hub's may be newer for a moment.
    epoch: Epoch,
    sets: SetList,
    /// Present while live events are read instead of pushed.
    lag: Option<Box<Lag>>,
    jobs: Vec<Job>,
    /// Replays that have joined the live path and whose last events wait in the outbox.
    joining: usize,
    /// When which patterns of a set were live beside a replay that overlaps them.
    spans: Vec<Span>,
    /// The epoch of their offsets, by number: the hub's, once a command was handled in it; and that of the stream.
    spans_generation: u64,
    generation: u64,
    next_job: u64,
    /// The job whose turn it is.
    turn: usize,
    asked: Option<Asked>,
    /// The read that is to be asked for next.
    wish: Option<(Reads, ReadRequest)>,
    /// Pages come from an epoch of which the stream has not been told yet.
    awaits_epoch: bool,
    replies: Replies,
    publishes: VecDeque<(Ticket, Box<Draft>)>,
    publishing: BTreeMap<Ticket, Publishing>,
    /// Bytes of the commands among them.
    publishing_bytes: usize,
    next_ticket: u64,
    /// In-stream answers given to the outbox, and handed on, by number.
    answers: u64,
    answered: u64,
    checkpoint: Checkpoint,
    heartbeat: Heartbeat,
    peer_ping: Option<Bytes>,
    /// Present where credentials count.
    access: Option<Box<Access>>,
    closing: Option<(CloseCode, &'static str)>,
    /// How far it reads along compressed, if it reads compressed events at all.
    window: Option<Box<Position>>,
    /// What [`Session::idle_after_write`] says.
    idle_after_write: Option<Duration>,
    /// What [`Session::take_noted`] gives.
    noted: Option<Box<Noted>>,
}

/// A publish that is not answered yet.
#[derive(Debug)]
struct Publishing {
    id: Option<CommandId>,
    /// Of the whole command.
    bytes: usize,
}

/// Bytes of unanswered publishes of one connection, beyond which it wants no more commands.
const MAX_PUBLISHING_BYTES: usize = 1 << 20;

/// Who awaits a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Main,
    Job(u64),
    Plan(u64),
    Nobody,
}

/// A read under way.
#[derive(Debug)]
struct Asked {
    by: Reads,
    selector: Arc<Selector>,
    epoch: Epoch,
}

/// A pattern of a set was live from behind `from` up to `to`, while a replay of the same set overlapped it.
#[derive(Debug)]
struct Span {
    slot: u8,
    pattern: ChannelPattern,
    filter: Arc<Filter>,
    /// What a pattern of somebody stands for.
    granted: Channels,
    from: u64,
    to: u64,
}

/// What the client knows to have completely.
#[derive(Debug)]
struct Checkpoint {
    /// The highest offset it can tell to be safe, from what it was sent.
    told: u64,
    /// The last event of the live path that was handed on.
    main_sent: u64,
    next_at: Duration,
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
        Self::register(hub, config, principal, Form::Frames, None, jitter, now)
    }

    /// Registers a reader in the same process, which is handed values instead of frames ([`Session::next_pieces`]) and is
    /// never asked whether it lives: it says so itself, by closing. Its `backlog` holds in place of the hub's.
    pub fn in_process(
        hub: &Mutex<Hub>,
        config: Arc<SessionConfig>,
        principal: Principal,
        backlog: Option<Backlog>,
        now: Now,
    ) -> Self {
        Self::register(hub, config, principal, Form::Values, backlog, 1.0, now)
    }

    fn register(
        hub: &Mutex<Hub>,
        config: Arc<SessionConfig>,
        principal: Principal,
        form: Form,
        backlog: Option<Backlog>,
        jitter: f64,
        now: Now,
    ) -> Self {
        let mut hub = hub.lock();
        let (id, outbox, dispatched) = hub.connect(&principal, backlog);
        let is_shown = hub.shows(id);
        let at = hub.dispatched();
        Self {
            id,
            principal,
            is_shown,
            form,
            outbox,
            dispatched,
            epoch: hub.epoch(),
            sets: SetList::default(),
            lag: None,
            jobs: Vec::new(),
            joining: 0,
            spans: Vec::new(),
            spans_generation: hub.generation().number,
            generation: hub.generation().number,
            next_job: 1,
            turn: 0,
            asked: None,
            wish: None,
            awaits_epoch: false,
            replies: Replies::default(),
            publishes: VecDeque::new(),
            publishing: BTreeMap::new(),
            publishing_bytes: 0,
            next_ticket: 1,
            answers: 0,
            answered: 0,
            checkpoint: Checkpoint { told: at, main_sent: 0, next_at: now.mono + config.checkpoint_interval },
            heartbeat: Heartbeat::new(config.heartbeat, jitter, now.mono),
            peer_ping: None,
            access: None,
            closing: None,
            window: None,
            idle_after_write: None,
            noted: None,
            config,
        }
    }

    /// From now on events may be sent compressed (RFC 7692), to a peer that keeps its window between messages.
    pub fn accept_compressed(&mut self, hub: &Mutex<Hub>) {
        self.window = Some(Box::default());
        hub.lock().accept_compressed(self.id);
    }

    /// Whether a replay is under way: some `caught_up` has not been handed on.
    pub fn is_replaying(&self) -> bool {
        !self.jobs.is_empty() || self.joining > 0
    }

    /// Its name in the hub.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The limits it began with, which hold as long as it does.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// On whose behalf.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether another command may be handled. Ask before each [`Session::handle`]; while it says no, stop reading
    /// from the socket (the stated overflow of everything that commands fill) and ask again after each output.
    pub fn wants_commands(&self) -> bool {
        !self.replies.is_full()
            && !self.is_asking()
            && self.publishing.len() < self.config.max_publishes
            && self.publishing_bytes < MAX_PUBLISHING_BYTES
            && self.answers - self.answered < MAX_PENDING_ANSWERS as u64
    }

    /// Answers a message that was too long to be kept.
    pub fn handle_too_long(&mut self) {
        if self.is_unknown() {
            return self.refuse_unknown();
        }
        self.refuse(None, &too_large(&self.config.limits));
    }

    /// Answers a binary message, of which nothing was read: the wire speaks text.
    pub fn handle_binary(&mut self) {
        if self.is_unknown() {
            return self.refuse_unknown();
        }
        self.refuse(
            None,
            &Refusal::because(ErrorCode::InvalidJson, "send commands as text messages, not binary"),
        );
    }

    /// Handles one text frame of the client.
    pub fn handle(&mut self, text: &str, now: Now, hub: &Mutex<Hub>, log: &dyn LogView) {
        let parsed = parse_command(text, &self.config.limits);
        let is_auth = matches!(&parsed, Ok(CommandFrame { command: Command::Auth(_), .. }));
        if !is_auth && self.is_unknown() {
            return self.refuse_unknown();
        }
        let CommandFrame { id, command } = match parsed {
            Ok(frame) => frame,
            Err((id, refusal)) => return self.refuse(id.as_ref(), &refusal),
        };
        match command {
            Command::Ping => self.reply(|out| reply::pong(out, id.as_ref())),
            Command::Auth(credential) => self.on_auth(credential, id),
            Command::Publish(draft) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.publishing_bytes += text.len();
                self.publishing.insert(ticket, Publishing { id, bytes: text.len() });
                self.publishes.push_back((ticket, draft));
            }
            Command::Subscribe(ask) => {
                if let Err(refusal) = self.note_subscribe(&ask, id.clone(), now, hub, log) {
                    self.refuse(id.as_ref(), &refusal);
                }
            }
            Command::Unsubscribe(ask) => self.on_unsubscribe(&ask, id.as_ref(), hub),
        }
    }

    /// Begins a poll of the connection's task: from here on the session alone writes, and `waker` is woken when something
    /// comes. To be called before anything else, so before the output that may be [`Output::Idle`] is asked for.
    ///
    /// Returns the end of a frame that was begun beside the session: it is to be written before anything else, as the
    /// rest of an output is.
    #[must_use = "the stream goes on with these bytes"]
    pub fn resume(&mut self, waker: &Waker) -> Option<Bytes> {
        let rest = self.outbox.resume(waker);
        // Only events are written beside the session, and only while no replay runs: what was sent can be told.
        let sent = self.outbox.figures.last_sent.load(Ordering::Relaxed);
        if sent > self.checkpoint.main_sent {
            self.checkpoint.main_sent = sent;
            self.tell(sent);
        }
        rest
    }

    /// Ends a poll after which nothing is to be done but to send live events, should any come: they may be written to this
    /// socket by whoever publishes them ([`crate::Wakes::flush`]), without waking the task, until [`Session::resume`] is
    /// called. To be called only when everything was written, and not at all once the connection is closing.
    ///
    /// `sink` is asked for the first time only. Nothing happens where it gives none, where more than live events goes on, where events are sent compressed, or where something came
    /// since the last output: then the waker has been woken.
    pub fn arm(&self, sink: impl FnOnce() -> Option<Arc<dyn DirectSink>>) {
        let quiet = self.closing.is_none() && self.peer_ping.is_none() && self.window.is_none();
        if quiet && self.is_plainly_live() {
            self.outbox.arm(sink);
        }
    }

    /// What is to be done next. `out` is cleared; with [`Output::Write`] it holds about `budget` bytes (more only for
    /// one large event or message). Call it only when everything before was written.
    pub fn next_output(&mut self, now: Now, hub: &Mutex<Hub>, out: &mut Vec<Bytes>, budget: usize) -> Output {
        debug_assert!(self.form == Form::Frames, "a reader in the process takes pieces");
        let mut writer = Writer::of_frames(out, budget);
        let beat_at = self.beat(now.mono, &mut writer);
        self.output(now, hub, writer, beat_at)
    }

    /// [`Session::next_output`] for a reader in the same process. With [`Output::Write`] `out` holds what it is handed, and
    /// none of the other outputs is ever [`Output::Publish`] or [`Output::Authenticate`].
    pub fn next_pieces(&mut self, now: Now, hub: &Mutex<Hub>, out: &mut Vec<Piece>, budget: usize) -> Output {
        debug_assert!(self.form == Form::Values, "a socket takes frames");
        self.output(now, hub, Writer::of_pieces(out, budget), Duration::MAX)
    }

    /// Asks whether the peer lives. Returns when to ask again.
    fn beat(&mut self, now: Duration, writer: &mut Writer<'_>) -> Duration {
        self.heartbeat.write_idle(now);
        self.heartbeat.reading_paused(!self.wants_commands(), now);
        match self.heartbeat.poll(now) {
            Beat::Close(code) => {
                self.closing.get_or_insert((code, "no answer to a ping"));
                now
            }
            Beat::Ping => {
                writer.bytes(control(Opcode::Ping, b""));
                now
            }
            Beat::Wait(until) => until,
        }
    }

    fn output(&mut self, now: Now, hub: &Mutex<Hub>, mut writer: Writer<'_>, beat_at: Duration) -> Output {
        if let Some((code, reason)) = self.closing {
            return Output::Close(code, reason.to_owned());
        }
        if writer.is_empty()
            && let Some((ticket, draft)) = self.publishes.pop_front()
        {
            return Output::Publish(ticket, draft);
        }
        if writer.is_empty()
            && let Some(credential) = self.take_offered()
        {
            return Output::Authenticate(credential);
        }
        writer.bytes(self.peer_ping.take().unwrap_or_default());
        self.replies.flush(self.answered, &mut writer);
        let turn = self.turns(&mut writer, hub);
        self.replies.flush(self.answered, &mut writer);
        self.send_checkpoint(now.mono, turn.live_at, &mut writer);
        self.publish_figures();
        if let Some((code, reason)) = self.closing {
            return Output::Close(code, reason.to_owned());
        }
        // While an answer waits no checkpoint is sent, so the time for one is no time to wake up for.
        let due = self.answers == self.answered && self.sets.total() > 0;
        let idle_until = if due { beat_at.min(self.checkpoint.next_at) } else { beat_at };
        let idle_until = idle_until.min(self.over_at(now));
        if !writer.is_empty() {
            self.idle_after_write = (!turn.more && self.is_plainly_live()).then_some(idle_until);
            return Output::Write;
        }
        if self.asked.is_none()
            && let Some((by, request)) = self.wish.take()
        {
            self.asked = Some(Asked { by, selector: Arc::clone(&request.selector), epoch: self.epoch });
            return Output::Read(request);
        }
        if turn.more {
            return Output::Yield;
        }
        Output::Idle(idle_until)
    }

    /// After [`Output::Write`], once all of it was written without waiting: that nothing more is to be asked before this
    /// time, unless the waker rings or the shell has something for the session. The same as asking and being told
    /// [`Output::Idle`], for deliveries, of which there are many. `None` if the session is to be asked.
    pub fn idle_after_write(&self) -> Option<Duration> {
        self.idle_after_write
    }

    /// Nothing goes on but live events.
    fn is_plainly_live(&self) -> bool {
        self.lag.is_none()
            && self.jobs.is_empty()
            && self.joining == 0
            && self.answers == self.answered
            && self.replies.is_empty()
            && self.publishes.is_empty()
            && self.wish.is_none()
            && !self.has_offered()
    }

    /// The answer to [`Output::Read`].
    pub fn on_page(&mut self, page: Page) {
        let Some(asked) = self.asked.take() else { return };
        if asked.epoch != self.epoch || self.spans_generation != self.generation {
            return;
        }
        if page.epoch != self.epoch {
            self.awaits_epoch = true;
            return;
        }
        self.take_page(&asked, page);
    }

    /// The answer to [`Output::Publish`].
    pub fn on_published(&mut self, ticket: Ticket, outcome: Result<Published, Refusal>) {
        let Some(Publishing { id, bytes }) = self.publishing.remove(&ticket) else { return };
        self.publishing_bytes -= bytes;
        self.replies.push_loose(frame(|out| match outcome {
            Ok(event) => reply::published(out, id.as_ref(), event.offset, &event.event_id, event.duplicate),
            Err(refusal) => reply::error(out, id.as_ref(), &refusal),
        }));
    }

    /// Bytes came from the peer, whatever they are.
    pub fn on_received(&mut self, _now: Now) {
        self.heartbeat.received();
    }

    /// The peer sent a WebSocket ping: it is answered with a pong, at once. Of several only the last counts.
    pub fn on_peer_ping(&mut self, body: &[u8]) {
        self.peer_ping = Some(control(Opcode::Pong, body));
    }

    /// Part of the output was written, the rest waits.
    pub fn write_progress(&mut self, now: Now) {
        self.heartbeat.write_progress(now.mono);
    }

    /// The peer takes no bytes: how long to go on waiting, or that it is to be closed. Never [`Beat::Ping`].
    pub fn write_blocked(&mut self, now: Now) -> Beat {
        self.heartbeat.write_blocked(now.mono);
        match self.heartbeat.poll(now.mono) {
            Beat::Wait(until) => Beat::Wait(until.min(self.over_at(now))),
            beat => beat,
        }
    }

    /// Leaves the hub. To be called in any case when the connection ends; [`Hub::disconnect`] does the same.
    pub fn close(&mut self, hub: &Mutex<Hub>) {
        hub.lock().disconnect(self.id);
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.replies.push(self.answers, frame(write));
    }

    fn refuse(&mut self, id: Option<&CommandId>, refusal: &Refusal) {
        self.dispatched.told.error(refusal.code);
        self.reply(|out| reply::error(out, id, refusal));
    }

    /// Says how far everything has been sent, where the client cannot know it yet. `live_at` is how far the live
    /// path has been handed on completely.
    fn send_checkpoint(&mut self, now: Duration, live_at: u64, writer: &mut Writer<'_>) {
        // An answer that waits may end a replay of which the client still thinks that it runs.
        if now < self.checkpoint.next_at
            || self.answers > self.answered
            || self.joining > 0
            || self.sets.total() == 0
        {
            return;
        }
        self.checkpoint.next_at = now + self.config.checkpoint_interval;
        let replays = self.jobs.iter().map(Job::position).min().unwrap_or(u64::MAX);
        let safe = if seeded_bug!(CheckpointTooFar) { live_at } else { live_at.min(replays) };
        if safe > self.checkpoint.told {
            self.checkpoint.told = safe;
            let mut messages = self.form.nothing();
            messages.checkpoint(safe);
            writer.messages(messages);
        }
    }

    fn publish_figures(&self) {
        let figures = &self.outbox.figures;
        figures.last_sent.store(self.checkpoint.main_sent, Ordering::Relaxed);
        if let Some(lag) = &self.lag {
            figures.position.store(lag.reader.position(), Ordering::Relaxed);
        }
    }
}

fn control(opcode: Opcode, body: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(2 + body.len());
    encode_control(&mut frame, opcode, body);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // Of the 4.5 kB that a whole idle connection may take, this is the core's share beside its subscriptions.
        assert!(size_of::<Session>() <= 784, "{} bytes", size_of::<Session>());
        assert!(size_of::<Outbox>() <= 160, "{} bytes", size_of::<Outbox>());
    }
}
