//! Several nodes under load while one thing after another breaks; what happened is written down as a [history](crate::history).
//!
//! A [`round`] starts nodes over an [`Engine`], lets publishers and subscribers work on all of them, breaks and mends (or
//! restarts) one thing at a time, mends everything, and waits until all subscribers have come to the end. It judges
//! nothing: that is for `check-history`. What is drawn at random follows from the seed; when it meets what, from the
//! machine.

pub mod engine;
mod faults;
pub mod jetstream;
mod nodes;
mod publisher;
pub mod redis;
mod rolling;
mod subscriber;
mod ways;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use engine::{Embedded, Engine, Link};
pub use jetstream::JetStream;
use nodes::Nodes;
pub use redis::Redis;
use ways::Ways;
pub use ways::{Before, Choice};

use crate::history::{Record, Writer};

/// How long everything may take to come to the end once all is mended.
const END: Duration = Duration::from_secs(60);

/// What a round is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// Subscribers over all nodes.
    pub subscribers: u64,
    /// Publishers over all nodes.
    pub publishers: u64,
    /// What is done to them while publishers publish.
    pub plan: Plan,
    /// Who chooses the node of a client.
    pub choice: Choice,
    /// What the choices are drawn from.
    pub seed: u64,
    /// What runs, for people.
    pub about: String,
    /// Where the history and what the nodes say are put: a directory, made if it is not there.
    pub dir: PathBuf,
}

/// What is done to nodes and engine.
#[derive(Debug, Clone, Copy)]
pub enum Plan {
    /// One thing after another breaks and is mended, for this long.
    Break(Duration),
    /// Each node and then each server is stopped in order and started again, one at a time.
    RestartEach,
}

/// What the clients of one round share.
struct Shared {
    /// How they come to nodes.
    ways: Ways,
    history: Writer,
    /// No new events are to be made.
    stop: AtomicBool,
    /// Once everything is published: the position that all subscribers are to reach. 0 before.
    end: AtomicU64,
    /// The highest offset that was answered.
    highest: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The position to reach, once it is known.
    fn end(&self) -> Option<u64> {
        Some(self.end.load(Ordering::Relaxed)).filter(|end| *end > 0)
    }
}

/// Runs one round and gives the path of its history.
///
/// # Panics
/// When a process does not start, publishers or nodes do not come to an end, or a client meets what the protocol does
/// not know.
pub async fn round(options: &Options, mut engine: Box<dyn Engine>) -> PathBuf {
    std::fs::create_dir_all(&options.dir).expect("a directory for the history");
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut nodes = Nodes::start(options, engine.as_ref()).await;
    let shared = Arc::new(Shared {
        ways: Ways::new(options.choice, nodes.doors(), &nodes.addrs()),
        history: Writer::create(&options.dir.join("history.jsonl")),
        stop: AtomicBool::new(false),
        end: AtomicU64::new(0),
        highest: AtomicU64::new(0),
    });
    shared.history.write(&Record::Run {
        seed: options.seed,
        new_epochs: engine.may_lose(),
        about: options.about.clone(),
    });
    let (mut publishers, mut subscribers, mut watch) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    if matches!(options.choice, Choice::Ready) {
        let (shared, nodes) = (Arc::clone(&shared), nodes.https());
        watch.spawn(async move { shared.ways.watch(&nodes).await });
    }
    for number in 0..options.subscribers {
        subscribers.spawn(subscriber::run(Arc::clone(&shared), number, random.fork()));
    }
    for number in 0..options.publishers {
        publishers.spawn(publisher::run(Arc::clone(&shared), number, random.fork()));
    }

    let began = Instant::now();
    let mut broken = Vec::new();
    match options.plan {
        Plan::Break(time) => {
            while began.elapsed() < time {
                broken.push(faults::one(&mut nodes, engine.as_mut(), &shared.history, &mut random).await);
            }
        }
        Plan::RestartEach => {
            let engine = engine.as_mut();
            broken = rolling::restart_each(&mut nodes, engine, &shared.history, &mut random).await;
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    let ended = tokio::time::timeout(END, publishers.join_all()).await;
    assert!(ended.is_ok(), "publishers get no answers though all is mended; see {}", options.dir.display());
    let end = end_of(&nodes, &shared).await;
    shared.end.store(end, Ordering::Relaxed);
    // Who does not get there has no last line in the history, which is told by whoever judges it.
    let _ = tokio::time::timeout(END, async {
        while subscribers.join_next().await.transpose().unwrap().is_some() {}
    })
    .await;
    subscribers.shutdown().await;
    shared.history.flush();
    nodes.keep_logs();
    eprintln!(
        "{}: end at {end} after {:?}; what broke: {}",
        options.about,
        began.elapsed(),
        broken.join(", ")
    );
    shared.history.path().to_path_buf()
}

/// The end of the log once all nodes agree on it, it holds all that was answered, and it has not moved for a while (what
/// a publisher gave up may still arrive).
async fn end_of(nodes: &Nodes, shared: &Shared) -> u64 {
    let highest = shared.highest.load(Ordering::Relaxed);
    let still = Duration::from_millis(700);
    let began = Instant::now();
    let mut last: Option<(u64, Instant)> = None;
    loop {
        let ends = nodes.ends().await;
        let same =
            ends.first().copied().flatten().filter(|end| ends.iter().all(|other| *other == Some(*end)));
        last = same.filter(|end| *end >= highest).map(|end| match last {
            Some((before, since)) if before == end => (end, since),
            _ => (end, Instant::now()),
        });
        if let Some((end, since)) = last
            && since.elapsed() > still
        {
            return end;
        }
        assert!(began.elapsed() < END, "nodes do not come to one end: {ends:?}, and {highest} was answered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A directory for a round's history that survives the test when it fails.
pub fn directory(name: &str, seed: u64) -> PathBuf {
    let base = std::env::var_os("NEWSWIRE_CHAOS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(Path::new(&format!("newswire-chaos-{name}-{seed}")))
}
