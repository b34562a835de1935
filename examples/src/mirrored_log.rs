//! A log of one's own: any other log, with a copy of every event in a plain text file that `grep` and `jq` can read.
//!
//! A wrapper is the shortest way to a log of one's own: it keeps the promises of [`EventLog`] by handing everything on, and
//! adds what it is for. The test beside it runs the suite that every log must pass.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use newswire::core::{Batch, LogView, Lost, Page, ReadRequest, Selector};
use newswire::log::{
    AppendError, Appended, ChannelStats, CommitReceiver, EventLog, LogHealth, LogStats, NewEvents, ReadError,
    RetentionOptions, Trim, TrimError,
};
use newswire::{Epoch, UnixMicros};
use parking_lot::Mutex;

/// A log whose events are also written to a file, one JSON object a line, in order.
///
/// The copy is behind the log by what one commit takes to be written, and complete once the log is closed. A copy that cannot
/// be written ends, and says so in [`MirroredLog::failure`]; the log goes on.
pub struct MirroredLog<L> {
    inner: L,
    /// Present while the copy is made; it ends when the log closes.
    copying: Mutex<Option<JoinHandle<()>>>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl<L: EventLog> MirroredLog<L> {
    /// Copies what is appended to `inner` from now on to the end of `file`, which is made if it is not there.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the system gives no thread.
    pub fn new(inner: L, file: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(file)?;
        let failed: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let copying = std::thread::Builder::new().name("mirror".to_owned()).spawn({
            let (commits, failed) = (inner.follow(), Arc::clone(&failed));
            move || *failed.lock() = copy(commits, file).err()
        })?;
        Ok(Self { inner, copying: Mutex::new(Some(copying)), failed })
    }

    /// Why the copy ended, if it did before the log was closed.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().as_ref().map(ToString::to_string)
    }
}

/// Follows the log to its end. The log waits for a follower that is behind, so the copy is never far behind.
fn copy(mut commits: CommitReceiver, file: File) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    while let Some(batch) = runtime.block_on(commits.recv()) {
        write_lines(&mut file, &batch)?;
    }
    Ok(())
}

fn write_lines(file: &mut impl Write, batch: &Batch) -> io::Result<()> {
    for event in batch.iter() {
        file.write_all(event.json)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

impl<L: EventLog> EventLog for MirroredLog<L> {
    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn is_copy(&self) -> bool {
        self.inner.is_copy()
    }

    fn settle(&self, epoch: Option<Epoch>, offset: u64) -> BoxFuture<'static, bool> {
        self.inner.settle(epoch, offset)
    }

    fn max_append_events(&self) -> usize {
        self.inner.max_append_events()
    }

    fn append(&self, events: NewEvents) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        self.inner.append(events)
    }

    fn read(&self, request: &ReadRequest) -> Result<Page, ReadError> {
        self.inner.read(request)
    }

    fn follow(&self) -> CommitReceiver {
        self.inner.follow()
    }

    fn trim(&self, trim: &Trim) -> Result<u64, TrimError> {
        self.inner.trim(trim)
    }

    fn retain(&self) -> Result<u64, TrimError> {
        self.inner.retain()
    }

    fn set_retention(&self, retention: RetentionOptions) -> bool {
        self.inner.set_retention(retention)
    }

    fn stats(&self) -> LogStats {
        self.inner.stats()
    }

    fn channel_stats(&self) -> Vec<ChannelStats> {
        self.inner.channel_stats()
    }

    fn health(&self) -> LogHealth {
        self.inner.health()
    }

    fn close(&self) {
        self.inner.close();
        if let Some(copying) = self.copying.lock().take() {
            // A panic there was reported by the panic hook already.
            let _ = copying.join();
        }
    }
}

impl<L: EventLog> LogView for MirroredLog<L> {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn head(&self) -> u64 {
        self.inner.head()
    }

    fn tail(&self) -> u64 {
        self.inner.tail()
    }

    fn channels(&self) -> Vec<Arc<str>> {
        self.inner.channels()
    }

    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost> {
        self.inner.lost(selector, after)
    }

    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost> {
        self.inner.lost_since(selector, since)
    }
}
