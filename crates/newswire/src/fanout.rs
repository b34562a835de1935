//! From the log to the hub: every committed batch, once, in order.

use std::time::Instant;

use newswire_log::CommitReceiver;

use crate::Feed;

/// Follows the log until it closes.
///
/// The log waits for this task when it lags (the receiver is bounded), and publishers wait for the log: so a
/// fan-out that cannot keep up slows publishing down and loses nothing.
pub(crate) async fn run(feed: Feed, mut commits: CommitReceiver) {
    while let Some(batch) = commits.recv().await {
        let last = batch.last();
        let metrics = &feed.inner.metrics;
        metrics.commits.inc();
        let begun = Instant::now();
        let wakes = feed.hub().publish(batch);
        drop(wakes);
        metrics.dispatch_seconds.observe(begun.elapsed().as_secs_f64());
        feed.inner.dispatched.send_replace(last);
    }
    tracing::debug!("the log closed; fan-out ends");
}
