//! How clients come to nodes: as they like, or as a load balancer has it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Http;

/// Who chooses the node of a client.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    /// The client: any, whether it serves or not.
    Any,
    /// The client: one of those that were ready a moment ago, as their health says.
    Ready,
    /// A program before the nodes, which is started with their addresses.
    Before(fn(&[SocketAddr]) -> Box<dyn Before>),
}

/// A program before the nodes; it runs until it is dropped.
pub trait Before: Send + Sync {
    /// Where clients reach it.
    fn addr(&self) -> SocketAddr;
}

/// A way to a node.
pub(super) type Door = (SocketAddr, Http);

/// All ways that clients have.
pub(super) struct Ways {
    /// For each node, or for the program before them.
    doors: Vec<Vec<Door>>,
    ready: Vec<AtomicBool>,
    _before: Option<Box<dyn Before>>,
}

impl Ways {
    /// The ways to nodes that have these doors and listen there.
    pub(super) fn new(choice: Choice, doors: Vec<Vec<Door>>, nodes: &[SocketAddr]) -> Self {
        let before = match choice {
            Choice::Any | Choice::Ready => None,
            Choice::Before(start) => Some(tokio::task::block_in_place(|| start(nodes))),
        };
        let doors = match &before {
            None => doors,
            Some(before) => vec![vec![(before.addr(), Http::new(before.addr()))]],
        };
        let ready = doors.iter().map(|_| AtomicBool::new(true)).collect();
        Self { doors, ready, _before: before }
    }

    /// A node, and a way to it.
    pub(super) fn door(&self, random: &mut fastrand::Rng) -> (usize, &Door) {
        let all = 0..self.doors.len();
        let ready: Vec<usize> =
            all.clone().filter(|node| self.ready[*node].load(Ordering::Relaxed)).collect();
        // Where none is, a client has to try all the same.
        let node = random.choice(&ready).copied().unwrap_or_else(|| random.usize(all));
        (node, random.choice(&self.doors[node]).expect("a node has doors"))
    }

    /// Looks which nodes are ready, again and again, until it is dropped. Not for [`Choice::Before`], which looks itself.
    pub(super) async fn watch(&self, nodes: &[Http]) {
        loop {
            for (node, ready) in nodes.iter().zip(&self.ready) {
                let asked = node.try_send("GET", "/api/v1/health/ready", &[], Vec::new());
                let answer = tokio::time::timeout(Duration::from_secs(1), asked).await;
                let is_ready = answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200));
                ready.store(is_ready, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
