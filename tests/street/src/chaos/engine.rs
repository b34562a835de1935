//! What keeps the log under the nodes, as far as it can be broken.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::proxy::Proxy;

/// A breakable connection beneath the nodes.
pub struct Link {
    /// Whom it joins: `node 1`, `server 2`. Several links may have the same ends; they break together.
    pub ends: (String, String),
    /// The connection.
    pub proxy: Arc<Proxy>,
}

/// Adds a breakable way to `target`, and says where it begins.
pub(super) async fn link(links: &mut Vec<Link>, ends: (String, String), target: SocketAddr) -> SocketAddr {
    let proxy = Arc::new(Proxy::start(target).await);
    let addr = proxy.addr();
    links.push(Link { ends, proxy });
    addr
}

/// The servers that keep the log, and the links to them. Calls may block.
pub trait Engine: Send {
    /// Settings (`--set`) of a node.
    fn settings(&self, node: usize) -> Vec<(String, String)>;

    /// How many servers can be killed and stopped.
    fn servers(&self) -> usize {
        0
    }

    /// Ends a server with SIGKILL.
    fn kill(&mut self, _server: usize) {}

    /// Asks a server to end, and waits until it has.
    fn stop(&mut self, _server: usize) {}

    /// Starts a server again over its data.
    fn restart(&mut self, _server: usize) {}

    /// Has a server stand still (SIGSTOP).
    fn pause(&mut self, _server: usize) {}

    /// Has it go on (SIGCONT).
    fn resume(&mut self, _server: usize) {}

    /// Links of nodes to servers, and of servers to each other.
    fn links(&self) -> &[Link] {
        &[]
    }

    /// Waits until all servers serve again.
    fn wait(&mut self) {}

    /// Whether the engine may lose what it acknowledged; then the log may begin new epochs.
    fn may_lose(&self) -> bool {
        false
    }
}

/// Every node has its own log: there is nothing beneath it. For one node.
pub struct Embedded;

impl Engine for Embedded {
    fn settings(&self, _node: usize) -> Vec<(String, String)> {
        vec![("log.segment_bytes".to_owned(), "1MiB".to_owned())]
    }
}
