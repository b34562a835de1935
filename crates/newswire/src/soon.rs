//! Publishing without waiting: a bounded queue, and a task that empties it.

use newswire_core::Principal;
use newswire_protocol::{Draft, Refusal};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use crate::{Feed, NewEvent};

/// Events that wait to be published by [`Feed::publish_soon`]; each has at most `limits.event_bytes`.
pub(crate) const SOON_QUEUE: usize = 1_024;

/// Events that are taken at once, and share a commit.
const AT_ONCE: usize = 256;

/// Why an event was not taken to be published soon. Each time is counted in `newswire_publish_refusals_total`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishSoonError {
    /// The event breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// So many wait already: the log is slower than the publishers. Publish with [`Feed::publish`] to wait instead.
    #[error("{SOON_QUEUE} events wait to be published already")]
    Full,
    /// The feed is being shut down.
    #[error("the feed is shutting down")]
    ShuttingDown,
}

/// The queue of a feed; its task is begun when it is used first.
#[derive(Debug, Default)]
pub(crate) struct Soon {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unused,
    Used(mpsc::Sender<Draft>, JoinHandle<()>),
    Closed,
}

impl Feed {
    /// Has an event published without waiting for it, in the order of these calls.
    ///
    /// What is refused later, by a log that is full or stopped, is counted in `newswire_publish_refusals_total` and logged as a
    /// warning. A shutdown publishes what waits, within its grace. Never blocks; must be called within the tokio runtime.
    ///
    /// # Errors
    /// See [`PublishSoonError`]: a bad event, a full queue. Nothing is dropped without saying so.
    pub fn publish_soon(&self, event: impl Into<NewEvent>) -> Result<(), PublishSoonError> {
        let metrics = &self.inner.metrics;
        let draft = event.into().draft(&self.inner.live.limits()).and_then(|draft| {
            let stored = || self.inner.log.channels();
            self.inner.channels.admit(&draft.channel, &Principal::anonymous(), stored).map(|()| draft)
        });
        let draft = draft.inspect_err(|refusal| metrics.refused(refusal.code.code()))?;
        let outcome = self.inner.soon.send(self, draft);
        match &outcome {
            Err(PublishSoonError::Full) => metrics.refused("publish_queue_full"),
            Err(PublishSoonError::ShuttingDown) => metrics.refused("publish_shutting_down"),
            _ => {}
        }
        outcome
    }
}

impl Soon {
    fn send(&self, feed: &Feed, draft: Draft) -> Result<(), PublishSoonError> {
        let mut state = self.state.lock();
        if let State::Unused = *state {
            let (queue, drafts) = mpsc::channel(SOON_QUEUE);
            let task = feed.inner.tasks.spawn(publish_all(feed.clone(), drafts));
            *state = State::Used(queue, task);
        }
        let State::Used(queue, _) = &*state else { return Err(PublishSoonError::ShuttingDown) };
        queue.try_send(draft).map_err(|error| match error {
            TrySendError::Full(_) => PublishSoonError::Full,
            TrySendError::Closed(_) => PublishSoonError::ShuttingDown,
        })
    }

    /// Takes no more, and gives the task that ends when everything taken is published; none if there never was one.
    pub(crate) fn close(&self) -> Option<JoinHandle<()>> {
        match std::mem::replace(&mut *self.state.lock(), State::Closed) {
            State::Used(_, task) => Some(task),
            State::Unused | State::Closed => None,
        }
    }
}

/// Publishes until the queue is closed and empty.
async fn publish_all(feed: Feed, mut drafts: mpsc::Receiver<Draft>) {
    let mut taken = Vec::new();
    while drafts.recv_many(&mut taken, AT_ONCE).await > 0 {
        let results = feed.publish_drafts(&Principal::anonymous(), std::mem::take(&mut taken)).await;
        for refusal in results.into_iter().filter_map(Result::err) {
            tracing::warn!(%refusal, "an event that was to be published soon was refused");
        }
    }
}
