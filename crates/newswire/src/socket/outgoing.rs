//! Bytes on their way to one socket: one turn's worth, shared with everybody who gets the same.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use newswire_core::MAX_SLICES;
use tokio::io::AsyncWrite;

/// What a turn decided to write and the socket has not taken yet.
///
/// Bounded by the turn: it is filled only when empty, with at most one turn's bytes. What the socket took in part
/// stays in it, so dropping the poll between two writes loses nothing. Empty, it holds nothing on the heap: idle
/// connections are many, and a small allocation is nothing beside a write.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    slices: Vec<Bytes>,
    /// How many of them are written.
    done: usize,
    /// Part of the next one has been written, so that its rest is the middle of a frame.
    begun: bool,
}

impl Outgoing {
    pub(crate) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.slices.push(slice);
        }
    }

    /// The rest of a frame that was begun by somebody else, in front of everything.
    pub(crate) fn push_rest(&mut self, rest: Bytes) {
        debug_assert!(self.is_empty(), "a frame is begun only where nothing waits");
        self.begun = !rest.is_empty();
        self.push(rest);
    }

    /// Where the next turn puts its slices, none of them empty. Only when all is written.
    pub(crate) fn room(&mut self) -> &mut Vec<Bytes> {
        debug_assert!(self.is_empty(), "what is not written would be lost");
        &mut self.slices
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Lets go of everything that is not written. False where that begins in the middle of a frame.
    pub(crate) fn forget(&mut self) -> bool {
        !std::mem::take(self).begun
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
        let taken = match &self.slices[self.done..] {
            [] => return Poll::Ready(Ok(0)),
            [first, rest @ ..] if rest.is_empty() || !socket.is_write_vectored() => {
                ready!(Pin::new(socket).poll_write(cx, first))?
            }
            slices => {
                let mut vector = [IoSlice::new(&[]); MAX_SLICES];
                let count = slices.len().min(MAX_SLICES);
                for (entry, slice) in vector.iter_mut().zip(slices) {
                    *entry = IoSlice::new(slice);
                }
                ready!(Pin::new(socket).poll_write_vectored(cx, &vector[..count]))?
            }
        };
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(taken);
        Poll::Ready(Ok(taken))
    }

    fn advance(&mut self, mut taken: usize) {
        while let Some(slice) = self.slices.get_mut(self.done) {
            if taken < slice.len() {
                slice.advance(taken);
                self.begun |= taken > 0;
                return;
            }
            taken -= slice.len();
            // Let go of now: the rest may wait long, and must not keep what was written alive.
            *slice = Bytes::new();
            self.done += 1;
            self.begun = false;
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Takes as many bytes as it is made for.
    struct Takes(usize);

    impl AsyncWrite for Takes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = self.0.min(bytes.len());
            self.0 -= taken;
            if taken > 0 { Poll::Ready(Ok(taken)) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_forgotten_is_whole_unless_its_front_was_begun() {
        for (taken, whole) in [(0, true), (1, false), (4, true), (5, false), (8, true)] {
            let (mut outgoing, mut socket) = (Outgoing::default(), Takes(taken));
            ["abcd", "efgh"].into_iter().for_each(|slice| outgoing.push(slice.into()));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while !outgoing.is_empty() && outgoing.poll_write(&mut socket, &mut cx).is_ready() {}
            assert_eq!(outgoing.forget(), whole, "{taken}");
            assert!(outgoing.is_empty());
        }
        let mut outgoing = Outgoing::default();
        outgoing.push_rest("cd".into());
        outgoing.push("efgh".into());
        assert!(!outgoing.forget());
    }

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
