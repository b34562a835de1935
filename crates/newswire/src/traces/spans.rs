//! The spans themselves, made with the tracer that the application gave.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use newswire_core::{Batch, Published};
use newswire_log::{NewEvents, OnStored};
use newswire_protocol::codes::Refusal;
use newswire_protocol::event::Draft;
use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;

use super::Origin;

/// Sampled publishes that are stored and not dispatched yet. Beyond, the oldest is forgotten: its trace has no fan-out.
const MAX_STORED: usize = 1_024;

/// Trace contexts that one span is linked to; SDKs have such a limit themselves.
const MAX_LINKS: usize = 128;

/// The tracer, if there is one, and what waits for its fan-out.
#[derive(Default)]
pub(crate) struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    tracer: BoxedTracer,
    stored: Mutex<VecDeque<(u64, SpanContext)>>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

impl Traces {
    pub(crate) fn with(tracer: BoxedTracer) -> Self {
        Self(Some(Arc::new(Tracing { tracer, stored: Mutex::default() })))
    }

    /// Begins a publish. Its span is made when the first append needs it: only then is it known whose trace it belongs to.
    pub(crate) fn publish(&self, origin: Origin<'_>) -> Publish {
        Publish(self.0.as_ref().map(|tracing| {
            let (kind, parent) = match origin {
                Origin::Process => (SpanKind::Internal, Context::current()),
                Origin::Request(given) => {
                    let parent = given.and_then(parse).map_or_else(Context::new, remote);
                    (SpanKind::Server, parent)
                }
            };
            let tracing = Arc::clone(tracing);
            let state =
                Begun { begun: SystemTime::now(), kind, parent, links: Vec::new(), span: None, tracing };
            Box::new(state)
        }))
    }

    /// Begins the fan-out of a batch, where a sampled publish is part of it.
    pub(crate) fn dispatch(&self, batch: &Batch) -> Dispatch {
        Dispatch(self.0.as_ref().and_then(|tracing| tracing.dispatch(batch)).map(Arc::new))
    }
}

impl Tracing {
    fn start(&self, builder: SpanBuilder, parent: &Context) -> BoxedSpan {
        self.tracer.build_with_context(builder, parent)
    }

    fn dispatch(&self, batch: &Batch) -> Option<FanOut> {
        let publishes: Vec<SpanContext> = {
            let mut stored = self.stored.lock();
            // One writer stores them in their order.
            let here = stored.partition_point(|(offset, _)| *offset <= batch.last());
            stored.drain(..here).map(|(_, context)| context).collect()
        };
        let (first, others) = publishes.split_first()?;
        let builder = SpanBuilder::from_name("fan-out")
            .with_kind(SpanKind::Internal)
            .with_links(links(others))
            .with_attributes([
                count("newswire.events", batch.len() as u64),
                count("newswire.publishes", publishes.len() as u64),
                count("newswire.first_offset", batch.first()),
                count("newswire.last_offset", batch.last()),
            ]);
        let span = self.start(builder, &remote(first.clone()));
        Some(FanOut { span, connections: 0.into(), writes: 0.into(), bytes: 0.into() })
    }
}

/// One publish: everything that one call or request stores.
#[derive(Debug)]
pub(crate) struct Publish(Option<Box<Begun>>);

struct Begun {
    tracing: Arc<Tracing>,
    begun: SystemTime,
    kind: SpanKind,
    parent: Context,
    /// The events' own trace contexts, beside the parent.
    links: Vec<SpanContext>,
    /// In a context, so that others can be its children.
    span: Option<Context>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Publish {
    /// An event of this publish, before it is stored: where nothing else says whose trace this is, the first event does.
    pub(crate) fn saw(&mut self, draft: &Draft) {
        let Some(begun) = &mut self.0 else { return };
        let Some(context) = draft.traceparent.as_deref().and_then(parse) else { return };
        if !begun.parent.has_active_span() {
            begun.parent = remote(context);
        } else if begun.parent.span().span_context().span_id() != context.span_id()
            && begun.links.len() < MAX_LINKS
            && !begun.links.contains(&context)
        {
            begun.links.push(context);
        }
    }

    /// Begins an append. What it stores is known to the fan-out as this publish's.
    pub(crate) fn commit(&mut self, mut events: NewEvents) -> (NewEvents, Commit) {
        let Some(begun) = &mut self.0 else { return (events, Commit(None)) };
        let publish = begun.span().clone();
        let context = publish.span().span_context().clone();
        let builder = SpanBuilder::from_name("commit").with_kind(SpanKind::Internal).with_attributes([
            count("newswire.events", events.len() as u64),
            count("newswire.bytes", events.bytes() as u64),
        ]);
        let span = begun.tracing.start(builder, &publish);
        if context.is_sampled() {
            events.on_stored(Arc::new(Mark { tracing: Arc::clone(&begun.tracing), context }));
        }
        (events, Commit(Some(span)))
    }

    /// Everything is answered.
    pub(crate) fn end(mut self, results: &[Result<Published, Refusal>]) {
        let Some(begun) = &mut self.0 else { return };
        let context = begun.span().clone();
        let span = context.span();
        let refused = results.iter().filter(|result| result.is_err()).count();
        span.set_attribute(count("newswire.events", results.len() as u64));
        span.set_attribute(count("newswire.refused", refused as u64));
        match results.iter().find_map(|result| result.as_ref().err()) {
            Some(refusal) if refused == results.len() => span.set_status(Status::error(refusal.code.code())),
            _ => {}
        }
        if let Some(offset) = results.iter().find_map(|result| Some(result.as_ref().ok()?.offset)) {
            span.set_attribute(count("newswire.first_offset", offset));
        }
        span.end();
    }
}

impl Begun {
    fn span(&mut self) -> &Context {
        let Self { tracing, begun, kind, parent, links: linked, span } = self;
        span.get_or_insert_with(|| {
            let builder = SpanBuilder::from_name("publish")
                .with_kind(kind.clone())
                .with_start_time(*begun)
                .with_links(links(linked));
            Context::new().with_span(tracing.start(builder, parent))
        })
    }
}

/// One append; ends when it is dropped.
pub(crate) struct Commit(Option<BoxedSpan>);

impl Commit {
    /// It stored nothing.
    pub(crate) fn failed(&mut self, error: &dyn Error) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(Cow::Owned(error.to_string())));
        }
    }
}

/// Tells the fan-out which publish an offset comes from.
struct Mark {
    tracing: Arc<Tracing>,
    context: SpanContext,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mark").field(&self.context).finish()
    }
}

impl OnStored for Mark {
    fn stored(&self, first: u64) {
        let mut stored = self.tracing.stored.lock();
        if stored.len() == MAX_STORED {
            stored.pop_front();
        }
        stored.push_back((first, self.context.clone()));
    }
}

/// The dispatch of one batch by every hub; ends with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch(Option<Arc<FanOut>>);

#[derive(Debug)]
struct FanOut {
    span: BoxedSpan,
    connections: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

impl Dispatch {
    /// What one hub did: the connections that the batch concerned, and what was written to them at once.
    pub(crate) fn sent(&self, connections: usize, writes: u64, bytes: u64) {
        if let Some(fan_out) = &self.0 {
            fan_out.connections.fetch_add(connections as u64, Ordering::Relaxed);
            fan_out.writes.fetch_add(writes, Ordering::Relaxed);
            fan_out.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        let Self { span, connections, writes, bytes } = self;
        span.set_attribute(count("newswire.connections", *connections.get_mut()));
        span.set_attribute(count("newswire.direct_writes", *writes.get_mut()));
        span.set_attribute(count("newswire.direct_bytes", *bytes.get_mut()));
        span.end();
    }
}

fn count(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

fn links(contexts: &[SpanContext]) -> Vec<Link> {
    contexts.iter().take(MAX_LINKS).map(|context| Link::new(context.clone(), Vec::new(), 0)).collect()
}

fn remote(context: SpanContext) -> Context {
    Context::new().with_remote_span_context(context)
}

/// A W3C `traceparent`; what is none counts as absent.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_taken_if_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(!parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").unwrap().is_sampled());
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
