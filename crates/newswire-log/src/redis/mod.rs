//! The log of several nodes in a stream of Redis.
//!
//! `options` says where it is, `connect` keeps the connection, `scripts` is what Redis does in one piece, `follow` reads
//! along, `retention` removes the oldest, `persistence` says what Redis promises, `errors` what its answers mean, `meta`
//! keeps the small shared state beside the stream. One entry is one event; its id is the offset.

mod connect;
mod errors;
mod follow;
mod meta;
mod options;
mod persistence;
mod retention;
mod scripts;

use std::sync::Arc;

use ::redis::Value;
use futures_util::future::BoxFuture;

use self::connect::{Again, Call, Connection};
use self::errors::{ENGINE, refusal};
use self::follow::Source;
pub use self::meta::RedisMeta;
pub use self::options::{RedisError, RedisOptions, RedisRetention};
use self::scripts::Text;
use crate::clock::Clock;
use crate::remote::{Accepted, Extent, Following, Message, SequenceError, Sequenced, Sequencer};

/// The most messages of one append: Redis serves nobody else meanwhile.
const MAX_MESSAGES: usize = 1000;

/// A connection to Redis, and the stream. Clones share it.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    options: RedisOptions,
    source: Source,
}

impl Redis {
    /// Connects, and makes the stream where it is missing. Runs on the current runtime, which must go on.
    ///
    /// # Errors
    /// [`RedisError`]; its text says what to do.
    pub async fn connect(options: RedisOptions) -> Result<Self, RedisError> {
        if options.prefix.is_empty() || options.prefix.contains(['{', '}']) {
            return Err(RedisError::Options("the prefix of keys is empty or has braces".to_owned()));
        }
        if options.repeat_window <= options.timeout {
            let text = "ids have to be known for longer than an append is tried again";
            return Err(RedisError::Options(text.to_owned()));
        }
        let connection = Connection::new(&options)?;
        let key = |name: &str| Arc::from(format!("{{{}}}:{name}", options.prefix));
        let source = Source { stream: key("events"), hash: key("log") };
        let engine = Self { inner: Arc::new(Inner { connection, options, source }) };
        engine.extent().await.map_err(|error| engine.explained(&error))?;
        persistence::look(&engine.inner.connection).await?;
        if engine.inner.options.retention != RedisRetention::default() {
            tokio::spawn(retention::run(Arc::downgrade(&engine.inner)));
        }
        Ok(engine)
    }

    /// The store of shared state beside the stream. It runs on the current runtime too.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn meta(&self, clock: Arc<dyn Clock>) -> Result<RedisMeta, RedisError> {
        RedisMeta::open(&self.inner.options, clock).await.map_err(|error| self.explained(&error))
    }

    /// With where it is, without the password that an address may have.
    fn explained(&self, error: &SequenceError) -> RedisError {
        let url = &self.inner.options.url;
        let server = url.rsplit('@').next().unwrap_or(url).to_owned();
        match error {
            SequenceError::Refused { reason, .. } => {
                RedisError::Refused { server, reason: reason.to_string() }
            }
            SequenceError::Unreachable { reason, .. } => {
                RedisError::Connect { server, reason: reason.to_string() }
            }
            _ => RedisError::Connect { server, reason: error.to_string() },
        }
    }
}

impl Inner {
    async fn ask<T: ::redis::FromRedisValue>(
        &self,
        text: &Text,
        id: Option<&str>,
        args: Vec<&[u8]>,
        again: Again,
    ) -> Result<T, SequenceError> {
        let mut keys = vec![&*self.source.stream, &*self.source.hash];
        keys.extend(id);
        self.connection.ask(&Call { script: &text.script, text: &text.text, keys, args }, again).await
    }

    async fn append(&self, messages: Vec<Message>) -> Result<Accepted, SequenceError> {
        if messages.is_empty() || messages.len() > MAX_MESSAGES {
            return Err(refusal(format!("an append has 1 to {MAX_MESSAGES} messages")));
        }
        let id = match &messages[..] {
            [one] => Some(format!("{{{}}}:id:{}", self.options.prefix, one.id)),
            _ => None,
        };
        let again = if id.is_some() { Again::Recognised } else { Again::Never };
        let (fresh, window) = (fresh(), self.options.repeat_window.as_millis().to_string());
        let mut args = vec![fresh.as_bytes(), window.as_bytes()];
        args.extend(messages.iter().map(|message| &message.body[..]));
        let (first, repeated) = self.ask(&scripts::APPEND, id.as_deref(), args, again).await?;
        Ok(Accepted { first, repeated })
    }

    async fn place(&self, mut last: u64, messages: &[(u64, Message)]) -> Result<(), SequenceError> {
        let fresh = fresh();
        for messages in messages.chunks(MAX_MESSAGES) {
            let expected = last.to_string();
            let offsets: Vec<String> = messages.iter().map(|(offset, _)| offset.to_string()).collect();
            let mut args = vec![fresh.as_bytes(), expected.as_bytes()];
            for (offset, (_, message)) in offsets.iter().zip(messages) {
                args.extend([offset.as_bytes(), &message.body[..]]);
            }
            let _: u64 = self.ask(&scripts::PLACE, None, args, Again::Never).await?;
            last = messages.last().map_or(last, |(offset, _)| *offset);
        }
        Ok(())
    }

    async fn placed(&self, last: u64, next: u64) -> Result<(), SequenceError> {
        let (fresh, expected, last) = (fresh(), last.to_string(), next.saturating_sub(1).to_string());
        let args = vec![fresh.as_bytes(), expected.as_bytes(), last.as_bytes()];
        let _: u64 = self.ask(&scripts::PLACED, None, args, Again::Never).await?;
        Ok(())
    }

    async fn at(&self, offset: u64) -> Result<Option<Sequenced>, SequenceError> {
        let before = offset.saturating_sub(1).to_string();
        let args = vec![before.as_bytes(), &b"1"[..], &b"1"[..]];
        let found: Value = self.ask(&scripts::READ, None, args, Again::Reads).await?;
        let portion = follow::portion(found).ok_or_else(|| refusal("an answer that cannot be read"))?;
        Ok(portion.messages.into_iter().find(|message| message.place.offset == offset))
    }

    async fn extent(&self) -> Result<Extent, SequenceError> {
        let fresh = fresh();
        let asked = self.ask(&scripts::EXTENT, None, vec![fresh.as_bytes()], Again::Reads).await?;
        let (incarnation, first, last) = asked;
        Ok(Extent { incarnation, first, last })
    }
}

/// The name of a log that has to be made.
fn fresh() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Sequencer for Redis {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn append(&self, messages: Vec<Message>) -> BoxFuture<'static, Result<Accepted, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.append(messages).await })
    }

    fn max_messages(&self) -> usize {
        MAX_MESSAGES
    }

    fn place(
        &self,
        last: u64,
        messages: Vec<(u64, Message)>,
    ) -> BoxFuture<'static, Result<(), SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.place(last, &messages).await })
    }

    fn placed(&self, last: u64, next: u64) -> BoxFuture<'static, Result<(), SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.placed(last, next).await })
    }

    fn follow(&self, after: u64) -> BoxFuture<'static, Result<Following, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let (source, limit) = (inner.source.clone(), inner.options.timeout);
            // A log that is not there is made first.
            inner.extent().await?;
            let followed = follow::follow(&inner.connection, source, after, limit).await?;
            Ok(Box::pin(followed) as Following)
        })
    }

    fn extent(&self) -> BoxFuture<'static, Result<Extent, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.extent().await })
    }

    fn at(&self, offset: u64) -> BoxFuture<'static, Result<Option<Sequenced>, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.at(offset).await })
    }
}
