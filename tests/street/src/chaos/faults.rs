//! What breaks: one thing at a time, for a while.

use std::fmt;
use std::sync::Arc;

use super::engine::{Engine, Link};
use super::nodes::Nodes;
use super::publisher::pause;
use crate::history::{Record, Writer};
use crate::proxy::{Proxy, Way};

/// What is done to a connection.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// Reset once; connecting again works at once.
    Cut,
    /// Reset, and refused.
    Refuse,
    /// Nothing comes through towards the target.
    StallThere,
    /// Nothing comes back.
    StallBack,
    /// Nothing comes through.
    Stall,
}

impl Break {
    const ALL: [Self; 5] = [Self::Cut, Self::Refuse, Self::StallThere, Self::StallBack, Self::Stall];

    fn apply(self, proxy: &Proxy) {
        match self {
            Self::Cut => proxy.cut(),
            Self::Refuse => proxy.cut_and_refuse(),
            Self::StallThere => proxy.stall(&[Way::There]),
            Self::StallBack => proxy.stall(&[Way::Back]),
            Self::Stall => proxy.stall(&[Way::There, Way::Back]),
        }
    }
}

/// One thing to break.
enum Fault {
    KillNode(usize),
    PauseNode(usize),
    Clients(usize, usize, Break),
    KillServer(usize),
    StopServer(usize),
    PauseServer(usize),
    Links(String, Vec<Arc<Proxy>>, Break),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillNode(node) => write!(f, "SIGKILL node {node}"),
            Self::PauseNode(node) => write!(f, "SIGSTOP node {node}"),
            Self::Clients(node, door, how) => write!(f, "{how:?} clients to node {node}, door {door}"),
            Self::KillServer(server) => write!(f, "SIGKILL server {server}"),
            Self::StopServer(server) => write!(f, "SIGTERM server {server}"),
            Self::PauseServer(server) => write!(f, "SIGSTOP server {server}"),
            Self::Links(ends, _, how) => write!(f, "{how:?} {ends}"),
        }
    }
}

/// Leaves everything alone for a while, breaks something for a while, and mends it; gives what it was.
pub(super) async fn one(
    nodes: &mut Nodes,
    engine: &mut dyn Engine,
    history: &Writer,
    random: &mut fastrand::Rng,
) -> String {
    pause(100..1_000, random).await;
    let fault = draw(nodes, engine, random);
    history.write(&Record::Fault { what: fault.to_string() });
    // Blocking calls: a process is waited for.
    tokio::task::block_in_place(|| fault.begin(nodes, engine));
    // Mostly short; now and then longer than anybody waits for an answer.
    let hold = if random.u64(..6) == 0 { 5_000..7_500 } else { 100..2_000 };
    pause(hold, random).await;
    tokio::task::block_in_place(|| {
        fault.mend(nodes, engine);
        engine.wait();
    });
    history.write(&Record::Fault { what: format!("mended: {fault}") });
    fault.to_string()
}

fn draw(nodes: &Nodes, engine: &dyn Engine, random: &mut fastrand::Rng) -> Fault {
    let node = random.usize(..nodes.count());
    let how = *random.choice(&Break::ALL).expect("breaks");
    let kinds = if engine.servers() == 0 { 4 } else { 10 };
    match random.u64(..kinds) {
        0 => Fault::KillNode(node),
        1 => Fault::PauseNode(node),
        2 | 3 => Fault::Clients(node, random.usize(..2), how),
        4 => Fault::KillServer(random.usize(..engine.servers())),
        5 => Fault::StopServer(random.usize(..engine.servers())),
        6 => Fault::PauseServer(random.usize(..engine.servers())),
        _ => links(engine.links(), how, random).unwrap_or(Fault::KillNode(node)),
    }
}

/// The links of two ends, or all links of one of them.
fn links(links: &[Link], how: Break, random: &mut fastrand::Rng) -> Option<Fault> {
    let one = random.choice(links)?;
    let (near, far) = &one.ends;
    let those = |of_it: &dyn Fn(&Link) -> bool| {
        links.iter().filter(|link| of_it(link)).map(|link| Arc::clone(&link.proxy)).collect()
    };
    let all_of = |end: &String| those(&|link| link.ends.0 == *end || link.ends.1 == *end);
    Some(match random.u64(..3) {
        0 => Fault::Links(format!("all links of {near}"), all_of(near), how),
        1 => Fault::Links(format!("all links of {far}"), all_of(far), how),
        _ => Fault::Links(format!("{near} to {far}"), those(&|link| link.ends == one.ends), how),
    })
}

impl Fault {
    fn begin(&self, nodes: &mut Nodes, engine: &mut dyn Engine) {
        match self {
            Self::KillNode(node) => nodes.kill(*node),
            Self::PauseNode(node) => nodes.pause(*node),
            Self::Clients(node, door, how) => how.apply(nodes.door(*node, *door)),
            Self::KillServer(server) => engine.kill(*server),
            Self::StopServer(server) => engine.stop(*server),
            Self::PauseServer(server) => engine.pause(*server),
            Self::Links(_, proxies, how) => proxies.iter().for_each(|proxy| how.apply(proxy)),
        }
    }

    fn mend(&self, nodes: &mut Nodes, engine: &mut dyn Engine) {
        match self {
            Self::KillNode(node) => nodes.restart(*node),
            Self::PauseNode(node) => nodes.resume(*node),
            Self::Clients(node, door, _) => nodes.door(*node, *door).heal(),
            Self::KillServer(server) | Self::StopServer(server) => engine.restart(*server),
            Self::PauseServer(server) => engine.resume(*server),
            Self::Links(_, proxies, _) => proxies.iter().for_each(|proxy| proxy.heal()),
        }
    }
}
