//! Log reads off the async threads, a bounded number at once.

use std::sync::Arc;

use newswire_core::{Page, ReadRequest};
use newswire_log::{EventLog, ReadError};
use tokio::sync::Semaphore;

use crate::metrics::Counters;

/// Reads pages for replay and history.
///
/// At most `max_readers` reads run at once; the others wait in line, first come first served, and hold
/// nothing but their request meanwhile. One page is one turn: a reader far behind queues again after each.
#[derive(Clone)]
pub(crate) struct LogReader {
    log: Arc<dyn EventLog>,
    turns: Arc<Semaphore>,
    metrics: Counters,
}

impl LogReader {
    pub(crate) fn new(log: Arc<dyn EventLog>, max_readers: usize, metrics: Counters) -> Self {
        Self { log, turns: Arc::new(Semaphore::new(max_readers.max(1))), metrics }
    }

    /// Reads one page.
    ///
    /// Dropping the future gives the place in line back; a read that has begun runs to its end unseen.
    pub(crate) async fn read(&self, request: ReadRequest) -> Result<Page, ReadError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let log = Arc::clone(&self.log);
        let read = tokio::task::spawn_blocking(move || {
            let page = log.read(&request).map(|page| shown(page, &request));
            drop(turn);
            page
        });
        // A read that panicked has told its panic to the log of the process; its caller sees a closed log.
        let page = read.await.unwrap_or(Err(ReadError::Closed))?;
        self.metrics.log_reads.inc();
        self.metrics.log_read_bytes.inc_by(page.scanned_bytes);
        Ok(page)
    }
}

/// The events as whoever asked may see them: everything that is read of the log comes through here.
fn shown(mut page: Page, request: &ReadRequest) -> Page {
    let variant = &request.selector.principal().variant;
    page.runs = page.runs.into_iter().map(|run| run.shown(variant)).collect();
    page
}
