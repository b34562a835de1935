//! A request body that does not wait for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep, sleep};

/// Fails a body whose sender pauses too long: it would hold its connection, and what was received so far, for ever.
pub(super) struct PatientBody {
    inner: Incoming,
    patience: Duration,
    /// Counts those that were given up.
    given_up: Counter,
    /// Made at the first wait: most bodies are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Nothing came for as long as we wait.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the body did not come within {} s", .0.as_secs())]
pub(super) struct BodyStalled(Duration);

impl PatientBody {
    pub(super) fn new(inner: Incoming, patience: Duration, given_up: Counter) -> Self {
        Self { inner, patience, given_up, deadline: None }
    }
}

impl HttpBody for PatientBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            if let Some(deadline) = &mut this.deadline {
                deadline.as_mut().reset(Instant::now() + this.patience);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        ready!(deadline.as_mut().poll(context));
        this.given_up.inc();
        Poll::Ready(Some(Err(BodyStalled(this.patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
