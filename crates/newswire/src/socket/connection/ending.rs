//! How a connection ends: with a close frame behind what waits, before it, or in the middle of a frame.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use newswire_core::Now;
use newswire_protocol::codes::CloseCode;
use tokio::time::Instant;

use super::super::closing::{CLOSE_PATIENCE, close_frame, poll_farewell};
use super::super::transport::Transport;
use super::Connection;
use crate::metrics::Reason;

/// How far it is.
pub(super) enum Phase {
    Open,
    /// No more commands, but what was asked before is answered; then comes this close frame.
    Leaving {
        frame: Vec<u8>,
        ending: Ending,
        answered: bool,
    },
    /// The close frame stands behind what waits to be written.
    Closing {
        until: Instant,
        shut: bool,
        ending: Ending,
    },
    /// It ends in the middle of a frame, of which nothing more may be written.
    Cut(Ending),
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The peer went away.
    PeerLeft,
    /// The peer closed.
    PeerClosed,
    /// The server closed, with this code.
    Closed(CloseCode),
    /// The transport failed.
    Failed(io::ErrorKind),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerLeft => f.write_str("the peer went away"),
            Self::PeerClosed => f.write_str("the peer closed it"),
            Self::Closed(code) => write!(f, "closed with {}", *code as u16),
            Self::Failed(kind) => write!(f, "{kind}"),
        }
    }
}

impl<S: Transport> Connection<S> {
    pub(super) fn poll_closing(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<Ending> {
        let Phase::Closing { until, shut, ending } = &mut self.phase else { return Poll::Pending };
        if poll_farewell(&mut self.stream, &mut self.outgoing, shut, cx).is_ready() {
            return Poll::Ready(ending.clone());
        }
        // While bytes wait, the end of the credential is one to be awake at, too.
        let left = self.session.over_at(now).saturating_sub(now.mono);
        let over = if self.outgoing.is_empty() { None } else { Instant::now().checked_add(left) };
        let rings_at = over.map_or(*until, |over| over.min(*until));
        let ending = ending.clone();
        if self.timer.deadline() != rings_at {
            self.timer.as_mut().reset(rings_at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if *until <= Instant::now() {
            return Poll::Ready(ending);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The server closes once what was asked before is answered.
    pub(super) fn leave(&mut self, code: CloseCode, reason: &str) {
        self.count_close(code);
        let frame = close_frame(code, reason);
        self.phase = Phase::Leaving { frame, ending: Ending::Closed(code), answered: false };
    }

    /// The server closes, with a close frame behind what waits to be written.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        self.count_close(code);
        self.begin_close(close_frame(code, reason), Ending::Closed(code));
    }

    pub(super) fn begin_close(&mut self, frame: Vec<u8>, ending: Ending) {
        self.session.close(&self.shard.hub);
        self.outgoing.push(frame.into());
        self.phase = Phase::Closing { until: Instant::now() + CLOSE_PATIENCE, shut: false, ending };
    }

    /// The server closes at once: what waits is let go of, so that nothing more is written but the close frame, and not even
    /// that where a frame was begun, whose rest would have to come before it. One that is closing already is cut.
    pub(super) fn cut_off(&mut self, code: CloseCode, reason: &'static str) {
        let ending = Ending::Closed(code);
        let is_closing = matches!(self.phase, Phase::Closing { .. });
        if !is_closing {
            self.count_close(code);
        }
        self.doing = None;
        if self.outgoing.forget() && !is_closing {
            self.begin_close(close_frame(code, reason), ending);
        } else {
            self.session.close(&self.shard.hub);
            self.stream.abort();
            self.phase = Phase::Cut(ending);
        }
    }

    pub(super) fn count_close(&self, code: CloseCode) {
        let metrics = &self.feed.inner.metrics;
        metrics.closes.get_or_create(&Reason::new((code as u16).to_string())).inc();
        if code == CloseCode::NoHeartbeat {
            metrics.heartbeat_closes.inc();
        }
    }
}
