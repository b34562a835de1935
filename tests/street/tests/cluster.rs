//! Nodes, engines and links break one at a time under load, or nodes are restarted in turn; then the recorded history is
//! judged by `check-history`.
//!
//! `NEWSWIRE_CHAOS_ROUNDS` sets the number of rounds, `NEWSWIRE_CHAOS_SEED` the seed of the first (the next ones count on
//! from it), `NEWSWIRE_CHAOS_DIR` where histories are put. Those of rounds that fail are kept.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use newswire_street_tests::chaos::{
    Before, Choice, Embedded, Engine, JetStream, Options, Plan, Redis, directory, round,
};
use newswire_street_tests::haproxy::{Front, HaProxy};
use newswire_street_tests::history::plant::Fault;
use newswire_street_tests::history::{self, Answer, Record};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs rounds of which each has an engine of its own, and judges each.
async fn rounds<E: Engine + 'static>(
    name: &str,
    rounds: u64,
    options: &Options,
    engine: impl AsyncFn() -> E,
) {
    let first = number("NEWSWIRE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    eprintln!("{name}: {rounds} rounds; NEWSWIRE_CHAOS_SEED={first} repeats their choices");
    for number in 0..rounds {
        let seed = first + number;
        let dir = directory(name, seed);
        let about = format!("{name}, round {}, seed {seed}", number + 1);
        let options = Options { seed, about, dir: dir.clone(), ..options.clone() };
        let history = round(&options, Box::new(engine().await)).await;
        tokio::task::block_in_place(|| judge(&history, &options));
        if matches!((options.plan, options.choice), (Plan::RestartEach, Choice::Ready)) {
            everybody_moved(&history, &options);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}

fn check(arguments: &[&str], history: &Path) -> (bool, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_check-history"));
    let output = program.args(arguments).arg(history).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
}

/// The history must be sound, and the same one with something planted must not.
fn judge(history: &Path, options: &Options) {
    let (sound, said) = check(&[], history);
    eprint!("{said}");
    assert!(sound, "seed {}: the history is kept as {}", options.seed, history.display());
    for (name, _) in Fault::ALL {
        let seed = options.seed.to_string();
        let (sound, said) = check(&["--plant", name, "--seed", &seed], history);
        assert!(!sound && said.contains("NOT SOUND"), "a planted {name} is not found: {said}");
    }
}

/// Nobody can have stayed where they were, and publishers met what they had stored already.
fn everybody_moved(history: &Path, options: &Options) {
    let (mut nodes, mut restarts, mut duplicates) = (BTreeMap::<u64, BTreeSet<usize>>::new(), 0, 0);
    for record in history::read(history).unwrap() {
        match record {
            Record::Asks { subscriber, node, .. } => _ = nodes.entry(subscriber).or_default().insert(node),
            Record::Fault { what } => restarts += usize::from(what.starts_with("SIGTERM node")),
            Record::Answered { answer: Answer::Stored { duplicate, .. }, .. } => {
                duplicates += usize::from(duplicate);
            }
            _ => {}
        }
    }
    assert_eq!(restarts, options.nodes, "each node is restarted once");
    assert!(nodes.values().all(|nodes| nodes.len() > 1), "all resumed on another node: {nodes:?}");
    assert!(duplicates > 0, "somebody asked again for what was stored");
}

fn options(nodes: usize, breaking: Duration) -> Options {
    Options {
        nodes,
        subscribers: 200,
        publishers: 6,
        plan: Plan::Break(breaking),
        choice: Choice::Any,
        seed: 0,
        about: String::new(),
        dir: directory("", 0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_is_killed_and_cut_off_loses_and_repeats_nothing() {
    let options = options(1, Duration::from_secs(12));
    rounds("embedded", number("NEWSWIRE_CHAOS_ROUNDS").unwrap_or(1), &options, async || Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_a_nats_cluster_lose_and_repeat_nothing() {
    let options = options(3, Duration::from_secs(18));
    let engine = async || JetStream::start(3, 3).await;
    rounds("jetstream", number("NEWSWIRE_CHAOS_ROUNDS").unwrap_or(3), &options, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_redis_lose_and_repeat_nothing() {
    let options = options(3, Duration::from_secs(18));
    let engine = async || Redis::start(3).await;
    rounds("redis", number("NEWSWIRE_CHAOS_ROUNDS").unwrap_or(1), &options, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_nodes_and_servers_loses_and_repeats_nothing() {
    let mut options = options(3, Duration::ZERO);
    (options.plan, options.choice, options.subscribers) = (Plan::RestartEach, Choice::Ready, 50);
    let engine = async || JetStream::start(3, 3).await;
    rounds("rolling", number("NEWSWIRE_CHAOS_ROUNDS").unwrap_or(1), &options, engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_the_load_balancer_of_the_deployment_loses_and_repeats_nothing() {
    let mut options = options(3, Duration::ZERO);
    let before = |nodes: &[SocketAddr]| -> Box<dyn Before> { Box::new(HaProxy::start(nodes, Front::Plain)) };
    (options.plan, options.choice, options.subscribers) = (Plan::RestartEach, Choice::Before(before), 50);
    let engine = async || JetStream::start(3, 3).await;
    rounds("balanced", number("NEWSWIRE_CHAOS_ROUNDS").unwrap_or(1), &options, engine).await;
}
