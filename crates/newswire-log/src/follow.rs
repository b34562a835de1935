//! Handing commits to whoever follows the log.

use std::sync::Arc;
use std::task::{Context, Poll};

use newswire_core::Batch;
use newswire_protocol::Epoch;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

/// Batches that may wait for a follower before the writer waits for it.
pub const FOLLOW_QUEUE: usize = 32;

/// Every commit from [`Self::start`] on, in order. Dropping it ends the following.
#[derive(Debug)]
pub struct CommitReceiver {
    epoch: Epoch,
    start: u64,
    batches: mpsc::Receiver<Arc<Batch>>,
}

impl CommitReceiver {
    /// The log's tail when the following began: every event at or beyond this offset will come, none before it.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The epoch that it follows. When it ends and the log is in another one by then, follow anew.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether nothing comes any more: the log is closed.
    pub fn is_over(&self) -> bool {
        self.batches.is_closed() && self.batches.is_empty()
    }

    /// The next batch; `None` once the log is closed, or its epoch over, and all came. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Arc<Batch>> {
        self.batches.recv().await
    }

    /// [`Self::recv`] for hand-written futures.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<Batch>>> {
        self.batches.poll_recv(context)
    }

    /// A batch that is already here.
    pub fn try_recv(&mut self) -> Option<Arc<Batch>> {
        self.batches.try_recv().ok()
    }
}

/// Who follows. The writer hands over; readers of the trait join.
pub(crate) struct Followers {
    epoch: Epoch,
    joined: Mutex<Vec<Follower>>,
    closing: watch::Sender<bool>,
}

#[derive(Clone)]
struct Follower {
    start: u64,
    batches: mpsc::Sender<Arc<Batch>>,
}

impl Followers {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, joined: Mutex::new(Vec::new()), closing: watch::Sender::new(false) }
    }

    /// `tail` must be read after the lock is taken: a commit that made itself visible before is then not handed over
    /// twice, and one that becomes visible later is not missed.
    pub(crate) fn join(&self, tail: impl FnOnce() -> u64) -> CommitReceiver {
        let (sender, batches) = mpsc::channel(FOLLOW_QUEUE);
        let mut joined = self.joined.lock();
        let start = tail();
        if !*self.closing.borrow() {
            joined.push(Follower { start, batches: sender });
        }
        CommitReceiver { epoch: self.epoch, start, batches }
    }

    /// Hands a batch, which is visible already, to every follower; waits for those whose queue is full, but not beyond
    /// [`Self::close`].
    pub(crate) async fn hand_over(&self, batch: &Arc<Batch>) {
        let followers = self.joined.lock().clone();
        let mut gone = false;
        for follower in &followers {
            if batch.last() < follower.start {
                continue;
            }
            gone |= !self.hand_to(follower, batch).await;
        }
        if gone {
            self.joined.lock().retain(|follower| !follower.batches.is_closed());
        }
    }

    async fn hand_to(&self, follower: &Follower, batch: &Arc<Batch>) -> bool {
        match follower.batches.try_send(batch.clone()) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(_)) => {}
        }
        let mut closing = self.closing.subscribe();
        tokio::select! {
            sent = follower.batches.send(batch.clone()) => sent.is_ok(),
            _ = closing.wait_for(|closing| *closing) => true,
        }
    }

    /// Ends the following once queued batches are received; a writer that waits for a follower waits no longer.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        self.joined.lock().clear();
    }
}
