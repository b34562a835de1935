//! The end of a connection: say why, give the peer a moment to read it, then let go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use newswire_protocol::codes::CloseCode;
use newswire_protocol::frame::{Opcode, encode_close, encode_control};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::outgoing::Outgoing;
use crate::Feed;

/// How long the peer may take to read the close frame and to answer it.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Bounds of the pause that clients are asked to make before they come back, in milliseconds.
const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;

/// A close frame with a code and a reason.
pub(super) fn close_frame(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_close(&mut frame, code as u16, reason);
    frame
}

/// The answer to the peer's own close: its code back, or nothing where it gave none.
pub(super) fn echoed_close(received: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::new();
    match received {
        Some(code) => encode_close(&mut frame, code, ""),
        None => encode_control(&mut frame, Opcode::Close, &[]),
    }
    frame
}

/// `retry_after_ms=N`
pub(super) fn retry_reason(clients: usize) -> String {
    format!("retry_after_ms={}", retry_after_ms(clients))
}

/// When one of `clients` is to come back: spread, so that they do not in the same moment (about 500 a second).
pub(crate) fn retry_after_ms(clients: usize) -> u64 {
    let spread = (clients as u64 * 2).clamp(*RETRY_MS.start(), *RETRY_MS.end());
    100 + fastrand::u64(..spread)
}

/// Writes what is left, half-closes, and reads on until the peer is gone. Ready when there is nothing more to do.
///
/// Without the reading, unread input would make the kernel reset the connection and the peer lose the close frame.
pub(super) fn poll_farewell<S>(
    stream: &mut S,
    outgoing: &mut Outgoing,
    shut: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while !outgoing.is_empty() {
        ready!(outgoing.poll_write(stream, cx))?;
    }
    if !*shut {
        ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        *shut = true;
    }
    let mut scratch = [0; 1024];
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Tells a peer for whom there is no room to come back later.
pub(super) async fn turn_away<S>(feed: &Feed, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stopping = feed.is_stopping();
    let code = if stopping { CloseCode::ShuttingDown } else { CloseCode::TooMany };
    let frame = close_frame(code, &retry_reason(feed.inner.connections.open()));
    let farewell = async {
        stream.write_all(&frame).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the peer heard it or not, there is nothing else to do for it.
    let _ = timeout(CLOSE_PATIENCE, farewell).await;
}
