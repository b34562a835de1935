//! Bytes on their way to one socket: one turn's worth, shared with everybody who gets the same.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Slices offered to the kernel in one vectored write.
const MAX_SLICES: usize = 16;

/// What a turn decided to write and the socket has not taken yet.
///
/// Bounded by the turn: it is filled only when empty, with at most one turn's bytes. What the socket took in part
/// stays at the front, so dropping the poll between two writes loses nothing.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    slices: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.bytes += slice.len();
            self.slices.push_back(slice);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Writes once; ready with the bytes the socket took.
    ///
    /// # Errors
    /// Those of the socket, and `WriteZero` for a socket that takes nothing.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(first) = self.slices.front() else { return Poll::Ready(Ok(0)) };
        let taken = if self.slices.len() == 1 || !socket.is_write_vectored() {
            ready!(Pin::new(socket).poll_write(cx, first))?
        } else {
            let mut vector = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.slices.len().min(MAX_SLICES);
            for (entry, slice) in vector.iter_mut().zip(&self.slices) {
                *entry = IoSlice::new(slice);
            }
            ready!(Pin::new(socket).poll_write_vectored(cx, &vector[..count]))?
        };
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(taken);
        Poll::Ready(Ok(taken))
    }

    fn advance(&mut self, mut taken: usize) {
        self.bytes -= taken;
        while let Some(front) = self.slices.front_mut() {
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            taken -= front.len();
            self.slices.pop_front();
        }
        // Thousands of idle connections must not keep the room of their busiest moment.
        if self.slices.capacity() > MAX_SLICES {
            self.slices.shrink_to(MAX_SLICES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_socket_that_takes_little() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut outgoing = Outgoing::default();
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let slice = vec![n; usize::from(n % 5)];
            expected.extend_from_slice(&slice);
            outgoing.push(slice.into());
        }
        let total = expected.len();
        let reader = tokio::spawn(async move {
            let mut got = vec![0; total];
            far.read_exact(&mut got).await.map(|_| got)
        });
        let mut written = 0;
        while !outgoing.is_empty() {
            written += poll_fn(|cx| outgoing.poll_write(&mut near, cx)).await.unwrap();
        }
        assert_eq!(written, total);
        assert_eq!(reader.await.unwrap().unwrap(), expected);
    }
}
