//! Messages at sequences of their own: a stream gives its sequences one after the other, so what has no message is filled.
//!
//! An empty stream begins wherever it is told. Holes behind its first message are filled with messages without content, on a
//! subject that no channel has; when all is placed, what is on that subject is removed with one request.

use std::sync::Arc;

use bytes::Bytes;

use super::{Inner, batch, patiently, stream};
use crate::remote::{Message, MessageId, SequenceError};

/// The name of no channel, which stands for the subject of what fills holes.
const FILLER: &str = ".";

/// See [`crate::Sequencer::place`].
pub(super) async fn place(
    inner: &Inner,
    mut last: u64,
    messages: Vec<(u64, Message)>,
) -> Result<(), SequenceError> {
    if let Some((first, _)) = messages.first() {
        last = skip_if_empty(inner, last, *first).await?;
    }
    let mut batch = Vec::new();
    for (offset, message) in messages {
        while last + (batch.len() as u64) + 1 < offset {
            batch.push(filler());
            last = sent_if_full(inner, &mut batch, last).await?;
        }
        batch.push(message);
        last = sent_if_full(inner, &mut batch, last).await?;
    }
    send(inner, &mut batch, last).await?;
    Ok(())
}

/// See [`crate::Sequencer::placed`].
pub(super) async fn placed(inner: &Inner, last: u64, next: u64) -> Result<(), SequenceError> {
    let mut last = skip_if_empty(inner, last, next).await?;
    while last + 1 < next {
        let missing = usize::try_from(next - 1 - last).unwrap_or(usize::MAX);
        let mut batch = vec![filler(); missing.min(batch::MAX_BATCH)];
        last = send(inner, &mut batch, last).await?;
    }
    let fillers = stream::subject(&inner.options.stream, FILLER);
    patiently(inner.options.timeout, || async { inner.stream.purge().filter(fillers.clone()).await }).await?;
    Ok(())
}

/// An empty stream goes on before `next`. Answers its last sequence.
async fn skip_if_empty(inner: &Inner, last: u64, next: u64) -> Result<u64, SequenceError> {
    let info = patiently(inner.options.timeout, || inner.stream.get_info()).await?;
    if info.state.messages > 0 || last + 1 >= next {
        return Ok(last);
    }
    patiently(inner.options.timeout, || async { inner.stream.purge().sequence(next).await }).await?;
    Ok(next - 1)
}

fn filler() -> Message {
    Message { channel: Arc::from(FILLER), id: MessageId([0; 16]), body: Bytes::new() }
}

async fn sent_if_full(inner: &Inner, batch: &mut Vec<Message>, last: u64) -> Result<u64, SequenceError> {
    if batch.len() < batch::MAX_BATCH { Ok(last) } else { send(inner, batch, last).await }
}

/// Sends what there is; answers the last sequence behind it.
async fn send(inner: &Inner, batch: &mut Vec<Message>, last: u64) -> Result<u64, SequenceError> {
    if batch.is_empty() {
        return Ok(last);
    }
    let sent = std::mem::take(batch);
    let count = sent.len() as u64;
    batch::append_behind(inner, sent, last).await?;
    Ok(last + count)
}
