//! Publishing: acknowledged by the stream, or an error that says whether it may be stored.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Request, header};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::connect::Connection;
use super::errors::{Failed, chain, given_up, refusal, refused};
use super::{Inner, batch, stream};
use crate::remote::{Accepted, Message, SequenceError};

/// How long one attempt of a message that may be sent again waits for its answer.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1500);
/// Pause between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What a stream answers to a message.
#[derive(Debug, Deserialize)]
pub(super) struct Ack {
    pub(super) seq: u64,
    #[serde(default)]
    duplicate: bool,
    /// Messages of the batch that this one ends.
    #[serde(default)]
    pub(super) count: u64,
}

/// Stores messages as one piece.
pub(super) async fn append(inner: &Inner, mut messages: Vec<Message>) -> Result<Accepted, SequenceError> {
    match messages.len() {
        1 => one(inner, messages.remove(0)).await,
        _ => batch::append(inner, messages).await,
    }
}

async fn one(inner: &Inner, message: Message) -> Result<Accepted, SequenceError> {
    let subject = stream::subject(&inner.options.stream, &message.channel);
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, message.id.to_string());
    headers.insert(header::NATS_EXPECTED_STREAM, inner.options.stream.as_str());
    match publish(&inner.connection, &subject, &headers, &message.body, inner.options.timeout).await? {
        Some(ack) => Ok(Accepted { first: ack.seq, repeated: ack.duplicate }),
        None => Err(refusal("the stream expected something else")),
    }
}

/// Publishes until it is acknowledged, for so long at most. The headers have an id that the stream knows, so that it is
/// stored once however often it is sent. `None` if the headers expect something else than stands there.
///
/// Where an attempt may have succeeded unseen, finding that something else stands there says nothing: it may be this very
/// message. That is `Unanswered`.
pub(super) async fn publish(
    connection: &Connection,
    subject: &str,
    headers: &HeaderMap,
    body: &Bytes,
    wait: Duration,
) -> Result<Option<Ack>, SequenceError> {
    let began = Instant::now();
    let until = began + wait;
    let mut may_be_stored = false;
    let mut reason = "there is no connection".to_owned();
    while connection.is_up(until).await && Instant::now() < until {
        let known = connection.losses();
        let asked =
            ask(connection, subject, headers.clone(), body.clone(), until.min(Instant::now() + ATTEMPT));
        let failed = tokio::select! {
            asked = asked => match asked {
                Ok(ack) => return Ok(Some(ack)),
                Err(failed) => failed,
            },
            () = connection.lost(known) => Failed::Unanswered("the connection was lost".to_owned()),
        };
        reason = match failed {
            Failed::Moved if !may_be_stored => return Ok(None),
            Failed::Final(error) if !may_be_stored => return Err(error),
            Failed::Moved => "something else may have come in between".to_owned(),
            Failed::Final(error) => error.to_string(),
            Failed::Unsent(reason) => reason,
            Failed::Unanswered(reason) => {
                may_be_stored = true;
                reason
            }
        };
        if let Some(forbidden) = connection.refusal(subject, began) {
            return Err(refusal(forbidden));
        }
        sleep(PAUSE).await;
    }
    Err(given_up(may_be_stored, reason))
}

/// One question to the stream, answered until then or not at all.
pub(super) async fn ask<T: DeserializeOwned>(
    connection: &Connection,
    subject: &str,
    headers: HeaderMap,
    body: Bytes,
    until: Instant,
) -> Result<T, Failed> {
    // The time also bounds the wait for a place in the client's own queue, which the request's would not.
    let request = Request::new().headers(headers).payload(body).timeout(None);
    let asking = timeout_at(until, connection.client.send_request(subject.to_owned(), request));
    let Ok(answered) = asking.await else {
        return Err(Failed::Unanswered("no answer in time".to_owned()));
    };
    let answer = answered.map_err(|error| {
        let reason = chain(&error);
        match error.kind() {
            RequestErrorKind::NoResponders => Failed::Unsent("no server leads the stream".to_owned()),
            RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                Failed::Final(refusal(reason))
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => Failed::Unanswered(reason),
        }
    })?;
    match serde_json::from_slice::<Response<T>>(&answer.payload) {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(refused(&error)),
        Err(error) => Err(Failed::Unanswered(format!("an answer that cannot be read: {error}"))),
    }
}
