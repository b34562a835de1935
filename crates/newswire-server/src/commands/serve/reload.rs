//! SIGHUP: reads the configuration again and takes over what can change while the server runs.

use tokio::signal::unix::Signal;

use super::ConfigArgs;
use crate::config::{Change, Config, Reload, Settings};
use crate::logging::Level;
use crate::server::Reloader;

/// Reloads at each signal until the process ends.
pub(super) async fn on_signal(
    mut hangups: Signal,
    args: ConfigArgs,
    mut current: Settings,
    reloader: Reloader,
    level: Level,
) {
    while hangups.recv().await.is_some() {
        let (args, reloader, before) = (args.clone(), reloader.clone(), current.clone());
        let reload = move || {
            let new = args.read_again()?;
            let (config, mixed) = before.reloaded(&new)?;
            reloader.apply(&config)?;
            anyhow::Ok((config, mixed, new))
        };
        // It reads and writes files.
        match tokio::task::spawn_blocking(reload).await {
            Ok(Ok((config, mixed, new))) => {
                take_level(&level, &config);
                tell(&current, &new);
                current = mixed;
            }
            Ok(Err(error)) => {
                tracing::error!("SIGHUP: nothing is reloaded, all keys are as before. {error}");
            }
            // The panic hook has reported it.
            Err(_) => tracing::error!("SIGHUP: the reload broke off; some keys may have their new value"),
        }
    }
}

fn take_level(level: &Level, config: &Config) {
    if let Err(error) = level.set(&config.logging.level) {
        tracing::error!(%error, "SIGHUP: logging.level stays as it was");
    }
}

/// Says what became of each key whose value is another now than what the server runs with.
fn tell(running: &Settings, new: &Settings) {
    let (mut reloaded, mut need_restart) = (0, 0);
    for Change { key, reload, old, new } in running.changes(new) {
        match reload {
            Reload::AtOnce => tracing::info!(key, old, new, "reloaded"),
            Reload::NewConnections => tracing::info!(key, old, new, "reloaded, for new connections"),
            Reload::Restart => tracing::warn!(key, old, new, "not reloaded: this key needs a restart"),
        }
        let count = if reload == Reload::Restart { &mut need_restart } else { &mut reloaded };
        *count += 1;
    }
    tracing::info!(reloaded, need_restart, "SIGHUP: configuration read again; all other keys are as before");
}
