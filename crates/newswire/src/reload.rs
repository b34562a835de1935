//! What of a feed's settings can change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use newswire_core::{ChannelPolicy, HeartbeatConfig, SessionConfig};
use newswire_protocol::Limits;
use parking_lot::RwLock;

use crate::feed::Feed;
use crate::rates::{Caller, Rates};
use crate::settings::Settings;

/// The settings that are read anew by each connection or request.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    session: RwLock<Arc<SessionConfig>>,
    /// Beside those of the sessions, because they are read for each frame and each request.
    event_bytes: AtomicUsize,
    command_bytes: AtomicUsize,
    pub(crate) commands: Rates<Caller>,
    pub(crate) publishes: Rates<Caller>,
    auth_timeout: RwLock<Duration>,
}

impl LiveSettings {
    pub(crate) fn new(settings: &Settings, channels: ChannelPolicy) -> Self {
        let Limits { event_bytes, command_bytes } = settings.limits;
        Self {
            session: RwLock::new(Arc::new(session_config(settings, channels))),
            event_bytes: AtomicUsize::new(event_bytes),
            command_bytes: AtomicUsize::new(command_bytes),
            commands: Rates::new(settings.commands),
            publishes: Rates::new(settings.publishes),
            auth_timeout: RwLock::new(settings.auth_timeout),
        }
    }

    /// For a session that begins now.
    pub(crate) fn session(&self) -> Arc<SessionConfig> {
        self.session.read().clone()
    }

    /// How long one who brought no credentials has to show some.
    pub(crate) fn auth_timeout(&self) -> Duration {
        *self.auth_timeout.read()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            event_bytes: self.event_bytes.load(Ordering::Relaxed),
            command_bytes: self.command_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Feed {
    /// Takes new values, from now on, for what can change while a feed runs: `limits`, the rates, the heartbeat, stall,
    /// checkpoint and authentication times (both for sessions that begin from now on, and the limits for requests too) and
    /// `max_connections`, `max_unauthenticated` and `max_connections_per_identity` (nobody is sent away). Every other field is left as it was when the feed started.
    pub fn reload(&self, settings: &Settings) {
        let inner = &self.inner;
        let live = &inner.live;
        *live.session.write() = Arc::new(session_config(settings, inner.channels.readable()));
        live.event_bytes.store(settings.limits.event_bytes, Ordering::Relaxed);
        live.command_bytes.store(settings.limits.command_bytes, Ordering::Relaxed);
        *live.auth_timeout.write() = settings.auth_timeout;
        live.commands.set(settings.commands);
        live.publishes.set(settings.publishes);
        inner.failures.set(settings.auth_failures);
        inner.connections.set_max(settings.max_connections);
        inner.connections.set_max_strangers(settings.max_unauthenticated);
        inner.connections.set_max_of_identity(settings.max_connections_per_identity);
    }
}

fn session_config(settings: &Settings, channels: ChannelPolicy) -> SessionConfig {
    SessionConfig {
        limits: settings.limits,
        channels,
        checkpoint_interval: settings.checkpoint_interval,
        heartbeat: HeartbeatConfig {
            interval: settings.heartbeat_interval,
            timeout: settings.heartbeat_timeout,
            stall_timeout: settings.write_stall_timeout,
        },
        max_subscriptions: settings.max_subscriptions,
        max_sets: settings.max_sets,
        max_filter_bytes: settings.max_filter_bytes,
        ..SessionConfig::default()
    }
}
