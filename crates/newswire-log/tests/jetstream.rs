//! The engine on JetStream keeps its promises: over one server and over three, while servers die, and for whoever is let in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use newswire_log::SequenceError;
use newswire_log::Sequencer;
use newswire_log::jetstream::{JetStream, JetStreamError, JetStreamOptions};
use newswire_log::testing::sequencer_suite::{self, Rig, append, compare, ends, number, take};
use newswire_street_tests::{NatsCluster, NatsServer};
use tokio::sync::Mutex;

const LIMIT: Duration = Duration::from_secs(3);

fn options(servers: Vec<String>, stream: &str) -> JetStreamOptions {
    JetStreamOptions { servers, stream: stream.to_owned(), timeout: LIMIT, ..JetStreamOptions::default() }
}

async fn open(servers: Vec<String>, stream: &str) -> JetStream {
    JetStream::connect(options(servers, stream)).await.expect("the server lets it in")
}

/// The same server, asked by somebody else.
async fn context(url: &str) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(url).await.expect("the server lets it in"))
}

/// Servers that can be killed and started from a shared reference.
struct Servers {
    urls: Vec<String>,
    replicas: usize,
    cluster: Mutex<NatsCluster>,
}

impl Servers {
    fn start(count: usize) -> Self {
        let cluster = match count {
            1 => NatsCluster { servers: vec![NatsServer::start()] },
            _ => NatsCluster::start(count),
        };
        Self { urls: cluster.urls(), replicas: count, cluster: Mutex::new(cluster) }
    }

    async fn context(&self) -> async_nats::jetstream::Context {
        context(&self.urls[0]).await
    }
}

impl Rig for Servers {
    fn open<'a>(&'a self, log: &'a str) -> BoxFuture<'a, Arc<dyn Sequencer>> {
        Box::pin(async move {
            let options = JetStreamOptions { replicas: self.replicas, ..options(self.urls.clone(), log) };
            Arc::new(JetStream::connect(options).await.expect("it opens")) as Arc<dyn Sequencer>
        })
    }

    fn remove_up_to<'a>(&'a self, log: &'a str, offset: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let stream = self.context().await.get_stream(log).await.expect("it is there");
            stream.purge().sequence(offset + 1).await.expect("the stream forgets");
        })
    }

    fn delete<'a>(&'a self, log: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.context().await.delete_stream(log).await.expect("it is there");
        })
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.cluster.lock().await.kill() })
    }

    fn start(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut cluster = self.cluster.lock().await;
            tokio::task::block_in_place(|| cluster.restart());
        })
    }

    fn limit(&self) -> Duration {
        LIMIT
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server() {
    let rig = Servers::start(1);
    sequencer_suite::run(&rig).await;
    sequencer_suite::run_with_outages(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers() {
    let rig = Servers::start(3);
    sequencer_suite::run(&rig).await;
    sequencer_suite::run_with_outages(&rig).await;
}

/// How one server of three is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Killed,
    Silent,
}

/// Two nodes append while the server that leads the stream is lost, three times; every acknowledged message is there once.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_are_lost_cost_nothing() {
    let mut cluster = NatsCluster::start(3);
    let urls = cluster.urls();
    let node = async |first: usize| {
        // Each begins at another server.
        let servers = urls.iter().cycle().skip(first).take(3).cloned().collect();
        let options = JetStreamOptions { replicas: 3, ..options(servers, "EVENTS") };
        JetStream::connect(options).await.expect("it opens")
    };
    let (a, b) = (node(0).await, node(1).await);
    let is_over = AtomicBool::new(false);
    let publish = async |node: &JetStream, from: u64| {
        let (mut told, mut unknown) = (Vec::new(), Vec::new());
        for n in from.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            match append(node, n).await {
                Ok(accepted) => told.push((n, accepted.first)),
                Err(SequenceError::Unreachable { .. } | SequenceError::Unanswered { .. }) => unknown.push(n),
                Err(error) => panic!("{error}"),
            }
        }
        (told, unknown)
    };
    let losses = async {
        for loss in [Loss::Killed, Loss::Silent, Loss::Killed] {
            tokio::time::sleep(Duration::from_millis(700)).await;
            tokio::task::block_in_place(|| {
                let leader = cluster.leader_of("EVENTS");
                match loss {
                    Loss::Killed => cluster.servers[leader].kill(),
                    Loss::Silent => cluster.servers[leader].pause(),
                }
                std::thread::sleep(LIMIT);
                match loss {
                    Loss::Killed => cluster.servers[leader].restart(),
                    Loss::Silent => cluster.servers[leader].resume(),
                }
                cluster.wait();
            });
        }
        tokio::time::sleep(LIMIT).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (from_a, from_b, ()) = tokio::join!(publish(&a, 0), publish(&b, 1_000_000), losses);
    for node in [&a, &b] {
        let end = node.extent().await.unwrap().last;
        let mut following = node.follow(0).await.unwrap();
        let mut seen = BTreeMap::new();
        while seen.keys().next_back() != Some(&end) {
            let message = take(&mut following, 1).await.remove(0);
            seen.insert(message.place.offset, number(&message.body));
        }
        compare(&seen, &[&from_a.0[..], &from_b.0].concat(), &[&from_a.1[..], &from_b.1].concat());
    }
}

/// A server that stands still keeps its connections: whoever follows has to notice by the silence.
#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_following_and_fails_calls_in_time() {
    let server = NatsServer::start();
    let node = open(vec![server.url()], "EVENTS").await;
    append(&node, 1).await.unwrap();
    let mut following = node.follow(0).await.unwrap();
    take(&mut following, 1).await;
    server.pause();
    let asked = std::time::Instant::now();
    let (ended, appended) = tokio::join!(ends(&mut following, LIMIT * 2), append(&node, 2));
    assert!(matches!(appended, Err(SequenceError::Unanswered { .. })), "{appended:?}");
    assert!(asked.elapsed() < LIMIT * 2, "{ended} after {:?}", asked.elapsed());
    server.resume();
    let mut n = 3;
    while append(&node, n).await.is_err() {
        n += 1;
        assert!(n < 30, "it serves again");
    }
}

/// A follower that does not read holds up nobody, and misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_is_sent_no_more_than_it_has_room_for() {
    let server = NatsServer::start();
    let node = open(vec![server.url()], "EVENTS").await;
    let mut slow = node.follow(0).await.unwrap();
    let large = |n: u64| {
        let mut message = sequencer_suite::numbered(n);
        message.body = vec![b'x'; 500_000].into();
        message
    };
    for n in 0..200 {
        node.append(vec![large(n)]).await.unwrap();
    }
    for n in 1..=200 {
        let message = slow.next().await.expect("it goes on").expect("nothing is wrong");
        assert_eq!(message.place.offset, n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_too_large_and_what_is_full() {
    let server = NatsServer::start();
    let mut small = JetStreamOptions { refuses_when_full: true, ..options(vec![server.url()], "SMALL") };
    small.retention.max_events = Some(3);
    let node = JetStream::connect(small).await.unwrap();
    let mut large = sequencer_suite::numbered(0);
    large.body = vec![0; 2 << 20].into();
    let refused = node.append(vec![large]).await;
    assert!(matches!(refused, Err(SequenceError::Refused { .. })), "{refused:?}");
    for n in 1..=3 {
        append(&node, n).await.unwrap();
    }
    let full = append(&node, 4).await;
    assert!(matches!(full, Err(SequenceError::Full { .. })), "{full:?}");
    let full = node.append(vec![sequencer_suite::numbered(5), sequencer_suite::numbered(6)]).await;
    assert!(matches!(full, Err(SequenceError::Full { .. })), "{full:?}");
    assert_eq!(node.extent().await.unwrap().last, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_otherwise_is_explained_and_left_alone() {
    let server = NatsServer::start();
    open(vec![server.url()], "EVENTS").await;
    let mut other = options(vec![server.url()], "EVENTS");
    other.retention.max_age = Some(Duration::from_secs(3600));
    other.retention.max_events = Some(1000);
    let Err(error) = JetStream::connect(other).await else { panic!("it opened") };
    assert!(matches!(error, JetStreamError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    for part in ["\"EVENTS\"", "max_age", "3600s", "max_msgs", "1000", "nats stream edit EVENTS"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("storage"), "only what differs: {text}");
    open(vec![server.url()], "EVENTS").await;
    // One that somebody made for something else.
    let context = context(&server.url()).await;
    let foreign = async_nats::jetstream::stream::Config {
        name: "FOREIGN".to_owned(),
        subjects: vec!["other.>".to_owned()],
        no_ack: true,
        ..Default::default()
    };
    context.create_stream(foreign).await.unwrap();
    let Err(error) = JetStream::connect(options(vec![server.url()], "FOREIGN")).await else {
        panic!("it opened")
    };
    let text = error.to_string();
    for part in ["subjects", "other.>", "FOREIGN.*", "allow_atomic", "no_ack"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let stream = context.get_stream("FOREIGN").await.unwrap();
    assert_eq!(stream.cached_info().config.subjects, ["other.>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_servers_are_refused_at_the_start() {
    let server = NatsServer::start();
    let three = JetStreamOptions { replicas: 3, ..options(vec![server.url()], "EVENTS") };
    let Err(error) = JetStream::connect(three).await else { panic!("it opened") };
    assert!(matches!(error, JetStreamError::Setup { .. }), "{error}");
    assert!(error.to_string().contains("replicas"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_in_time() {
    let nobody = options(vec!["nats://127.0.0.1:1".to_owned()], "EVENTS");
    let Err(error) = JetStream::connect(nobody).await else { panic!("it opened") };
    assert!(matches!(error, JetStreamError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

/// A server that has lost sight of the others goes on talking to whoever follows; they must not believe it for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_others_ends_a_following() {
    let cluster = NatsCluster::start(3);
    let of = JetStreamOptions { replicas: 3, ..options(cluster.urls(), "EVENTS") };
    let node = JetStream::connect(of).await.expect("it opens");
    append(&node, 1).await.expect("it is stored");
    let mut following = node.follow(0).await.expect("it follows");
    take(&mut following, 1).await;
    // Whichever of them the node and its consumer are on, one that goes on is alone.
    let leader = cluster.leader_of("EVENTS");
    let others = [(leader + 1) % 3, leader];
    others.iter().for_each(|number| cluster.servers[*number].pause());
    ends(&mut following, LIMIT * 3).await;
    others.iter().for_each(|number| cluster.servers[*number].resume());
    let mut n = 2;
    while append(&node, n).await.is_err() {
        n += 1;
        assert!(n < 30, "it serves again");
    }
}

/// Another stream of the same name is not what was followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_anew_ends_a_following() {
    let rig = Servers::start(1);
    let node = rig.open("EVENTS").await;
    for n in 1..=3 {
        append(node.as_ref(), n).await.expect("it is stored");
    }
    let mut following = node.follow(0).await.expect("it follows");
    take(&mut following, 3).await;
    rig.delete("EVENTS").await;
    let refused = append(node.as_ref(), 4).await;
    assert!(refused.is_err(), "there is no stream: {refused:?}");
    rig.open("EVENTS").await;
    ends(&mut following, LIMIT * 3).await;
    append(node.as_ref(), 5).await.expect("it is stored");
    append(node.as_ref(), 6).await.expect("it is stored");
    assert!(node.follow(3).await.is_err(), "nothing can follow what is not there");
    // From its beginning it is followed as any other.
    let mut anew = node.follow(0).await.expect("it follows");
    let taken = take(&mut anew, 2).await;
    assert_eq!(taken.iter().map(|message| message.place.offset).collect::<Vec<_>>(), [1, 2]);
    tokio::time::sleep(LIMIT * 3).await;
    append(node.as_ref(), 7).await.expect("it is stored");
    assert_eq!(take(&mut anew, 1).await[0].place.offset, 3);
}
