//! A cluster of NATS servers beneath the nodes, with every link between any two of them breakable.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::engine::{Engine, Link, link};
use crate::daemon::free_port;
use crate::nats::{NatsCluster, NatsOptions};

/// Keeps addresses to themselves, so that nobody learns of a way around the proxies: clients are told of no further
/// servers, and what servers tell each other leads nowhere.
const NO_WAY_AROUND: &str = "no_advertise: true\nadvertise: \"127.0.0.1:1\"";

/// Three servers or more, of which each keeps every event.
pub struct JetStream {
    cluster: NatsCluster,
    /// For each node where it reaches each server.
    ways: Vec<Vec<SocketAddr>>,
    links: Vec<Link>,
}

impl JetStream {
    /// Starts the servers, for this many nodes.
    ///
    /// # Panics
    /// When they do not serve.
    pub async fn start(servers: usize, nodes: usize) -> Self {
        let listen: Vec<SocketAddr> = (0..servers).map(|_| free_port()).collect();
        let mut links = Vec::new();
        // Either of two servers may be the one that connected.
        let mut routes = HashMap::new();
        for (from, to) in (0..servers).flat_map(|from| (0..servers).map(move |to| (from, to))) {
            if from != to {
                let ends = (format!("server {}", from.min(to)), format!("server {}", from.max(to)));
                routes.insert((from, to), link(&mut links, ends, listen[to]).await);
            }
        }
        let started = || {
            NatsOptions::default()
                .start_cluster_over(&listen, NO_WAY_AROUND, |from, to| routes.get(&(from, to)).copied())
        };
        let cluster = tokio::task::block_in_place(started);
        let mut ways = Vec::new();
        for node in 0..nodes {
            let mut to_all = Vec::new();
            for (number, server) in cluster.servers.iter().enumerate() {
                let ends = (format!("node {node}"), format!("server {number}"));
                to_all.push(link(&mut links, ends, server.addr).await);
            }
            ways.push(to_all);
        }
        Self { cluster, ways, links }
    }
}

impl Engine for JetStream {
    fn settings(&self, node: usize) -> Vec<(String, String)> {
        let servers: Vec<String> = self.ways[node].iter().map(|addr| format!("nats://{addr}")).collect();
        let replicas = self.cluster.servers.len().to_string();
        [
            ("log.backend", "jetstream".to_owned()),
            ("jetstream.servers", servers.join(",")),
            ("jetstream.replicas", replicas),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn servers(&self) -> usize {
        self.cluster.servers.len()
    }

    fn kill(&mut self, server: usize) {
        self.cluster.servers[server].kill();
    }

    fn stop(&mut self, server: usize) {
        self.cluster.servers[server].stop();
    }

    fn restart(&mut self, server: usize) {
        self.cluster.servers[server].restart();
    }

    fn pause(&mut self, server: usize) {
        self.cluster.servers[server].pause();
    }

    fn resume(&mut self, server: usize) {
        self.cluster.servers[server].resume();
    }

    fn links(&self) -> &[Link] {
        &self.links
    }

    fn wait(&mut self) {
        self.cluster.wait();
    }
}
