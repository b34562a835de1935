//! Several messages as one piece: a batch that the stream stores whole, once it is complete, or not at all.

use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Request, header};
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::append::{Ack, ask};
use super::errors::{Failed, chain, given_up, refusal, refused};
use super::options::StreamStorage;
use super::{Inner, stream};
use crate::remote::{Accepted, Message, SequenceError};

/// The most messages that servers take as one piece.
pub(super) const MAX_BATCH: usize = 1000;
/// From how many messages on a batch is worth it where one server keeps the stream in files: each batch then waits in a file
/// store of its own, which is made and removed for it (4 to 8 ms; a message alone takes 0.4 ms: `newswire-bench cluster`).
/// Elsewhere batches wait in memory, and are always worth it.
const WORTHWHILE_IN_FILES: usize = 12;
/// Batches of one node that are under way; a server lets 50 of a stream be, of all nodes together.
pub(super) const BATCHES: usize = 16;

/// Sends a batch, once: its messages have no ids.
pub(super) async fn append(inner: &Inner, messages: Vec<Message>) -> Result<Accepted, SequenceError> {
    if messages.is_empty() || messages.len() > MAX_BATCH {
        return Err(refusal(format!("a batch has at least one and at most {MAX_BATCH} messages")));
    }
    send(inner, messages, None).await
}

/// Sends a batch that is stored only where the stream's last sequence is this one.
pub(super) async fn append_behind(
    inner: &Inner,
    messages: Vec<Message>,
    last: u64,
) -> Result<Accepted, SequenceError> {
    send(inner, messages, Some(last)).await
}

async fn send(inner: &Inner, messages: Vec<Message>, behind: Option<u64>) -> Result<Accepted, SequenceError> {
    let began = Instant::now();
    let until = began + inner.options.timeout;
    let Ok(Ok(_turn)) = timeout_at(until, inner.batches.acquire()).await else {
        return Err(given_up(false, "too many batches are under way"));
    };
    if !inner.connection.is_up(until).await {
        return Err(given_up(false, "there is no connection"));
    }
    let batch = Batch { inner, id: uuid::Uuid::new_v4().simple().to_string(), until, behind };
    let subjects = messages.first().map(|message| batch.subject(message));
    let sent = batch.send(messages).await;
    let forbidden = subjects.and_then(|subject| inner.connection.refusal(&subject, began));
    match (sent, forbidden) {
        (Err(_), Some(forbidden)) => Err(refusal(forbidden)),
        (sent, _) => sent,
    }
}

/// From how many messages on a batch of a stream like this is worth it.
pub(super) fn worthwhile(replicas: usize, storage: StreamStorage) -> usize {
    if replicas == 1 && storage == StreamStorage::File { WORTHWHILE_IN_FILES } else { 0 }
}

struct Batch<'a> {
    inner: &'a Inner,
    id: String,
    until: Instant,
    /// What the stream's last sequence has to be.
    behind: Option<u64>,
}

impl Batch<'_> {
    fn subject(&self, message: &Message) -> String {
        stream::subject(&self.inner.options.stream, &message.channel)
    }

    fn headers(&self, number: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_BATCH_ID, self.id.as_str());
        headers.insert(header::NATS_BATCH_SEQUENCE, number.to_string());
        headers.insert(header::NATS_EXPECTED_STREAM, self.inner.options.stream.as_str());
        if let (1, Some(last)) = (number, self.behind) {
            headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
        }
        headers
    }

    async fn send(&self, messages: Vec<Message>) -> Result<Accepted, SequenceError> {
        let count = messages.len();
        for (number, message) in (1..).zip(messages) {
            match number {
                _ if number == count => return self.commit(count, message).await,
                1 => self.begin(message).await?,
                _ => self.add(number, message).await?,
            }
        }
        Err(refusal("a batch without messages"))
    }

    /// The first one is answered, with nothing, once the stream has begun the batch, or refused.
    async fn begin(&self, message: Message) -> Result<(), SequenceError> {
        let subject = self.subject(&message);
        let request = Request::new().headers(self.headers(1)).payload(message.body).timeout(None);
        let begun = timeout_at(self.until, self.inner.connection.client.send_request(subject, request)).await;
        let answer = match begun {
            Ok(Ok(answer)) => answer.payload,
            // Whatever became of it: without its end it is not stored.
            Ok(Err(error)) => return Err(given_up(false, chain(&error))),
            Err(_) => return Err(given_up(false, "no answer in time")),
        };
        match serde_json::from_slice::<Response<IgnoredAny>>(&answer) {
            Ok(Response::Err { error }) => Err(unstored(refused(&error))),
            _ => Ok(()),
        }
    }

    async fn add(&self, number: usize, message: Message) -> Result<(), SequenceError> {
        let (subject, headers) = (self.subject(&message), self.headers(number));
        let sending = self.inner.connection.client.publish_with_headers(subject, headers, message.body);
        match timeout_at(self.until, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
                Err(refusal(chain(&error)))
            }
            Ok(Err(error)) => Err(given_up(false, chain(&error))),
            Err(_) => Err(given_up(false, "the connection takes no more")),
        }
    }

    /// The last one stores them all.
    async fn commit(&self, count: usize, message: Message) -> Result<Accepted, SequenceError> {
        let (subject, mut headers) = (self.subject(&message), self.headers(count));
        headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
        let ack: Ack = match ask(&self.inner.connection, &subject, headers, message.body, self.until).await {
            Ok(ack) => ack,
            Err(Failed::Unanswered(reason)) => return Err(given_up(true, reason)),
            Err(failed) => return Err(unstored(failed)),
        };
        if ack.count != count as u64 {
            let reason = format!("{} of {count} messages of a batch were stored", ack.count);
            return Err(given_up(true, reason));
        }
        Ok(Accepted { first: ack.seq + 1 - ack.count, repeated: false })
    }
}

fn unstored(failed: Failed) -> SequenceError {
    match failed {
        Failed::Final(error) => error,
        Failed::Unsent(reason) | Failed::Unanswered(reason) => given_up(false, reason),
        Failed::Moved => refusal("the stream expected something else"),
    }
}
