//! The nodes, and the ways that lead to them.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Options;
use super::engine::Engine;
use crate::proxy::Proxy;
use crate::{Http, Server, process};

/// Ways to each node: breaking one leaves clients on the others.
const DOORS: usize = 2;

struct Node {
    server: Server,
    doors: Vec<Proxy>,
    /// Keeps what the server says over its restarts.
    log: PathBuf,
}

/// All nodes of a round.
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

impl Nodes {
    /// Starts all of them.
    pub(super) async fn start(options: &Options, engine: &dyn Engine) -> Self {
        let mut nodes = Vec::new();
        for number in 0..options.nodes {
            let mut settings = Server::options().set("checkpoint.interval", "2s");
            for (key, value) in engine.settings(number) {
                settings = settings.set(&key, value);
            }
            let server = tokio::task::block_in_place(|| settings.start());
            let mut doors = Vec::new();
            for _ in 0..DOORS {
                doors.push(Proxy::start(server.addr).await);
            }
            let log = options.dir.join(format!("node-{number}.log"));
            nodes.push(Node { server, doors, log });
        }
        Self { nodes }
    }

    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// For each node where clients reach it.
    pub(super) fn doors(&self) -> Vec<Vec<(SocketAddr, Http)>> {
        let doors =
            |node: &Node| node.doors.iter().map(|door| (door.addr(), Http::new(door.addr()))).collect();
        self.nodes.iter().map(doors).collect()
    }

    /// Where each of them listens itself.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.server.addr).collect()
    }

    /// A client of each of them, which goes through no door.
    pub(super) fn https(&self) -> Vec<Http> {
        self.nodes.iter().map(|node| node.server.http()).collect()
    }

    /// One of a node's doors.
    pub(super) fn door(&self, node: usize, door: usize) -> &Proxy {
        &self.nodes[node].doors[door % DOORS]
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].server.kill();
    }

    /// Asks a node to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not stop in order.
    pub(super) fn stop(&mut self, node: usize) {
        let server = &mut self.nodes[node].server;
        let status = server.stop();
        assert!(status.success(), "node {node} ends with {status}:\n{}", server.stderr());
    }

    /// Waits until a node says that it takes and delivers events.
    pub(super) async fn ready(&self, node: usize) {
        let http = self.nodes[node].server.http();
        crate::eventually("the node is ready", async || {
            let answer = http.try_send("GET", "/api/v1/health/ready", &[], Vec::new()).await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
    }

    /// Starts a node that has ended again, and waits until it accepts connections.
    pub(super) fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        keep(&node.log, &node.server);
        node.server.restart();
    }

    pub(super) fn pause(&self, node: usize) {
        process::signal(self.nodes[node].server.pid(), "STOP");
    }

    pub(super) fn resume(&self, node: usize) {
        process::signal(self.nodes[node].server.pid(), "CONT");
    }

    /// Where each node's log ends; none where it does not answer.
    pub(super) async fn ends(&self) -> Vec<Option<u64>> {
        let mut ends = Vec::new();
        for node in &self.nodes {
            let http = node.server.http();
            let asked = http.try_send("GET", "/api/v1/events?limit=1", &[], Vec::new());
            let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
            let answer = answer.ok().and_then(Result::ok).filter(|answer| answer.status == 200);
            ends.push(answer.and_then(|answer| answer.json()["offset"].as_u64()));
        }
        ends
    }

    /// Puts what the nodes said beside the history.
    pub(super) fn keep_logs(&self) {
        self.nodes.iter().for_each(|node| keep(&node.log, &node.server));
    }
}

fn keep(log: &Path, server: &Server) {
    let file = File::options().create(true).append(true).open(log);
    let _ = file.and_then(|mut file| file.write_all(server.stderr().as_bytes()));
}
