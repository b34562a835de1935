//! The task that follows the engine and fills the local copy.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use newswire_core::LogView;
use newswire_protocol::{Epoch, UnixMicros};

use super::agreement::{self, Agreed, Copy, Disagreement};
use super::copies::Copies;
use super::message;
use super::sequencer::{Extent, Following, MessageId, SequenceError, Sequenced, Sequencer};
use super::waiters::Copied;
use super::{Node, Progress, RemoteError};
use crate::embedded::OpenError;
use crate::event_log::{AppendError, Appended, EventLog, LogHealth, NewEvents, Place, TrimError};
use crate::meta::{Meta, MetaError};

/// Messages that are copied with one write, if so many are there.
const CHUNK: usize = 1024;
/// How often filling up says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Wait before the engine is asked again, and the longest that this grows to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Why the copy does not follow, for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error(transparent)]
    Engine(#[from] SequenceError),
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    #[error("the local copy takes nothing: {0}")]
    Copy(#[from] AppendError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Begin(#[from] TrimError),
    #[error("the engine sends nothing more")]
    Ended,
    #[error("another node knows of a new epoch")]
    Recheck,
}

impl From<Interrupted> for RemoteError {
    fn from(error: Interrupted) -> Self {
        match error {
            Interrupted::Open(error) => Self::Copy(error),
            other => Self::Engine(other.to_string()),
        }
    }
}

impl Interrupted {
    /// It may be over the next time, without anybody's doing.
    fn may_end(&self) -> bool {
        let engine = |error: &SequenceError| {
            matches!(error, SequenceError::Unreachable { .. } | SequenceError::Unanswered { .. })
        };
        match self {
            Self::Engine(error) | Self::Disagreement(Disagreement::Engine(error)) => engine(error),
            Self::Disagreement(error) => {
                matches!(error, Disagreement::Meta(MetaError::Storage { .. }) | Disagreement::Contended)
            }
            Self::Ended | Self::Recheck => true,
            Self::Copy(_) | Self::Open(_) | Self::Begin(_) => false,
        }
    }
}

/// The copy a node starts with: what it has, and all that the engine has beyond. What may end by itself is tried again for
/// as long as `patience`; what was fetched before is not fetched again.
pub(super) async fn first_copy(
    engine: &dyn Sequencer,
    meta: &dyn Meta,
    copies: &Copies,
    patience: Duration,
) -> Result<Copy, Interrupted> {
    let (began, mut backoff) = (Instant::now(), BACKOFF.0);
    loop {
        match try_first_copy(engine, meta, copies).await {
            Err(why) if why.may_end() && began.elapsed() + backoff < patience => {
                tracing::warn!(engine = engine.name(), reason = %why, "the log cannot be followed yet; it is tried again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
            ended => return ended,
        }
    }
}

async fn try_first_copy(
    engine: &dyn Sequencer,
    meta: &dyn Meta,
    copies: &Copies,
) -> Result<Copy, Interrupted> {
    let Agreed { epoch, .. } = agreement::agree(engine, meta, None).await?;
    let log = blocking(|| copies.open(epoch))?;
    let position = log.tail() - 1;
    let mut copy = Copy { log, position };
    // Now that there is something to compare.
    let Agreed { epoch: agreed, extent } = agreement::agree(engine, meta, Some(&copy)).await?;
    if agreed != epoch || extent.first > copy.position + 1 {
        copy = begin(engine, copies, agreed, &extent).await?;
    }
    fill(engine, &mut copy, extent.last).await?;
    copies.remove_others(copy.log.dir());
    Ok(copy)
}

/// Follows until the log is closed, whatever the engine does.
pub(super) async fn run(node: Arc<Node>, mut copy: Copy) {
    let mut backoff = BACKOFF.0;
    loop {
        let Err(why) = follow(&node, &mut copy).await;
        if let LogHealth::Stopped { .. } = copy.log.health() {
            tracing::error!(
                "the local copy of the log has stopped; this node shows nothing new until it is restarted"
            );
            return;
        }
        let had_followed = node.behind.lock().is_none();
        if !matches!(why, Interrupted::Recheck) {
            node.interruptions.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(engine = node.engine.name(), reason = %why, "this node does not follow the log for now");
            *node.behind.lock() = Some(why.to_string().into());
        }
        tokio::time::sleep(backoff).await;
        backoff = if had_followed { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
    }
}

/// Compares, shows another copy where this one is of another history, and follows.
async fn follow(node: &Node, copy: &mut Copy) -> Result<Infallible, Interrupted> {
    let engine = node.engine.as_ref();
    let Agreed { epoch, extent } = agreement::agree(engine, node.meta.as_ref(), Some(copy)).await?;
    if epoch != copy.log.epoch() || extent.first > copy.position + 1 {
        *node.behind.lock() = Some("fetching the log anew from the engine".into());
        let mut other = begin(engine, &node.copies, epoch, &extent).await?;
        fill(engine, &mut other, extent.last).await?;
        show(node, copy, other);
    }
    let mut following = engine.follow(copy.position).await?;
    // What was compared may have been made anew before the following began.
    if agreement::agree(engine, node.meta.as_ref(), Some(copy)).await?.epoch != epoch {
        return Err(Interrupted::Recheck);
    }
    loop {
        if copy.position >= extent.last && node.behind.lock().take().is_some() {
            tracing::info!(engine = engine.name(), offset = copy.position, "this node follows the log again");
        }
        let chunk = tokio::select! {
            chunk = next_chunk(&mut following) => chunk?,
            () = node.recheck.notified() => return Err(Interrupted::Recheck),
        };
        for (id, copied) in store(copy, &chunk).await? {
            node.waiters.copied(id, copied);
        }
        let position = copy.position;
        node.progress.send_modify(|now| now.position = position);
    }
}

/// An empty copy for what the engine holds.
async fn begin(
    engine: &dyn Sequencer,
    copies: &Copies,
    epoch: Epoch,
    extent: &Extent,
) -> Result<Copy, Interrupted> {
    let log = blocking(|| copies.make(epoch))?;
    let position = extent.first.saturating_sub(1);
    if position > 0 {
        let oldest = engine.at(extent.first).await?;
        let stored_at = oldest.map_or(UnixMicros(u64::MAX), |oldest| stored_at(&oldest));
        blocking(|| log.begin_at(Place { offset: extent.first, stored_at }))?;
    }
    Ok(Copy { log, position })
}

/// Shows another copy than before. Followers of the old one see its end.
fn show(node: &Node, copy: &mut Copy, other: Copy) {
    let old = std::mem::replace(copy, other);
    *node.shown.write() = Arc::clone(&copy.log);
    node.waiters.forget();
    let (epoch, position) = (copy.log.epoch(), copy.position);
    node.progress.send_modify(|now| *now = Progress { copy: now.copy + 1, position });
    tracing::warn!(%epoch, offset = position, "the log is shown anew: what was shown before may not hold any more");
    old.log.close();
    node.copies.remove_others(copy.log.dir());
}

/// Fetches everything up to an offset that the engine has.
async fn fill(engine: &dyn Sequencer, copy: &mut Copy, until: u64) -> Result<(), Interrupted> {
    if copy.position >= until {
        return Ok(());
    }
    let mut following = engine.follow(copy.position).await?;
    let mut told = Instant::now();
    while copy.position < until {
        let chunk = next_chunk(&mut following).await?;
        store(copy, &chunk).await?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(engine = engine.name(), offset = copy.position, until, "fetching the log");
        }
    }
    Ok(())
}

/// The messages that are there, at least one.
async fn next_chunk(following: &mut Following) -> Result<Vec<Sequenced>, Interrupted> {
    let first = following.next().await.ok_or(Interrupted::Ended)??;
    let mut chunk = vec![first];
    while chunk.len() < CHUNK {
        match futures_util::future::poll_immediate(following.next()).await {
            Some(Some(Ok(next))) => chunk.push(next),
            // An error comes again when it is asked for: what came before it is copied first.
            Some(Some(Err(error))) => {
                *following = Box::pin(futures_util::stream::iter([Err(error)]));
                break;
            }
            Some(None) | None => break,
        }
    }
    Ok(chunk)
}

/// When a message was stored, where it was first.
fn stored_at(message: &Sequenced) -> UnixMicros {
    let moved = message::decode(&message.body).and_then(|incoming| incoming.stored_at);
    let gone = || message::decode_gone(&message.body).map(|(_, stored_at)| stored_at);
    moved.or_else(gone).unwrap_or(message.place.stored_at)
}

/// Copies messages. What is none of ours leaves a hole.
async fn store(copy: &mut Copy, chunk: &[Sequenced]) -> Result<Vec<(MessageId, Copied)>, Interrupted> {
    let (mut events, mut places, mut ids) = (NewEvents::default(), Vec::new(), Vec::new());
    let mut gone = Vec::new();
    for Sequenced { place, body } in chunk {
        match message::decode(body) {
            // An engine that follows anew may begin with what is here already.
            Some(_) if place.offset <= copy.position => {}
            Some(incoming) => {
                incoming.push_to(&mut events);
                places.push(Place { stored_at: incoming.stored_at.unwrap_or(place.stored_at), ..*place });
                ids.push(incoming.id);
            }
            None => match message::decode_gone(body) {
                Some((channel, stored_at)) => {
                    gone.push((Arc::from(channel), Place { stored_at, ..*place }));
                }
                None => {
                    tracing::warn!(
                        offset = place.offset,
                        "a message that Newswire did not write is left out"
                    );
                }
            },
        }
    }
    let outcomes: Vec<Appended> =
        if ids.is_empty() { Vec::new() } else { copy.log.append_at(places.clone(), events).await? };
    if !gone.is_empty() {
        blocking(|| copy.log.note_gone(&gone))?;
    }
    if let Some(last) = chunk.last() {
        copy.position = copy.position.max(last.place.offset);
    }
    let copied = places.iter().zip(outcomes).map(|(place, outcome)| Copied { offset: place.offset, outcome });
    Ok(ids.into_iter().zip(copied).collect())
}

/// Runs what blocks on the disk, for moments: opening, and writing a small file.
fn blocking<T>(act: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(act),
        _ => act(),
    }
}
