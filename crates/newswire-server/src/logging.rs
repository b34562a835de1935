//! What the process says about itself, on standard error.

mod audit;
mod events;

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{AuditConfig, LogFormat, LoggingConfig};
use crate::server::count_panic;
pub use audit::AuditWriter;
pub use events::{AuditEvents, Audited};

/// The target of the audit's events.
const AUDIT: &str = "newswire::audit";

/// What is written, which can change while the process runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Writes what this filter lets through, from now on.
    ///
    /// # Errors
    /// When it is no filter, which the configuration has checked before, or when another subscriber was there first.
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

/// Everything but the audit, which has a way of its own, whatever the level.
fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::try_new(format!("{level},{AUDIT}=off"))?)
}

/// What is to live as long as the process says something.
#[derive(Debug)]
pub struct Logging {
    /// To change what is written.
    pub level: Level,
    /// Of the audit, where it is wanted: dropped, it writes what waits.
    pub audit: Option<AuditWriter>,
    /// What the audit says, where it is to be published.
    pub events: Option<AuditEvents>,
}

/// Sends `tracing` events to standard error and panics to `tracing`; `audit` says where those of the audit go.
/// Once a process; a second call changes nothing.
///
/// # Errors
/// When the level is no filter, which the configuration has checked before, or the audit's thread cannot be started.
pub fn init(config: &LoggingConfig, audit: &AuditConfig) -> anyhow::Result<Logging> {
    let (filter, level) = reload::Layer::new(filter(&config.level)?);
    let mut layers = vec![written(config.format, io::stderr).with_filter(filter).boxed()];
    let only = || Targets::new().with_target(AUDIT, tracing::Level::INFO);
    let (mut writer, mut events) = (None, None);
    if audit.log {
        let tell = |lines| tracing::warn!(target: AUDIT, act = "lines lost", lines);
        let (lines, audit) = audit::start(io::stderr(), tell)?;
        layers.push(written(config.format, lines).with_filter(only()).boxed());
        writer = Some(audit);
    }
    if audit.channel.is_some() {
        let (take_down, taken) = events::queue();
        layers.push(take_down.with_filter(only()).boxed());
        events = Some(taken);
    }
    // An error means that a subscriber is there already, as in tests that start several servers.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    std::panic::set_hook(Box::new(report_panic));
    Ok(Logging { level: Level(level), audit: writer, events })
}

/// Events as the configuration wants to see them.
fn written<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // Whoever read standard error may have left; that is no reason to panic in the middle of serving.
        .log_internal_errors(false);
    let coloured =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    match format {
        LogFormat::Human => layer.with_ansi(coloured).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// A panic ends one task, not the server: it has to be seen all the same.
fn report_panic(panic: &PanicHookInfo<'_>) {
    count_panic();
    let payload = panic.payload();
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("a value that is no text");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(thread, location, %backtrace, "panic: {message}");
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_panic_is_counted() {
        let mut registry = Registry::default();
        crate::server::register_process(&mut registry);
        let counted = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text.lines()
                .find_map(|line| line.strip_prefix("newswire_panics_total ")?.parse::<u64>().ok())
                .unwrap()
        };
        let before = counted();
        init(
            &LoggingConfig { level: "off".into(), format: LogFormat::Human },
            &AuditConfig { log: false, channel: None },
        )
        .unwrap();
        std::thread::spawn(|| panic!("a bug")).join().unwrap_err();
        assert_eq!(counted(), before + 1);
        // The other tests of this binary want to be seen panicking.
        drop(std::panic::take_hook());
    }
}
