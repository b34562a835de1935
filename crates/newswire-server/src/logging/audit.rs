//! Lines of the audit on their way to standard error: they wait in a queue of their own, for a thread that writes.
//!
//! Whoever is audited waits for nobody: not for a terminal that is held, and not for a pipe that nobody reads. Beyond the bounds
//! lines are lost, and once there is room the audit says how many. Written here and not taken from `tracing-appender`, whose queue
//! is bounded in lines alone.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE: usize = 8_192;
/// Bytes of these lines.
const QUEUE_BYTES: usize = 4 << 20;
/// How long the end of the process waits for those that are still to be written.
const PATIENCE: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    /// Everything before this is to be written, and then the writer ends.
    End,
}

/// Where lines are put. Cloning gives the same queue.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    messages: SyncSender<Message>,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Has the lines written that wait, when it is dropped, for a moment at most.
#[derive(Debug)]
pub struct AuditWriter {
    lines: Lines,
    ended: Receiver<()>,
}

/// A queue, and the thread that writes what comes to `out`. `tell` is called, by that thread, with the number of lines that were lost.
pub(super) fn start(
    out: impl Write + Send + 'static,
    tell: impl Fn(u64) + Send + 'static,
) -> io::Result<(Lines, AuditWriter)> {
    let (messages, waiting) = sync_channel(QUEUE);
    let (ended_tx, ended) = sync_channel(1);
    let lines = Lines(Arc::new(Queue { messages, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) }));
    let queue = Arc::clone(&lines.0);
    thread::Builder::new().name("audit".to_owned()).spawn(move || {
        write_all(out, &waiting, &queue, &tell);
        let _ = ended_tx.send(());
    })?;
    Ok((lines.clone(), AuditWriter { lines, ended }))
}

fn write_all(mut out: impl Write, waiting: &Receiver<Message>, queue: &Queue, tell: &impl Fn(u64)) {
    while let Ok(Message::Line(line)) = waiting.recv() {
        // Whoever read it may have left; that is no reason to stop serving.
        let _ = out.write_all(&line);
        queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tell(lost);
        }
    }
    let _ = out.flush();
}

impl Lines {
    fn put(&self, line: &[u8]) {
        let queue = &*self.0;
        let before = queue.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = before + line.len() <= QUEUE_BYTES;
        if !has_room || queue.messages.try_send(Message::Line(line.to_vec())).is_err() {
            queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes one event: the layer that formats events hands each over whole.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for AuditWriter {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.lines.0.messages.try_send(Message::End).is_err() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let left = until.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(left) {
            tracing::warn!("the last lines of the audit are not written: nobody takes them");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Hands on what is written, and writes only as often as it is let.
    struct Held {
        written: std::sync::mpsc::Sender<Vec<u8>>,
        let_go: Receiver<()>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.let_go.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_lost_is_told() {
        let ((written, read), (go, let_go), (lost, told)) = (channel(), channel(), channel());
        let (mut lines, writer) = start(Held { written, let_go }, move |n| lost.send(n).unwrap()).unwrap();
        let line = vec![b'x'; QUEUE_BYTES / 4];
        // All that fits, and three more; none of these writes waits, though nobody reads.
        for _ in 0..7 {
            lines.write_all(&line).unwrap();
        }
        drop(go);
        drop(writer);
        assert_eq!(read.iter().count(), 4, "written as far as they had room");
        assert_eq!(told.iter().sum::<u64>(), 3);
    }

    #[test]
    fn what_waits_at_the_end_is_written_in_order() {
        let ((written, read), (go, let_go)) = (channel(), channel::<()>());
        drop(go);
        let (mut lines, writer) = start(Held { written, let_go }, |_| ()).unwrap();
        for n in 0..100 {
            lines.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(writer);
        let lines: Vec<String> = read.try_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, (0..100).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    }
}
