//! Publishing from the application itself, waiting and not, and reading what was published.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::time::{Duration, SystemTime};

use newswire::{
    BuildError, ErrorCode, Event, Feed, History, HistoryError, Interest, NewEvent, Principal,
    PublishSoonError, SinceSpec, Update,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn feed() -> Feed {
    Feed::builder().channels(["tasks", "agents"]).build().unwrap()
}

fn task(n: usize) -> NewEvent {
    NewEvent::new("tasks", "task.created").payload(&json!({"n": n}))
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.payload_as::<Value>().unwrap()["n"].as_u64().unwrap()).collect()
}

fn refusals(feed: &Feed, reason: &str) -> u64 {
    let line = format!("newswire_publish_refusals_total{{reason=\"{reason}\"}} ");
    let text = feed.metrics_text();
    text.lines().find_map(|counted| counted.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn an_event_of_values_is_stored_with_all_its_fields() {
    let feed = feed();
    let event = NewEvent::new("nowhere", "task.created")
        .to("tasks")
        .payload(&json!({"b": 1, "a": [true]}))
        .id("mine")
        .at(SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000))
        .source("s")
        .traceparent("t")
        .correlation_id("c")
        .causation_id("d");
    let stored = feed.publish(event.clone()).await.unwrap();
    assert_eq!((stored.offset, stored.event_id.as_str(), stored.duplicate), (1, "mine", false));
    assert!(feed.publish(event.clone()).await.unwrap().duplicate);
    let conflict = feed.publish(event.clone().payload_json("{}")).await.unwrap_err();
    assert_eq!(conflict.code, ErrorCode::IdConflict);
    let other = Principal { id: "other".into(), ..Principal::anonymous() };
    let theirs = feed.publish_as(&other, [event]).await.remove(0).unwrap();
    assert_eq!((theirs.offset, theirs.duplicate), (2, false), "ids are each publisher's own");
    let read = feed.event(1, &Principal::anonymous()).await.unwrap().unwrap().decode().unwrap();
    assert_eq!(read.payload.get(), r#"{"a":[true],"b":1}"#);
    assert_eq!(read.timestamp, "1970-01-01T00:00:01.500000Z");
    assert_eq!((read.source.as_deref(), read.traceparent.as_deref()), (Some("s"), Some("t")));
    assert_eq!((read.correlation_id.as_deref(), read.causation_id.as_deref()), (Some("c"), Some("d")));
}

#[tokio::test]
async fn a_bad_event_is_refused_alone() {
    let feed = feed();
    let not_text = std::collections::HashMap::from([((1, 2), 3)]);
    let bad = [
        (NewEvent::new("nowhere", "a"), ErrorCode::UnknownChannel),
        (NewEvent::new("tasks", "a b"), ErrorCode::InvalidEvent),
        (task(0).payload(&7), ErrorCode::InvalidEvent),
        (task(0).payload(&not_text), ErrorCode::InvalidEvent),
        (task(0).payload_json("{"), ErrorCode::InvalidJson),
        (task(0).timestamp("today"), ErrorCode::InvalidEvent),
        (task(0).payload(&json!({"x": "y".repeat(70_000)})), ErrorCode::EventTooLarge),
    ];
    let count = bad.len();
    let events = bad.iter().flat_map(|(event, _)| [event.clone(), task(1)]);
    let results = feed.publish_all(events).await;
    for (place, (event, code)) in bad.iter().enumerate() {
        assert_eq!(results[2 * place].as_ref().unwrap_err().code, *code, "{event:?}");
        assert_eq!(results[2 * place + 1].as_ref().unwrap().offset, place as u64 + 1);
    }
    assert_eq!(feed.log().tail(), count as u64 + 1);
}

#[tokio::test]
async fn what_is_published_soon_comes_in_order_and_survives_a_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Feed::builder().data_dir(directory.path()).build();
    let feed = open().unwrap();
    assert!(matches!(open(), Err(BuildError::Open(_))), "one log has one owner");
    for n in 0..500 {
        feed.publish_soon(task(n)).unwrap();
    }
    // Nothing of it was published yet: this is the one thread of the runtime.
    assert_eq!(feed.log().tail(), 1);
    assert!(feed.shutdown(PATIENCE).await);
    assert_eq!(feed.publish_soon(task(0)), Err(PublishSoonError::ShuttingDown));
    assert_eq!(refusals(&feed, "publish_shutting_down"), 1);
    drop(feed);
    let feed = open().unwrap();
    let page = feed.history(History::of("tasks").limit(1_000)).await.unwrap();
    assert_eq!(numbers(&page.events), (0..500).collect::<Vec<_>>());
    assert!(feed.shutdown(PATIENCE).await);
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let feed = feed();
    let mut taken = 0;
    let refused = loop {
        match feed.publish_soon(task(taken)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, taken), (PublishSoonError::Full, 1_024));
    assert_eq!(refusals(&feed, "publish_queue_full"), 1);
    let mut updates = feed.subscribe(Interest::in_everything().history(2_000)).await.unwrap();
    for n in 0..taken as u64 {
        let event = loop {
            if let Update::Event(event) = updates.next().await.unwrap().unwrap() {
                break event;
            }
        };
        assert_eq!(numbers(&[event]), [n]);
    }
    feed.publish_soon(task(0)).unwrap();
}

#[tokio::test]
async fn what_fails_later_is_counted() {
    let feed = feed();
    let wrong = feed.publish_soon(NewEvent::new("nowhere", "a"));
    assert!(
        matches!(wrong, Err(PublishSoonError::Refused(refusal)) if refusal.code == ErrorCode::UnknownChannel)
    );
    assert_eq!(refusals(&feed, "unknown_channel"), 1);
    feed.log().close();
    feed.publish_soon(task(0)).unwrap();
    feed.publish_soon(task(1)).unwrap();
    let counted = async {
        while refusals(&feed, "storage_unavailable") < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("both failures are counted");
}

#[tokio::test]
async fn history_comes_in_pages_from_both_ends() {
    let feed = feed();
    feed.publish_all((0..25).map(task)).await;
    feed.publish(NewEvent::new("agents", "agent.hired").payload(&json!({"n": 99}))).await.unwrap();
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = feed.history(History::of("tasks").after(after).limit(10)).await.unwrap();
        assert_eq!((page.epoch, page.end), (feed.log().epoch(), 26));
        seen.extend(numbers(&page.events));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    let newest = feed.history(History::of("*").newest_first().limit(3)).await.unwrap();
    assert_eq!(numbers(&newest.events), [99, 24, 23]);
    let older = feed.history(History::of("*").newest_first().before(newest.next.unwrap()).limit(1)).await;
    assert_eq!(numbers(&older.unwrap().events), [22]);
    let one = History::of(Interest::in_channels(["*"]).filter("n", 7)).since(SinceSpec::Ago(PATIENCE * 100));
    assert_eq!(numbers(&feed.history(one).await.unwrap().events), [7]);
    assert!(matches!(feed.history(History::of("nowhere")).await, Err(HistoryError::Refused(_))));
    let anybody = Principal::anonymous();
    for nothing in [0, 27, u64::MAX] {
        assert!(feed.event(nothing, &anybody).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn arbitrary_channels_come_with_their_first_event() {
    let feed = Feed::builder().arbitrary_channels().build().unwrap();
    let mut updates = feed.subscribe(["room:*", "lobby"]).await.unwrap();
    for channel in ["elsewhere", "room:7", "lobby"] {
        feed.publish(NewEvent::new(channel, "message.sent")).await.unwrap();
    }
    for expected in ["room:7", "lobby"] {
        let update = updates.next().await.unwrap().unwrap();
        assert!(matches!(&update, Update::Event(event) if event.channel() == expected), "{update:?}");
    }
    let bad = Feed::builder().channels(["no spaces"]).build();
    assert!(matches!(bad, Err(BuildError::Channel { name }) if name == "no spaces"));
}
