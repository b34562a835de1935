//! Signals that ask the process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Installs the handlers, then cancels `stop` at the first SIGTERM or SIGINT and ends the process at the second.
///
/// The task ends with the process, whose exit is its only purpose; nobody waits for it.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch(stop: CancellationToken) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await.0;
        tracing::info!(signal = name, "stopping; a second signal ends the process at once");
        stop.cancel();
        let (name, number) = either(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "second signal: leaving without waiting for clients");
        std::process::exit(128 + number);
    });
    Ok(())
}

/// A stream of SIGHUPs. Those that arrive while one is being answered count as one.
///
/// # Errors
/// When the handler cannot be installed.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
    }
}
