//! The streams that a connection may stand on, and the one that may be written to beside it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use newswire_core::{DirectSink, MAX_SLICES};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A byte stream in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Where others may write while the connection has everything. None where bytes are not sent as they are written, or
    /// cannot be without the task.
    fn sink(&self) -> Option<Arc<dyn DirectSink>> {
        None
    }

    /// Has the end of the stream, which comes next, take along what the system was given and has not sent yet. Where that
    /// cannot be done, nothing happens.
    fn abort(&self) {}
}

/// Whatever else HTTP stood on.
impl Transport for TokioIo<Upgraded> {}

/// A plain TCP stream whose writing end is shared. Only one of those who share it may write at a time; the outbox of the
/// connection sees to that.
pub(crate) struct Tcp {
    read: OwnedReadHalf,
    write: Arc<Socket>,
}

/// The writing end.
#[derive(Debug)]
struct Socket(OwnedWriteHalf);

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: Arc::new(Socket(write)) }
    }

    /// Tries to write until the socket takes something or is found to take nothing, which clears its readiness.
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.read.as_ref().poll_write_ready(cx))?;
            match write(&self.write.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Transport for Tcp {
    fn sink(&self) -> Option<Arc<dyn DirectSink>> {
        Some(Arc::clone(&self.write) as Arc<dyn DirectSink>)
    }

    fn abort(&self) {
        // Where it fails the system sends what it has, which is all it can do then.
        let _ = self.read.as_ref().set_zero_linger();
    }
}

impl DirectSink for Socket {
    /// Does not count against the budget of the task that calls it: who writes to many must let others run in between.
    fn try_write(&self, slices: &[&[u8]]) -> usize {
        let written = match slices {
            [slice] => self.0.try_write(slice),
            slices => {
                let mut vector = [IoSlice::new(&[]); MAX_SLICES];
                let count = slices.len().min(MAX_SLICES);
                for (entry, slice) in vector.iter_mut().zip(slices) {
                    *entry = IoSlice::new(slice);
                }
                self.0.try_write_vectored(&vector[..count])
            }
        };
        // Blocked or broken: the task tries again and finds out.
        written.unwrap_or(0)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A connection that says goodbye has left the hub, which gave up its share; if somebody held one after all, the peer
    /// would learn of the end when the stream is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Arc::get_mut(&mut self.get_mut().write) {
            Some(socket) => Pin::new(&mut socket.0).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
