//! What the process says about itself, on standard error.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LoggingConfig};
use crate::server::count_panic;

/// Sends `tracing` events to standard error and panics to `tracing`. Once a process; a second call changes nothing.
///
/// # Errors
/// When the level is no filter, which the configuration has checked before.
pub fn init(config: &LoggingConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Whoever read standard error may have left; that is no reason to panic in the middle of serving.
        .log_internal_errors(false);
    let coloured =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    // An error means that a subscriber is there already, as in tests that start several servers.
    let _ = match config.format {
        LogFormat::Human => builder.with_ansi(coloured).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(report_panic));
    Ok(())
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
        init(&LoggingConfig { level: "off".into(), format: LogFormat::Human }).unwrap();
        std::thread::spawn(|| panic!("a bug")).join().unwrap_err();
        assert_eq!(counted(), before + 1);
        // The other tests of this binary want to be seen panicking.
        drop(std::panic::take_hook());
    }
}
