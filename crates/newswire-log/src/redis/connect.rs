//! The connection that calls share: made anew when it is lost, and what is asked on it.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Script,
    TlsCertificates,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::errors::{Failed, failed, given_up, refusal};
use super::options::{RedisError, RedisOptions};
use crate::remote::SequenceError;

/// How long one attempt of something that may be asked again waits for its answer.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// After so long without an answer a connection is tried before it is given what may be asked only once.
const STALE: Duration = Duration::from_millis(500);

/// What asking again would do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: it only reads.
    Reads,
    /// Nothing: Redis recognises it.
    Recognised,
    /// It may happen twice.
    Never,
}

/// A script with what it is given.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) text: &'a str,
    pub(super) keys: Vec<&'a str>,
    pub(super) args: Vec<&'a [u8]>,
}

impl Call<'_> {
    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = ::redis::cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(*key);
        }
        for arg in &self.args {
            command.arg(*arg);
        }
        command
    }

    /// Asks once, on this connection. Redis forgets scripts when it starts, and is told the text then.
    pub(super) async fn on<T: FromRedisValue>(
        &self,
        open: &mut MultiplexedConnection,
    ) -> ::redis::RedisResult<T> {
        match self.command("EVALSHA", self.script.get_hash()).query_async(open).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.command("EVAL", self.text).query_async(open).await
            }
            answered => answered,
        }
    }
}

pub(super) struct Connection {
    client: Client,
    timeout: Duration,
    /// Connections live here, whoever asks for them.
    runtime: Handle,
    current: Mutex<Current>,
    /// Held by whoever makes the next one.
    opening: tokio::sync::Mutex<()>,
    heard: Mutex<Option<Instant>>,
}

/// The connection, if there is one, and how many there were.
#[derive(Default)]
struct Current {
    number: u64,
    open: Option<MultiplexedConnection>,
}

impl Connection {
    /// Connects nowhere yet. Runs on the current runtime.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        let client = client(options).map_err(RedisError::Options)?;
        Ok(Self {
            client,
            timeout: options.timeout,
            runtime: Handle::current(),
            current: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
        })
    }

    /// A connection of its own, until then or not at all.
    pub(super) async fn open(&self, until: Instant) -> Result<MultiplexedConnection, Failed> {
        let client = self.client.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let connecting = async move { client.get_multiplexed_async_connection_with_config(&config).await };
        match timeout_at(until, self.runtime.spawn(connecting)).await {
            Ok(Ok(Ok(open))) => Ok(open),
            Ok(Ok(Err(error))) => Err(match error.kind() {
                ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                    Failed::Final(refusal(error.to_string()))
                }
                _ => match failed(&error) {
                    Failed::Unanswered(reason) => Failed::Unsent(reason),
                    failed => failed,
                },
            }),
            Ok(Err(_)) => Err(Failed::Unsent("the node is stopping".to_owned())),
            Err(_) => Err(Failed::Unsent("no connection in time".to_owned())),
        }
    }

    /// Asks until there is an answer, for the configured time at most.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        call: &Call<'_>,
        again: Again,
    ) -> Result<T, SequenceError> {
        let until = Instant::now() + self.timeout;
        if again == Again::Never {
            self.freshen().await;
        }
        let mut may_be_stored = false;
        let mut reason = "no answer in time".to_owned();
        while Instant::now() < until {
            let patience = if again == Again::Never { until } else { until.min(Instant::now() + ATTEMPT) };
            reason = match self.attempt(call, patience).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(error)) if !may_be_stored => return Err(error),
                Err(Failed::Final(error)) => error.to_string(),
                Err(Failed::Unsent(reason)) => reason,
                Err(Failed::Unanswered(reason)) if again == Again::Never => {
                    return Err(given_up(true, reason));
                }
                Err(Failed::Unanswered(reason)) => {
                    may_be_stored = again == Again::Recognised;
                    reason
                }
            };
            sleep(PAUSE).await;
        }
        Err(given_up(may_be_stored, reason))
    }

    async fn attempt<T: FromRedisValue>(&self, call: &Call<'_>, until: Instant) -> Result<T, Failed> {
        let (number, mut open) = self.current(until).await?;
        let error = match timeout_at(until, call.on(&mut open)).await {
            Ok(Ok(answer)) => {
                *self.heard.lock() = Some(Instant::now());
                return Ok(answer);
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => Failed::Unanswered("no answer in time".to_owned()),
        };
        // Also a server that takes no writes: under its name there may be another one now.
        if !matches!(error, Failed::Final(_)) {
            self.lose(number);
        }
        Err(error)
    }

    async fn current(&self, until: Instant) -> Result<(u64, MultiplexedConnection), Failed> {
        if let Some(current) = self.known() {
            return Ok(current);
        }
        let Ok(_turn) = timeout_at(until, self.opening.lock()).await else {
            return Err(Failed::Unsent("no connection in time".to_owned()));
        };
        if let Some(current) = self.known() {
            return Ok(current);
        }
        let open = self.open(until).await?;
        let mut current = self.current.lock();
        current.number += 1;
        current.open = Some(open.clone());
        Ok((current.number, open))
    }

    fn known(&self) -> Option<(u64, MultiplexedConnection)> {
        let current = self.current.lock();
        Some((current.number, current.open.clone()?))
    }

    fn lose(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
            current.open = None;
        }
    }

    /// Finds out whether a connection that was not used for a while is still there.
    async fn freshen(&self) {
        if self.heard.lock().is_some_and(|heard| heard.elapsed() < STALE) {
            return;
        }
        let until = Instant::now() + self.timeout.min(ATTEMPT);
        let Ok((number, mut open)) = self.current(until).await else { return };
        let ping = ::redis::cmd("PING");
        let pong = timeout_at(until, ping.query_async::<::redis::Value>(&mut open)).await;
        if !matches!(pong, Ok(Ok(_))) {
            self.lose(number);
        }
    }

    /// What a plain command answers; `None` where it fails, or is not permitted.
    pub(super) async fn look<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let (_, mut open) = self.current(Instant::now() + self.timeout).await.ok()?;
        timeout(self.timeout, command.query_async(&mut open)).await.ok()?.ok()
    }
}

fn client(options: &RedisOptions) -> Result<Client, String> {
    let wrong = |error: ::redis::RedisError| format!("the address of Redis is wrong: {error}");
    let mut info = options.url.as_str().into_connection_info().map_err(wrong)?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = &options.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password);
    }
    info = info.set_redis_settings(settings);
    let Some(file) = &options.tls_ca else {
        return Client::open(info).map_err(wrong);
    };
    let ca = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca) };
    Client::build_with_tls(info, certificates).map_err(wrong)
}
