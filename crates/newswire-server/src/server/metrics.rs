//! What the server counts beside the feed: its front door, its process, its build.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};

use super::request::Code;

/// Counts at the front door.
#[derive(Clone, Debug, Default)]
pub struct DoorMetrics {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) limited: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) bodies_timed_out: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) problems: Family<Code, Counter>,
    open: Gauge,
}

/// Counts one open connection as long as it lives.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl DoorMetrics {
    /// Registers the counts under `newswire_http_`.
    pub fn register(root: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = root.sub_registry_with_prefix("newswire_http");
        registry.register("connections", "HTTP connections open now", metrics.open.clone());
        registry.register("connections_accepted", "TCP connections accepted", metrics.accepted.clone());
        registry.register(
            "connections_refused",
            "Connections refused over the limit",
            metrics.refused.clone(),
        );
        registry.register(
            "requests_limited",
            "Requests refused over limits.requests_per_second",
            metrics.limited.clone(),
        );
        registry.register(
            "connections_timed_out",
            "Connections ended because a TLS handshake, or the headers of a request, did not come in time",
            metrics.timed_out.clone(),
        );
        registry.register(
            "bodies_timed_out",
            "Requests given up because the rest of their body did not come in time",
            metrics.bodies_timed_out.clone(),
        );
        registry.register(
            "problems",
            "Requests answered with a problem, by its code",
            metrics.problems.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed",
            metrics.handshakes_failed.clone(),
        );
        registry.register(
            "accept_errors",
            "Failures to accept any connection",
            metrics.accept_errors.clone(),
        );
        metrics
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        usize::try_from(self.open.get()).unwrap_or(0)
    }

    pub(crate) fn count_open(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts a panic of any thread; called by the panic hook.
pub(crate) fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// Registers what the process is and uses, read at each scrape.
pub(crate) fn register_process(registry: &mut Registry) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("newswire_build", "What is running", build);
    registry.register_collector(Box::new(Process { started: Instant::now(), started_at: SystemTime::now() }));
}

#[derive(Debug)]
struct Process {
    started: Instant,
    started_at: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let panics = ConstCounter::new(PANICS.load(Ordering::Relaxed));
        let descriptor = encoder.encode_descriptor(
            "newswire_panics",
            "Tasks that died of a bug",
            None,
            panics.metric_type(),
        )?;
        panics.encode(descriptor)?;
        let started_at = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        gauge(
            "newswire_uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            Some(self.started.elapsed().as_secs_f64()),
        )?;
        gauge("process_start_time", "When the process started", Some(&Unit::Seconds), Some(started_at))?;
        gauge("process_resident_memory", "Memory in use", Some(&Unit::Bytes), resident_bytes())?;
        gauge("process_open_fds", "File descriptors in use", None, open_files())?;
        gauge(
            "process_max_fds",
            "File descriptors allowed",
            None,
            getrlimit(Resource::Nofile).current.map(|files| files as f64),
        )
    }
}

/// Absent where there is no `/proc`.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib * 1024) as f64)
}

fn open_files() -> Option<f64> {
    // Reading the directory takes a descriptor of its own.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}
