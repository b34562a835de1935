//! The connection: who the node says it is, when the connection was lost, and what the server forbade meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::errors::chain;
use super::options::{JetStreamError, JetStreamOptions, NatsCredentials};

/// Wait of the client between two attempts to connect again, at most.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// Refusals that are remembered; the oldest goes.
const REFUSALS: usize = 16;

/// A connection, which the client makes anew by itself whenever it is lost. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    line: watch::Receiver<Line>,
    heard: Arc<Heard>,
}

/// What is known of the line.
#[derive(Clone, Copy, Default)]
struct Line {
    is_up: bool,
    /// How often it was lost, or messages on it were.
    losses: u64,
}

/// What the server says beside its answers.
#[derive(Default)]
struct Heard {
    /// "Permissions Violation for …": no answer follows.
    refusals: Mutex<VecDeque<(Instant, String)>>,
    /// When the connection was last given up on purpose.
    left: Mutex<Option<Instant>>,
}

impl Connection {
    /// Connects once; runs on the current runtime from then on.
    pub(super) async fn open(options: &JetStreamOptions) -> Result<Self, JetStreamError> {
        let servers = options.servers.join(", ");
        let failed = |reason: String| JetStreamError::Connect { servers: servers.clone(), reason };
        let (tell, line) = watch::channel(Line::default());
        let heard = Arc::new(Heard::default());
        let how = how(options).map_err(|error| failed(error.to_string()))?;
        let how = watched(how, Arc::new(tell), Arc::clone(&heard));
        match timeout(options.timeout, how.connect(options.servers.clone())).await {
            Ok(Ok(client)) => Ok(Self { client, line, heard }),
            Ok(Err(error)) => Err(failed(chain(&error))),
            Err(_) => Err(failed(format!("no answer within {:?}", options.timeout))),
        }
    }

    /// How often the connection was lost.
    pub(super) fn losses(&self) -> u64 {
        self.line.borrow().losses
    }

    /// Resolves once the connection is lost, if it was not since it was lost for the `known`th time.
    pub(super) async fn lost(&self, known: u64) {
        // The sender lives as long as the client.
        let _ = self.line.clone().wait_for(|line| line.losses != known).await;
    }

    /// Whether there is a connection before `until`.
    pub(super) async fn is_up(&self, until: Instant) -> bool {
        let mut line = self.line.clone();
        tokio::time::timeout_at(until, line.wait_for(|line| line.is_up)).await.is_ok_and(|up| up.is_ok())
    }

    /// What the server forbade about a subject since then.
    pub(super) fn refusal(&self, subject: &str, since: Instant) -> Option<String> {
        let refusals = self.heard.refusals.lock();
        let meant = |(at, text): &&(Instant, String)| *at >= since && text.contains(subject);
        refusals.iter().find(meant).map(|(_, text)| text.clone())
    }

    /// Leaves a server that has lost sight of the others for one that may not have; at most once in `pause`.
    pub(super) async fn try_another(&self, pause: Duration) {
        let now = Instant::now();
        let left = self.heard.left.lock().replace(now);
        if left.is_some_and(|left| now < left + pause) {
            self.heard.left.lock().clone_from(&left);
            return;
        }
        tracing::warn!("this NATS server does not reach the stream; trying another");
        // Refused only where the client is gone.
        let _ = timeout(pause, self.client.force_reconnect()).await;
    }
}

/// Who, and how patient.
fn how(options: &JetStreamOptions) -> std::io::Result<ConnectOptions> {
    let mut how = ConnectOptions::new()
        .name("newswire")
        .connection_timeout(options.timeout)
        .request_timeout(Some(options.timeout))
        // A server that stands still is left after the third unanswered one.
        .ping_interval((options.timeout / 3).max(Duration::from_millis(500)))
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts.min(20)).unwrap_or(20);
            Duration::from_millis(50).saturating_mul(attempts).min(RECONNECT_MAX)
        });
    how = match &options.credentials {
        NatsCredentials::None => how,
        NatsCredentials::Credentials(text) => how.credentials(text)?,
        NatsCredentials::Nkey(seed) => how.nkey(seed.clone()),
        NatsCredentials::Password(user, password) => how.user_and_password(user.clone(), password.clone()),
        NatsCredentials::Token(token) => how.token(token.clone()),
    };
    if let Some(ca) = &options.tls_ca {
        how = how.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((cert, key)) = &options.tls_identity {
        how = how.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    Ok(how)
}

fn watched(how: ConnectOptions, tell: Arc<watch::Sender<Line>>, heard: Arc<Heard>) -> ConnectOptions {
    how.event_callback(move |event| {
        note(&event, &tell, &heard);
        std::future::ready(())
    })
}

fn note(event: &Event, tell: &watch::Sender<Line>, heard: &Heard) {
    match event {
        Event::Connected => {
            tracing::debug!(%event, "NATS");
            tell.send_modify(|line| line.is_up = true);
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!(%event, "NATS");
            tell.send_modify(|line| *line = Line { is_up: false, losses: line.losses + 1 });
        }
        // Messages that had no room were dropped.
        Event::SlowConsumer(_) => {
            tracing::warn!(%event, "NATS");
            tell.send_modify(|line| line.losses += 1);
        }
        Event::ServerError(ServerError::Other(text)) => {
            tracing::warn!(%event, "NATS");
            let mut refusals = heard.refusals.lock();
            refusals.truncate(REFUSALS - 1);
            refusals.push_front((Instant::now(), text.clone()));
        }
        _ => tracing::debug!(%event, "NATS"),
    }
}
