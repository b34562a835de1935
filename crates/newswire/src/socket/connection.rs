//! The loop of one connection.
//!
//! One hand-written poll: reading, writing, awaited answers and timers go on side by side, so a write that the peer
//! does not take stops neither the answers to its pings nor the timers, and nothing is ever half done in a branch
//! that may be dropped.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use newswire_core::session::{Output, Session, Ticket};
use newswire_core::{Beat, Now, Page, Principal, Published};
use newswire_log::ReadError;
use newswire_protocol::codes::{CloseCode, Refusal};
use newswire_protocol::command::Subscribe;
use newswire_protocol::event::Draft;
use newswire_protocol::frame::{FrameDecoder, Item};
use newswire_protocol::limits::MAX_FRAME_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::closing::{CLOSE_PATIENCE, close_frame, echoed_close, poll_farewell, retry_reason};
use super::outgoing::Outgoing;
use crate::connections::Place;
use crate::metrics::Reason;
use crate::{Feed, ingest};

/// Bytes that one connection writes before others get their turn.
const TURN_BYTES: usize = 64 << 10;

/// Bytes read from the socket at once, into a buffer that lives only while reading.
const READ_BYTES: usize = 8 << 10;

/// Rounds of the loop before the task lets others run.
const MAX_ROUNDS: usize = 16;

type Answers = Vec<(Ticket, Result<Published, Refusal>)>;

pub(super) struct Connection<S> {
    stream: S,
    feed: Feed,
    place: Place,
    principal: Principal,
    session: Session,
    decoder: FrameDecoder,
    /// Received and not yet decoded: what came while the session wanted no commands.
    input: Bytes,
    /// A subscribe that waits until the hub has everything that was durable when it came.
    held: Option<(String, BoxFuture<'static, ()>)>,
    outgoing: Outgoing,
    slices: Vec<Bytes>,
    page: Option<BoxFuture<'static, Result<Page, ReadError>>>,
    publishing: Option<BoxFuture<'static, Answers>>,
    /// Publishes that wait for those under way, so that one connection's events keep their order.
    drafts: Vec<(Ticket, Box<Draft>)>,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
}

enum Phase {
    Open,
    /// No more commands, but what was asked before is answered; then comes this close frame.
    Leaving {
        frame: Vec<u8>,
        ending: Ending,
        answered: bool,
    },
    /// The close frame stands behind what waits to be written.
    Closing {
        until: Instant,
        shut: bool,
        ending: Ending,
    },
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The peer went away.
    PeerLeft,
    /// The peer closed.
    PeerClosed,
    /// The server closed, with this code.
    Closed(CloseCode),
    /// The transport failed.
    Failed(io::ErrorKind),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerLeft => f.write_str("the peer went away"),
            Self::PeerClosed => f.write_str("the peer closed it"),
            Self::Closed(code) => write!(f, "closed with {}", *code as u16),
            Self::Failed(kind) => write!(f, "{kind}"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn open(feed: Feed, principal: Principal, stream: S, input: Bytes, place: Place) -> Self {
        let jitter = 0.9 + 0.2 * fastrand::f64();
        let config = feed.inner.session_config.clone();
        let limits = config.limits;
        let session = Session::open(&feed.inner.hub, config, principal.clone(), jitter, now(&feed));
        Self {
            stream,
            place,
            principal,
            session,
            decoder: FrameDecoder::new(MAX_FRAME_BYTES, limits.event_bytes.max(limits.command_bytes)),
            input,
            held: None,
            outgoing: Outgoing::default(),
            slices: Vec::new(),
            page: None,
            publishing: None,
            drafts: Vec::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            phase: Phase::Open,
            feed,
        }
    }

    pub(super) async fn run(mut self, subscribe: Option<Subscribe>) -> Ending {
        if let Some(subscribe) = subscribe {
            self.feed.caught_up_with_log().await;
            let now = now(&self.feed);
            let log = self.feed.log();
            if let Err(refusal) = self.session.subscribe(&subscribe, now, &self.feed.inner.hub, log) {
                self.close(CloseCode::Protocol, &refusal.to_string());
            }
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.session.register(cx.waker());
        if matches!(self.phase, Phase::Open) && self.place.should_leave(cx.waker()) {
            let reason = retry_reason(self.feed.inner.connections.open());
            self.leave(CloseCode::ShuttingDown, &reason);
        }
        for _ in 0..MAX_ROUNDS {
            if let Phase::Closing { .. } = self.phase {
                return self.poll_closing(cx);
            }
            let answered = self.poll_answers(cx);
            let read = match self.poll_input(cx) {
                Ok(read) => read,
                Err(ending) => return Poll::Ready(ending),
            };
            let wrote = match self.poll_output(cx) {
                Ok(wrote) => wrote,
                Err(ending) => return Poll::Ready(ending),
            };
            if !(answered || read || wrote) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what others have finished for this connection. True if there was any.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        if let Some(Poll::Ready(page)) = self.page.as_mut().map(|page| page.as_mut().poll(cx)) {
            self.page = None;
            match page {
                Ok(page) => self.session.on_page(page),
                Err(error) => {
                    tracing::error!(%error, "a subscriber's read of the log failed; its connection is closed");
                    let reason = retry_reason(self.feed.inner.connections.open());
                    self.leave(CloseCode::ShuttingDown, &reason);
                }
            }
            any = true;
        }
        if let Some(Poll::Ready(answers)) = self.publishing.as_mut().map(|answers| answers.as_mut().poll(cx))
        {
            self.publishing = None;
            for (ticket, outcome) in answers {
                self.session.on_published(ticket, outcome);
            }
            any = true;
        }
        if self.publishing.is_none() && !self.drafts.is_empty() {
            let drafts = std::mem::take(&mut self.drafts);
            self.publishing = Some(Box::pin(publish(self.feed.clone(), self.principal.clone(), drafts)));
            any = true;
        }
        if let Some(Poll::Ready(())) = self.held.as_mut().map(|(_, settled)| settled.as_mut().poll(cx)) {
            if let Some((frame, _)) = self.held.take() {
                self.handle(&frame);
            }
            any = true;
        }
        any
    }

    /// Reads and handles what the peer sent, as far as the session wants more. True if anything came.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.input.is_empty() && self.wants_input() {
            let input = std::mem::take(&mut self.input);
            let mut rest = &input[..];
            self.take_input(&mut rest);
            self.input = input.slice(input.len() - rest.len()..);
            return Ok(true);
        }
        if !self.wants_input() {
            return Ok(false);
        }
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(Ending::Failed(error.kind())),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(Ending::PeerLeft),
            Poll::Ready(Ok(())) => {
                self.session.on_received(now(&self.feed));
                let mut received = buffer.filled();
                self.take_input(&mut received);
                if !received.is_empty() {
                    self.input = Bytes::copy_from_slice(received);
                }
                Ok(true)
            }
        }
    }

    fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.held.is_none() && self.session.wants_commands()
    }

    /// Decodes and handles `input` until the session wants no more; what is left stays in it.
    fn take_input(&mut self, input: &mut &[u8]) {
        while !input.is_empty() && self.wants_input() {
            match self.decoder.decode(input) {
                Ok(Some(item)) => self.take_item(item),
                Ok(None) => {}
                Err(violation) => self.leave(violation.close, violation.reason),
            }
        }
    }

    fn take_item(&mut self, item: Item) {
        match item {
            Item::Text(frame) => {
                if self.must_settle(&frame) {
                    let feed = self.feed.clone();
                    self.held = Some((frame, Box::pin(async move { feed.caught_up_with_log().await })));
                } else {
                    self.handle(&frame);
                }
            }
            Item::TooLong { .. } => self.session.handle_too_long(),
            Item::Binary { .. } => self.session.handle_binary(),
            Item::Ping(body) => self.session.on_peer_ping(&body),
            Item::Pong(_) => {}
            Item::Close(received) => {
                let frame = echoed_close(received.map(|(code, _)| code));
                self.phase = Phase::Leaving { frame, ending: Ending::PeerClosed, answered: false };
            }
        }
    }

    /// Whether a frame may be a subscribe and the hub has not got everything that is durable.
    fn must_settle(&self, frame: &str) -> bool {
        frame.len() <= self.feed.settings().limits.command_bytes
            && frame.contains("subscribe")
            && *self.feed.inner.dispatched.borrow() + 1 < self.feed.log().tail()
    }

    fn handle(&mut self, frame: &str) {
        self.session.handle(frame, now(&self.feed), &self.feed.inner.hub, self.feed.log());
    }

    /// Writes, and asks the session for more once all is written. True if anything moved.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.outgoing.is_empty() {
            return self.poll_write(cx);
        }
        if let Phase::Leaving { frame, ending, answered } = &mut self.phase {
            let waits = self.publishing.is_some() || !self.drafts.is_empty() || self.held.is_some();
            if !waits && *answered {
                let (frame, ending) = (std::mem::take(frame), ending.clone());
                self.begin_close(frame, ending);
                return Ok(true);
            }
            // One more turn carries the answers: they overtake events.
            *answered = !waits;
        }
        let now = now(&self.feed);
        let hub = &self.feed.inner.hub;
        match self.session.next_output(now, hub, &mut self.slices, TURN_BYTES) {
            Output::Write => {
                for slice in self.slices.drain(..) {
                    self.outgoing.push(slice);
                }
                if self.slices.capacity() > 64 {
                    self.slices = Vec::new();
                }
                Ok(true)
            }
            Output::Read(request) => {
                let reader = self.feed.inner.reader.clone();
                self.page = Some(Box::pin(async move { reader.read(request).await }));
                Ok(true)
            }
            Output::Publish(ticket, draft) => {
                self.drafts.push((ticket, draft));
                Ok(true)
            }
            Output::Close(code, reason) => {
                self.close(code, &reason);
                Ok(true)
            }
            Output::Idle(_) if matches!(self.phase, Phase::Leaving { answered: true, .. }) => Ok(true),
            Output::Yield => {
                cx.waker().wake_by_ref();
                Ok(false)
            }
            Output::Idle(until) => Ok(self.poll_timer(until, now.mono, cx)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let now = now(&self.feed);
        match self.outgoing.poll_write(&mut self.stream, cx) {
            Poll::Ready(Ok(bytes)) => {
                self.feed.inner.metrics.sent_bytes.inc_by(bytes as u64);
                self.feed.inner.metrics.writes.inc();
                self.session.write_progress(now);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(Ending::Failed(error.kind())),
            Poll::Pending => match self.session.write_blocked(now) {
                Beat::Close(code) => {
                    // The peer reads nothing, so a close frame would only join what it does not read.
                    self.count_close(code);
                    Err(Ending::Closed(code))
                }
                Beat::Wait(until) => Ok(self.poll_timer(until, now.mono, cx)),
                Beat::Ping => Ok(false),
            },
        }
    }

    /// Arms the timer; true if the time has come already. A timer that rings early only costs one look.
    fn poll_timer(&mut self, until: Duration, now: Duration, cx: &mut Context<'_>) -> bool {
        if until <= now {
            return true;
        }
        let wanted = self.feed.inner.started.checked_add(until).map(Instant::from_std);
        let Some(wanted) = wanted else { return false };
        if self.timer.is_elapsed() || wanted < self.timer.deadline() {
            self.timer.as_mut().reset(wanted);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if wanted <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(wanted);
        }
        false
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let Phase::Closing { until, shut, ending } = &mut self.phase else { return Poll::Pending };
        if poll_farewell(&mut self.stream, &mut self.outgoing, shut, cx).is_ready() {
            return Poll::Ready(ending.clone());
        }
        let (until, ending) = (*until, ending.clone());
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(cx).map(|()| ending)
    }

    /// The server closes once what was asked before is answered.
    fn leave(&mut self, code: CloseCode, reason: &str) {
        self.count_close(code);
        let frame = close_frame(code, reason);
        self.phase = Phase::Leaving { frame, ending: Ending::Closed(code), answered: false };
    }

    /// The server closes, with a close frame behind what waits to be written.
    fn close(&mut self, code: CloseCode, reason: &str) {
        self.count_close(code);
        self.begin_close(close_frame(code, reason), Ending::Closed(code));
    }

    fn begin_close(&mut self, frame: Vec<u8>, ending: Ending) {
        self.session.close(&self.feed.inner.hub);
        self.outgoing.push(frame.into());
        self.phase = Phase::Closing { until: Instant::now() + CLOSE_PATIENCE, shut: false, ending };
    }

    fn count_close(&self, code: CloseCode) {
        let metrics = &self.feed.inner.metrics;
        metrics.closes.get_or_create(&Reason::new((code as u16).to_string())).inc();
        if code == CloseCode::NoHeartbeat {
            metrics.heartbeat_closes.inc();
        }
    }
}

impl<S> Drop for Connection<S> {
    /// However the task ends, the hub forgets it.
    fn drop(&mut self) {
        self.session.close(&self.feed.inner.hub);
    }
}

async fn publish(feed: Feed, principal: Principal, drafts: Vec<(Ticket, Box<Draft>)>) -> Answers {
    let (tickets, drafts): (Vec<Ticket>, Vec<Draft>) =
        drafts.into_iter().map(|(ticket, draft)| (ticket, *draft)).unzip();
    let results = feed.publish(&principal, drafts).await;
    tickets.into_iter().zip(results).collect()
}

/// What sessions take for now.
fn now(feed: &Feed) -> Now {
    Now { mono: feed.uptime(), wall: ingest::now() }
}
