//! Subscribers in this process: the stream of updates that a socket would get, as values.
//!
//! The same session as a socket's decides what comes when ([`newswire_core::Session`]); it only speaks in values instead
//! of frames. So replay, seam, gaps and slow readers are the same code and the same tests.

mod delivery;
mod reading;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::poll_fn;
use newswire_core::{Access, Answer, Missing, Notice};
use newswire_log::ReadError;
use newswire_protocol::{Epoch, GapReason, Refusal, Start, Unsubscribe};

use crate::connections::Peer;
use crate::{Event, Feed, Interest, audit};
pub use delivery::{Delivery, DeliveryError, Outcome};
use reading::Reading;

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum Update {
    /// An event: once each, in offset order, but for a replay that was asked for again.
    Event(Event),
    /// The replay is over, and what follows is live. Comes once for each start option.
    CaughtUp {
        /// How far the replay went, events or not.
        offset: u64,
    },
    /// Everything that matches up to here has been handed over: safe to resume from. Comes while the log moves past a quiet
    /// subscriber.
    Checkpoint {
        /// Up to here.
        offset: u64,
    },
    /// Matching events may be missing here; a subscriber that must have everything does something about it.
    Gap(Missing),
    /// From here on this is subscribed ([`Subscription::add`]).
    Subscribed(Answer),
    /// From here on only these are subscribed ([`Subscription::remove`]).
    Unsubscribed {
        /// What remains.
        channels: Vec<String>,
    },
}

/// Why a subscription is over before it was dropped. The end of the feed is none of these: then the stream ends.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// More waited for it than `backlog.max_bytes`, and `backlog.policy` says that this ends it. Whoever subscribes again
    /// after the last offset misses nothing.
    #[error("too slow: the backlog is full")]
    TooSlow,
    /// The identity it was made for expired, was revoked, or may not do any more what it does.
    #[error("{reason}")]
    NotPermitted {
        /// Which of them.
        reason: String,
    },
    /// Somebody told this one to leave, while the feed goes on.
    #[error("closed by an administrator")]
    Kicked,
    /// The log could not be read.
    #[error("reading the log failed: {0}")]
    LogFailed(#[from] ReadError),
}

/// Why somebody could not subscribe.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// An unknown channel, a filter beyond its bounds: asking again would not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// So many are connected already, over sockets or in this process.
    #[error("there are {max} connections and subscriptions already (limits.connections)")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The identity has so many already.
    #[error(
        "this identity has {max} connections and subscriptions already (limits.connections_per_identity)"
    )]
    TooManyOfIdentity {
        /// The bound.
        max: usize,
    },
    /// The feed is being shut down.
    #[error("the feed is shutting down")]
    ShuttingDown,
    /// It was over before it began.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// A subscriber in this process; dropped, it is forgotten.
///
/// A [`Stream`] of updates that ends when the feed is shut down; an [`Ended`] is its last item. Polling it is cancel-safe: what
/// was not handed over comes with the next poll. Not polled, it holds at most `backlog.max_bytes` of references and two
/// pages, and `backlog.policy` decides what happens beyond; it keeps nobody waiting.
pub struct Subscription {
    answer: Answer,
    /// Every channel and pattern asked for and not taken back, answered or not.
    asked: BTreeSet<String>,
    /// Changes whose answers have not been handed over.
    unanswered: usize,
    /// Of the last update.
    epoch: Epoch,
    reading: Reading,
}

impl Feed {
    /// Subscribes in this process, just as a socket would: the same order, the same gaps, the same bounds.
    ///
    /// Waits until what was durable before is known to the fan-out, so that one who publishes and then subscribes finds the
    /// own event in front of the subscription. Takes a place among the connections (`limits.connections`) and is counted in
    /// `/channels` as they are. Dropping the future leaves nothing behind.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use newswire::{Feed, Interest, Update};
    ///
    /// # let feed = Feed::builder().build()?;
    /// let mut updates = feed.subscribe(Interest::in_channels(["tasks"]).history(10)).await?;
    /// while let Some(update) = updates.next().await {
    ///     match update? {
    ///         Update::Event(event) => println!("{} {}", event.offset(), event.payload()),
    ///         Update::CaughtUp { .. } => break,
    ///         Update::Gap(gap) => println!("{} to {} may be missing", gap.from, gap.to),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(&self, interest: impl Into<Interest>) -> Result<Subscription, SubscribeError> {
        self.subscribe_as(Peer::LIBRARY, interest.into()).await
    }

    /// As [`Self::subscribe`], for somebody who is elsewhere.
    pub(crate) async fn subscribe_as(
        &self,
        peer: Peer,
        interest: Interest,
    ) -> Result<Subscription, SubscribeError> {
        let ask = interest.ask()?;
        let Interest { filters, principal, start, .. } = &interest;
        let permitted = self.inner.channels.permitted(&ask.channels, filters, principal, Access::of(start));
        permitted.inspect_err(|refusal| {
            audit::not_subscribed(principal, peer, &ask.channels, refusal.code.code());
        })?;
        let mut reading = Reading::begin(self, interest, peer).await?;
        reading.subscribe(&ask)?;
        loop {
            // Nothing was subscribed before, so nothing but the answer can come first.
            match poll_fn(|cx| reading.poll_next(cx)).await {
                Some(Ok(Update::Subscribed(answer))) => {
                    let asked = ask.channels.into_iter().collect();
                    return Ok(Subscription { epoch: answer.epoch, answer, asked, unanswered: 0, reading });
                }
                Some(Ok(_)) => {}
                Some(Err(ended)) => return Err(ended.into()),
                None => return Err(SubscribeError::ShuttingDown),
            }
        }
    }
}

impl Subscription {
    /// The next update; `None` once the feed is shut down, and after an [`Ended`]. Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`], as the last item.
    pub async fn next(&mut self) -> Option<Result<Update, Ended>> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// For the audit: it is about to be dropped because of this.
    pub(crate) fn ends_because(&mut self, why: &'static str) {
        self.reading.ends_because(why);
    }

    /// What the subscribe was answered: the end of the log at that moment, the epoch, whether everything asked for is there.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The epoch that the offset of the last update belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Subscribes to more, or to the same anew; [`Update::Subscribed`] comes at the place in the stream from which it holds.
    ///
    /// Its principal stays that of the first interest. Cancel-safe: dropped, it has either happened or not.
    ///
    /// # Errors
    /// A refusal; nothing was changed then.
    pub async fn add(&mut self, interest: impl Into<Interest>) -> Result<(), SubscribeError> {
        let interest = interest.into();
        let (ask, channels) = (interest.ask()?, &self.reading.feed().inner.channels);
        let principal = self.reading.principal().ok_or(SubscribeError::ShuttingDown)?;
        channels.permitted(&ask.channels, &interest.filters, principal, Access::of(&interest.start))?;
        self.reading.settle(interest.start.clone()).await?;
        self.reading.subscribe(&ask)?;
        self.unanswered += 1;
        self.asked.extend(ask.channels);
        Ok(())
    }

    /// Unsubscribes from these channels and patterns and forgets their filters; [`Update::Unsubscribed`] comes at the place in
    /// the stream from which it holds: behind what was durable when this was called. Names that are not subscribed are passed
    /// over. Cancel-safe: dropped, it has either happened or not.
    ///
    /// # Errors
    /// Too many changes wait to be read; see [`Subscription::next`].
    pub async fn remove<C: Into<String>>(
        &mut self,
        channels: impl IntoIterator<Item = C>,
    ) -> Result<(), SubscribeError> {
        let ask = Unsubscribe { channels: channels.into_iter().map(Into::into).collect(), sub: None };
        self.reading.settle(Start::Live).await?;
        self.reading.unsubscribe(&ask)?;
        self.unanswered += 1;
        self.asked.retain(|channel| !ask.channels.contains(channel));
        Ok(())
    }

    /// [`Self::remove`] of everything, also of what was added and has not been answered.
    async fn remove_all(&mut self) -> Result<(), SubscribeError> {
        self.remove(self.asked.clone()).await
    }

    fn awaits_answers(&self) -> bool {
        self.unanswered > 0
    }

    /// Ready with the reason once whoever subscribed may not read on, or was told to leave; for one who takes nothing at the moment. Cancel-safe.
    pub(crate) async fn not_permitted(&mut self) -> Ended {
        poll_fn(|cx| self.reading.poll_not_permitted(cx)).await
    }

    fn is_replaying(&self) -> bool {
        self.reading.is_replaying()
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Update, Ended>>> {
        let update = self.reading.poll_next(cx);
        if let Poll::Ready(Some(Ok(update))) = &update {
            match update {
                Update::Gap(gap) if gap.reason == GapReason::Epoch => self.epoch = gap.epoch,
                Update::Subscribed(answer) => {
                    self.epoch = answer.epoch;
                    self.unanswered -= 1;
                }
                Update::Unsubscribed { .. } => self.unanswered -= 1,
                _ => {}
            }
        }
        update
    }
}

impl Stream for Subscription {
    type Item = Result<Update, Ended>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_update(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl From<Notice> for Update {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Subscribed(answer) => Self::Subscribed(answer),
            Notice::Unsubscribed { channels } => Self::Unsubscribed { channels },
            Notice::CaughtUp { offset, .. } => Self::CaughtUp { offset },
            Notice::Checkpoint { offset } => Self::Checkpoint { offset },
            Notice::Gap(gap) => Self::Gap(gap),
        }
    }
}
