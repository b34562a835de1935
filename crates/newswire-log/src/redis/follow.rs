//! Reading along, on a connection of its own: a portion at a time, and a read that waits where there is nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Value, from_redis_value};
use bytes::Bytes;
use futures_util::{Stream, stream};
use newswire_protocol::UnixMicros;
use tokio::time::{Instant, timeout};

use super::connect::{Call, Connection};
use super::errors::{Failed, given_up};
use super::scripts;
use crate::event_log::Place;
use crate::remote::{SequenceError, Sequenced};

/// Messages of a portion, at most.
const PORTION: usize = 1024;
/// Bytes after which a portion has no more, in messages of 32.
const PORTION_BYTES: usize = 2 << 20;

/// A stream, and the hash that names it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) stream: Arc<str>,
    pub(super) hash: Arc<str>,
}

/// What was read of a source.
pub(super) struct Portion {
    pub(super) incarnation: String,
    pub(super) last: u64,
    pub(super) messages: VecDeque<Sequenced>,
}

/// Every message beyond `after`; silent for `limit` at most.
pub(super) async fn follow(
    connection: &Connection,
    source: Source,
    after: u64,
    limit: Duration,
) -> Result<impl Stream<Item = Result<Sequenced, SequenceError>> + Send + use<>, SequenceError> {
    let open = connection.open(Instant::now() + limit).await.map_err(|failed| match failed {
        Failed::Final(error) => error,
        Failed::Unsent(reason) | Failed::Unanswered(reason) => given_up(false, reason),
    })?;
    let mut follower =
        Follower { open, source, limit, after, incarnation: String::new(), waiting: VecDeque::new() };
    follower.begin().await.map_err(|reason| given_up(false, reason))?;
    Ok(stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        match follower.next().await {
            Ok(message) => Some((Ok(message), Some(follower))),
            Err(reason) => Some((Err(given_up(false, reason)), None)),
        }
    }))
}

struct Follower {
    open: MultiplexedConnection,
    source: Source,
    limit: Duration,
    after: u64,
    incarnation: String,
    waiting: VecDeque<Sequenced>,
}

impl Follower {
    async fn begin(&mut self) -> Result<(), String> {
        let portion = self.read().await?;
        if portion.last < self.after {
            return Err(format!("the stream ends at {}, before {}", portion.last, self.after));
        }
        self.incarnation = portion.incarnation;
        self.waiting = portion.messages;
        Ok(())
    }

    async fn next(&mut self) -> Result<Sequenced, String> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                self.after = message.place.offset;
                return Ok(message);
            }
            let portion = self.read().await?;
            // Made anew, or without its end: what is there now does not follow what came.
            if portion.incarnation != self.incarnation || portion.last < self.after {
                return Err("the stream is another one now".to_owned());
            }
            self.waiting = portion.messages;
            if self.waiting.is_empty() {
                self.wait().await?;
            }
        }
    }

    async fn read(&mut self) -> Result<Portion, String> {
        let (after, most, bytes) = (self.after.to_string(), PORTION.to_string(), PORTION_BYTES.to_string());
        let call = Call {
            script: &scripts::READ.script,
            text: &scripts::READ.text,
            keys: vec![&*self.source.stream, &*self.source.hash],
            args: vec![after.as_bytes(), most.as_bytes(), bytes.as_bytes()],
        };
        match timeout(self.limit, call.on(&mut self.open)).await {
            Ok(Ok(found)) => portion(found).ok_or_else(|| "an answer that cannot be read".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the server said nothing for {:?}", self.limit)),
        }
    }

    /// Until there is something, or for a while; the server answers either way.
    async fn wait(&mut self) -> Result<(), String> {
        let block = u64::try_from((self.limit / 3).as_millis()).unwrap_or(u64::MAX).max(1);
        let mut command = ::redis::cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(block);
        command.arg("STREAMS").arg(&*self.source.stream).arg(format!("{}-0", self.after));
        match timeout(self.limit, command.query_async::<Value>(&mut self.open)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the server said nothing for {:?}", self.limit)),
        }
    }
}

/// What [`scripts::READ`] answered.
pub(super) fn portion(found: Value) -> Option<Portion> {
    let Value::Array(found) = found else { return None };
    let mut found = found.into_iter();
    let incarnation = from_redis_value(found.next()?).ok()?;
    let last = from_redis_value(found.next()?).ok()?;
    let mut messages = VecDeque::new();
    while let Some(offset) = found.next() {
        let offset = from_redis_value(offset).ok()?;
        let stored_at = UnixMicros(from_redis_value(found.next()?).ok()?);
        let Value::BulkString(body) = found.next()? else { return None };
        messages.push_back(Sequenced { place: Place { offset, stored_at }, body: Bytes::from(body) });
    }
    Some(Portion { incarnation, last, messages })
}
