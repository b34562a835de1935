//! Every implementation of shared state keeps the same promises; the embedded one across restarts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_log::jetstream::{JetStream, JetStreamOptions};
use newswire_log::redis::{Redis, RedisOptions};
use newswire_log::testing::events::wait;
use newswire_log::testing::meta_suite;
use newswire_log::{Change, EmbeddedMeta, Expect, ManualClock, MemoryMeta, Meta, MetaError};
use newswire_protocol::UnixMicros;

#[test]
fn memory_meta() {
    meta_suite::run(&|clock| Box::new(MemoryMeta::new(clock.clone()).unwrap()) as Box<dyn Meta>);
}

#[test]
fn embedded_meta() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    meta_suite::run(&|clock| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = dir.path().join(format!("{number}.redb"));
        Box::new(EmbeddedMeta::open(&file, clock.clone()).unwrap()) as Box<dyn Meta>
    });
}

#[test]
fn jetstream_meta() {
    let server = newswire_street_tests::NatsServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    meta_suite::run(&|clock| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = JetStreamOptions {
            servers: vec![server.url()],
            stream: format!("LOG{number}"),
            ..JetStreamOptions::default()
        };
        let open = async { JetStream::connect(options).await.unwrap().meta(clock.clone()).await.unwrap() };
        Box::new(runtime.block_on(open)) as Box<dyn Meta>
    });
}

#[test]
fn redis_meta() {
    let server = newswire_street_tests::RedisServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    meta_suite::run(&|clock| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options =
            RedisOptions { url: server.url(), prefix: format!("log{number}"), ..RedisOptions::default() };
        let open = async { Redis::connect(options).await.unwrap().meta(clock.clone()).await.unwrap() };
        Box::new(runtime.block_on(open)) as Box<dyn Meta>
    });
}

#[test]
fn embedded_meta_survives_a_restart_and_sweeps() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meta.redb");
    let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
    let ttl = Duration::from_secs(10);
    let meta = EmbeddedMeta::open(&file, clock.clone()).unwrap();
    let version = wait(meta.put("kept", Bytes::from_static(b"1"), Expect::Any, None)).unwrap();
    wait(meta.put("short", Bytes::from_static(b"2"), Expect::Any, Some(ttl))).unwrap();
    let lease = wait(meta.acquire("bridge", "a", ttl)).unwrap().unwrap();
    meta.close();
    assert_eq!(wait(meta.get("kept")), Err(MetaError::Closed));
    drop(meta);
    let meta = EmbeddedMeta::open(&file, clock.clone()).unwrap();
    assert_eq!(wait(meta.get("kept")).unwrap().unwrap().version, version);
    assert_eq!(wait(meta.renew("bridge", "a", ttl)).unwrap().unwrap().token, lease.token);
    let mut watch = meta.watch("");
    clock.advance(ttl);
    assert_eq!(wait(meta.sweep()), Ok(2));
    assert!(matches!(wait(watch.next()), Ok(Change::Deleted { key, .. }) if &*key == "short"));
    assert_eq!(wait(meta.sweep()), Ok(0));
}
