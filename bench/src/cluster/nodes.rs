//! Two nodes of Newswire over an engine, as one system.

use std::net::SocketAddr;
use std::process::Command;

use newswire_load::newswire::Newswire;
use newswire_load::peer::{
    Abilities, Interest, Launch, Peer, Publisher, Purpose, Running, Subscriber, Writes,
};
use newswire_load::process::Process;
use newswire_street_tests::binary;

use crate::peers::{Nats, Redis};

/// In front of the engine's name.
pub(super) const PREFIX: &str = "Newswire on ";

/// An engine that can keep the log of several nodes.
pub(super) trait Engine: Peer {
    /// What `log.backend` calls it.
    fn backend(&self) -> &'static str;

    /// Starts it, and says with which settings a node finds it.
    ///
    /// # Errors
    /// When it does not start.
    fn serve(&self, launch: &Launch<'_>) -> anyhow::Result<(Box<dyn Running>, Vec<String>)>;
}

impl Engine for Nats {
    fn backend(&self) -> &'static str {
        "jetstream"
    }

    fn serve(&self, launch: &Launch<'_>) -> anyhow::Result<(Box<dyn Running>, Vec<String>)> {
        let servers = self.start_servers(launch)?;
        let urls: Vec<String> = servers.publish_addrs.iter().map(|addr| format!("nats://{addr}")).collect();
        let settings = vec![
            format!("log.backend={}", self.backend()),
            format!("jetstream.servers={}", urls.join(",")),
            format!("jetstream.replicas={}", urls.len()),
        ];
        Ok((Box::new(servers), settings))
    }
}

impl Engine for Redis {
    fn backend(&self) -> &'static str {
        "redis"
    }

    fn serve(&self, launch: &Launch<'_>) -> anyhow::Result<(Box<dyn Running>, Vec<String>)> {
        let server = self.start(launch)?;
        let url = format!("redis.url=redis://{}", server.addr());
        Ok((server, vec![format!("log.backend={}", self.backend()), url]))
    }
}

/// Two nodes; publishers come to the first.
pub(super) struct Nodes {
    engine: Box<dyn Engine>,
}

impl Nodes {
    pub(super) fn over(engine: impl Engine + 'static) -> Self {
        Self { engine: Box::new(engine) }
    }
}

impl Peer for Nodes {
    fn name(&self) -> String {
        format!("{PREFIX}{}", self.engine.name())
    }

    fn version(&self) -> Result<String, String> {
        self.engine.version()?;
        let backend = self.engine.backend();
        let output = Command::new(binary::newswire()).args(["serve", "--print-config-docs"]).output();
        let docs = output.map_err(|error| error.to_string())?.stdout;
        if !String::from_utf8_lossy(&docs).contains(&format!("- `{backend}`:")) {
            return Err(format!("this server has no log.backend = \"{backend}\""));
        }
        Newswire::new(binary::newswire()).version()
    }

    fn abilities(&self) -> Abilities {
        Newswire::new(binary::newswire()).abilities()
    }

    fn configuration(&self) -> String {
        "two nodes; defaults but for the engine, which is set up as alone".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let dir = |name: &str| {
            let dir = launch.dir.join(name);
            std::fs::create_dir(&dir).map(|()| dir)
        };
        // What the engine makes for itself shows that it serves.
        let at = dir("engine")?;
        let of_engine = Launch { cores: launch.cores, dir: &at, purpose: Purpose::Durable };
        let (engine, settings) = self.engine.serve(&of_engine)?;
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let node = Newswire::new(binary::newswire()).with("node", &settings);
        let mut nodes = Vec::new();
        for name in ["a", "b"] {
            let at = dir(name)?;
            nodes.push(node.start(&Launch { cores: launch.cores, dir: &at, purpose: launch.purpose })?);
        }
        Ok(Box::new(Instance { nodes, engine }))
    }
}

/// Dropped in this order, so that no node outlives its engine.
struct Instance {
    nodes: Vec<Box<dyn Running>>,
    engine: Box<dyn Running>,
}

impl Instance {
    fn first(&self) -> &dyn Running {
        &*self.nodes[0]
    }
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.first().addr()
    }

    fn nodes(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    fn process(&self) -> Option<&Process> {
        self.first().process()
    }

    fn pids(&self) -> Vec<u32> {
        let of_nodes = self.nodes.iter().flat_map(|node| node.pids());
        of_nodes.chain(self.engine.pids()).collect()
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        self.first().subscriber(interest)
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        self.first().publisher()
    }

    fn batch_publisher(&self, most: usize) -> Box<dyn Publisher> {
        self.first().batch_publisher(most)
    }

    fn writes(&self) -> anyhow::Result<Option<Writes>> {
        self.first().writes()
    }
}

#[cfg(test)]
mod tests {
    use newswire_load::trial;

    use super::*;

    #[test]
    fn nodes_do_what_one_does() {
        for nodes in [Nodes::over(Nats::synced()), Nodes::over(Redis::synced())] {
            match nodes.version() {
                Err(why) => eprintln!("{} was not tried: {why}", nodes.name()),
                Ok(_) => trial::run(&nodes).expect("every part of the trial"),
            }
        }
    }
}
