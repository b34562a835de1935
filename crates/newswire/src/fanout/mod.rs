//! From the log to the hubs: every committed batch, once, in order.
//!
//! One task follows the log. It gathers commits into larger batches when the machine is busy ([`pace`]), and hands each
//! to every shard. A shard is a hub for a part of the connections, with a task of its own, so that many connections are
//! served by as many processors as there are.

mod pace;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use newswire_core::{Batch, BatchBuilder, Hub};
use newswire_log::CommitReceiver;
use newswire_protocol::Epoch;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::sleep_until;

use crate::Feed;
use crate::traces::Dispatch;
use pace::Pace;

/// Gathered batches that may wait for a shard; the next one makes the follower wait, which gathers meanwhile. One, as
/// what waits in the log's queue can still be gathered, and what waits here no more.
const SHARD_QUEUE: usize = 1;

/// Bytes of frames that are gathered into one batch: what one connection writes in one turn. A commit that is larger
/// goes alone.
const GATHER_BYTES: usize = 64 << 10;

/// Sockets written to before other tasks get their turn, which no budget of the runtime sees to here: about half a
/// millisecond.
const WRITES_A_TURN: usize = 64;

/// What is on its way to every hub.
#[derive(Clone)]
enum Dispatched {
    /// A batch, and the span of its way.
    Batch(Arc<Batch>, Dispatch),
    /// The log is shown anew, with these retained offsets: `head..tail`.
    Epoch { epoch: Epoch, head: u64, tail: u64 },
}

/// A part of the connections, and the hub that knows them.
pub(crate) struct Shard {
    pub(crate) hub: Mutex<Hub>,
    /// Last offset handed to the hub; a subscribe waits for what was durable before it.
    pub(crate) dispatched: watch::Sender<u64>,
    /// Connections that the last batch concerned.
    reached: AtomicUsize,
}

impl Shard {
    pub(crate) fn new(hub: Hub) -> Self {
        Self {
            dispatched: watch::Sender::new(hub.dispatched()),
            hub: Mutex::new(hub),
            reached: AtomicUsize::new(0),
        }
    }
}

/// Starts the tasks: the follower and one for each shard. They end when the log closes.
pub(crate) fn start(feed: &Feed, commits: CommitReceiver) {
    let mut queues = Vec::new();
    for shard in &feed.inner.shards {
        let (queue, batches) = mpsc::channel(SHARD_QUEUE);
        queues.push(queue);
        feed.inner.tasks.spawn(dispatch(feed.clone(), Arc::clone(shard), batches));
    }
    feed.inner.tasks.spawn(follow(feed.clone(), commits, queues));
}

/// Follows the log until it closes, from one epoch to the next.
///
/// The log waits for this task when it lags (the receiver is bounded), and publishers wait for the log: so a
/// fan-out that cannot keep up slows publishing down and loses nothing.
async fn follow(feed: Feed, mut commits: CommitReceiver, queues: Vec<mpsc::Sender<Dispatched>>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut pace = Pace::new(feed.inner.settings.fanout_max_linger, cores);
    let room = GATHER_BYTES.min(feed.inner.settings.backlog_max_bytes / 4);
    loop {
        let Some(first) = commits.recv().await else {
            commits = feed.inner.log.follow();
            if commits.is_over() {
                break;
            }
            let (epoch, tail) = (commits.epoch(), commits.start());
            let head = feed.inner.log.head().min(tail);
            send_to_all(&queues, &Dispatched::Epoch { epoch, head, tail }).await;
            continue;
        };
        pace.committed(Instant::now());
        let mut gathered = Gathered { bytes: first.frames().len(), batches: vec![first], room };
        let held = gather(&feed, &mut commits, &mut pace, &mut gathered).await;
        feed.inner.metrics.commits.inc_by(gathered.batches.len() as u64);
        feed.inner.metrics.dispatch_commits.observe(gathered.batches.len() as f64);
        for batch in std::iter::once(gathered.finish()).chain(held) {
            let span = feed.inner.traces.dispatch(&batch);
            send_to_all(&queues, &Dispatched::Batch(batch, span)).await;
        }
        let reached = |shard: &Arc<Shard>| shard.reached.load(Ordering::Relaxed);
        pace.dispatched(feed.inner.shards.iter().map(reached).sum());
    }
    tracing::debug!("the log closed; fan-out ends");
}

async fn send_to_all(queues: &[mpsc::Sender<Dispatched>], dispatched: &Dispatched) {
    for queue in queues {
        // A shard ends after this task only.
        let _ = queue.send(dispatched.clone()).await;
    }
}

/// Adds the commits that are there, and while the machine is busy those that come within the linger. Ends at once when
/// somebody waits for what is held back. Gives the commit that found no room.
async fn gather(
    feed: &Feed,
    commits: &mut CommitReceiver,
    pace: &mut Pace,
    gathered: &mut Gathered,
) -> Option<Arc<Batch>> {
    let until = tokio::time::Instant::now() + pace.linger();
    loop {
        let next = match commits.try_recv() {
            Some(batch) => batch,
            None if until <= tokio::time::Instant::now() => return None,
            None => tokio::select! {
                biased;
                batch = commits.recv() => batch?,
                () = feed.inner.flush.notified() => return None,
                () = sleep_until(until) => return None,
            },
        };
        pace.committed(Instant::now());
        if let Some(held) = gathered.add(next) {
            feed.inner.metrics.commits.inc();
            return Some(held);
        }
    }
}

/// Commits that are dispatched together.
struct Gathered {
    batches: Vec<Arc<Batch>>,
    bytes: usize,
    room: usize,
}

impl Gathered {
    /// Gives the batch back if there is no room for it.
    fn add(&mut self, batch: Arc<Batch>) -> Option<Arc<Batch>> {
        if self.bytes + batch.frames().len() > self.room {
            return Some(batch);
        }
        self.bytes += batch.frames().len();
        self.batches.push(batch);
        None
    }

    /// One batch of one contiguous buffer: copied once, it is one reference in each outbox and one piece in each write.
    fn finish(mut self) -> Arc<Batch> {
        if self.batches.len() == 1 {
            return self.batches.remove(0);
        }
        let events = self.batches.iter().map(|batch| batch.len()).sum();
        let mut builder = BatchBuilder::with_capacity(events, self.bytes);
        for batch in &self.batches {
            (0..batch.len()).for_each(|index| builder.push_event(batch, index));
        }
        Arc::new(builder.finish())
    }
}

/// Hands batches to the hub of one shard, and writes them to the sockets of the connections that have everything.
///
/// A batch is written to all of them before the next is handed over: what comes meanwhile is gathered. Dropped in
/// between, it leaves the rest to the tasks of the connections.
async fn dispatch(feed: Feed, shard: Arc<Shard>, mut batches: mpsc::Receiver<Dispatched>) {
    while let Some(dispatched) = batches.recv().await {
        let (batch, span) = match dispatched {
            Dispatched::Batch(batch, span) => (batch, span),
            Dispatched::Epoch { epoch, head, tail } => {
                // Dropped, they wake whom they are for.
                drop(shard.hub.lock().epoch_changed(epoch, head, tail));
                shard.dispatched.send_replace(tail.saturating_sub(1));
                continue;
            }
        };
        let last = batch.last();
        let begun = Instant::now();
        let mut wakes = shard.hub.lock().publish(batch);
        shard.reached.store(wakes.reached(), Ordering::Relaxed);
        feed.inner.metrics.dispatch_seconds.observe(begun.elapsed().as_secs_f64());
        shard.dispatched.send_replace(last);
        span.sent(wakes.reached(), 0, 0);
        loop {
            let flushed = wakes.flush(WRITES_A_TURN);
            feed.inner.metrics.sent_bytes.inc_by(flushed.bytes);
            feed.inner.metrics.writes.inc_by(flushed.writes);
            feed.inner.metrics.direct_writes.inc_by(flushed.writes);
            span.sent(0, flushed.writes, flushed.bytes);
            if wakes.is_done() {
                break;
            }
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use newswire_core::Principal;
    use newswire_protocol::{Draft, Limits};

    use super::*;

    async fn publish(feed: &Feed, events: usize) {
        let text = r#"{"channel":"tasks","event_type":"task.created"}"#;
        for _ in 0..events {
            let draft = Draft::parse(text, &Limits::default()).unwrap();
            feed.publish_drafts(&Principal::anonymous(), vec![draft]).await.remove(0).unwrap();
        }
    }

    /// A pace that would wait for a minute, for who sees hundreds of connections and a commit every few microseconds.
    fn patient() -> Pace {
        let (mut pace, now) = (Pace::new(Duration::from_secs(60), 1), Instant::now());
        for commit in 0..1_000 {
            pace.committed(now + Duration::from_micros(commit));
            pace.dispatched(10_000_000);
        }
        assert!(pace.linger() > Duration::from_secs(30));
        pace
    }

    fn feed() -> Feed {
        Feed::builder().build().unwrap()
    }

    #[tokio::test]
    async fn commits_that_are_there_make_one_batch_and_who_waits_for_them_ends_the_gathering() {
        let feed = feed();
        let mut commits = feed.inner.log.follow();
        publish(&feed, 5).await;
        let first = commits.recv().await.unwrap();
        let mut gathered = Gathered { bytes: first.frames().len(), batches: vec![first], room: GATHER_BYTES };
        feed.inner.flush.notify_one();
        let mut pace = patient();
        let gathering = gather(&feed, &mut commits, &mut pace, &mut gathered);
        let held = tokio::time::timeout(Duration::from_secs(20), gathering).await.expect("it was asked for");
        assert!(held.is_none());
        let alone: Vec<u8> =
            gathered.batches.iter().flat_map(|batch| batch.frames().iter().copied()).collect();
        let batch = gathered.finish();
        assert_eq!((batch.first(), batch.last(), batch.len()), (1, 5, 5));
        assert_eq!(batch.frames()[..], alone[..]);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_given_back() {
        let feed = feed();
        let mut commits = feed.inner.log.follow();
        publish(&feed, 3).await;
        let first = commits.recv().await.unwrap();
        let bytes = first.frames().len();
        let mut gathered = Gathered { bytes, batches: vec![first], room: 2 * bytes + bytes / 2 };
        let held = gather(&feed, &mut commits, &mut patient(), &mut gathered).await;
        assert_eq!(held.map(|batch| batch.first()), Some(3));
        assert_eq!(gathered.finish().last(), 2);
    }
}
