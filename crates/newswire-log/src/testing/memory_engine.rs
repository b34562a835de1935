//! An engine in memory, for tests of what stands on one: it can lose, forget and fall silent on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::event_log::Place;
use crate::remote::{Accepted, Extent, Following, Message, MessageId, SequenceError, Sequenced, Sequencer};

/// The engine; clones are the same one.
#[derive(Clone)]
pub struct MemoryEngine {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Counts changes, for those who follow.
    changes: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

struct State {
    incarnation: u64,
    first: u64,
    last: u64,
    messages: BTreeMap<u64, Sequenced>,
    ids: HashMap<MessageId, u64>,
    /// Whether it knows ids at all.
    knows_ids: bool,
    /// Followers of an earlier number are cut off.
    cuts: u64,
    /// Answers nothing.
    is_down: bool,
    /// So many appends are stored, but not answered.
    unanswered: usize,
    /// Nothing beyond this offset is told to anybody.
    known: u64,
}

fn unreachable() -> SequenceError {
    SequenceError::Unreachable { engine: "memory engine", reason: "it is down".into() }
}

impl MemoryEngine {
    /// An empty one. `knows_ids`: a message whose id it has seen is not stored again.
    pub fn new(clock: Arc<dyn Clock>, knows_ids: bool) -> Self {
        let state = State {
            incarnation: 1,
            first: 1,
            last: 0,
            messages: BTreeMap::new(),
            ids: HashMap::new(),
            knows_ids,
            cuts: 0,
            is_down: false,
            unanswered: 0,
            known: u64::MAX,
        };
        let inner = Inner { state: Mutex::new(state), changes: watch::Sender::new(0), clock };
        Self { inner: Arc::new(inner) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.inner.state.lock());
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// Cuts off everybody who follows.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Answers nothing until it is up again.
    pub fn set_down(&self, is_down: bool) {
        self.change(|state| (state.is_down, state.cuts) = (is_down, state.cuts + 1));
    }

    /// Stores so many of the next appends without an answer.
    pub fn swallow_answers(&self, appends: usize) {
        self.change(|state| state.unanswered = appends);
    }

    /// Tells nobody of what it stores beyond an offset, as a server that has just become the leader and has not caught up with
    /// itself.
    pub fn know_until(&self, offset: u64) {
        self.change(|state| state.known = offset);
    }

    /// Loses everything beyond an offset, as an engine does that had not synced it.
    pub fn lose_beyond(&self, offset: u64) {
        self.change(|state| {
            state.messages.retain(|at, _| *at <= offset);
            state.ids.retain(|_, at| *at <= offset);
            (state.last, state.cuts) = (offset, state.cuts + 1);
        });
    }

    /// Lets everything before an offset go.
    pub fn trim_before(&self, offset: u64) {
        self.change(|state| {
            state.messages.retain(|at, _| *at >= offset);
            state.first = offset;
        });
    }

    /// Is made anew, empty.
    pub fn make_anew(&self) {
        self.change(|state| {
            let (incarnation, cuts, knows_ids) = (state.incarnation + 1, state.cuts + 1, state.knows_ids);
            state.messages.clear();
            state.ids.clear();
            (state.incarnation, state.cuts, state.knows_ids) = (incarnation, cuts, knows_ids);
            (state.first, state.last) = (1, 0);
        });
    }

    /// Stores something that no node wrote.
    pub fn intrude(&self, body: &'static [u8]) {
        let stored_at = self.inner.clock.now();
        self.change(|state| {
            state.last += 1;
            let place = Place { offset: state.last, stored_at };
            state.messages.insert(state.last, Sequenced { place, body: Bytes::from_static(body) });
        });
    }

    fn store(&self, messages: Vec<Message>) -> Result<Accepted, SequenceError> {
        let stored_at = self.inner.clock.now();
        let mut answer = Err(unreachable());
        self.change(|state| {
            if state.is_down {
                return;
            }
            let known = messages.first().and_then(|message| state.ids.get(&message.id)).copied();
            let accepted = match known {
                Some(first) if messages.len() == 1 && state.knows_ids => Accepted { first, repeated: true },
                _ => {
                    let first = state.last + 1;
                    for (offset, Message { id, body, .. }) in (first..).zip(messages) {
                        state.ids.entry(id).or_insert(offset);
                        let place = Place { offset, stored_at };
                        state.messages.insert(offset, Sequenced { place, body });
                        state.last = offset;
                    }
                    Accepted { first, repeated: false }
                }
            };
            answer = Ok(accepted);
            if state.unanswered > 0 {
                state.unanswered -= 1;
                let reason = "the answer was lost".into();
                answer = Err(SequenceError::Unanswered { engine: "memory engine", reason });
            }
        });
        answer
    }
}

/// Where somebody who follows is.
struct Follower {
    engine: MemoryEngine,
    after: u64,
    cuts: u64,
    changes: watch::Receiver<u64>,
    is_over: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Sequenced, SequenceError>, Self)> {
        if self.is_over {
            return None;
        }
        loop {
            {
                let state = self.engine.inner.state.lock();
                if state.cuts != self.cuts {
                    drop(state);
                    self.is_over = true;
                    return Some((Err(unreachable()), self));
                }
                let next = state.messages.range(self.after + 1..).next();
                if let Some((offset, next)) = next.filter(|(offset, _)| **offset <= state.known) {
                    self.after = *offset;
                    let next = next.clone();
                    drop(state);
                    return Some((Ok(next), self));
                }
            }
            self.changes.changed().await.ok()?;
        }
    }
}

impl Sequencer for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory engine"
    }

    fn append(&self, messages: Vec<Message>) -> BoxFuture<'static, Result<Accepted, SequenceError>> {
        let engine = self.clone();
        Box::pin(async move { engine.store(messages) })
    }

    fn max_messages(&self) -> usize {
        1000
    }

    fn place(
        &self,
        last: u64,
        messages: Vec<(u64, Message)>,
    ) -> BoxFuture<'static, Result<(), SequenceError>> {
        let engine = self.clone();
        Box::pin(async move {
            let stored_at = engine.inner.clock.now();
            let mut answer = Err(unreachable());
            engine.change(|state| {
                if state.is_down || state.last != last {
                    return;
                }
                for (offset, Message { body, .. }) in messages {
                    if state.messages.is_empty() {
                        state.first = offset;
                    }
                    let place = Place { offset, stored_at };
                    state.messages.insert(offset, Sequenced { place, body });
                    state.last = offset;
                }
                answer = Ok(());
            });
            answer
        })
    }

    fn placed(&self, last: u64, next: u64) -> BoxFuture<'static, Result<(), SequenceError>> {
        let engine = self.clone();
        Box::pin(async move {
            engine.change(|state| {
                assert_eq!(state.last, last);
                state.last = next - 1;
                if state.messages.is_empty() {
                    state.first = next;
                }
            });
            Ok(())
        })
    }

    fn follow(&self, after: u64) -> BoxFuture<'static, Result<Following, SequenceError>> {
        let engine = self.clone();
        Box::pin(async move {
            let changes = engine.inner.changes.subscribe();
            let (cuts, is_down) = {
                let state = engine.inner.state.lock();
                (state.cuts, state.is_down)
            };
            if is_down {
                return Err(unreachable());
            }
            let follower = Follower { engine, after, cuts, changes, is_over: false };
            Ok(Box::pin(stream::unfold(follower, Follower::next)) as Following)
        })
    }

    fn extent(&self) -> BoxFuture<'static, Result<Extent, SequenceError>> {
        let engine = self.clone();
        Box::pin(async move {
            let state = engine.inner.state.lock();
            if state.is_down {
                return Err(unreachable());
            }
            let incarnation = state.incarnation.to_string();
            Ok(Extent { incarnation, first: state.first, last: state.last.min(state.known) })
        })
    }

    fn at(&self, offset: u64) -> BoxFuture<'static, Result<Option<Sequenced>, SequenceError>> {
        let engine = self.clone();
        Box::pin(async move {
            let state = engine.inner.state.lock();
            if state.is_down { Err(unreachable()) } else { Ok(state.messages.get(&offset).cloned()) }
        })
    }
}
