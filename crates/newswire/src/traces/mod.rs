//! Spans of OpenTelemetry: what a publish took, and what it caused.
//!
//! ```text
//! publish                        from the first event read to the answer; its parent is the request's trace context, or the
//! ├─ commit                      event's own. One an append: in line, written, synced
//! └─ fan-out ─ ─ ─▶ publish …    one a dispatched batch, below its first publish and linked to the others
//! ```
//!
//! A span for each delivery would be a span for each subscriber of each event, so there is none: a fan-out span has counts.
//!
//! Without the feature `opentelemetry` everything here is empty types; with it and without a tracer, one comparison a publish.

#[cfg(not(feature = "opentelemetry"))]
mod none;
#[cfg(feature = "opentelemetry")]
mod spans;

#[cfg(not(feature = "opentelemetry"))]
pub(crate) use none::{Dispatch, Publish, Traces};
#[cfg(feature = "opentelemetry")]
pub(crate) use spans::{Dispatch, Publish, Traces};

/// Where a publish comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// The application around us, in the span that is its current one.
    Process,
    /// A request, with the `traceparent` that it came with.
    Request(
        #[cfg_attr(not(feature = "opentelemetry"), expect(dead_code, reason = "only spans have parents"))]
        Option<&'a str>,
    ),
}
