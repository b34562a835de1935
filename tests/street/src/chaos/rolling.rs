//! A rolling restart, as operators do it: one node at a time, then one server beneath them at a time, and the next one when
//! the one before serves again.

use super::engine::Engine;
use super::nodes::Nodes;
use super::publisher::pause;
use crate::history::{Record, Writer};

/// Stops each in turn with SIGTERM, starts it again, and goes on when it says that it is well; gives what was done.
///
/// # Panics
/// When a node does not stop in order, or one of them does not serve again.
pub(super) async fn restart_each(
    nodes: &mut Nodes,
    engine: &mut dyn Engine,
    history: &Writer,
    random: &mut fastrand::Rng,
) -> Vec<String> {
    let mut done = Vec::new();
    for node in 0..nodes.count() {
        let what = format!("SIGTERM node {node}");
        begin(&what, history, random).await;
        tokio::task::block_in_place(|| nodes.stop(node));
        away(random).await;
        tokio::task::block_in_place(|| nodes.restart(node));
        nodes.ready(node).await;
        end(what, history, &mut done);
    }
    for server in 0..engine.servers() {
        let what = format!("SIGTERM server {server}");
        begin(&what, history, random).await;
        tokio::task::block_in_place(|| engine.stop(server));
        away(random).await;
        tokio::task::block_in_place(|| {
            engine.restart(server);
            engine.wait();
        });
        end(what, history, &mut done);
    }
    pause(1_000..1_500, random).await;
    done
}

/// Leaves time for clients to come back to all nodes: each is to be stopped while it serves some.
async fn begin(what: &str, history: &Writer, random: &mut fastrand::Rng) {
    pause(1_000..1_500, random).await;
    history.write(&Record::Fault { what: what.to_owned() });
}

/// As long as it takes to put another version in its place.
async fn away(random: &mut fastrand::Rng) {
    pause(300..1_000, random).await;
}

fn end(what: String, history: &Writer, done: &mut Vec<String>) {
    history.write(&Record::Fault { what: format!("mended: {what}") });
    done.push(what);
}
