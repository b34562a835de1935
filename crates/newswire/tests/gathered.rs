//! How many events one append of the log has, where the log says that a few are stored sooner one after the other.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::sync::Arc;

use futures_util::future::BoxFuture;
use newswire::core::{LogView, Lost, Page, ReadRequest, Selector};
use newswire::log::{
    AppendError, Appended, ChannelStats, CommitReceiver, EventLog, LogHealth, LogStats, MemoryLog,
    MemoryOptions, NewEvents, ReadError, Trim, TrimError,
};
use newswire::{ErrorCode, Feed, NewEvent};
use newswire_protocol::{Epoch, UnixMicros};
use parking_lot::Mutex;

/// From so many events on, one append of all is better.
const GATHERS_FROM: usize = 4;

/// A log in memory that says so, counts the events of each append, and refuses every append after so many.
struct Counting {
    log: MemoryLog,
    appends: Arc<Mutex<Vec<usize>>>,
    refuses_after: usize,
}

/// A feed over one, and the sizes of its appends.
fn feed(refuses_after: usize) -> (Feed, Arc<Mutex<Vec<usize>>>) {
    let appends = Arc::new(Mutex::new(Vec::new()));
    let log = MemoryLog::new(MemoryOptions::default()).unwrap();
    let log = Counting { log, appends: Arc::clone(&appends), refuses_after };
    (Feed::builder().channels(["tasks"]).log(Arc::new(log)).build().unwrap(), appends)
}

fn tasks(count: usize) -> impl Iterator<Item = NewEvent> {
    (0..count).map(|_| NewEvent::new("tasks", "task.created"))
}

#[tokio::test]
async fn a_few_are_appended_one_after_the_other_and_many_at_once() {
    let (feed, appends) = feed(usize::MAX);
    for (count, expected) in [(1, vec![1]), (3, vec![1, 1, 1]), (4, vec![4]), (9, vec![9])] {
        let stored = feed.publish_all(tasks(count)).await;
        let offsets: Vec<u64> = stored.into_iter().map(|stored| stored.unwrap().offset).collect();
        assert!(offsets.is_sorted_by(|one, next| one + 1 == *next), "{offsets:?}");
        assert_eq!(std::mem::take(&mut *appends.lock()), expected, "{count} events");
    }
}

#[tokio::test]
async fn behind_one_that_was_refused_no_further_one_is_tried() {
    let (feed, appends) = feed(1);
    let stored = feed.publish_all(tasks(3)).await;
    let codes: Vec<Option<ErrorCode>> =
        stored.into_iter().map(|stored| stored.err().map(|refusal| refusal.code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::StorageFull), Some(ErrorCode::StorageFull)]);
    assert_eq!(*appends.lock(), [1, 1], "the third one would have come before the second");
}

impl LogView for Counting {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn head(&self) -> u64 {
        self.log.head()
    }

    fn tail(&self) -> u64 {
        self.log.tail()
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.log.channels()
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.log.lost(selector, after)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.log.lost_since(selector, since)
    }
}

impl EventLog for Counting {
    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        let mut appends = self.appends.lock();
        appends.push(events.len());
        if appends.len() > self.refuses_after {
            return Box::pin(async { Err(AppendError::StorageFull) });
        }
        self.log.append(events)
    }

    fn gathers_from(&self) -> usize {
        GATHERS_FROM
    }

    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError> {
        self.log.read(request)
    }

    fn follow(&self) -> CommitReceiver {
        self.log.follow()
    }

    fn trim(&self, trim: &Trim) -> Result<u64, TrimError> {
        self.log.trim(trim)
    }

    fn retain(&self) -> Result<u64, TrimError> {
        self.log.retain()
    }

    fn engine(&self) -> &'static str {
        self.log.engine()
    }

    fn stats(&self) -> LogStats {
        self.log.stats()
    }

    fn channel_stats(&self) -> Vec<ChannelStats> {
        self.log.channel_stats()
    }

    fn health(&self) -> LogHealth {
        self.log.health()
    }

    fn close(&self) {
        self.log.close();
    }
}
