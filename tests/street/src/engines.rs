//! The servers that can keep the log of several nodes, for tests that must hold over each of them.

use crate::daemon::Daemon;
use crate::{NatsServer, RedisServer, ServerOptions};

/// One server of either kind.
pub enum EngineServer {
    /// NATS with JetStream.
    Nats(NatsServer),
    /// Redis.
    Redis(RedisServer),
}

impl EngineServer {
    /// What `log.backend` and health call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nats(_) => "jetstream",
            Self::Redis(_) => "redis",
        }
    }

    /// A node over its log of this name.
    pub fn node(&self, options: ServerOptions, log: &str) -> ServerOptions {
        let options = options.set("log.backend", self.name());
        match self {
            Self::Nats(nats) => options.set("jetstream.servers", nats.url()).set("jetstream.stream", log),
            Self::Redis(redis) => options.set("redis.url", redis.url()).set("redis.prefix", log),
        }
    }

    /// The same as lines of a configuration file.
    pub fn lines(&self, log: &str) -> String {
        let keys = match self {
            Self::Nats(nats) => format!("servers = [{:?}]\nstream = {log:?}\n", nats.url()),
            Self::Redis(redis) => format!("url = {:?}\nprefix = {log:?}\n", redis.url()),
        };
        format!("[log]\nbackend = {0:?}\n[{0}]\n{keys}", self.name())
    }

    /// What can be done to either.
    pub fn daemon(&mut self) -> &mut Daemon {
        match self {
            Self::Nats(nats) => nats,
            Self::Redis(redis) => redis,
        }
    }

    /// Starts it again over the same data, and waits until it serves.
    pub fn restart(&mut self) {
        match self {
            Self::Nats(nats) => nats.restart(),
            Self::Redis(redis) => redis.restart(),
        }
    }
}
