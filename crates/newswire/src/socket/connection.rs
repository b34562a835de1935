//! The loop of one connection.
//!
//! One hand-written poll: reading, writing, awaited answers and timers go on side by side, so a write that the peer
//! does not take stops neither the answers to its pings nor the timers, and nothing is ever half done in a branch
//! that may be dropped.

mod credentials;
mod ending;
mod publishing;
mod settling;

use std::future::Future;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use newswire_core::session::{Output, Session, Ticket};
use newswire_core::{Beat, Now, Page, TURN_BYTES};
use newswire_log::ReadError;
use newswire_protocol::codes::{CloseCode, Refusal};
use newswire_protocol::command::Subscribe;
use newswire_protocol::event::Draft;
use newswire_protocol::frame::{FrameDecoder, Item};
use newswire_protocol::limits::MAX_FRAME_BYTES;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep};

use super::Wanted;
use super::closing::{echoed_close, retry_reason};
use super::outgoing::Outgoing;
use super::transport::Transport;
use crate::auth::AuthError;
use crate::connections::{Leave, Place, Visitor};
use crate::fanout::Shard;
use crate::reload::LiveSettings;
use crate::{Caller, Feed, Rates, audit, ingest};

use credentials::{Checking, standing};
use ending::{Ending, Phase};
use publishing::Publishing;
use settling::Held;

/// Bytes read from the socket at once, into a buffer that lives only while reading.
const READ_BYTES: usize = 8 << 10;

/// Rounds of the loop before the task lets others run.
const MAX_ROUNDS: usize = 16;

/// A connection, as the future of the task that serves it: polled by that one task, so its waker never changes.
///
/// Idle connections are many, so what is not always there stands on the heap while it is: [`Doing`].
pub(super) struct Connection<S> {
    stream: S,
    feed: Feed,
    shard: Arc<Shard>,
    place: Place,
    session: Session,
    decoder: FrameDecoder,
    /// Received and not yet decoded: what came while the session wanted no commands.
    input: Bytes,
    outgoing: Outgoing,
    doing: Option<Box<Doing>>,
    timer: Pin<Box<Sleep>>,
    /// For when the timer is set and will wake the task, on the session's clock.
    rings_at: Duration,
    phase: Phase,
    began: bool,
    /// Whose, as far as nobody says who it is.
    address: Option<SocketAddr>,
}

/// What was asked for and awaits others.
#[derive(Default)]
struct Doing {
    /// A subscribe that waits until the hub has everything that was durable when it came; `false` if it waited in vain.
    held: Option<(Held, BoxFuture<'static, bool>)>,
    page: Option<BoxFuture<'static, Result<Page, ReadError>>>,
    publishing: Publishing,
    /// Who it is, by what it has shown.
    checking: Option<Checking>,
    /// What the address asked for, of one who has yet to say who it is.
    address: Option<Box<Subscribe>>,
}

impl Doing {
    fn is_nothing(&self) -> bool {
        let knows = self.checking.is_none() && self.address.is_none();
        self.held.is_none() && self.page.is_none() && knows && self.publishing.is_nothing()
    }
}

/// What a look for output came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something moved, and there may be more.
    Moved,
    /// Something else has to happen first.
    Waits,
    /// Everything is written, and the session has nothing to do.
    Idle,
}

impl<S: Transport> Connection<S> {
    pub(super) fn open(feed: Feed, stream: S, input: Bytes, wanted: Wanted, place: Place) -> Self {
        let shard = feed.shard_for_connection();
        let jitter = 0.9 + 0.2 * fastrand::f64();
        let config = feed.inner.live.session();
        let limits = config.limits;
        let mut session = Session::open(&shard.hub, config, wanted.comer.principal(), jitter, feed.now());
        let (peer, identity) = (wanted.peer, wanted.comer.identity());
        place.introduce(Visitor {
            id: session.id(),
            peer,
            since: ingest::now(),
            identity,
            kept: wanted.kept,
        });
        audit::connected(session.id(), session.principal(), peer);
        if feed.authenticator().is_some() {
            session.check_credentials(standing(&feed, &wanted.comer));
        }
        // What a client forgets after each message saves so little that it is sent plain frames.
        if wanted.compression.is_some_and(|agreed| agreed.keeps_context) {
            session.accept_compressed(&shard.hub);
        }
        feed.inner.metrics.connections_opened.inc();
        feed.inner.metrics.connections.inc();
        let mut connection = Self {
            stream,
            place,
            session,
            decoder: FrameDecoder::new(MAX_FRAME_BYTES, limits.event_bytes.max(limits.command_bytes))
                .with_deflate(wanted.compression.is_some()),
            input,
            outgoing: Outgoing::default(),
            doing: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings_at: Duration::ZERO,
            phase: Phase::Open,
            began: false,
            address: peer.address,
            feed,
            shard,
        };
        match wanted.subscribe.map(Box::new) {
            Some(subscribe) if connection.session.is_unknown() => {
                connection.doing().address = Some(subscribe);
            }
            Some(subscribe) => connection.hold(Held::Address(subscribe)),
            None => {}
        }
        // It may have been taken back between the check and the moment when others can find the connection.
        connection.recheck();
        connection
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Some(rest) = self.session.resume(cx.waker()) {
            self.outgoing.push_rest(rest);
        }
        if !std::mem::replace(&mut self.began, true) {
            self.place.register(cx.waker());
        }
        // One reading of the clock serves a poll, which never takes long.
        let now = self.feed.now();
        self.heed(now);
        for _ in 0..MAX_ROUNDS {
            match &self.phase {
                Phase::Open | Phase::Leaving { .. } => {}
                Phase::Closing { .. } => return self.poll_closing(now, cx),
                Phase::Cut(ending) => return Poll::Ready(ending.clone()),
            }
            let answered = self.doing.is_some() && self.poll_doing(now, cx);
            let read = match self.poll_input(now, cx) {
                Ok(read) => read,
                Err(ending) => return Poll::Ready(ending),
            };
            let step = match self.poll_output(now, cx) {
                Ok(step) => step,
                Err(ending) => return Poll::Ready(ending),
            };
            if !(answered || read || step == Step::Moved) {
                // A stream that encrypts may have kept the end of what it took; it wakes us until that is out.
                if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx) {
                    return Poll::Ready(Ending::Failed(error.kind()));
                }
                if step == Step::Idle && matches!(self.phase, Phase::Open) {
                    self.session.arm(|| self.stream.sink());
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends it where that was decided elsewhere: by the clock, an administrator, or because everybody leaves.
    fn heed(&mut self, now: Now) {
        let is_over = match self.phase {
            Phase::Open | Phase::Leaving { .. } => false,
            // What waits then is a closing frame, and maybe more in front of it.
            Phase::Closing { .. } => self.outgoing.is_empty(),
            Phase::Cut(_) => true,
        };
        if is_over {
            return;
        }
        if let Some((code, reason)) = self.session.is_over(|| now) {
            return self.cut_off(code, reason);
        }
        let is_open = matches!(self.phase, Phase::Open);
        match self.place.should_leave() {
            Some(Leave::Revoked) => self.cut_off(CloseCode::NotPermitted, AuthError::Revoked.told()),
            Some(Leave::Recheck) => self.recheck(),
            Some(Leave::Stopping) if is_open => {
                let reason = retry_reason(self.feed.inner.connections.open());
                self.leave(CloseCode::ShuttingDown, &reason);
            }
            Some(Leave::Displaced) if is_open => {
                let reason = retry_reason(self.feed.inner.connections.open());
                self.close(CloseCode::TooMany, &reason);
            }
            Some(Leave::Kicked) if is_open => {
                self.leave(CloseCode::NotPermitted, "closed by an administrator");
            }
            Some(Leave::Displaced | Leave::Stopping | Leave::Kicked) | None => {}
        }
    }

    fn doing(&mut self) -> &mut Doing {
        self.doing.get_or_insert_default()
    }

    /// Takes what others have finished for this connection. True if the session is to be asked again behind it; answers to
    /// publishes only add to what it says next.
    fn poll_doing(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let Some(mut doing) = self.doing.take() else { return false };
        let mut any = false;
        if let Some(Poll::Ready(page)) = doing.page.as_mut().map(|page| page.as_mut().poll(cx)) {
            doing.page = None;
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
        self.poll_publishing(&mut doing, cx);
        if let Some(Poll::Ready(outcome)) = doing.checking.as_mut().map(|checking| checking.as_mut().poll(cx))
        {
            doing.checking = None;
            doing.publishing.seal();
            let address = doing.address.take();
            if self.authenticated(outcome)
                && let Some(subscribe) = address
            {
                doing.held = Some(self.held(Held::Address(subscribe)));
            }
            any = true;
        }
        let settled = match doing.held.as_mut().map(|(_, settled)| settled.as_mut().poll(cx)) {
            Some(Poll::Ready(settled)) => doing.held.take().map(|(held, _)| (held, settled)),
            _ => None,
        };
        if !doing.is_nothing() {
            self.doing = Some(doing);
        }
        if let Some((held, is_here)) = settled {
            if is_here {
                self.handle_held(held, now);
            } else {
                // What it has seen on another node may come at any moment, here or there.
                let reason = retry_reason(self.feed.inner.connections.open());
                self.leave(CloseCode::ShuttingDown, &reason);
            }
            any = true;
        }
        any
    }

    /// Publishes what was asked for, all that has come at once, and takes the answers. True if there were any.
    fn poll_publishing(&mut self, doing: &mut Doing, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(answers) = doing.publishing.poll_answers(&self.feed, cx) {
            for (ticket, outcome) in answers {
                self.session.on_published(ticket, outcome);
            }
            any = true;
        }
        any
    }

    /// Hands the publishes over that wait for nobody. True if some of them are answered already.
    fn begin_publishing(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut doing) = self.doing.take() else { return false };
        let any = self.poll_publishing(&mut doing, cx);
        if !doing.is_nothing() {
            self.doing = Some(doing);
        }
        any
    }

    fn handle_held(&mut self, held: Held, now: Now) {
        match held {
            Held::Command(frame) => self.handle(&frame, now),
            Held::Address(subscribe) => {
                let (hub, log) = (&self.shard.hub, self.feed.log());
                let subscribed = self.session.subscribe(&subscribe, now, hub, log);
                self.record();
                if let Err(refusal) = subscribed {
                    self.close(CloseCode::Protocol, &refusal.to_string());
                }
            }
        }
    }

    /// Reads and handles what the peer sent, as far as the session wants more. True if anything came.
    fn poll_input(&mut self, now: Now, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if !self.input.is_empty() && self.wants_input() {
            let input = std::mem::take(&mut self.input);
            let mut rest = &input[..];
            self.take_input(&mut rest, now);
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
                self.session.on_received(now);
                let mut received = buffer.filled();
                self.take_input(&mut received, now);
                if !received.is_empty() {
                    self.input = Bytes::copy_from_slice(received);
                }
                Ok(true)
            }
        }
    }

    fn wants_input(&self) -> bool {
        let holds = self.doing.as_ref().is_some_and(|doing| doing.held.is_some());
        matches!(self.phase, Phase::Open) && !holds && self.session.wants_commands()
    }

    /// Decodes and handles `input` until the session wants no more; what is left stays in it.
    fn take_input(&mut self, input: &mut &[u8], now: Now) {
        while !input.is_empty() && self.wants_input() {
            match self.decoder.decode(input) {
                Ok(Some(item)) => self.take_item(item, now),
                Ok(None) => {}
                Err(violation) => self.leave(violation.close, violation.reason),
            }
        }
    }

    fn take_item(&mut self, item: Item, now: Now) {
        match item {
            Item::Text(frame) => {
                if let Some(wait) = self.waits_for(|live| &live.commands) {
                    let wait = wait.as_millis().max(1);
                    return self.leave(CloseCode::TooMany, &format!("retry_after_ms={wait}"));
                }
                if self.must_settle(&frame) {
                    self.hold(Held::Command(frame));
                } else {
                    self.handle(&frame, now);
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

    /// Takes a token for whoever this is; `Some` where it has none left.
    fn waits_for(&self, rates: impl Fn(&LiveSettings) -> &Rates<Caller>) -> Option<Duration> {
        rates(&self.feed.inner.live)
            .take(|| Caller::of(self.session.principal(), self.address))
            .and_then(|standing| standing.wait)
    }

    /// A publish that came waits for those before it, or is refused where there are too many.
    fn take_draft(&mut self, ticket: Ticket, draft: Box<Draft>) {
        match self.waits_for(|live| &live.publishes) {
            None => {
                let doing = self.doing.get_or_insert_default();
                let principal = self.session.principal();
                doing.publishing.push(ticket, draft, principal, || self.place.identity());
            }
            Some(wait) => {
                let refused = Err(Refusal::too_often("more publishes than the server takes of you", wait));
                self.feed.count_published(std::slice::from_ref(&refused));
                let caller = || Caller::of(self.session.principal(), self.address);
                if self.feed.inner.told.allows(caller) {
                    audit::published(self.session.principal(), std::slice::from_ref(&refused));
                }
                self.session.on_published(ticket, refused);
            }
        }
    }

    fn handle(&mut self, frame: &str, now: Now) {
        self.session.handle(frame, now, &self.shard.hub, self.feed.log());
        self.record();
    }

    /// Has the audit know what the last command came to.
    fn record(&mut self) {
        if let Some(noted) = self.session.take_noted() {
            audit::noted(self.session.id(), self.session.principal(), *noted);
        }
    }

    /// Writes, and asks the session for more once all is written.
    fn poll_output(&mut self, now: Now, cx: &mut Context<'_>) -> Result<Step, Ending> {
        if !self.outgoing.is_empty() {
            return self.poll_write(now, cx);
        }
        if let Phase::Leaving { frame, ending, answered } = &mut self.phase {
            let waits = self
                .doing
                .as_ref()
                .is_some_and(|doing| doing.held.is_some() || !doing.publishing.is_nothing());
            if !waits && *answered {
                let (frame, ending) = (std::mem::take(frame), ending.clone());
                self.begin_close(frame, ending);
                return Ok(Step::Moved);
            }
            // One more turn carries the answers: they overtake events.
            *answered = !waits;
        }
        let read_all = self.wants_input();
        let mut output = self.next_output(now);
        let publishes = matches!(output, Output::Publish(..));
        // All that came at once goes to the log at once.
        while let Output::Publish(ticket, draft) = output {
            self.take_draft(ticket, draft);
            output = self.next_output(now);
        }
        let refused = publishes && self.begin_publishing(cx);
        let step = self.perform(output, read_all, now, cx)?;
        Ok(if refused { Step::Moved } else { step })
    }

    fn next_output(&mut self, now: Now) -> Output {
        self.session.next_output(now, &self.shard.hub, self.outgoing.room(), TURN_BYTES)
    }

    /// Does what the session said.
    fn perform(
        &mut self,
        output: Output,
        read_all: bool,
        now: Now,
        cx: &mut Context<'_>,
    ) -> Result<Step, Ending> {
        match output {
            Output::Write => {
                let moved = self.poll_write(now, cx)?;
                match self.session.idle_after_write() {
                    // The usual end of a delivery: nothing came while it was written, or the waker has rung.
                    Some(until) if read_all && self.outgoing.is_empty() => {
                        Ok(self.poll_timer(until, now.mono, Step::Idle, cx))
                    }
                    _ => Ok(moved),
                }
            }
            Output::Read(request) => {
                let reader = self.feed.inner.reader.clone();
                self.doing().page = Some(Box::pin(async move { reader.read(request).await }));
                Ok(Step::Moved)
            }
            Output::Publish(ticket, draft) => {
                self.take_draft(ticket, draft);
                Ok(Step::Moved)
            }
            Output::Authenticate(credential) => {
                self.check(credential);
                Ok(Step::Moved)
            }
            Output::Close(code, reason) => {
                self.close(code, &reason);
                Ok(Step::Moved)
            }
            Output::Idle(_) if matches!(self.phase, Phase::Leaving { answered: true, .. }) => Ok(Step::Moved),
            Output::Yield => {
                cx.waker().wake_by_ref();
                Ok(Step::Waits)
            }
            Output::Idle(until) => Ok(self.poll_timer(until, now.mono, Step::Idle, cx)),
        }
    }

    fn poll_write(&mut self, now: Now, cx: &mut Context<'_>) -> Result<Step, Ending> {
        match self.outgoing.poll_write(&mut self.stream, cx) {
            Poll::Ready(Ok(bytes)) => {
                self.feed.inner.metrics.sent_bytes.inc_by(bytes as u64);
                self.feed.inner.metrics.writes.inc();
                self.session.write_progress(now);
                Ok(Step::Moved)
            }
            Poll::Ready(Err(error)) => Err(Ending::Failed(error.kind())),
            Poll::Pending => match self.session.write_blocked(now) {
                Beat::Close(code) => {
                    // The peer reads nothing, so a close frame would only join what it does not read.
                    self.count_close(code);
                    Err(Ending::Closed(code))
                }
                Beat::Wait(until) => Ok(self.poll_timer(until, now.mono, Step::Waits, cx)),
                Beat::Ping => Ok(Step::Waits),
            },
        }
    }

    /// Sets the timer, and gives back `step`; it moved if the time has come already. One that is set for earlier is left
    /// alone: deliveries come far more often than it rings, and ringing early only costs one look.
    fn poll_timer(&mut self, until: Duration, now: Duration, step: Step, cx: &mut Context<'_>) -> Step {
        if until <= now {
            return Step::Moved;
        }
        if now < self.rings_at && self.rings_at <= until {
            return step;
        }
        let Some(wanted) = self.feed.inner.started.checked_add(until) else { return step };
        self.timer.as_mut().reset(Instant::from_std(wanted));
        self.rings_at = until;
        if self.timer.as_mut().poll(cx).is_ready() {
            // It came while it was set: asked again, with the clock read anew.
            self.rings_at = Duration::ZERO;
            cx.waker().wake_by_ref();
        }
        step
    }
}

impl<S: Transport> Future for Connection<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        let ending = ready!(connection.poll_ending(cx));
        audit::disconnected(connection.session.id(), &connection.session.principal().id, &ending);
        tracing::debug!(%ending, "connection ended");
        Poll::Ready(())
    }
}

impl<S> Drop for Connection<S> {
    /// However the task ends, the hub forgets it.
    fn drop(&mut self) {
        self.session.close(&self.shard.hub);
        self.feed.inner.metrics.connections.dec();
    }
}
