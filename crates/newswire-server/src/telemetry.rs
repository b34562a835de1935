//! OpenTelemetry: spans of publishes and fan-out, sent to a collector by OTLP over HTTP.
//!
//! A span that ends is put into a bounded queue or dropped and counted, by whoever ended it and without waiting. One task
//! takes them out in batches and sends them; what a collector does not take is dropped and counted as well.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::TelemetryConfig;

/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanMetrics {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

impl SpanMetrics {
    /// Registers the counts under `newswire_spans_`.
    pub(crate) fn register(root: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = root.sub_registry_with_prefix("newswire_spans");
        registry.register("exported", "Spans that the collector took", metrics.exported.clone());
        registry.register(
            "dropped",
            "Spans dropped because telemetry.queue was full",
            metrics.dropped.clone(),
        );
        registry.register("failed", "Spans that the collector did not take", metrics.failed.clone());
        metrics
    }
}

/// The tracer, and the task that sends what it made.
#[derive(Debug)]
pub(crate) struct Telemetry {
    tracer: SdkTracer,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Telemetry {
    /// Starts sending, where the configuration says where to.
    ///
    /// # Errors
    /// When the exporter cannot be made; a collector that is not there is no error.
    pub(crate) fn start(config: &TelemetryConfig, metrics: SpanMetrics) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        // Collectors are spoken to in http alone: the system's authorities are not looked for, and need not be there.
        let http = reqwest::Client::builder().tls_certs_only([]).build()?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()
            .context("cannot send spans to telemetry.endpoint")?;
        let resource = Resource::builder().with_service_name(config.service_name.clone()).build();
        exporter.set_resource(&resource);
        let (spans_tx, spans) = mpsc::channel(config.queue);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sampling))))
            .with_resource(resource)
            .with_span_processor(Queue { spans_tx, metrics: metrics.clone() })
            .build();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Sending { exporter, spans, metrics, failing: false }.run(stop.clone()));
        Ok(Some(Self { tracer: provider.tracer("newswire"), stop, task }))
    }

    /// What makes the spans.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }

    /// Sends what is there, for at most so long.
    pub(crate) async fn finish(mut self, within: Duration) {
        self.stop.cancel();
        if timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// The queue's near end: what spans are given to as they end.
#[derive(Debug)]
struct Queue {
    spans_tx: Sender<SpanData>,
    metrics: SpanMetrics,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        match self.spans_tx.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.metrics.dropped.inc();
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The queue's far end.
struct Sending {
    exporter: SpanExporter,
    spans: Receiver<SpanData>,
    metrics: SpanMetrics,
    failing: bool,
}

impl Sending {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(batch) = self.batch(&stop).await {
            let count = batch.len() as u64;
            let result = self.exporter.export(batch).await;
            match &result {
                Ok(()) => self.metrics.exported.inc_by(count),
                Err(_) => self.metrics.failed.inc_by(count),
            };
            self.tell(result);
        }
    }

    /// The next spans to be sent together; `None` once it is over and nothing is left.
    async fn batch(&mut self, stop: &CancellationToken) -> Option<Vec<SpanData>> {
        let first = tokio::select! {
            span = self.spans.recv() => span?,
            () = stop.cancelled() => {
                self.spans.close();
                self.spans.recv().await?
            }
        };
        let mut batch = vec![first];
        let until = Instant::now() + LINGER;
        while batch.len() < BATCH {
            let next = tokio::select! {
                next = timeout_at(until, self.spans.recv()) => next,
                () = stop.cancelled(), if !self.spans.is_closed() => {
                    self.spans.close();
                    continue;
                }
            };
            let Ok(Some(span)) = next else { break };
            batch.push(span);
        }
        Some(batch)
    }

    /// Says when sending begins to fail and when it works again, not each time.
    fn tell(&mut self, result: OTelSdkResult) {
        match result {
            Err(error) if !self.failing => {
                tracing::warn!(%error, "spans cannot be sent to telemetry.endpoint; they are dropped and counted");
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!("spans are sent to telemetry.endpoint again");
                self.failing = false;
            }
            _ => {}
        }
    }
}
