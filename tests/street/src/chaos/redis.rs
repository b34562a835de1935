//! One Redis beneath the nodes, with the link of each node to it breakable.

use super::engine::{Engine, Link, link};
use crate::redis::RedisServer;

/// A server that syncs before it acknowledges: what it acknowledged survives SIGKILL.
pub struct Redis {
    server: RedisServer,
    /// For each node, in their order.
    links: Vec<Link>,
}

impl Redis {
    /// Starts it, for this many nodes.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start(nodes: usize) -> Self {
        let server = tokio::task::block_in_place(RedisServer::start);
        let mut links = Vec::new();
        for node in 0..nodes {
            link(&mut links, (format!("node {node}"), "server 0".to_owned()), server.addr).await;
        }
        Self { server, links }
    }
}

impl Engine for Redis {
    fn settings(&self, node: usize) -> Vec<(String, String)> {
        let url = format!("redis://{}", self.links[node].proxy.addr());
        [("log.backend", "redis".to_owned()), ("redis.url", url)]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    fn servers(&self) -> usize {
        1
    }

    fn kill(&mut self, _server: usize) {
        self.server.kill();
    }

    fn stop(&mut self, _server: usize) {
        self.server.stop();
    }

    fn restart(&mut self, _server: usize) {
        self.server.restart();
    }

    fn pause(&mut self, _server: usize) {
        self.server.pause();
    }

    fn resume(&mut self, _server: usize) {
        self.server.resume();
    }

    fn links(&self) -> &[Link] {
        &self.links
    }
}
