//! What every [`Meta`] must do. An implementation's tests call [`run`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_protocol::UnixMicros;

use super::events::wait;
use crate::clock::{Clock, ManualClock};
use crate::meta::{
    Change, Expect, MAX_KEY_BYTES, MAX_VALUE_BYTES, Meta, MetaError, WATCH_QUEUE, Watch, WatchEnded,
};

/// Makes a fresh, empty store.
pub type Make<'a> = &'a dyn Fn(&Arc<ManualClock>) -> Box<dyn Meta>;

/// Runs every check, each on a fresh store that `make` returns.
///
/// # Panics
/// Where a promise is broken.
pub fn run(make: Make<'_>) {
    for check in [
        compares_and_sets,
        gives_to_one_of_many,
        expires,
        what_expired_is_absent,
        leases,
        watches,
        wakes_every_watcher,
        ends_slow_watchers,
        lists,
        keeps_odd_keys_apart,
    ] {
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

/// What tickets rest on: of many who take one at once, one gets it.
fn gives_to_one_of_many(meta: &dyn Meta, _: &ManualClock) {
    let version = wait(meta.put("ticket", text("1"), Expect::Absent, None)).unwrap();
    let takes = (0..20).map(|_| meta.delete("ticket", Expect::Version(version)));
    let takes = wait(futures_util::future::join_all(takes));
    assert_eq!(takes.iter().filter(|taken| **taken == Ok(true)).count(), 1, "{takes:?}");
    let refused = Err(MetaError::Conflict { current: None });
    assert_eq!(takes.iter().filter(|taken| **taken == refused).count(), 19, "{takes:?}");
    // Many who change what they read, each again until it is theirs: no change is lost.
    wait(meta.put("count", text(""), Expect::Absent, None)).unwrap();
    let add = async || {
        loop {
            let entry = meta.get("count").await.unwrap().expect("it is never deleted");
            let more = Bytes::from([&entry.value[..], b"x"].concat());
            match meta.put("count", more, Expect::Version(entry.version), None).await {
                Ok(_) => return,
                Err(MetaError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    wait(futures_util::future::join_all((0..20).map(|_| add())));
    assert_eq!(wait(meta.get("count")).unwrap().unwrap().value.len(), 20);
    let large = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    assert_eq!(wait(meta.put("large", large.clone(), Expect::Any, None)), Err(MetaError::TooLarge));
    assert!(wait(meta.put("large", large.slice(1..), Expect::Any, None)).is_ok());
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

fn what_expired_is_absent(meta: &dyn Meta, clock: &ManualClock) {
    let ttl = Duration::from_secs(5);
    let first = wait(meta.put("a", text("1"), Expect::Absent, Some(ttl))).unwrap();
    clock.advance(ttl);
    let absent = MetaError::Conflict { current: None };
    assert_eq!(wait(meta.put("a", text("2"), Expect::Version(first), None)), Err(absent.clone()));
    assert_eq!(wait(meta.delete("a", Expect::Version(first))), Err(absent));
    let second = wait(meta.put("a", text("2"), Expect::Absent, Some(ttl))).unwrap();
    assert!(second > first);
    clock.advance(ttl - Duration::from_micros(1));
    let entry = wait(meta.get("a")).unwrap().expect("it counts from the second time");
    assert_eq!((entry.version, entry.expires_at.unwrap() > clock.now()), (second, true));
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
    let again = wait(meta.acquire("bridge", "b", ttl)).unwrap().unwrap();
    assert_eq!(again.token, second.token, "taking one's own again renews it");
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

fn wakes_every_watcher(meta: &dyn Meta, _: &ManualClock) {
    let mut watches = [meta.watch("revoked/"), meta.watch("revoked/"), meta.watch("")];
    let next = async |watch: &mut Watch| {
        let Change::Put { key, entry } = watch.next().await.unwrap() else { panic!("not a put") };
        // It can be read by whoever saw it.
        assert!(meta.get(&key).await.unwrap().is_some_and(|read| read.version >= entry.version));
        (key.to_string(), entry.version)
    };
    let watching = futures_util::future::join_all(watches.iter_mut().map(async |watch| {
        let first = next(watch).await;
        (first, next(watch).await)
    }));
    let putting = async {
        let first = meta.put("revoked/b", text("1"), Expect::Any, None).await.unwrap();
        (first, meta.put("revoked/a", text("1"), Expect::Any, None).await.unwrap())
    };
    // The watchers are polled first and find nothing.
    let (seen, (first, second)) = wait(futures_util::future::join(watching, putting));
    assert!(first < second, "versions ascend over all keys");
    for seen in seen {
        assert_eq!(seen, (("revoked/b".to_owned(), first), ("revoked/a".to_owned(), second)));
    }
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

/// Keys are any text: what they are kept in may not read anything into them.
fn keeps_odd_keys_apart(meta: &dyn Meta, _: &ManualClock) {
    let longest = "k".repeat(MAX_KEY_BYTES);
    let keys = [
        "",
        " ",
        "*",
        ">",
        ".",
        "a.b",
        "a.*",
        "a.>",
        "a b",
        "a\tb",
        "a\0b",
        "A",
        "a",
        "ä",
        "a/",
        "/a",
        "a//b",
        "%61",
        "=61",
        "\u{1f600}",
        &longest,
    ];
    for (n, key) in keys.iter().enumerate() {
        wait(meta.put(key, Bytes::from(n.to_string()), Expect::Absent, None)).unwrap();
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(wait(meta.get(key)).unwrap().unwrap().value, n.to_string(), "{key:?}");
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let listed = wait(meta.list("")).unwrap();
    assert_eq!(listed.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), sorted);
    let dotted = wait(meta.list("a.")).unwrap();
    assert_eq!(dotted.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["a.*", "a.>", "a.b"]);
    assert_eq!(wait(meta.delete("*", Expect::Any)), Ok(true));
    assert_eq!(wait(meta.list("")).unwrap().len(), keys.len() - 1);
}
