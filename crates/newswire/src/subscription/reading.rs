//! The loop of one subscriber in this process: what the loop of a connection is for a socket.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::{Output, Page, Piece, Principal, Run, Session, Standing, TURN_BYTES};
use newswire_log::ReadError;
use newswire_protocol::{CloseCode, ErrorCode, Refusal, Start, Subscribe, Unsubscribe};
use tokio::time::{Instant, Sleep};

use super::{Ended, SubscribeError, Update};
use crate::auth::AuthError;
use crate::connections::{Leave, NoPlace, Peer, Place, Visitor};
use crate::fanout::Shard;
use crate::http::stream::Kept;
use crate::{Event, Feed, Interest, audit, ingest};

/// Rounds of the loop before the task lets others run.
const MAX_ROUNDS: usize = 16;

/// A session and what one turn of it gave. Dropped, the hub forgets it.
pub(super) struct Reading {
    feed: Feed,
    /// None once it is over.
    live: Option<Live>,
    /// Of one turn, so about [`TURN_BYTES`]; filled only when empty.
    ready: VecDeque<Piece>,
    /// Told once.
    ended: Option<Ended>,
}

struct Live {
    shard: Arc<Shard>,
    session: Session,
    place: Place,
    /// Whom the place wakes.
    waker: Option<Waker>,
    page: Option<BoxFuture<'static, Result<Page, ReadError>>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Room for a turn, used again.
    pieces: Vec<Piece>,
    feed: Feed,
    /// How it ended, as far as that was told.
    why: &'static str,
}

fn behind() -> Refusal {
    let told = "this node does not have yet what was seen on another; try again, here or there";
    Refusal::because(ErrorCode::Unavailable, told)
}

impl Reading {
    pub(super) async fn begin(feed: &Feed, interest: Interest, peer: Peer) -> Result<Self, SubscribeError> {
        let Interest { principal, identity, backlog, start, .. } = interest;
        let metrics = &feed.inner.metrics;
        let connections = &feed.inner.connections;
        let place = connections.enter_as_guest(identity.as_deref()).map_err(|no_place| {
            if feed.is_stopping() {
                return SubscribeError::ShuttingDown;
            }
            metrics.connections_refused.inc();
            match no_place {
                NoPlace::AtAll => SubscribeError::TooMany { max: connections.max() },
                NoPlace::ForIdentity => {
                    SubscribeError::TooManyOfIdentity { max: connections.max_of_identity() }
                }
            }
        })?;
        let shard = feed.shard_for_connection();
        if !feed.caught_up_with(&start, &shard).await {
            return Err(behind().into());
        }
        let config = feed.inner.live.session();
        let mut session = Session::in_process(&shard.hub, config, principal, backlog, feed.now());
        if let Some(identity) = &identity {
            session.check_credentials(Standing::Known { expires_at: identity.expires_at });
        }
        let kept = Kept::default();
        place.introduce(Visitor { id: session.id(), peer, since: ingest::now(), identity, kept });
        audit::connected(session.id(), session.principal(), peer);
        metrics.subscribers.inc();
        let mut live = Live {
            shard,
            session,
            place,
            waker: None,
            page: None,
            timer: None,
            pieces: Vec::new(),
            feed: feed.clone(),
            why: "dropped",
        };
        // It may have been taken back between the check and the moment when others can find it.
        live.recheck()?;
        Ok(Self { feed: feed.clone(), live: Some(live), ready: VecDeque::new(), ended: None })
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.session.is_replaying())
    }

    /// On whose behalf; `None` once it is over.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.live.as_ref().map(|live| live.session.principal())
    }

    /// For the audit: whoever reads has no more use for it, because of this.
    pub(super) fn ends_because(&mut self, why: &'static str) {
        if let Some(live) = &mut self.live {
            live.why = why;
        }
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Waits until the hub has what is durable now, and what a subscriber who begins so may have seen already.
    pub(super) fn settle(&self, start: Start) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let (feed, shard) = (self.feed.clone(), self.live.as_ref().map(|live| Arc::clone(&live.shard)));
        async move {
            match shard {
                Some(shard) if !feed.caught_up_with(&start, &shard).await => Err(behind()),
                _ => Ok(()),
            }
        }
    }

    pub(super) fn subscribe(&mut self, ask: &Subscribe) -> Result<(), SubscribeError> {
        let live = self.live.as_mut().ok_or(SubscribeError::ShuttingDown)?.with_room()?;
        let subscribed = live.session.subscribe(ask, self.feed.now(), &live.shard.hub, self.feed.log());
        live.record();
        subscribed?;
        live.wake();
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, ask: &Unsubscribe) -> Result<(), SubscribeError> {
        let live = self.live.as_mut().ok_or(SubscribeError::ShuttingDown)?.with_room()?;
        live.session.unsubscribe(ask, &live.shard.hub);
        live.record();
        live.wake();
        Ok(())
    }

    /// Ready with the reason once it ends because of whose it is, or was told to leave; never for any other end.
    pub(super) fn poll_not_permitted(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(live) = &mut self.live else { return Poll::Pending };
        live.register(cx.waker());
        let until = live.session.over_at(live.feed.now());
        if let Some(Some(ended)) = live.heed() {
            live.why = why(Some(&ended));
            (self.live, self.ready) = (None, VecDeque::new());
            return Poll::Ready(ended);
        }
        if live.poll_timer(until, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, Ended>>> {
        // So that one who is never out of updates lets others run.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let polled = self.poll_unrestricted(cx);
        if polled.is_ready() {
            coop.made_progress();
        }
        polled
    }

    fn poll_unrestricted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, Ended>>> {
        if let Some(ended) = self.live.as_mut().and_then(Live::heed) {
            self.ends_because(why(ended.as_ref()));
            (self.live, self.ready) = (None, VecDeque::new());
            return Poll::Ready(ended.map(Err));
        }
        if let Some(update) = self.take_ready() {
            return Poll::Ready(Some(Ok(update)));
        }
        let Some(live) = &mut self.live else { return Poll::Ready(self.ended.take().map(Err)) };
        match ready!(live.poll_turn(cx)) {
            Ok(()) => {
                self.ready.extend(live.pieces.drain(..));
                Poll::Ready(self.take_ready().map(Ok))
            }
            Err(ended) => {
                self.ends_because(why(ended.as_ref()));
                self.live = None;
                Poll::Ready(ended.map(Err))
            }
        }
    }

    fn take_ready(&mut self) -> Option<Update> {
        match self.ready.front_mut()? {
            Piece::Events(run, places) => {
                let event = take_event(run, places);
                if places.start >= places.end {
                    self.ready.pop_front();
                }
                Some(Update::Event(event))
            }
            Piece::Notice(_) => match self.ready.pop_front()? {
                Piece::Notice(notice) => Some(notice.into()),
                Piece::Events(..) => None,
            },
        }
    }
}

fn take_event(run: &Run, places: &mut Range<usize>) -> Event {
    let event = Event::new(Arc::clone(&run.batch), run.index(places.start));
    places.start += 1;
    event
}

impl Live {
    /// Goes on until there is at least one piece, or it is over: with a reason, or because the feed is shut down.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Option<Ended>>> {
        self.register(cx.waker());
        for _ in 0..MAX_ROUNDS {
            if let Some(ended) = self.heed() {
                return Poll::Ready(Err(ended));
            }
            if let Some(Poll::Ready(page)) = self.page.as_mut().map(|page| page.as_mut().poll(cx)) {
                self.page = None;
                match page {
                    Ok(page) => self.session.on_page(page),
                    Err(error) => return Poll::Ready(Err(Some(error.into()))),
                }
            }
            let now = self.feed.now();
            match self.session.next_pieces(now, &self.shard.hub, &mut self.pieces, TURN_BYTES) {
                Output::Write => return Poll::Ready(Ok(())),
                Output::Read(request) => {
                    let reader = self.feed.inner.reader.clone();
                    self.page = Some(Box::pin(async move { reader.read(request).await }));
                }
                Output::Close(CloseCode::TooSlow, _) => return Poll::Ready(Err(Some(Ended::TooSlow))),
                Output::Close(_, reason) => return Poll::Ready(Err(Some(Ended::NotPermitted { reason }))),
                Output::Idle(until) => {
                    if self.poll_timer(until, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                // Nobody publishes through a session that is given no commands.
                Output::Yield | Output::Publish(..) | Output::Authenticate(_) => break,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The end of it, where that was decided elsewhere: with a reason, or because it was told to leave.
    fn heed(&mut self) -> Option<Option<Ended>> {
        if let Some((_, reason)) = self.session.is_over(|| self.feed.now()) {
            return Some(Some(not_permitted(reason)));
        }
        match self.place.should_leave()? {
            // Nobody here is displaced: whoever subscribes has said who it is.
            Leave::Stopping | Leave::Displaced => Some(None),
            Leave::Kicked => Some(Some(Ended::Kicked)),
            Leave::Revoked => Some(Some(not_permitted(AuthError::Revoked.told()))),
            Leave::Recheck => self.recheck().err().map(Some),
        }
    }

    /// Has its identity judged again.
    fn recheck(&mut self) -> Result<(), Ended> {
        let Some((authenticator, identity)) = self.feed.authenticator().zip(self.place.identity()) else {
            return Ok(());
        };
        match authenticator.recheck(&identity) {
            Ok(None) => {}
            Ok(Some(identity)) => {
                let over = self.session.readmit((&identity).into(), &self.shard.hub);
                self.place.identify(Arc::new(identity));
                if let Some((_, reason)) = over {
                    return Err(not_permitted(reason));
                }
            }
            Err(error) => return Err(not_permitted(error.told())),
        }
        Ok(())
    }

    fn register(&mut self, waker: &Waker) {
        // Sessions of this kind begin nothing that they would have to end.
        let _ = self.session.resume(waker);
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.place.register(waker);
            self.waker = Some(waker.clone());
        }
    }

    /// Ready once the time has come.
    fn poll_timer(&mut self, until: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.feed.inner.started.checked_add(until) else { return Poll::Pending };
        let until = Instant::from_std(until);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// Refuses a change while too many of them wait to be read.
    fn with_room(&mut self) -> Result<&mut Self, Refusal> {
        if self.session.wants_commands() {
            return Ok(self);
        }
        let detail = "too many changes of this subscription wait to be read; read on first";
        Err(Refusal::because(ErrorCode::Unavailable, detail))
    }

    /// Has the audit know what was just asked.
    fn record(&mut self) {
        if let Some(noted) = self.session.take_noted() {
            audit::noted(self.session.id(), self.session.principal(), *noted);
        }
    }

    /// Has whoever waits in a poll look at what was just asked.
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// An end, for the audit.
fn why(ended: Option<&Ended>) -> &'static str {
    match ended {
        None => "closed",
        Some(Ended::TooSlow) => "too slow",
        Some(Ended::Kicked) => "closed by an administrator",
        Some(Ended::NotPermitted { .. }) => "not permitted",
        Some(Ended::LogFailed(_)) => "the log failed",
    }
}

fn not_permitted(reason: &str) -> Ended {
    Ended::NotPermitted { reason: reason.to_owned() }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.session.close(&self.shard.hub);
        self.feed.inner.metrics.subscribers.dec();
        audit::disconnected(self.session.id(), &self.session.principal().id, &self.why);
    }
}
