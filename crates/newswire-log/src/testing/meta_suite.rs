//! What every [`Meta`] must do. An implementation's tests call [`run`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::UnixMicros;

use super::events::wait;
use crate::clock::ManualClock;
use crate::meta::{Change, Expect, MAX_KEY_BYTES, Meta, MetaError, WATCH_QUEUE, WatchEnded};

/// Makes a fresh, empty store.
pub type Make<'a> = &'a dyn Fn(&Arc<ManualClock>) -> Box<dyn Meta>;

/// Runs every check, each on a fresh store that `make` returns.
///
/// # Panics
/// Where a promise is broken.
pub fn run(make: Make<'_>) {
    for check in [compares_and_sets, expires, leases, watches, ends_slow_watchers, lists] {
        let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
        let meta = make(&clock);
        check(meta.as_ref(), &clock);
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn compares_and_sets(meta: &dyn Meta, _: &ManualClock) {
    assert_eq!(wait(meta.get("a")), Ok(None));
    let first = wait(meta.put("a", text("1"), Expect::Absent, None)).unwrap();
    assert!(first > 0);
    let conflict = Err(MetaError::Conflict { current: Some(first) });
    assert_eq!(wait(meta.put("a", text("2"), Expect::Absent, None)), conflict);
    assert_eq!(wait(meta.put("a", text("2"), Expect::Version(first + 7), None)), conflict);
    let second = wait(meta.put("a", text("2"), Expect::Version(first), None)).unwrap();
    assert!(second > first);
    let entry = wait(meta.get("a")).unwrap().unwrap();
    assert_eq!((entry.value, entry.version, entry.expires_at), (text("2"), second, None));
    assert!(matches!(wait(meta.delete("a", Expect::Version(first))), Err(MetaError::Conflict { .. })));
    assert_eq!(wait(meta.delete("a", Expect::Version(second))), Ok(true));
    assert_eq!(wait(meta.delete("a", Expect::Any)), Ok(false));
    let missing = wait(meta.put("a", text("3"), Expect::Version(second), None));
    assert_eq!(missing, Err(MetaError::Conflict { current: None }));
    assert!(wait(meta.put("a", text("3"), Expect::Any, None)).unwrap() > second, "versions never repeat");
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    assert_eq!(wait(meta.put(&long, text(""), Expect::Any, None)), Err(MetaError::TooLarge));
    // Many who try at once: exactly one is first.
    let tries = (0..20).map(|_| meta.put("race", text("x"), Expect::Absent, None));
    let won = wait(futures_util::future::join_all(tries)).into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

fn expires(meta: &dyn Meta, clock: &ManualClock) {
    let ttl = Duration::from_secs(30);
    wait(meta.put("ticket", text("1"), Expect::Absent, Some(ttl))).unwrap();
    clock.advance(ttl - Duration::from_micros(1));
    assert!(wait(meta.get("ticket")).unwrap().is_some());
    clock.advance(Duration::from_micros(1));
    assert_eq!(wait(meta.get("ticket")), Ok(None));
    assert_eq!(wait(meta.list("")).unwrap().len(), 0);
    assert_eq!(wait(meta.delete("ticket", Expect::Any)), Ok(false), "a ticket is used once, or never");
    wait(meta.put("ticket", text("2"), Expect::Absent, Some(ttl))).unwrap();
    wait(meta.put("ticket", text("3"), Expect::Any, None)).unwrap();
    clock.advance(ttl);
    assert!(wait(meta.get("ticket")).unwrap().is_some(), "the new value has no end");
    wait(meta.put("gone", text(""), Expect::Any, Some(Duration::ZERO))).unwrap();
    assert_eq!(wait(meta.get("gone")), Ok(None));
}

fn leases(meta: &dyn Meta, clock: &ManualClock) {
    let ttl = Duration::from_secs(10);
    let first = wait(meta.acquire("bridge", "a", ttl)).unwrap().unwrap();
    assert_eq!(wait(meta.acquire("bridge", "b", ttl)), Ok(None));
    assert_eq!(wait(meta.renew("bridge", "b", ttl)), Ok(None));
    assert_eq!(wait(meta.release("bridge", "b")), Ok(false));
    clock.advance(Duration::from_secs(9));
    let renewed = wait(meta.renew("bridge", "a", ttl)).unwrap().unwrap();
    assert_eq!(renewed.token, first.token);
    assert!(renewed.expires_at > first.expires_at);
    clock.advance(Duration::from_secs(9));
    assert_eq!(wait(meta.acquire("bridge", "b", ttl)), Ok(None));
    clock.advance(Duration::from_secs(1));
    assert_eq!(wait(meta.renew("bridge", "a", ttl)), Ok(None), "too late");
    let second = wait(meta.acquire("bridge", "b", ttl)).unwrap().unwrap();
    assert!(second.token > first.token);
    assert_eq!(wait(meta.release("bridge", "b")), Ok(true));
    assert!(wait(meta.acquire("bridge", "a", ttl)).unwrap().is_some());
    // Leases and keys do not meet.
    assert_eq!(wait(meta.get("bridge")), Ok(None));
}

fn watches(meta: &dyn Meta, _: &ManualClock) {
    wait(meta.put("a/0", text("before"), Expect::Any, None)).unwrap();
    let mut watch = meta.watch("a/");
    let put = wait(meta.put("a/1", text("1"), Expect::Any, None)).unwrap();
    wait(meta.put("b/1", text("1"), Expect::Any, None)).unwrap();
    let refused = wait(meta.put("a/1", text("2"), Expect::Absent, None));
    assert!(refused.is_err());
    wait(meta.delete("a/1", Expect::Any)).unwrap();
    wait(meta.delete("a/1", Expect::Any)).unwrap();
    wait(meta.put("a/2", text("2"), Expect::Any, None)).unwrap();
    let Change::Put { key, entry } = wait(watch.next()).unwrap() else { panic!("not the put") };
    assert_eq!((&*key, entry.value, entry.version), ("a/1", text("1"), put));
    let Change::Deleted { key, version } = wait(watch.next()).unwrap() else { panic!("not the deletion") };
    assert!(&*key == "a/1" && version > put);
    assert!(matches!(wait(watch.next()), Ok(Change::Put { key, .. }) if &*key == "a/2"));
}

fn ends_slow_watchers(meta: &dyn Meta, _: &ManualClock) {
    let mut watch = meta.watch("");
    let puts = (0..WATCH_QUEUE + 1).map(|_| meta.put("a", text("1"), Expect::Any, None));
    for result in wait(futures_util::future::join_all(puts)) {
        result.unwrap();
    }
    for _ in 0..WATCH_QUEUE {
        assert!(wait(watch.next()).is_ok());
    }
    assert_eq!(wait(watch.next()), Err(WatchEnded));
}

fn lists(meta: &dyn Meta, _: &ManualClock) {
    for key in ["b", "a/2", "a", "a/1", "a0"] {
        wait(meta.put(key, text("x"), Expect::Any, None)).unwrap();
    }
    let list = |prefix| {
        let entries = wait(meta.list(prefix)).unwrap();
        entries.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("a/"), ["a/1", "a/2"]);
    assert_eq!(list(""), ["a", "a/1", "a/2", "a0", "b"]);
}
