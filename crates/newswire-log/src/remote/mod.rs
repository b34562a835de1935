//! A log that an engine elsewhere keeps for several nodes.
//!
//! ```text
//! publisher ──▶ append ──▶ engine (order, durability) ──▶ copier ──▶ local copy ──▶ ring, replay, history
//!                 ▲                                          │
//!                 └────────── answered once it is copied ◀───┘
//! ```
//!
//! `sequencer` is what an engine has to do, `message` the shape of an event on its way, `agreement` how nodes know that they
//! speak of the same history, `copies` the directories on this node, `copier` the task that follows the engine, `waiters`
//! the publishers that it answers. Why so: docs/decisions/copies-of-a-log.md.

pub(crate) mod agreement;
mod copier;
mod copies;
pub(crate) mod message;
pub mod sequencer;
mod waiters;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::{LogView, Lost, Page, ReadRequest, Selector};
use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use self::agreement::Disagreement;
use self::copies::Copies;
pub use self::sequencer::{
    Accepted, Extent, Following, Message, MessageId, SequenceError, Sequenced, Sequencer,
};
use self::waiters::{Waiters, Waiting};
use crate::embedded::{EmbeddedLog, EmbeddedOptions, OpenError};
use crate::event_log::{
    AppendError, Appended, ChannelStats, EventLog, LogHealth, LogStats, NewEvents, ReadError, Trim, TrimError,
};
use crate::follow::CommitReceiver;
use crate::meta::Meta;
use crate::retention::RetentionOptions;

/// KiB of events that may be under way to the engine; further publishers wait for room.
const ROOM_KIB: usize = 64 << 10;
/// Questions to the engine by subscribers who know more than this node; further ones wait.
const QUESTIONS: usize = 16;

/// Reads bytes as a message, as they are and with a sum that fits: whatever they are, it must return.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn read_anything(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    crate::embedded::format::put_checksum(&mut summed, 0);
    let _ = message::decode_gone(&summed);
    for message in [bytes, &summed].into_iter().filter_map(message::decode) {
        let mut events = NewEvents::default();
        message.push_to(&mut events);
        assert_eq!(message::encode(&events).len(), 1, "what was read can be written");
    }
}

/// How a node keeps its copy.
#[derive(Clone)]
pub struct RemoteOptions {
    /// The directory for copies; nothing else may be in it.
    pub dir: PathBuf,
    /// How the copy is kept: retention, dedup window, segments, observer. Sync mode, epoch and clock of ids are given.
    pub copy: EmbeddedOptions,
    /// How long a publisher waits for the copy behind the engine, and a subscriber for what another node showed.
    pub patience: Duration,
    /// How long [`RemoteLog::open`] tries again what may end by itself: an engine that has no leader right now, or restarts.
    pub start_patience: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The engine is not there, or what it holds cannot be agreed on.
    #[error("{0}")]
    Engine(String),
    /// The local copy did not open.
    #[error(transparent)]
    Copy(#[from] OpenError),
}

/// The log as one node shows it: what the engine keeps, from a local copy.
///
/// Beyond [`EventLog`]: appends of several publishers are ordered by the engine, not by their first poll. The pieces of one
/// append lie next to each other, but may become visible one after the other. An append resolves once the engine has
/// acknowledged it **and** this node shows it, or fails as [`AppendError::Unavailable`]; it is never answered with an offset
/// that holds something else. Where the engine lost what this node has shown, a new epoch begins: followers end, and
/// find it when they follow anew. Trimming by hand trims the local copy only.
pub struct RemoteLog {
    node: Arc<Node>,
    copier: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What the log and its copier share.
struct Node {
    engine: Arc<dyn Sequencer>,
    meta: Arc<dyn Meta>,
    copies: Copies,
    /// The copy that is shown.
    shown: RwLock<Arc<EmbeddedLog>>,
    /// How far it is.
    progress: watch::Sender<Progress>,
    waiters: Waiters,
    /// Why nothing new comes, while that is so.
    behind: Mutex<Option<Arc<str>>>,
    interruptions: AtomicU64,
    /// Somebody knows of an epoch that this node does not.
    recheck: Notify,
    room: Semaphore,
    questions: Semaphore,
    patience: Duration,
    is_closed: AtomicBool,
}

/// How far the shown copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// Counts copies that were shown.
    copy: u64,
    /// Everything up to here is in it.
    position: u64,
}

impl RemoteLog {
    /// Agrees with the other nodes on the epoch, fetches what the engine has and this node has not, and begins to follow, on
    /// the current runtime.
    ///
    /// # Errors
    /// [`RemoteError`]; the engine is asked once, so that whoever starts nodes sees that it does not start.
    pub async fn open(
        engine: Arc<dyn Sequencer>,
        meta: Arc<dyn Meta>,
        options: RemoteOptions,
    ) -> Result<Self, RemoteError> {
        let RemoteOptions { dir, copy, patience, start_patience } = options;
        let copies = Copies::in_dir(dir, copy);
        let copy = copier::first_copy(engine.as_ref(), meta.as_ref(), &copies, start_patience).await?;
        let node = Arc::new(Node {
            engine,
            meta,
            copies,
            progress: watch::Sender::new(Progress { copy: 0, position: copy.position }),
            shown: RwLock::new(Arc::clone(&copy.log)),
            waiters: Waiters::default(),
            behind: Mutex::new(None),
            interruptions: AtomicU64::new(0),
            recheck: Notify::new(),
            room: Semaphore::new(ROOM_KIB),
            questions: Semaphore::new(QUESTIONS),
            patience,
            is_closed: AtomicBool::new(false),
        });
        let copier = tokio::spawn(copier::run(Arc::clone(&node), copy));
        Ok(Self { node, copier: Mutex::new(Some(copier)) })
    }
}

impl RemoteLog {
    /// The directory of the copy that is shown.
    pub(crate) fn dir(&self) -> PathBuf {
        self.node.shown().dir().to_owned()
    }
}

impl Node {
    fn shown(&self) -> Arc<EmbeddedLog> {
        Arc::clone(&self.shown.read())
    }

    async fn append(&self, events: NewEvents) -> Result<Vec<Appended>, AppendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let limit = self.engine.max_messages();
        if events.len() > limit {
            let engine = self.engine.name();
            let told =
                format!("{} events are more than the {limit} that {engine} stores as one", events.len());
            return Err(unavailable(told));
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let kib = events.bytes().div_ceil(1024).clamp(1, ROOM_KIB) as u32;
        let _room = self.room.acquire_many(kib).await.map_err(|_| AppendError::Closed)?;
        let copy = self.progress.borrow().copy;
        let messages = message::encode(&events);
        let mut waiting: Vec<_> = messages.iter().map(|message| self.waiters.wait(message.id)).collect();
        let accepted = self.engine.append(messages).await.map_err(refused)?;
        let copied = timeout(self.patience, async {
            if accepted.repeated {
                self.copied_up_to(copy, accepted.first).await?;
                let has_id = events.iter().next().is_some_and(|event| event.dedup.is_some());
                // Without an id of its publisher only this node can have sent it before, when it asked twice.
                let outcome = if has_id {
                    self.waiters.repeat_of(accepted.first)
                } else {
                    Appended::Stored { offset: accepted.first }
                };
                return Some(vec![outcome]);
            }
            outcomes(&mut waiting, accepted.first).await
        });
        let late = || "the engine took it, but this node has not seen it yet";
        let outcomes = copied.await.ok().flatten().ok_or_else(|| unavailable(late()))?;
        if let Some(told) = events.told()
            && let Some(Appended::Stored { offset }) =
                outcomes.iter().find(|outcome| matches!(outcome, Appended::Stored { .. }))
        {
            told.stored(*offset);
        }
        Ok(outcomes)
    }

    /// Waits until this very copy has everything up to an offset; `None` if another one is shown before.
    async fn copied_up_to(&self, copy: u64, offset: u64) -> Option<()> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.copy != copy || now.position >= offset).await.ok()?;
        (reached.copy == copy).then_some(())
    }

    /// Whether everything up to here of that epoch is shown, or is not there at all. See [`EventLog::settle`].
    async fn settle(&self, epoch: Option<Epoch>, offset: u64) -> bool {
        let is_here = || {
            let here = epoch.is_none_or(|epoch| epoch == self.shown().epoch());
            here && self.progress.borrow().position >= offset
        };
        if is_here() {
            return true;
        }
        let asking = async {
            let mut progress = self.progress.subscribe();
            let current = self.question(agreement::current_epoch(self.meta.as_ref())).await?;
            if current.is_some_and(|current| current != self.shown().epoch()) {
                // Another node was the first to see it.
                self.recheck.notify_one();
            }
            if epoch.is_some() && epoch != current {
                // Of an epoch that is over; or never was.
                return progress.wait_for(|_| current == Some(self.shown().epoch())).await.ok().map(drop);
            }
            let target = self.end_before(offset).await?;
            let arrived = |now: &Progress| current == Some(self.shown().epoch()) && now.position >= target;
            progress.wait_for(arrived).await.ok().map(drop)
        };
        let patience = self.patience + agreement::CONFIRM.iter().sum::<Duration>();
        timeout(patience, asking).await.is_ok_and(|settled| settled.is_some())
    }

    /// `offset`, or the engine's last one if that comes before; that it does, it has to say several times.
    async fn end_before(&self, offset: u64) -> Option<u64> {
        let mut last = self.question(self.engine.extent()).await?.last;
        for pause in agreement::CONFIRM {
            if last >= offset || self.progress.borrow().position >= offset {
                return Some(offset);
            }
            tokio::time::sleep(pause).await;
            last = self.question(self.engine.extent()).await?.last;
        }
        Some(last.min(offset))
    }

    /// Asks when it is its turn; `None` where that came to nothing.
    async fn question<T, E>(&self, question: impl Future<Output = Result<T, E>>) -> Option<T> {
        let _turn = self.questions.acquire().await.ok()?;
        question.await.ok()
    }
}

/// What became of messages that lie next to each other from `first` on.
async fn outcomes(waiting: &mut [Waiting<'_>], first: u64) -> Option<Vec<Appended>> {
    let mut outcomes = Vec::with_capacity(waiting.len());
    for (offset, waiting) in (first..).zip(waiting) {
        let copied = waiting.copied().await?;
        // The same event, sent at the same time by somebody else, may have come first.
        let is_own = copied.offset == offset;
        outcomes.push(match copied.outcome {
            Appended::Stored { offset } if !is_own => Appended::Duplicate { offset },
            outcome => outcome,
        });
    }
    Some(outcomes)
}

fn unavailable(reason: impl Into<Arc<str>>) -> AppendError {
    AppendError::Unavailable { reason: reason.into() }
}

fn refused(error: SequenceError) -> AppendError {
    match error {
        SequenceError::Full { .. } => AppendError::StorageFull,
        other => unavailable(other.to_string()),
    }
}

impl From<Disagreement> for RemoteError {
    fn from(error: Disagreement) -> Self {
        Self::Engine(error.to_string())
    }
}

impl LogView for RemoteLog {
    fn epoch(&self) -> Epoch {
        self.node.shown().epoch()
    }

    fn head(&self) -> u64 {
        self.node.shown().head()
    }

    fn tail(&self) -> u64 {
        self.node.shown().tail()
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.node.shown().channels()
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.node.shown().lost(selector, after)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.node.shown().lost_since(selector, since)
    }
}

impl EventLog for RemoteLog {
    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        let node = Arc::clone(&self.node);
        Box::pin(async move { node.append(events).await })
    }

    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError> {
        self.node.shown().read(request)
    }

    fn follow(&self) -> CommitReceiver {
        self.node.shown().follow()
    }

    fn trim(&self, trim: &Trim) -> Result<u64, TrimError> {
        self.node.shown().trim(trim)
    }

    fn retain(&self) -> Result<u64, TrimError> {
        self.node.shown().retain()
    }

    fn set_retention(&self, retention: RetentionOptions) -> bool {
        self.node.shown().set_retention(retention)
    }

    fn stats(&self) -> LogStats {
        let interruptions = self.node.interruptions.load(Ordering::Relaxed);
        LogStats { health: self.health(), interruptions, ..self.node.shown().stats() }
    }

    fn channel_stats(&self) -> Vec<ChannelStats> {
        self.node.shown().channel_stats()
    }

    fn health(&self) -> LogHealth {
        match (self.node.shown().health(), &*self.node.behind.lock()) {
            (LogHealth::Ok, Some(reason)) => LogHealth::Behind { reason: Arc::clone(reason) },
            (health, _) => health,
        }
    }

    fn settle(&self, epoch: Option<Epoch>, offset: u64) -> BoxFuture<'static, bool> {
        let node = Arc::clone(&self.node);
        Box::pin(async move { node.settle(epoch, offset).await })
    }

    fn is_copy(&self) -> bool {
        true
    }

    fn max_append_events(&self) -> usize {
        self.node.engine.max_messages()
    }

    fn gathers_from(&self) -> usize {
        self.node.engine.gathers_from()
    }

    fn engine(&self) -> &'static str {
        self.node.engine.name()
    }

    fn close(&self) {
        self.node.is_closed.store(true, Ordering::Release);
        if let Some(copier) = self.copier.lock().take() {
            copier.abort();
        }
        self.node.waiters.forget();
        self.node.shown().close();
    }
}

impl Drop for RemoteLog {
    fn drop(&mut self) {
        self.close();
    }
}
