//! A rolling restart, as operators do it: one node at a time, and the next one when it is ready.

use super::nodes::Nodes;
use super::publisher::pause;
use crate::history::{Record, Writer};

/// Stops each node in turn with SIGTERM, starts it again, and goes on when it says that it is ready; gives what was done.
///
/// # Panics
/// When a node does not stop in order, or does not become ready.
pub(super) async fn restart_each(
    nodes: &mut Nodes,
    history: &Writer,
    random: &mut fastrand::Rng,
) -> Vec<String> {
    let mut done = Vec::new();
    for node in 0..nodes.count() {
        // Clients come back to all nodes first: each is to be stopped while it serves some.
        pause(1_500..2_500, random).await;
        let what = format!("SIGTERM node {node}");
        history.write(&Record::Fault { what: what.clone() });
        tokio::task::block_in_place(|| nodes.stop(node));
        // As long as it takes to put another version in its place.
        pause(500..1_500, random).await;
        tokio::task::block_in_place(|| nodes.restart(node));
        nodes.ready(node).await;
        history.write(&Record::Fault { what: format!("mended: {what}") });
        done.push(what);
    }
    pause(1_500..2_500, random).await;
    done
}
