//! A thread of its own for what must not hold the writer up: writing the indexes of full segments, and retention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::segment_file::Segment;
use super::store::Store;
use super::trim;
use crate::shared::Shared;

/// Full segments that may wait for their index; beyond, they keep it in memory until the next round of retention.
const QUEUE: usize = 64;

enum Task {
    Seal(Arc<Segment>),
    Stop,
}

pub(crate) struct KeeperHandle {
    tasks: mpsc::SyncSender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KeeperHandle {
    pub(crate) fn spawn(
        store: Arc<Store>,
        shared: Arc<Shared>,
        roll_wanted: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let (tasks, queue) = mpsc::sync_channel(QUEUE);
        let keeper = Keeper { store, shared, roll_wanted };
        let thread =
            std::thread::Builder::new().name("newswire-keeper".into()).spawn(move || keeper.run(&queue))?;
        Ok(Self { tasks, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn seal(&self, segment: Arc<Segment>) {
        // Refused where too many wait: the next round finds it.
        let _ = self.tasks.try_send(Task::Seal(segment));
    }

    pub(crate) fn stop(&self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's keeper panicked");
        }
    }
}

struct Keeper {
    store: Arc<Store>,
    shared: Arc<Shared>,
    roll_wanted: Arc<AtomicBool>,
}

impl Keeper {
    fn run(&self, tasks: &mpsc::Receiver<Task>) {
        loop {
            let interval = self.store.retention().interval.max(Duration::from_millis(10));
            match tasks.recv_timeout(interval) {
                Ok(Task::Seal(segment)) => self.seal(&segment),
                Err(mpsc::RecvTimeoutError::Timeout) => self.keep(),
                Ok(Task::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.seal_rest();
    }

    fn seal(&self, segment: &Segment) {
        if let Err(error) = segment.seal(self.store.disk.as_ref()) {
            tracing::warn!(%error, segment = %segment.name(), "the index of a full segment was not written");
        }
    }

    fn seal_rest(&self) {
        let segments = self.store.segments();
        let full = segments.split_last().map_or(&[][..], |(_, full)| full);
        full.iter().filter(|segment| !segment.is_sealed()).for_each(|segment| self.seal(segment));
    }

    fn keep(&self) {
        self.seal_rest();
        if let Err(error) = trim::retain(&self.store, &self.shared) {
            tracing::warn!(%error, "retention was not applied");
        }
        if trim::is_active_segment_trimmed(&self.store) {
            self.roll_wanted.store(true, Ordering::Relaxed);
        }
    }
}
