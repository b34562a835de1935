//! What every [`Sequencer`] must do, over a real engine. An implementation's tests call [`run`], and [`run_with_outages`]
//! where they can kill the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use newswire_protocol::UnixMicros;

use crate::clock::{Clock, SystemClock};
use crate::remote::sequencer::{
    Accepted, Extent, Following, Message, MessageId, SequenceError, Sequenced, Sequencer,
};

/// Longer than anything here takes that does happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine to test, with as many logs as there are names.
pub trait Rig: Send + Sync {
    /// One node's handle on a log, which is made with the first.
    fn open<'a>(&'a self, log: &'a str) -> BoxFuture<'a, Arc<dyn Sequencer>>;
    /// Removes every message up to an offset, as the engine's own retention does.
    fn remove_up_to<'a>(&'a self, log: &'a str, offset: u64) -> BoxFuture<'a, ()>;
    /// Deletes a log with all that is in it. Whoever opens it next makes it anew.
    fn delete<'a>(&'a self, log: &'a str) -> BoxFuture<'a, ()>;
    /// Ends the engine, without a warning.
    fn kill(&self) -> BoxFuture<'_, ()>;
    /// Starts it again, where it was and with what it had.
    fn start(&self) -> BoxFuture<'_, ()>;
    /// The time that handles were given for an answer.
    fn limit(&self) -> Duration;
}

/// Runs every check that leaves the engine alone, each on a log of its own.
///
/// # Panics
/// Where a promise is broken.
pub async fn run(rig: &dyn Rig) {
    gives_offsets_in_order(rig).await;
    keeps_several_together(rig).await;
    tells_repeats_truly(rig).await;
    follows_from_anywhere(rig).await;
    begins_behind_what_was_removed(rig).await;
    tells_its_extent(rig).await;
    keeps_bodies_and_channels_as_they_are(rig).await;
    serves_nodes_at_once(rig).await;
}

/// Runs every check that kills the engine and starts it again.
///
/// # Panics
/// Where a promise is broken.
pub async fn run_with_outages(rig: &dyn Rig) {
    says_that_it_is_gone(rig).await;
    loses_nothing_it_acknowledged(rig).await;
}

/// A message of the channel `tasks` that holds a number and is recognised by it.
pub fn numbered(n: u64) -> Message {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    Message { channel: "tasks".into(), id: MessageId(id), body: Bytes::from(format!("body {n}")) }
}

/// The number in a message.
pub fn number(body: &Bytes) -> u64 {
    let text = std::str::from_utf8(body).ok().and_then(|text| text.strip_prefix("body "));
    text.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("not a numbered body: {body:?}"))
}

/// Appends one message.
///
/// # Errors
/// Those of [`Sequencer::append`].
pub async fn append(node: &dyn Sequencer, n: u64) -> Result<Accepted, SequenceError> {
    node.append(vec![numbered(n)]).await
}

/// The next `count` messages, which must come.
///
/// # Panics
/// When one does not, or the following ends.
pub async fn take(following: &mut Following, count: usize) -> Vec<Sequenced> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, following.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{} of {count} messages came", taken.len()));
        taken.push(next.expect("a following has no end but an error").expect("nothing is wrong"));
    }
    taken
}

/// Waits until a following ends with an error, whatever comes before.
///
/// # Panics
/// When it does not within `limit`.
pub async fn ends(following: &mut Following, limit: Duration) -> SequenceError {
    let error = tokio::time::timeout(limit, async {
        loop {
            match following.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it ended without saying why"),
            }
        }
    });
    error.await.expect("the following ends in time")
}

fn offsets(taken: &[Sequenced]) -> Vec<u64> {
    taken.iter().map(|message| message.place.offset).collect()
}

async fn gives_offsets_in_order(rig: &dyn Rig) {
    let (a, b) = (rig.open("order").await, rig.open("order").await);
    let before = SystemClock.now();
    for n in 0..10 {
        let node = if n % 2 == 0 { &a } else { &b };
        assert_eq!(append(node.as_ref(), n).await, Ok(Accepted { first: n + 1, repeated: false }));
    }
    let taken = take(&mut a.follow(0).await.unwrap(), 10).await;
    assert_eq!(offsets(&taken), (1..=10).collect::<Vec<_>>());
    assert_eq!(
        taken.iter().map(|message| number(&message.body)).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert!(taken.is_sorted_by_key(|message| message.place.stored_at), "times go on: {taken:?}");
    let (first, last) = (taken[0].place.stored_at, taken[9].place.stored_at);
    // Engine and test are one machine here, but need not round alike.
    let slack = |at: UnixMicros| UnixMicros(at.0 + 1_000_000);
    assert!(slack(first) >= before && last <= slack(SystemClock.now()), "{before:?} {first:?} {last:?}");
    for message in &taken {
        let read = b.at(message.place.offset).await;
        assert_eq!(read.as_ref(), Ok(&Some(message.clone())), "read alone it is the same");
    }
    assert_eq!(a.at(11).await, Ok(None));
}

async fn keeps_several_together(rig: &dyn Rig) {
    let (a, b) = (rig.open("several").await, rig.open("several").await);
    let most = a.max_messages() as u64;
    assert!(most >= 100, "an append of a hundred events is nothing unusual");
    let group = |from: u64, count: u64| (from..from + count).map(numbered).collect::<Vec<_>>();
    assert_eq!(a.append(group(0, 3)).await, Ok(Accepted { first: 1, repeated: false }));
    assert_eq!(append(b.as_ref(), 3).await.map(|accepted| accepted.first), Ok(4));
    assert_eq!(b.append(group(4, most)).await.map(|accepted| accepted.first), Ok(5));
    // Many at once, of two nodes, of several sizes.
    let base = 4 + most;
    let tries = (0..40).map(|n| {
        let node = if n % 2 == 0 { a.clone() } else { b.clone() };
        async move { (n, node.append(group(base + n * 10, 1 + n % 7)).await) }
    });
    let mut expected = BTreeMap::new();
    for (n, accepted) in join_all(tries).await {
        let first = accepted.unwrap().first;
        for (k, number) in (base + n * 10..=base + n * 10 + n % 7).enumerate() {
            assert_eq!(expected.insert(first + k as u64, number), None, "an offset is given once");
        }
    }
    let taken = take(&mut b.follow(base).await.unwrap(), expected.len()).await;
    let seen = taken.iter().map(|message| (message.place.offset, number(&message.body)));
    assert_eq!(seen.collect::<BTreeMap<_, _>>(), expected, "each where its append was told");
}

/// An engine need not recognise a repeat; but what it says of one has to be so.
async fn tells_repeats_truly(rig: &dyn Rig) {
    let (a, b) = (rig.open("repeats").await, rig.open("repeats").await);
    let first = append(a.as_ref(), 1).await.unwrap();
    append(a.as_ref(), 2).await.unwrap();
    let again = append(b.as_ref(), 1).await.unwrap();
    let last = b.extent().await.unwrap().last;
    if again.repeated {
        assert_eq!((again.first, last), (first.first, 2), "nothing was stored");
    } else {
        assert_eq!((again.first, last), (3, 3), "it was stored once more");
    }
    // Two nodes with the same event at the same time.
    let pairs = join_all((10..30).map(|n| {
        let (a, b) = (a.clone(), b.clone());
        async move { tokio::join!(append(a.as_ref(), n), append(b.as_ref(), n)) }
    }));
    for (one, other) in pairs.await {
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(!(one.repeated && other.repeated), "one of two is the first");
        let is_repeat = one.repeated || other.repeated;
        assert_eq!(one.first == other.first, is_repeat, "{one:?} {other:?}");
    }
}

async fn follows_from_anywhere(rig: &dyn Rig) {
    let node = rig.open("follow").await;
    let mut from_nothing = node.follow(0).await.unwrap();
    for n in 1..=5 {
        append(node.as_ref(), n).await.unwrap();
    }
    let mut from_within = node.follow(2).await.unwrap();
    let mut from_end = node.follow(5).await.unwrap();
    assert_eq!(offsets(&take(&mut from_nothing, 5).await), [1, 2, 3, 4, 5]);
    assert_eq!(offsets(&take(&mut from_within, 3).await), [3, 4, 5]);
    let silence = tokio::time::timeout(Duration::from_millis(200), from_end.next()).await;
    assert!(silence.is_err(), "there is nothing yet: {silence:?}");
    // Longer than an answer may take: silence where nothing happens is no reason to end.
    tokio::time::sleep(rig.limit() * 2).await;
    append(node.as_ref(), 6).await.unwrap();
    for following in [&mut from_nothing, &mut from_within, &mut from_end] {
        assert_eq!(offsets(&take(following, 1).await), [6]);
    }
    // More than one that does not read can be sent ahead.
    let mut slow = node.follow(6).await.unwrap();
    for group in (100..8100).collect::<Vec<_>>().chunks(100) {
        node.append(group.iter().map(|n| numbered(*n)).collect()).await.unwrap();
    }
    assert_eq!(offsets(&take(&mut slow, 8000).await), (7..=8006).collect::<Vec<_>>());
}

async fn begins_behind_what_was_removed(rig: &dyn Rig) {
    let node = rig.open("removed").await;
    for n in 1..=10 {
        append(node.as_ref(), n).await.unwrap();
    }
    rig.remove_up_to("removed", 5).await;
    let extent = node.extent().await.unwrap();
    assert_eq!((extent.first, extent.last), (6, 10));
    assert_eq!(node.at(5).await, Ok(None));
    assert_eq!(node.at(6).await.unwrap().map(|message| number(&message.body)), Some(6));
    for (after, expected) in [(0, 6), (3, 6), (5, 6), (7, 8)] {
        assert_eq!(
            offsets(&take(&mut node.follow(after).await.unwrap(), 1).await),
            [expected],
            "after {after}"
        );
    }
    rig.remove_up_to("removed", 10).await;
    let extent = node.extent().await.unwrap();
    assert_eq!((extent.first, extent.last), (11, 10), "nothing is left, and the end stays");
    let mut following = node.follow(0).await.unwrap();
    assert_eq!(append(node.as_ref(), 11).await.map(|accepted| accepted.first), Ok(11));
    assert_eq!(offsets(&take(&mut following, 1).await), [11]);
}

async fn tells_its_extent(rig: &dyn Rig) {
    let (a, b) = (rig.open("extent").await, rig.open("extent").await);
    let empty = a.extent().await.unwrap();
    assert_eq!((empty.first, empty.last), (1, 0));
    for n in 1..=20 {
        append(a.as_ref(), n).await.unwrap();
        let seen = b.extent().await.unwrap();
        assert_eq!(seen, Extent { last: n, ..empty.clone() }, "whoever asks sees what anybody was told");
    }
    rig.delete("extent").await;
    let anew = rig.open("extent").await.extent().await.unwrap();
    assert_ne!(anew.incarnation, empty.incarnation);
    assert_eq!((anew.first, anew.last), (1, 0));
    assert_ne!(
        a.extent().await.map(|extent| extent.incarnation),
        Ok(empty.incarnation),
        "for all who had it"
    );
}

async fn keeps_bodies_and_channels_as_they_are(rig: &dyn Rig) {
    let node = rig.open("bodies").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies = [every_byte, vec![b'x'], vec![b'\n'; 3], vec![0; 600_000]];
    let channels = ["a", "a.b", "a.b.c", ".", "..", "x:y#z@-_", "A", &"long.".repeat(25), "a#b"];
    let mut sent = Vec::new();
    for (n, (channel, body)) in channels.iter().zip(bodies.iter().cycle()).enumerate() {
        let body = Bytes::from(body.clone());
        let message = Message { channel: (*channel).into(), body: body.clone(), ..numbered(n as u64) };
        node.append(vec![message]).await.unwrap_or_else(|error| panic!("{channel}: {error}"));
        sent.push(body);
    }
    let taken = take(&mut node.follow(0).await.unwrap(), sent.len()).await;
    assert!(taken.iter().map(|message| &message.body).eq(&sent), "a body came otherwise than it went");
}

async fn serves_nodes_at_once(rig: &dyn Rig) {
    let (a, b) = (rig.open("at-once").await, rig.open("at-once").await);
    let (mut by_a, mut by_b) = (a.follow(0).await.unwrap(), b.follow(0).await.unwrap());
    let appends = (0..400).map(|n| {
        let node = if n % 2 == 0 { a.clone() } else { b.clone() };
        async move { (append(node.as_ref(), n).await.unwrap().first, n) }
    });
    let given: BTreeMap<u64, u64> = join_all(appends).await.into_iter().collect();
    assert_eq!(given.keys().copied().collect::<Vec<_>>(), (1..=400).collect::<Vec<_>>());
    let (seen_by_a, seen_by_b) = (take(&mut by_a, 400).await, take(&mut by_b, 400).await);
    assert_eq!(seen_by_a, seen_by_b);
    let seen = seen_by_a.iter().map(|message| (message.place.offset, number(&message.body)));
    assert_eq!(seen.collect::<BTreeMap<_, _>>(), given);
}

async fn says_that_it_is_gone(rig: &dyn Rig) {
    let node = rig.open("gone").await;
    append(node.as_ref(), 1).await.unwrap();
    let mut following = node.follow(0).await.unwrap();
    take(&mut following, 1).await;
    let incarnation = node.extent().await.unwrap().incarnation;
    rig.kill().await;
    let in_time = rig.limit() * 2 + Duration::from_secs(1);
    ends(&mut following, in_time).await;
    let asked = Instant::now();
    let (appended, followed, extent, at) =
        tokio::join!(append(node.as_ref(), 2), node.follow(0), node.extent(), node.at(1));
    assert!(asked.elapsed() < in_time, "it answers in time: {:?}", asked.elapsed());
    let refused = [appended.err(), followed.err(), extent.err(), at.err()];
    for error in &refused {
        assert!(is_outage(error.as_ref()), "{refused:?}");
    }
    rig.start().await;
    let mut n = 3;
    while append(node.as_ref(), n).await.is_err() {
        n += 1;
        assert!(n < 30, "it serves again once the engine is back");
    }
    let taken = take(&mut node.follow(1).await.unwrap(), 1).await;
    assert!(number(&taken[0].body) > 1);
    assert_eq!(node.extent().await.unwrap().incarnation, incarnation, "it is the same log");
}

fn is_outage(error: Option<&SequenceError>) -> bool {
    matches!(error, Some(SequenceError::Unreachable { .. } | SequenceError::Unanswered { .. }))
}

/// Two nodes append without a break while the engine is killed and started again; then what is there is compared with what
/// they were told.
async fn loses_nothing_it_acknowledged(rig: &dyn Rig) {
    let (a, b) = (rig.open("outages").await, rig.open("outages").await);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let publish = async |node: &dyn Sequencer, from: u64| {
        let (mut told, mut unknown) = (Vec::new(), Vec::new());
        for n in from.. {
            if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            match append(node, n).await {
                Ok(accepted) => told.push((n, accepted.first)),
                Err(error) => {
                    assert!(is_outage(Some(&error)), "{error}");
                    unknown.push(n);
                }
            }
        }
        (told, unknown)
    };
    let outages = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            rig.kill().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            rig.start().await;
        }
        tokio::time::sleep(rig.limit()).await;
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (from_a, from_b, ()) = tokio::join!(publish(a.as_ref(), 0), publish(b.as_ref(), 1_000_000), outages);
    let end = a.extent().await.unwrap().last;
    let mut following = b.follow(0).await.unwrap();
    let mut seen = BTreeMap::new();
    while seen.keys().next_back() != Some(&end) {
        let message = take(&mut following, 1).await.remove(0);
        seen.insert(message.place.offset, number(&message.body));
    }
    compare(&seen, &[from_a.0, from_b.0].concat(), &[from_a.1, from_b.1].concat());
}

/// Every number that was acknowledged is where that was said, and nowhere else; what was not is there at most once; nothing
/// else is there.
///
/// # Panics
/// Where that is not so.
pub fn compare(seen: &BTreeMap<u64, u64>, told: &[(u64, u64)], unknown: &[u64]) {
    assert!(!told.is_empty(), "nothing was acknowledged, so nothing is shown");
    for (n, offset) in told {
        assert_eq!(seen.get(offset), Some(n), "message {n} was acknowledged at {offset}");
    }
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    seen.values().for_each(|n| *times.entry(*n).or_default() += 1);
    for (n, times) in times {
        assert_eq!(times, 1, "message {n} is there {times} times");
        assert!(told.iter().any(|(told, _)| *told == n) || unknown.contains(&n), "nobody sent {n}");
    }
}
