//! The log of several nodes in a stream of NATS JetStream.
//!
//! `options` says where it is and how it has to be, `connect` keeps the connection, `stream` makes or verifies the stream,
//! `append` and `batch` publish, `place` does so at chosen sequences, `follow` reads along and `leader` watches over that, `errors` says what answers mean, `meta`
//! keeps the small shared state in a key-value bucket beside it. One message is one event, on the subject of its channel;
//! its sequence is the offset.

mod append;
mod batch;
mod connect;
mod errors;
mod follow;
mod leader;
mod meta;
mod options;
mod place;
mod stream;

use std::sync::Arc;

use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use newswire_protocol::UnixMicros;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use self::append::{ATTEMPT, PAUSE};
use self::connect::Connection;
use self::errors::{ENGINE, chain, given_up};
pub use self::meta::JetStreamMeta;
pub use self::options::{JetStreamError, JetStreamOptions, NatsCredentials, StreamRetention, StreamStorage};
use crate::clock::Clock;
use crate::event_log::Place;
use crate::remote::{Accepted, Extent, Following, Message, SequenceError, Sequenced, Sequencer};

/// A connection to the servers, and the stream. Clones share it.
#[derive(Clone)]
pub struct JetStream {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    context: Context,
    stream: Stream,
    options: JetStreamOptions,
    batches: Semaphore,
}

impl JetStream {
    /// Connects, and makes or verifies the stream. Runs on the current runtime, which must go on.
    ///
    /// # Errors
    /// [`JetStreamError`]; its text says what to do.
    pub async fn connect(options: JetStreamOptions) -> Result<Self, JetStreamError> {
        let connection = Connection::open(&options).await?;
        let client = &connection.client;
        if !client.is_server_compatible(2, 12, 0) {
            return Err(JetStreamError::Version { version: client.server_info().version });
        }
        let mut context = jetstream::new(client.clone());
        context.set_timeout(options.timeout.min(ATTEMPT));
        let stream = stream::open(&context, &connection, &stream::of_events(&options)).await?;
        let batches = Semaphore::new(batch::BATCHES);
        Ok(Self { inner: Arc::new(Inner { connection, context, stream, options, batches }) })
    }

    /// The store of shared state beside the stream. It runs on the current runtime too.
    ///
    /// # Errors
    /// [`JetStreamError`].
    pub async fn meta(&self, clock: Arc<dyn Clock>) -> Result<JetStreamMeta, JetStreamError> {
        let inner = &self.inner;
        JetStreamMeta::open(&inner.context, &inner.connection, &inner.options, clock).await
    }
}

/// Asks until there is an answer, for so long at most: while servers choose who leads, nobody answers.
async fn patiently<T, E: std::error::Error, F: Future<Output = Result<T, E>> + Send>(
    wait: std::time::Duration,
    mut ask: impl FnMut() -> F + Send,
) -> Result<T, SequenceError> {
    let until = Instant::now() + wait;
    let mut reason = "no answer in time".to_owned();
    loop {
        match timeout_at(until, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => reason = chain(&error),
            Err(_) => return Err(given_up(false, reason)),
        }
        sleep(PAUSE).await;
    }
}

/// When the stream stored a message.
fn micros(time: async_nats::datetime::DateTime) -> UnixMicros {
    UnixMicros(u64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(0))
}

impl Sequencer for JetStream {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn append(&self, messages: Vec<Message>) -> BoxFuture<'static, Result<Accepted, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { append::append(&inner, messages).await })
    }

    fn max_messages(&self) -> usize {
        batch::MAX_BATCH
    }

    fn gathers_from(&self) -> usize {
        batch::worthwhile(self.inner.options.replicas, self.inner.options.storage)
    }

    fn place(
        &self,
        last: u64,
        messages: Vec<(u64, Message)>,
    ) -> BoxFuture<'static, Result<(), SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { place::place(&inner, last, messages).await })
    }

    fn placed(&self, last: u64, next: u64) -> BoxFuture<'static, Result<(), SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { place::placed(&inner, last, next).await })
    }

    fn follow(&self, after: u64) -> BoxFuture<'static, Result<Following, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let limit = inner.options.timeout;
            let followed = follow::follow(&inner.connection, &inner.stream, after, limit).await?;
            let sequenced = followed.map(|followed| {
                followed.map(|followed| Sequenced { place: followed.place, body: followed.message.payload })
            });
            Ok(Box::pin(sequenced) as Following)
        })
    }

    fn extent(&self) -> BoxFuture<'static, Result<Extent, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let info = patiently(inner.options.timeout, || inner.stream.get_info()).await?;
            let state = &info.state;
            let first = if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence };
            let incarnation = format!("{} {}", info.config.name, info.created.unix_timestamp_nanos());
            Ok(Extent { incarnation, first, last: state.last_sequence })
        })
    }

    fn at(&self, offset: u64) -> BoxFuture<'static, Result<Option<Sequenced>, SequenceError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            // Asked of the leader: the copies of other servers may lag.
            let stream = &inner.stream;
            let ask = || async move {
                match stream.get_raw_message(offset).await {
                    Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
                    asked => asked.map(Some),
                }
            };
            let message = patiently(inner.options.timeout, ask).await?;
            Ok(message.map(|message| {
                let place = Place { offset, stored_at: micros(message.time) };
                Sequenced { place, body: message.payload }
            }))
        })
    }
}
