//! Who is to see to what a batch put into the outboxes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::outbox::{Flushed, Outbox, Rouse};

/// Those for whom something came: tasks that are to be woken, and armed outboxes that are to be written to their sockets.
///
/// Let it live beyond the hub's lock: writing to many sockets takes milliseconds. Dropped, it wakes everybody who is left.
#[derive(Debug, Default)]
#[must_use = "flush or drop it behind the hub's lock"]
pub struct Wakes {
    tasks: Vec<Waker>,
    armed: VecDeque<Arc<Outbox>>,
    reached: usize,
}

impl Wakes {
    /// Nobody yet; so many connections are concerned.
    pub(super) fn of(reached: usize) -> Self {
        Self { tasks: Vec::new(), armed: VecDeque::with_capacity(reached), reached }
    }

    pub(super) fn add(&mut self, outbox: &Arc<Outbox>, rouse: Rouse) {
        match rouse {
            Rouse::Nobody => {}
            Rouse::Task(waker) => self.tasks.push(waker),
            Rouse::Writer => self.armed.push_back(Arc::clone(outbox)),
        }
    }

    pub(super) fn add_tasks(&mut self, tasks: impl IntoIterator<Item = Waker>) {
        self.tasks.extend(tasks);
    }

    /// Connections that got something, those included that are awake.
    pub fn reached(&self) -> usize {
        self.reached
    }

    /// Whether everybody was seen to.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.armed.is_empty()
    }

    /// Wakes the tasks, and writes to at most so many sockets, one write each; in the order of the batches if each batch is
    /// flushed before the next one is published. Never waits.
    pub fn flush(&mut self, writes: usize) -> Flushed {
        self.wake_tasks();
        let mut flushed = Flushed::default();
        for outbox in self.armed.drain(..writes.min(self.armed.len())) {
            if let Some(waker) = outbox.write_directly(&mut flushed) {
                waker.wake();
            }
        }
        flushed
    }

    fn wake_tasks(&mut self) {
        self.tasks.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake_tasks();
        self.armed.drain(..).filter_map(|outbox| outbox.leave_to_session()).for_each(Waker::wake);
    }
}
