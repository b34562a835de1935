//! The log of one's own keeps the promises that every log makes, and its copy is complete.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::sync::atomic::{AtomicU32, Ordering};

use newswire::log::testing::log_suite::{self, Setup};
use newswire::log::{EventLog, MemoryLog, MemoryOptions};
use newswire_examples::mirrored_log::MirroredLog;

#[test]
fn it_passes_the_suite_of_all_logs() {
    let directory = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    log_suite::run(&|setup: &Setup| {
        let file = directory.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        let options = MemoryOptions {
            clock: setup.clock.clone(),
            dedup: setup.dedup,
            retention: setup.retention.clone(),
            ..MemoryOptions::default()
        };
        let log = MirroredLog::new(MemoryLog::new(options).unwrap(), &file).unwrap();
        Box::new(log) as Box<dyn EventLog>
    });
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_ends_and_the_log_goes_on() {
    let log = MemoryLog::new(MemoryOptions::default()).unwrap();
    // Takes no bytes, whatever is written.
    let log = std::sync::Arc::new(MirroredLog::new(log, "/dev/full".as_ref()).unwrap());
    let feed = newswire::Feed::builder().log(log.clone()).build().unwrap();
    for n in 1..=100 {
        let event = newswire::NewEvent::new("tasks", "task.created");
        assert_eq!(feed.publish(event).await.unwrap().offset, n);
    }
    assert!(feed.shutdown(std::time::Duration::from_secs(20)).await);
    assert!(log.failure().is_some());
}
