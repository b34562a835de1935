//! What all nodes agree on: which epoch the engine's log is in, and that what a node has copied is still what the engine
//! holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_core::LogView;
use newswire_protocol::Epoch;
use serde::{Deserialize, Serialize};

use super::message;
use super::sequencer::{Extent, SequenceError, Sequencer};
use crate::embedded::EmbeddedLog;
use crate::event_log::ReadError;
use crate::meta::{Expect, Meta, MetaError};

/// Where the agreement stands.
const KEY: &str = "log/epoch";
/// Where it says that a log is being moved here; see [`begin_move`].
const MOVING: &str = "log/moving";
/// How often another node may come in between before it is given up for this time.
const ATTEMPTS: usize = 8;

/// Pauses between looks at an engine that seems to have lost something: one of its servers that has just become the leader
/// may answer before it has caught up with itself.
pub(super) const CONFIRM: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// What stands there, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    epoch: String,
    /// [`Extent::incarnation`] of the log that the epoch belongs to.
    incarnation: String,
}

/// What a node has of the engine's log.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) log: Arc<EmbeddedLog>,
    /// The engine's offset up to which it has everything, holes too.
    pub(super) position: u64,
}

/// What was found.
pub(super) struct Agreed {
    pub(super) epoch: Epoch,
    /// The engine's, asked for after the epoch.
    pub(super) extent: Extent,
}

/// Why nothing could be agreed on, for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Disagreement {
    #[error(transparent)]
    Engine(#[from] SequenceError),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error("reading the local copy: {0}")]
    Copy(#[from] ReadError),
    #[error("the record of the log's epoch cannot be read: {0}")]
    Unreadable(String),
    #[error(
        "a log is being moved here and is not whole yet: let `newswire copy` end, or repeat it where it broke off"
    )]
    Moving,
    #[error("other nodes change the log's epoch all the time")]
    Contended,
}

/// Compares the copy with the engine. Begins a new epoch where the engine lost something that this node has shown, or where
/// the engine's log is another one than the epoch was begun for: one node does so, and the others find it here.
pub(super) async fn agree(
    engine: &dyn Sequencer,
    meta: &dyn Meta,
    copy: Option<&Copy>,
) -> Result<Agreed, Disagreement> {
    for _ in 0..ATTEMPTS {
        let entry = meta.get(KEY).await?;
        let extent = engine.extent().await?;
        let (expect, reason) = match &entry {
            None => (Expect::Absent, "the log is new to Newswire"),
            Some(entry) => {
                let (epoch, incarnation) = read(&entry.value)?;
                let reason = if incarnation != extent.incarnation {
                    "the engine's log was made anew"
                } else if let Some(copy) = copy
                    && copy.log.epoch() == epoch
                    && has_lost(engine, &extent, copy).await?
                {
                    "the engine has lost events that were shown"
                } else {
                    return Ok(Agreed { epoch, extent });
                };
                (Expect::Version(entry.version), reason)
            }
        };
        if entry.is_none() && meta.get(MOVING).await?.is_some() {
            return Err(Disagreement::Moving);
        }
        let epoch = Epoch(uuid::Uuid::new_v4());
        match meta.put(KEY, write(epoch, &extent.incarnation), expect, None).await {
            Ok(_) => {
                tracing::warn!(%epoch, engine = engine.name(), reason, "the log begins a new epoch");
                return Ok(Agreed { epoch, extent });
            }
            Err(MetaError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Disagreement::Contended)
}

/// The epoch that stands there now.
pub(crate) async fn current_epoch(meta: &dyn Meta) -> Result<Option<Epoch>, Disagreement> {
    let entry = meta.get(KEY).await?;
    entry.map(|entry| Ok(read(&entry.value)?.0)).transpose()
}

/// What stood in an engine that a log is to be moved into.
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A part of this very log, of a move that broke off.
    Part,
    /// A log in this epoch, or a part of it.
    Log(Epoch),
    /// Messages of whoever.
    Messages,
}

/// Notes that the log of this epoch is being moved into the engine, so that no node begins with a part of it; only where
/// there is nothing else.
pub(crate) async fn begin_move(
    meta: &dyn Meta,
    epoch: Epoch,
    extent: &Extent,
) -> Result<Found, Disagreement> {
    if let Some(there) = current_epoch(meta).await? {
        return Ok(Found::Log(there));
    }
    let record = write(epoch, &extent.incarnation);
    match meta.get(MOVING).await? {
        Some(noted) if noted.value == record => Ok(Found::Part),
        Some(noted) => Ok(Found::Log(read(&noted.value)?.0)),
        None if extent.last > 0 => Ok(Found::Messages),
        None => {
            meta.put(MOVING, record, Expect::Absent, None).await?;
            Ok(Found::Nothing)
        }
    }
}

/// The log is whole: nodes may begin with it, in its epoch.
pub(crate) async fn end_move(meta: &dyn Meta, epoch: Epoch, extent: &Extent) -> Result<(), Disagreement> {
    meta.put(KEY, write(epoch, &extent.incarnation), Expect::Absent, None).await?;
    meta.delete(MOVING, Expect::Any).await?;
    Ok(())
}

fn write(epoch: Epoch, incarnation: &str) -> Bytes {
    let record = Record { epoch: epoch.to_string(), incarnation: incarnation.to_owned() };
    Bytes::from(serde_json::to_vec(&record).expect("two texts are JSON"))
}

fn read(value: &[u8]) -> Result<(Epoch, String), Disagreement> {
    let unreadable = |what: String| Disagreement::Unreadable(what);
    let record: Record = serde_json::from_slice(value).map_err(|error| unreadable(error.to_string()))?;
    let epoch = record.epoch.parse().map_err(|_| unreadable(format!("{:?} is no UUID", record.epoch)))?;
    Ok((epoch, record.incarnation))
}

/// Whether the engine has lost what the node has. It is asked several times, see [`CONFIRM`].
async fn has_lost(engine: &dyn Sequencer, extent: &Extent, copy: &Copy) -> Result<bool, Disagreement> {
    let mut extent = extent.clone();
    for pause in CONFIRM {
        if is_still_there(engine, &extent, copy).await? {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        extent = engine.extent().await?;
    }
    Ok(!is_still_there(engine, &extent, copy).await?)
}

/// Whether the engine still holds, at the same offset, the last event that the node has; or has let it go for its age.
async fn is_still_there(engine: &dyn Sequencer, extent: &Extent, copy: &Copy) -> Result<bool, Disagreement> {
    if extent.last < copy.position {
        return Ok(false);
    }
    let Some((offset, frame)) = last_event(&copy.log).await? else { return Ok(true) };
    if offset < extent.first {
        return Ok(true);
    }
    match engine.at(offset).await? {
        Some(found) => {
            Ok(message::decode(&found.body).is_some_and(|message| message.frame_at(offset) == frame))
        }
        // It may have gone in between.
        None => Ok(offset < engine.extent().await?.first),
    }
}

/// Offset and frame of the last event that was copied.
async fn last_event(log: &Arc<EmbeddedLog>) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
    let log = Arc::clone(log);
    tokio::task::spawn_blocking(move || log.last_event()).await.unwrap_or(Err(ReadError::Closed))
}
