//! The running server: the front door, the guard before the routes, the feed behind them, and how they stop.

pub mod accept;
mod audit;
mod body;
mod encoding;
pub(crate) mod engine;
pub mod guard;
mod metrics;
pub mod proxy;
mod rate;
mod request;
mod routes;
pub(crate) mod sign_in;
pub mod signals;
pub mod storage;
pub mod tls;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use newswire::{
    Authenticate, Caller, Crowd, FailureLimit, Feed, Metrics, Principal, Rate, Rates, Revocation, Role,
};
use newswire_core::BacklogPolicy;
use newswire_protocol::Limits;
use prometheus_client::metrics::counter::Counter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{self, BadCredentials, Gate};
use crate::commands::{EXIT_USAGE, Failure};
use crate::config::{Backend, Compression, Config, LimitsConfig, Policy};
use crate::logging::AuditEvents;
use crate::telemetry::{SpanMetrics, Telemetry};
use accept::{Bounds, Door};
use guard::{Guard, Guards};
pub use metrics::DoorMetrics;
pub(crate) use metrics::count_panic;
#[cfg(test)]
pub(crate) use metrics::register_process;
use proxy::Proxies;
use rate::RequestRates;
use request::Refusals;
use routes::Front;
use sign_in::SignIn;
use storage::Storage;
use tls::Tls;

/// Requests that may come at once, in seconds' worth, where `limits.requests_burst` does not say.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// File descriptors that are not connections: the log's files, standard streams, the runtime's own.
const OTHER_FILES: usize = 64;

/// For sending the last spans, also where others took all of `shutdown.timeout`.
const LEAST_FOR_SPANS: Duration = Duration::from_millis(200);

/// A server with its log open and its address bound. It answers once [`Server::run`] is polled.
#[derive(Debug)]
pub struct Server {
    feed: Feed,
    /// Where callers have to say who they are.
    gate: Option<Arc<Gate>>,
    router: Router,
    door: Door,
    guards: Guards,
    rates: Rates<Caller>,
    listener: TcpListener,
    telemetry: Option<Telemetry>,
    /// Counts what of the audit is not published.
    audit_dropped: Counter,
    audit: Option<Audit>,
    stop_within: Duration,
}

/// The audit as a channel, and the task that publishes it.
#[derive(Debug)]
struct Audit {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Opens the log and starts the feed on it; `new_epoch` makes offsets given before mean nothing any more, for a log
    /// that was restored from a backup.
    ///
    /// # Errors
    /// When the log cannot be opened; see [`storage::open`].
    pub async fn start(listener: TcpListener, config: &Config, new_epoch: bool) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let door_metrics = metrics.with_registry(|registry| {
            metrics::register_process(registry);
            DoorMetrics::register(registry)
        });
        let limited = door_metrics.limited.clone();
        let refusals = Refusals::new(door_metrics.problems.clone());
        let audit_dropped = metrics.with_registry(audit::register);
        let telemetry = Telemetry::start(&config.telemetry, metrics.with_registry(SpanMetrics::register))?;
        let door = Door {
            max_connections: Arc::new(AtomicUsize::new(config.limits.connections)),
            addresses: Crowd::new(config.limits.connections_per_address),
            proxies: Proxies::new(&config.server),
            tls: Tls::open(&config.tls).map_err(|error| Failure::new(EXIT_USAGE, format!("{error:#}")))?,
            bounds: Bounds {
                handshake_timeout: config.limits.handshake_timeout,
                header_timeout: config.limits.header_timeout,
                header_bytes: config.limits.header_bytes,
                body_timeout: config.limits.body_timeout,
            },
            metrics: door_metrics,
        };
        let storage = storage::open(config, new_epoch, metrics.observer()).await?;
        let gate = open_gate(config, &storage).await?;
        let mut feed = Feed::builder().settings(settings(config)).metrics(metrics).log(storage.log);
        if let Some(gate) = &gate {
            feed = feed.authenticate(Arc::clone(gate) as Arc<dyn Authenticate>);
        }
        if let Some(telemetry) = &telemetry {
            feed = feed.tracer(telemetry.tracer());
        }
        let feed = feed.build()?;
        if let Some(gate) = gate.clone() {
            let feed = feed.clone();
            // Ends with the process: nobody waits for it.
            tokio::spawn(async move {
                let concerns = |revocation: &Revocation| {
                    feed.revoke(revocation);
                };
                gate.follow_revocations(concerns).await;
            });
        }
        make_room_for_files(&config.limits);
        let guards = Guards::new(Guard::new(config));
        let rates = Rates::new(request_rate(config));
        let front = Front {
            guards: guards.clone(),
            proxies: door.proxies.clone(),
            rates: RequestRates { rates: rates.clone(), refused: limited },
            refusals,
            anonymous: anonymous(config),
            sign_in: SignIn { feed: feed.clone(), gate: gate.clone(), tls: door.tls.is_some() },
        };
        let router = routes::router(&feed, front);
        Ok(Self {
            feed,
            gate,
            router,
            door,
            guards,
            rates,
            listener,
            telemetry,
            audit_dropped,
            audit: None,
            stop_within: config.shutdown.timeout,
        })
    }

    /// Publishes what the audit says on this channel, until the server stops. Must be called within a tokio runtime.
    pub fn publish_audit(&mut self, channel: String, events: AuditEvents) {
        let stop = CancellationToken::new();
        let task = tokio::spawn(audit::publish(
            self.feed.clone(),
            channel,
            events,
            self.audit_dropped.clone(),
            stop.clone(),
        ));
        self.audit = Some(Audit { stop, task });
    }

    /// A way to give it another configuration while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            feed: self.feed.clone(),
            gate: self.gate.clone(),
            guards: self.guards.clone(),
            rates: self.rates.clone(),
            door: self.door.clone(),
        }
    }

    /// Where a browser signs in, once; `None` where nobody has to.
    pub(crate) async fn sign_in_path(&self) -> Option<String> {
        let code = self.gate.as_ref()?.sessions.new_code().await;
        match code {
            Ok(code) => Some(format!("{}?{}={code}", sign_in::PATH, sign_in::FIELD)),
            Err(error) => {
                tracing::warn!(%error, "no address to sign in with could be made");
                None
            }
        }
    }

    /// The address it listens on, with the port it was given.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("cannot tell the address that is listened on")
    }

    /// Serves until `stop`, then stops in order, within `shutdown.timeout`: nobody new is let in; requests in flight
    /// are answered; sessions are told to come back later; the log is closed.
    ///
    /// Not cancel-safe: dropping it leaves closing the log to its destructor.
    pub async fn run(self, stop: CancellationToken) {
        let requests = TaskTracker::new();
        if let Some(tls) = self.door.tls.clone() {
            // Ends with `stop`: nobody waits for it.
            tokio::spawn(tls.follow(stop.clone()));
        }
        self.door.serve(self.listener, self.router, &requests, stop).await;
        let begin = Instant::now();
        requests.close();
        self.feed.end_streams();
        // Requests first, as they may publish and the log still takes it; half the time, as sessions need some too.
        let answered = timeout(self.stop_within / 2, requests.wait()).await.is_ok();
        if let Some(Audit { stop, task }) = self.audit {
            stop.cancel();
            // What waits is little, and the log may be slower than anybody waits.
            let _ = timeout(self.stop_within.saturating_sub(begin.elapsed()) / 2, task).await;
        }
        let rest = self.stop_within.saturating_sub(begin.elapsed());
        let drained = self.feed.shutdown(rest).await;
        if let Some(telemetry) = self.telemetry {
            // At least a moment, for the spans of those who were answered last.
            let rest = self.stop_within.saturating_sub(begin.elapsed()).max(LEAST_FOR_SPANS);
            telemetry.finish(rest).await;
        }
        if answered && drained {
            tracing::info!(elapsed_ms = millis(begin), "stopped");
        } else {
            tracing::warn!(
                elapsed_ms = millis(begin),
                requests = requests.len(),
                drained,
                "stopped; some peers were cut because shutdown.timeout was over"
            );
        }
    }
}

/// Gives a running server another configuration.
#[derive(Clone, Debug)]
pub struct Reloader {
    feed: Feed,
    gate: Option<Arc<Gate>>,
    guards: Guards,
    rates: Rates<Caller>,
    door: Door,
}

impl Reloader {
    /// Takes over every key that [`KEYS`](crate::config::KEYS) marks as reloadable, but those of logging, which are the
    /// process's and not the server's. Blocks on the disk, because retention is applied at once.
    ///
    /// # Errors
    /// Credentials cannot be read, or callers would be asked for some that are not asked now, or the other way round: then
    /// everything stays as it was. An open server that got a guard for one that asks would let every page in.
    pub fn apply(&self, config: &Config) -> anyhow::Result<()> {
        anyhow::ensure!(
            auth::asks(&config.auth) == self.gate.is_some(),
            "auth: whether callers are asked for credentials cannot change while the server runs; restart it"
        );
        if let Some(gate) = &self.gate {
            gate.reload(&config.auth)?;
            if !auth::has_credentials(&config.auth) {
                tracing::warn!("no credential is left: everybody is refused until a reload brings one");
            }
            self.feed.recheck();
        }
        make_room_for_files(&config.limits);
        self.door.max_connections.store(config.limits.connections, Ordering::Relaxed);
        self.door.addresses.set_most(config.limits.connections_per_address);
        self.door.proxies.replace(&config.server);
        if let Some(Err(error)) = self.door.tls.as_ref().map(Tls::reload) {
            tracing::error!(error = format!("{error:#}"), "SIGHUP: the TLS certificate stays as it was");
        }
        self.guards.replace(Guard::new(config));
        self.rates.set(request_rate(config));
        self.feed.reload(&settings(config));
        let log = self.feed.log();
        if log.set_retention(storage::retention(config))
            && let Err(error) = log.retain()
        {
            tracing::warn!(%error, "retention was not applied");
        }
        Ok(())
    }
}

/// What checks credentials, where callers have to show some.
async fn open_gate(config: &Config, storage: &Storage) -> anyhow::Result<Option<Arc<Gate>>> {
    if !auth::asks(&config.auth) {
        return Ok(None);
    }
    let meta = storage.meta(config).await?;
    if config.log.backend == Backend::Memory {
        tracing::warn!(
            "log.backend = memory: revocations, tickets and sessions of browsers are gone when the server stops, and what was \
             revoked counts again"
        );
    }
    Gate::open(&config.auth, meta).await.map(Some).map_err(|error| {
        match error.downcast_ref::<BadCredentials>() {
            Some(bad) => Failure::new(EXIT_USAGE, bad.to_string()).into(),
            None => error,
        }
    })
}

/// The limit on requests, if there is one.
fn request_rate(config: &Config) -> Option<Rate> {
    rate(config.limits.requests_per_second, config.limits.requests_burst)
}

fn rate(per_second: Option<NonZeroU32>, burst: Option<NonZeroU32>) -> Option<Rate> {
    let per_second = per_second?;
    Some(Rate { per_second, burst: burst.unwrap_or_else(|| per_second.saturating_mul(BURST_SECONDS)) })
}

fn failures(config: &Config) -> Option<FailureLimit> {
    let per_minute = config.limits.auth_failures_per_minute?;
    Some(FailureLimit { per_minute, burst: config.limits.auth_failures_burst })
}

/// Who callers are as long as nobody is asked. Without `auth.mode` they are on this machine, and it is theirs.
fn anonymous(config: &Config) -> Principal {
    let is_admin = config.auth.mode.is_none() || config.auth.anonymous_admin;
    Principal::anonymous().with_role(if is_admin { Role::Admin } else { Role::Publisher })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The feed's part of the configuration.
fn settings(config: &Config) -> newswire::Settings {
    newswire::Settings {
        channels: config.channels.iter().chain(&config.audit.channel).cloned().collect(),
        arbitrary_channels_allowed: config.arbitrary_channels_allowed,
        max_channels: config.limits.channels,
        limits: Limits { event_bytes: config.limits.event_bytes, command_bytes: config.limits.command_bytes },
        backlog_policy: match config.backlog.policy {
            Policy::CatchUp => BacklogPolicy::CatchUp,
            Policy::DropNewest => BacklogPolicy::DropNewest,
            Policy::DropOldest => BacklogPolicy::DropOldest,
            Policy::Disconnect => BacklogPolicy::Disconnect,
        },
        backlog_max_bytes: config.backlog.max_bytes,
        ring_max_bytes: config.ring.max_bytes,
        fanout_max_linger: config.fanout.max_linger,
        websocket_compression: config.websocket.compression == Compression::On,
        fanout_shards: config.fanout.shards.unwrap_or(newswire::Settings::default().fanout_shards),
        heartbeat_interval: config.heartbeat.interval,
        heartbeat_timeout: config.heartbeat.timeout,
        write_stall_timeout: config.write.stall_timeout,
        checkpoint_interval: config.checkpoint.interval,
        max_connections: config.limits.connections,
        max_unauthenticated: config.limits.unauthenticated,
        max_connections_per_identity: config.limits.connections_per_identity,
        max_subscriptions: config.limits.subscriptions,
        max_sets: config.limits.sets,
        max_filter_bytes: config.limits.filter_bytes,
        max_log_readers: config.limits.log_readers,
        auth_timeout: config.auth.timeout,
        request_max_bytes: config.limits.request_bytes,
        auth_failures: failures(config),
        commands: rate(config.limits.commands_per_second, config.limits.commands_burst),
        publishes: rate(config.limits.publishes_per_second, config.limits.publishes_burst),
    }
}

/// Raises the soft limit of open files to the hard one, and says so if even that is too few: better at the start than
/// at the thousandth connection.
fn make_room_for_files(limits: &LimitsConfig) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is not allowed, the limit stays as it is and is judged as such.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let needed = (limits.connections + limits.unauthenticated + OTHER_FILES) as u64;
    if let Some(allowed) = getrlimit(Resource::Nofile).current
        && allowed < needed
    {
        tracing::info!(
            allowed,
            needed,
            "limits.connections is more than the file descriptors allow; `ulimit -Hn` (LimitNOFILE= in a systemd unit) \
             raises them"
        );
    }
}
