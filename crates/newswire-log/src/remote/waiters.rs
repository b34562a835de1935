//! Publishers that wait until this node has copied what they appended.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::sequencer::MessageId;
use crate::event_log::Appended;

/// Holes remembered with what they are: an engine that found a repeat by itself names an offset that may be one of them.
const HOLES: usize = 65_536;

/// Who waits for which message.
#[derive(Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    by_id: HashMap<MessageId, Vec<(u64, oneshot::Sender<Copied>)>>,
    /// The latest messages that were repeats, and of what.
    holes: BTreeMap<u64, Appended>,
}

/// A message that this node has copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// Where the engine stored it.
    pub(super) offset: u64,
    /// What became of it.
    pub(super) outcome: Appended,
}

/// A place among those who wait; dropped, it is given up.
pub(super) struct Waiting<'a> {
    waiters: &'a Waiters,
    id: MessageId,
    number: u64,
    copied: oneshot::Receiver<Copied>,
}

impl Waiters {
    /// Waits from now on for this message, which is yet to be sent.
    pub(super) fn wait(&self, id: MessageId) -> Waiting<'_> {
        let (sender, copied) = oneshot::channel();
        let mut inner = self.inner.lock();
        inner.next += 1;
        let number = inner.next;
        inner.by_id.entry(id).or_default().push((number, sender));
        Waiting { waiters: self, id, number, copied }
    }

    /// The message was copied: whoever waits for it is told.
    pub(super) fn copied(&self, id: MessageId, copied: Copied) {
        let mut inner = self.inner.lock();
        if !matches!(copied.outcome, Appended::Stored { .. }) {
            inner.holes.insert(copied.offset, copied.outcome);
            if inner.holes.len() > HOLES {
                inner.holes.pop_first();
            }
        }
        for (_, waiting) in inner.by_id.remove(&id).unwrap_or_default() {
            // Who went away needs no answer.
            let _ = waiting.send(copied);
        }
    }

    /// What stands at an offset that was copied, for whoever sent the same message again.
    pub(super) fn repeat_of(&self, offset: u64) -> Appended {
        self.inner.lock().holes.get(&offset).copied().unwrap_or(Appended::Duplicate { offset })
    }

    /// Another history begins: nobody who waits learns of this one any more.
    pub(super) fn forget(&self) {
        let mut inner = self.inner.lock();
        inner.by_id.clear();
        inner.holes.clear();
    }
}

impl Waiting<'_> {
    /// `None` if it will not be known. Cancel-safe.
    pub(super) async fn copied(&mut self) -> Option<Copied> {
        (&mut self.copied).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.waiters.inner.lock();
        if let Some(waiting) = inner.by_id.get_mut(&self.id) {
            waiting.retain(|(number, _)| *number != self.number);
            if waiting.is_empty() {
                inner.by_id.remove(&self.id);
            }
        }
    }
}
