//! Writing to the socket of a connection that has everything, without its task.
//!
//! A delivery is mostly one event for somebody who waits for nothing else. To wake a task for it costs as much as the
//! rest beside the system call. So the session of such a connection **arms** its outbox at the end of a poll, and whoever
//! fills it then writes what it holds: as the session would, under the outbox's lock. The session's next poll begins with
//! [`Outbox::resume`], under the same lock: from there on it alone writes, and goes on at exactly the next byte.
//!
//! What the socket does not take waits in the outbox as ever, and the task is woken; so it is for everything that is not
//! simply events: there the order is the session's to keep.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use bytes::Bytes;

use super::{Inner, Item, Outbox};
use crate::seeded::seeded_bug;

/// Bytes that one connection is written before others get their turn.
pub const TURN_BYTES: usize = 64 << 10;

/// Slices offered to a socket in one write.
pub const MAX_SLICES: usize = 16;

/// A socket that may be written to beside the task that owns it.
pub trait DirectSink: fmt::Debug + Send + Sync {
    /// Writes as much as the socket takes without waiting, from the start of the slices, and tells how many bytes. 0 if
    /// it takes none now or never will: its owner is woken then, tries again and finds out which.
    ///
    /// At most [`MAX_SLICES`] slices with [`TURN_BYTES`] bytes, none of them empty. Called under a lock that the owner
    /// needs, so it must not wait.
    fn try_write(&self, slices: &[&[u8]]) -> usize;
}

/// What was written directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Writes of which the socket took something.
    pub writes: u64,
    /// Bytes that sockets took.
    pub bytes: u64,
}

impl Outbox {
    /// Lets others write from here on. To be called when everything was written, with nothing but live events to come;
    /// nothing happens if something came meanwhile: then the waker was taken, and its task asks again.
    pub(crate) fn arm(&self, sink: impl FnOnce() -> Option<Arc<dyn DirectSink>>) {
        let mut inner = self.inner.lock();
        if inner.items.is_empty() && inner.waker.is_some() {
            debug_assert!(inner.rest.is_none(), "resume gave it to the owner");
            if inner.sink.is_none() {
                inner.sink = sink();
            }
            inner.armed = inner.sink.is_some();
        }
    }

    /// From here on the session alone writes. Registers whom to wake, and gives the end of a frame that was begun, to be
    /// written before anything else. What was written meanwhile stands in the figures.
    pub(crate) fn resume(&self, waker: &Waker) -> Option<Bytes> {
        let mut inner = self.inner.lock();
        inner.armed = false;
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        inner.rest.take().map(|rest| *rest)
    }

    /// The connection is gone: nobody writes to its socket any more, or keeps it open.
    pub(crate) fn retire(&self) {
        let mut inner = self.inner.lock();
        inner.armed = false;
        let sink = inner.sink.take();
        drop(inner);
        // It may be the last that keeps the socket, and closing one takes its time.
        drop(sink);
    }

    /// Leaves what waits to the session. Returns whom to wake for it.
    pub(crate) fn leave_to_session(&self) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.armed && !inner.items.is_empty() { inner.disarm() } else { None }
    }

    /// Writes what waits, in one write; adds what the socket took. Returns the waker of the task, if it has to go on.
    ///
    /// Nothing happens if the session was polled since the events were pushed: it took them, or will.
    pub(crate) fn write_directly(&self, flushed: &mut Flushed) -> Option<Waker> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if !inner.armed || inner.items.is_empty() {
            return None;
        }
        let mut slices: [&[u8]; MAX_SLICES] = [&[]; MAX_SLICES];
        let (Some(count), Some(sink)) = (fill(&inner.items, &mut slices), &inner.sink) else {
            return inner.disarm();
        };
        let taken = sink.try_write(&slices[..count]);
        flushed.writes += u64::from(taken > 0);
        flushed.bytes += taken as u64;
        let last_sent = inner.written(taken);
        if let Some(offset) = last_sent {
            self.figures.last_sent.store(offset, Ordering::Relaxed);
        }
        if inner.items.is_empty() && inner.rest.is_none() { None } else { inner.disarm() }
    }
}

/// The frames of everything that waits, as slices; how many. `None` if that is more than one turn, or not only events
/// to be sent as they are.
fn fill<'a>(items: impl IntoIterator<Item = &'a Item>, slices: &mut [&'a [u8]]) -> Option<usize> {
    let (mut count, mut bytes) = (0, 0);
    for item in items {
        let run = match item {
            Item::Run(run) if run.packed.is_none() => run,
            Item::Gap(_) if seeded_bug!(DirectPastGap) => continue,
            _ => return None,
        };
        bytes += run.bytes;
        if bytes > TURN_BYTES {
            return None;
        }
        for stretch in run.stretches() {
            *slices.get_mut(count)? = &run.run.batch.frames()[stretch];
            count += 1;
        }
    }
    Some(count)
}

impl Inner {
    /// Takes what a socket took off the front: whole frames, and one that was begun, whose end is kept. Returns the
    /// offset of the last one.
    fn written(&mut self, mut taken: usize) -> Option<u64> {
        let mut last_sent = None;
        while taken > 0 {
            let Some(Item::Run(run)) = self.items.front_mut() else { break };
            if taken >= run.bytes {
                taken -= run.bytes;
                last_sent = Some(run.last_offset());
                self.queued_bytes -= run.bytes;
                self.runs -= 1;
                self.items.pop_front();
                continue;
            }
            let index = run.run.index(run.next);
            let frame = run.run.batch.frame_range(index);
            last_sent = Some(run.first_offset());
            self.queued_bytes -= frame.len();
            run.bytes -= frame.len();
            run.next += 1;
            if taken < frame.len() {
                let from = if seeded_bug!(DirectRestRepeated) { frame.start } else { frame.start + taken };
                self.rest = Some(Box::new(run.run.batch.frames().slice(from..frame.end)));
                taken = 0;
            } else {
                taken -= frame.len();
            }
            if run.is_done() {
                self.runs -= 1;
                self.items.pop_front();
            }
        }
        last_sent
    }
}
