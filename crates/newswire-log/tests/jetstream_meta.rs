//! Shared state in NATS holds for several nodes, over restarts, and is taken away by the server once it has expired.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_log::jetstream::{JetStream, JetStreamError, JetStreamMeta, JetStreamOptions};
use newswire_log::{Change, Expect, Meta, SystemClock};
use newswire_street_tests::{NatsCluster, NatsServer, within};

const LIMIT: Duration = Duration::from_secs(3);

async fn open(servers: Vec<String>, replicas: usize) -> JetStreamMeta {
    let options = JetStreamOptions { servers, replicas, timeout: LIMIT, ..JetStreamOptions::default() };
    let engine = JetStream::connect(options).await.expect("it opens");
    engine.meta(Arc::new(SystemClock)).await.expect("it opens")
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_cluster_share_it() {
    let cluster = NatsCluster::start(3);
    let (a, b) = (open(cluster.urls(), 3).await, open(cluster.urls(), 3).await);
    let mut watch = b.watch("revoked/");
    for n in 0..50 {
        let key = format!("ticket/{n}");
        let version = a.put(&key, text("1"), Expect::Absent, None).await.expect("it is stored");
        // Read at once on the other node, and taken by both: one has it.
        let entry = b.get(&key).await.expect("it can be read").expect("it is there");
        assert_eq!(entry.version, version);
        let taken =
            tokio::join!(a.delete(&key, Expect::Version(version)), b.delete(&key, Expect::Version(version)));
        assert_eq!([taken.0.is_ok(), taken.1.is_ok()].iter().filter(|ok| **ok).count(), 1, "{taken:?}");
    }
    assert!(b.list("ticket/").await.expect("it can be read").is_empty());
    let told = std::time::Instant::now();
    a.put("revoked/x", text(""), Expect::Any, None).await.expect("it is stored");
    assert!(matches!(watch.next().await, Ok(Change::Put { key, .. }) if &*key == "revoked/x"));
    assert!(
        told.elapsed() < Duration::from_secs(1),
        "every node knows within a second: {:?}",
        told.elapsed()
    );
    let lease = a.acquire("epoch", "a", LIMIT).await.expect("it answers");
    assert!(lease.is_some());
    assert_eq!(b.acquire("epoch", "b", LIMIT).await, Ok(None));
}

/// A minute beyond what was asked for, as clocks differ.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_removed_by_the_server() {
    let server = NatsServer::start();
    let meta = open(vec![server.url()], 1).await;
    let ttl = Some(Duration::from_secs(1));
    let version = meta.put("ticket", text("1"), Expect::Absent, ttl).await.expect("it is stored");
    assert_eq!(server.first_of("KV_newswire-meta"), Some(version));
    within(Duration::from_secs(100), "the server removes it", async || {
        server.first_of("KV_newswire-meta").filter(|first| *first > version)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_ride_out_a_restart_or_end() {
    let mut server = NatsServer::start();
    let (a, b) = (open(vec![server.url()], 1).await, open(vec![server.url()], 1).await);
    b.put("kept", text("1"), Expect::Absent, None).await.expect("it is stored");
    let mut watch = b.watch("");
    tokio::task::block_in_place(|| server.restart());
    assert!(b.get("kept").await.expect("it can be read").is_some());
    let put = a.put("after", text("2"), Expect::Any, None).await.expect("it is stored");
    match watch.next().await {
        Ok(Change::Put { key, entry }) => assert_eq!((&*key, entry.version), ("after", put)),
        Ok(change) => panic!("{change:?}"),
        Err(_) => assert!(b.list("").await.expect("it can be read").len() == 2, "who lists again sees it"),
    }
    // And it goes on, or is begun anew, and misses nothing.
    let mut anew = b.watch("x/");
    a.put("x/1", text("3"), Expect::Any, None).await.expect("it is stored");
    assert!(matches!(anew.next().await, Ok(Change::Put { key, .. }) if &*key == "x/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_an_error_in_time() {
    let mut server = NatsServer::start();
    let meta = open(vec![server.url()], 1).await;
    server.kill();
    let asked = std::time::Instant::now();
    let (get, put, list) =
        tokio::join!(meta.get("a"), meta.put("a", text(""), Expect::Any, None), meta.list(""));
    assert!(get.is_err() && put.is_err() && list.is_err());
    assert!(asked.elapsed() < LIMIT * 2, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_otherwise_is_explained() {
    let server = NatsServer::start();
    let client = async_nats::connect(server.url()).await.expect("the server lets it in");
    let context = async_nats::jetstream::new(client);
    let config =
        async_nats::jetstream::kv::Config { bucket: "newswire-meta".to_owned(), ..Default::default() };
    context.create_key_value(config).await.expect("the server makes it");
    let options = JetStreamOptions { servers: vec![server.url()], ..JetStreamOptions::default() };
    let engine = JetStream::connect(options).await.expect("it opens");
    let Err(error) = engine.meta(Arc::new(SystemClock)).await else { panic!("it opened") };
    assert!(matches!(error, JetStreamError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    for part in ["KV_newswire-meta", "max_msgs_per_subject is 1 instead of 64", "allow_msg_ttl"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
