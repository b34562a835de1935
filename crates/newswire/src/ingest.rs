//! The first room of the street: validated drafts become durable events.

use std::time::SystemTime;

use newswire_core::{Action, EventHead, Principal, Published, Role};
use newswire_log::{AppendError, Appended, Dedup, NewEvents};
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::event::Draft;
use newswire_protocol::time::UnixMicros;

use crate::traces::{Origin, Publish};
use crate::{Feed, NewEvent, audit, event_id};

/// Events that go to the log in one append; a larger publish is cut into several, in order.
const MAX_APPEND_EVENTS: usize = 4_096;

/// Bytes that go to the log in one append.
const MAX_APPEND_BYTES: usize = 4 << 20;

impl Feed {
    /// Stores an event and answers once it is durable: with its offset and id, and whether it was there already.
    ///
    /// Dropping the future does not undo what was handed to the log already.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use newswire::{Feed, NewEvent};
    ///
    /// let feed = Feed::builder().channels(["orders"]).build()?;
    /// let order = NewEvent::new("orders", "order.placed").payload(&std::collections::BTreeMap::from([("total", 42)]));
    /// let stored = feed.publish(order.clone().id("order-1")).await?;
    /// assert_eq!((stored.offset, stored.duplicate), (1, false));
    /// assert!(feed.publish(order.id("order-1")).await?.duplicate);
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    ///
    /// # Errors
    /// The rule that the event breaks, an unknown channel, an id in use for another event, a log that takes nothing.
    pub async fn publish(&self, event: impl Into<NewEvent>) -> Result<Published, Refusal> {
        let results = self.publish_all([event.into()]).await;
        results.into_iter().next().unwrap_or_else(|| Err(ErrorCode::Unavailable.into()))
    }

    /// Stores events in their order and answers in it, once the accepted ones are durable. A refused event is refused alone.
    pub async fn publish_all(
        &self,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Vec<Result<Published, Refusal>> {
        self.publish_as(&Principal::anonymous(), events).await
    }

    /// [`Feed::publish_all`] on behalf of somebody: ids are theirs, and clash with nobody else's.
    pub async fn publish_as(
        &self,
        principal: &Principal,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Vec<Result<Published, Refusal>> {
        let limits = self.inner.live.limits();
        let drafts: Vec<_> = events.into_iter().map(|event| event.draft(&limits)).collect();
        self.publish_parsed(principal, Origin::Process, drafts.into_iter()).await
    }

    /// [`Feed::publish_as`] for events that were parsed from the JSON of the protocol.
    pub async fn publish_drafts(
        &self,
        principal: &Principal,
        drafts: Vec<Draft>,
    ) -> Vec<Result<Published, Refusal>> {
        self.publish_parsed(principal, Origin::Process, drafts.into_iter().map(Ok)).await
    }

    /// [`Feed::publish_all`], of which the audit says nothing: for what publishes the audit itself, and would
    /// otherwise never end.
    pub async fn publish_unaudited(
        &self,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Vec<Result<Published, Refusal>> {
        let limits = self.inner.live.limits();
        let drafts: Vec<_> = events.into_iter().map(|event| event.draft(&limits)).collect();
        self.publish_and_count(&Principal::anonymous(), Origin::Process, drafts.into_iter()).await
    }

    /// Like [`publish_drafts`](Self::publish_drafts), for input of which some could not be parsed: those keep their place. Drafts are
    /// asked for as they are stored, so that a large request is never parsed as a whole.
    pub(crate) async fn publish_parsed(
        &self,
        principal: &Principal,
        origin: Origin<'_>,
        drafts: impl Iterator<Item = Result<Draft, Refusal>>,
    ) -> Vec<Result<Published, Refusal>> {
        let results = self.publish_and_count(principal, origin, drafts).await;
        audit::published(principal, &results);
        results
    }

    async fn publish_and_count(
        &self,
        principal: &Principal,
        origin: Origin<'_>,
        drafts: impl Iterator<Item = Result<Draft, Refusal>>,
    ) -> Vec<Result<Published, Refusal>> {
        let now = now();
        let mut span = self.inner.traces.publish(origin);
        let mut results = Vec::with_capacity(drafts.size_hint().0);
        let mut waiting = Chunk::default();
        // Nobody is promised that these are stored as one piece.
        let few = drafts.size_hint().1.is_some_and(|most| most < self.inner.log.gathers_from());
        let max_events = if few { 1 } else { self.inner.log.max_append_events() };
        let mut refused = None;
        for draft in drafts {
            let admitted = draft.and_then(|draft| {
                span.saw(&draft);
                self.admit(principal, &draft, now, &mut waiting.events)
            });
            match admitted {
                Ok(event_id) => {
                    waiting.answers.push((results.len(), event_id));
                    // Stands until the log answers, which it does for every event of an append.
                    results.push(Err(ErrorCode::Unavailable.into()));
                    if waiting.is_full(max_events) {
                        let chunk = std::mem::take(&mut waiting);
                        if let Some(refusal) = &refused {
                            // Without the one before it none of those behind it: they are in order. Nor does each wait in vain.
                            chunk.refuse(refusal, &mut results);
                        } else {
                            refused = self.store(chunk, &mut results, &mut span).await.filter(|_| few);
                        }
                    }
                }
                Err(refusal) => results.push(Err(refusal)),
            }
        }
        self.store(waiting, &mut results, &mut span).await;
        self.count_published(&results);
        span.end(&results);
        results
    }

    /// Adds what the log stores of a draft to `events`, if this principal may publish it. Returns its event id.
    fn admit(
        &self,
        principal: &Principal,
        draft: &Draft,
        now: UnixMicros,
        events: &mut NewEvents,
    ) -> Result<String, Refusal> {
        principal.require(Role::Publisher)?;
        principal.permit(Action::Publish, &draft.channel)?;
        self.inner.channels.admit(&draft.channel, principal, || self.inner.log.channels())?;
        let given_id = draft.event_id.as_deref();
        let event_id = given_id.map_or_else(|| event_id::new(now).to_string(), str::to_owned);
        let encoded = draft.encode(&event_id, now);
        let dedup = given_id.map(|id| Dedup::of(&principal.id, id, draft.fingerprint()));
        events.push(&EventHead::of(draft, &encoded), &encoded, dedup);
        Ok(event_id)
    }

    /// Appends one chunk and writes each answer to its place in `results`. Gives what all of it was refused with.
    async fn store(
        &self,
        mut chunk: Chunk,
        results: &mut [Result<Published, Refusal>],
        span: &mut Publish,
    ) -> Option<Refusal> {
        if chunk.events.is_empty() {
            return None;
        }
        let (events, mut commit) = span.commit(std::mem::take(&mut chunk.events));
        match self.inner.log.append(events).await {
            Ok(appended) => {
                for ((place, event_id), outcome) in chunk.answers.into_iter().zip(appended) {
                    results[place] = answer(outcome, event_id);
                }
                None
            }
            Err(error) => {
                commit.failed(&error);
                let refusal = refusal(&error);
                chunk.refuse(&refusal, results);
                Some(refusal)
            }
        }
    }

    pub(crate) fn count_published(&self, results: &[Result<Published, Refusal>]) {
        let metrics = &self.inner.metrics;
        for result in results {
            match result {
                Ok(Published { duplicate, .. }) => {
                    let counter = if *duplicate { &metrics.duplicates } else { &metrics.publishes };
                    counter.inc();
                }
                Err(refusal) => metrics.refused(refusal.code.code()),
            }
        }
    }
}

/// Events on their way to one append, with the place of each answer and the event id that stands in it.
#[derive(Default)]
struct Chunk {
    events: NewEvents,
    answers: Vec<(usize, String)>,
}

impl Chunk {
    /// Whether a log that takes so many events at once should get it now.
    fn is_full(&self, max_events: usize) -> bool {
        self.events.len() >= MAX_APPEND_EVENTS.min(max_events) || self.events.bytes() >= MAX_APPEND_BYTES
    }

    fn refuse(self, refusal: &Refusal, results: &mut [Result<Published, Refusal>]) {
        for (place, _) in self.answers {
            results[place] = Err(refusal.clone());
        }
    }
}

fn answer(outcome: Appended, event_id: String) -> Result<Published, Refusal> {
    match outcome {
        Appended::Stored { offset } => Ok(Published { offset, event_id, duplicate: false }),
        Appended::Duplicate { offset } => Ok(Published { offset, event_id, duplicate: true }),
        Appended::Conflict { offset } => Err(Refusal::because(
            ErrorCode::IdConflict,
            format!(
                "event_id {event_id:?} stands at offset {offset} with another channel, type, payload or timestamp"
            ),
        )),
    }
}

fn refusal(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::StorageFull => ErrorCode::StorageFull,
        _ => ErrorCode::Unavailable,
    };
    Refusal::because(code, error.to_string())
}

/// The wall clock, in microseconds since the Unix epoch.
pub(crate) fn now() -> UnixMicros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMicros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
