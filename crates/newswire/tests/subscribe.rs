//! Subscribers in the same process: what they get, that they are bounded, and that nothing stays behind.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use newswire::log::{MemoryLog, MemoryOptions};
use newswire::{
    DeliveryError, Draft, Ended, ErrorCode, Event, Feed, GapReason, Interest, Limits, Principal, Role,
    Settings, SubscribeError, Subscription, Update,
};
use newswire_core::BacklogPolicy;
use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(20);

fn feed(settings: Settings) -> Feed {
    let log = Arc::new(MemoryLog::new(MemoryOptions::default()).unwrap());
    Feed::builder().settings(settings).log(log).build().unwrap()
}

async fn publish(feed: &Feed, channel: &str, numbers: impl IntoIterator<Item = u64>) {
    let draft = |n| {
        let agent = if n % 2 == 0 { "ada" } else { "bob" };
        let payload = json!({"n": n, "agent": agent});
        let event = json!({"event_type": "task.created", "channel": channel, "payload": payload});
        Draft::parse(&event.to_string(), &Limits::default()).unwrap()
    };
    let results =
        feed.publish_drafts(&Principal::anonymous(), numbers.into_iter().map(draft).collect()).await;
    results.into_iter().for_each(|result| drop(result.unwrap()));
}

async fn next(subscription: &mut Subscription) -> Update {
    timeout(PATIENCE, subscription.next()).await.expect("in time").expect("not over").unwrap()
}

async fn next_event(subscription: &mut Subscription) -> Event {
    match next(subscription).await {
        Update::Event(event) => event,
        other => panic!("{other:?} instead of an event"),
    }
}

/// The number in the payload.
fn number(event: &Event) -> u64 {
    event.payload_as::<serde_json::Value>().unwrap()["n"].as_u64().unwrap()
}

#[tokio::test]
async fn replay_and_live_meet_without_a_seam() {
    let feed = feed(Settings::default());
    publish(&feed, "tasks", 0..500).await;
    let everything = Interest::in_everything();
    let mut subscription = feed.subscribe(everything.after(feed.log().epoch(), 100)).await.unwrap();
    assert_eq!(subscription.answer().recovered, Some(true));
    assert_eq!(subscription.answer().offset, 500);
    publish(&feed, "agents", 500..600).await;
    let mut caught_up = 0;
    let mut numbers = Vec::new();
    while numbers.len() < 500 {
        match next(&mut subscription).await {
            Update::Event(event) => {
                assert_eq!(event.offset(), number(&event) + 1);
                numbers.push(number(&event));
            }
            Update::CaughtUp { offset } => {
                assert!(numbers.last().is_none_or(|last| *last < offset));
                caught_up += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(numbers, (100..600).collect::<Vec<_>>());
    if caught_up == 0 {
        assert!(matches!(next(&mut subscription).await, Update::CaughtUp { offset: 600 }));
    }
}

#[tokio::test]
async fn an_event_is_what_was_published() {
    let feed = feed(Settings::default());
    let mut subscription = feed.subscribe(["tasks"]).await.unwrap();
    let text = r#"{"channel":"tasks","event_type":"task.created","event_id":"mine","source":"s","correlation_id":"c",
        "causation_id":"d","timestamp":"2026-11-22T15:24:00Z","payload":{"b":1.50,"a":[null]}}"#;
    feed.publish_drafts(&Principal::anonymous(), vec![Draft::parse(text, &Limits::default()).unwrap()]).await;
    let event = next_event(&mut subscription).await;
    assert_eq!((event.offset(), event.channel(), event.event_type()), (1, "tasks", "task.created"));
    assert_eq!(
        (event.source(), event.correlation_id(), event.causation_id()),
        (Some("s"), Some("c"), Some("d"))
    );
    assert_eq!(event.payload(), r#"{"b":1.50,"a":[null]}"#);
    assert_eq!(event.json_bytes(), event.json());
    let decoded = event.decode().unwrap();
    assert_eq!((decoded.event_id.as_str(), decoded.timestamp.as_str()), ("mine", "2026-11-22T15:24:00Z"));
    assert!(event.stored_at().0 > 0);
    assert_eq!(subscription.epoch(), feed.log().epoch());
}

#[tokio::test]
async fn filters_and_every_start_option_hold() {
    let feed = feed(Settings::default());
    publish(&feed, "tasks", 0..10).await;
    publish(&feed, "agents", 10..20).await;
    let ada = || Interest::in_channels(["tasks", "age*"]).filter("agent", "ada");
    let numbers = async |interest: Interest| {
        let mut subscription = feed.subscribe(interest).await.unwrap();
        let mut numbers = Vec::new();
        while let Update::Event(event) = next(&mut subscription).await {
            numbers.push(number(&event));
        }
        numbers
    };
    assert_eq!(numbers(ada().history(2)).await, [6, 8, 16, 18]);
    assert_eq!(numbers(ada().after(feed.log().epoch(), 14)).await, [14, 16, 18]);
    let long_ago = newswire::SinceSpec::Ago(Duration::from_secs(3600));
    assert_eq!(numbers(ada().since(long_ago)).await, (0..20).step_by(2).collect::<Vec<_>>());
    let three = Interest::in_channels(["*"]).filter("n", 3).filter("n", 4).filter("event_type", "task.*");
    assert_eq!(numbers(three.history(100)).await, [3, 4]);
}

#[tokio::test]
async fn what_cannot_be_subscribed_is_refused_and_leaves_nothing() {
    let feed = feed(Settings { max_connections: 2, ..Settings::default() });
    let refused = async |interest: Interest| match feed.subscribe(interest).await {
        Err(SubscribeError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("nowhere".into()).await, ErrorCode::UnknownChannel);
    assert_eq!(refused(Interest::in_channels([""; 0])).await, ErrorCode::InvalidControlMessage);
    let long = Interest::in_everything().filter("key", "x".repeat(257));
    assert_eq!(refused(long).await, ErrorCode::FilterBoundsExceeded);
    let many = (0..11).fold(Interest::in_everything(), |interest, n| interest.filter(&n.to_string(), n));
    assert_eq!(refused(many).await, ErrorCode::FilterBoundsExceeded);
    assert_eq!(feed.health().feed.connections, 0);
    let both = (feed.subscribe("*").await.unwrap(), feed.subscribe("*").await.unwrap());
    assert!(matches!(feed.subscribe("*").await, Err(SubscribeError::TooMany { max: 2 })));
    drop(both);
    assert!(feed.subscribe("*").await.is_ok());
}

#[tokio::test]
async fn a_dropped_subscription_is_forgotten() {
    let feed = feed(Settings::default());
    let gauge = |name: &str| {
        let text = feed.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let mut subscriptions = Vec::new();
    for _ in 0..20 {
        let mut subscription = feed.subscribe(Interest::in_channels(["tasks"]).history(5)).await.unwrap();
        // Some are dropped while they replay, some live, some with events that wait.
        publish(&feed, "tasks", 0..10).await;
        next(&mut subscription).await;
        subscriptions.push(subscription);
    }
    assert_eq!((gauge("newswire_subscribers "), gauge("newswire_subscriptions ")), (20, 20));
    assert_eq!(feed.health().feed.connections, 20);
    drop(subscriptions);
    assert_eq!((gauge("newswire_subscribers "), gauge("newswire_subscriptions ")), (0, 0));
    assert_eq!((feed.health().feed.connections, gauge("newswire_backlog_bytes ")), (0, 0));
}

#[tokio::test]
async fn a_shutdown_ends_the_stream_and_waits_for_no_holder() {
    let feed = feed(Settings::default());
    let mut waiting = feed.subscribe("tasks").await.unwrap();
    let mut held = feed.subscribe("tasks").await.unwrap();
    let waits = tokio::spawn(async move { waiting.next().await.is_none() });
    assert!(feed.shutdown(PATIENCE).await, "one who holds a subscription waits for itself");
    assert!(timeout(PATIENCE, waits).await.unwrap().unwrap());
    assert!(held.next().await.is_none());
    assert!(matches!(feed.subscribe("tasks").await, Err(SubscribeError::ShuttingDown)));
}

#[tokio::test]
async fn one_who_does_not_read_keeps_nobody_waiting_and_loses_nothing() {
    let feed = feed(Settings { backlog_max_bytes: 4 << 10, ring_max_bytes: 8 << 10, ..Settings::default() });
    let mut slow = feed.subscribe("tasks").await.unwrap();
    let mut quick = feed.subscribe("tasks").await.unwrap();
    for n in 0..1_000 {
        publish(&feed, "tasks", [n]).await;
        assert_eq!(number(&next_event(&mut quick).await), n);
    }
    for n in 0..1_000 {
        assert_eq!(number(&next_event(&mut slow).await), n);
    }
}

#[tokio::test]
async fn what_a_policy_drops_is_told() {
    let policies = [BacklogPolicy::DropNewest, BacklogPolicy::DropOldest];
    for backlog_policy in policies {
        let feed = feed(Settings { backlog_policy, backlog_max_bytes: 4 << 10, ..Settings::default() });
        let mut slow = feed.subscribe("tasks").await.unwrap();
        for n in 0..200 {
            publish(&feed, "tasks", [n]).await;
        }
        let (mut seen, mut missing) = (Vec::new(), Vec::new());
        while seen.len() + missing.len() < 200 {
            match next(&mut slow).await {
                Update::Event(event) => seen.push(event.offset()),
                Update::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::Backlog);
                    missing.extend(gap.from..=gap.to);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!seen.is_empty() && !missing.is_empty(), "{backlog_policy:?}");
        let mut all = [seen, missing].concat();
        all.sort_unstable();
        assert_eq!(all, (1..=200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn one_who_may_not_be_slow_is_told_so_and_the_stream_ends() {
    let backlog_policy = BacklogPolicy::Disconnect;
    let feed = feed(Settings { backlog_policy, backlog_max_bytes: 4 << 10, ..Settings::default() });
    let mut slow = feed.subscribe("tasks").await.unwrap();
    for n in 0..200 {
        publish(&feed, "tasks", [n]).await;
    }
    let last = slow.by_ref().collect::<Vec<_>>().await.pop().unwrap();
    assert!(matches!(last, Err(Ended::TooSlow)), "{last:?}");
    assert!(slow.next().await.is_none());
    assert_eq!(feed.health().feed.connections, 0, "it is forgotten before it is dropped");
}

#[tokio::test]
async fn a_poll_that_is_dropped_loses_nothing() {
    let feed = feed(Settings { backlog_max_bytes: 4 << 10, ring_max_bytes: 8 << 10, ..Settings::default() });
    publish(&feed, "tasks", 0..300).await;
    let mut subscription = feed.subscribe(Interest::in_channels(["tasks"]).history(1_000)).await.unwrap();
    let mut offsets = Vec::new();
    let mut published = 300;
    while offsets.len() < 600 {
        // Polled at most once before the other branch wins.
        tokio::select! {
            biased;
            update = subscription.next() => match update.unwrap().unwrap() {
                Update::Event(event) => offsets.push(event.offset()),
                Update::CaughtUp { .. } => {}
                other => panic!("{other:?}"),
            },
            () = tokio::task::yield_now() => if published < 600 {
                publish(&feed, "tasks", [published]).await;
                published += 1;
            },
        }
    }
    assert_eq!(offsets, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn subscriptions_change_at_their_place_in_the_stream() {
    let feed = feed(Settings::default());
    let mut subscription = feed.subscribe("tasks").await.unwrap();
    publish(&feed, "agents", 0..3).await;
    publish(&feed, "tasks", 3..5).await;
    subscription.add(Interest::in_channels(["agents"]).history(2)).await.unwrap();
    publish(&feed, "tasks", 5..6).await;
    subscription.remove(["tasks"]).await.unwrap();
    assert!(matches!(subscription.add("nowhere").await, Err(SubscribeError::Refused(_))));
    let mut told = Vec::new();
    while !told.contains(&"left agents".to_owned()) || !told.iter().any(|word| word == "caught up") {
        told.push(match next(&mut subscription).await {
            Update::Event(event) => number(&event).to_string(),
            Update::CaughtUp { .. } => "caught up".to_owned(),
            Update::Subscribed(answer) => format!("has {}", answer.channels.join(" and ")),
            Update::Unsubscribed { channels } => format!("left {}", channels.join(" and ")),
            other => panic!("{other:?}"),
        });
    }
    let place = |word: &str| {
        told.iter().position(|known| known == word).unwrap_or_else(|| panic!("{word}: {told:?}"))
    };
    assert_eq!((place("3"), place("4"), place("has agents and tasks")), (0, 1, 2));
    assert!(place("1") < place("2") && place("2") < place("caught up") && !told.contains(&"0".to_owned()));
    assert_eq!(place("5") + 1, place("left agents"));
    publish(&feed, "tasks", 6..7).await;
    publish(&feed, "agents", 7..8).await;
    assert_eq!(number(&next_event(&mut subscription).await), 7);
}

#[tokio::test]
async fn who_publishes_and_then_subscribes_finds_the_event_behind() {
    let feed = feed(Settings::default());
    for n in 0..50 {
        publish(&feed, "tasks", [n]).await;
        let subscription = feed.subscribe("tasks").await.unwrap();
        assert!(subscription.answer().offset > n);
    }
}

#[tokio::test]
async fn one_who_was_told_to_leave_does_not_take_it_for_the_end_of_the_feed() {
    let feed = feed(Settings::default());
    let admin = Principal::anonymous().with_role(Role::Admin);
    let router = feed.router().layer(axum::Extension(admin));
    let ask = async |method: &str, path: &str| {
        let request = axum::http::Request::builder().method(method).uri(path);
        let answer = router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{method} {path}");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["data"].clone()
    };
    let mut subscription = feed.subscribe("tasks").await.unwrap();
    let delivery = feed.deliver(feed.subscribe("tasks").await.unwrap(), async |_| ());
    for connection in ask("GET", "/connections").await.as_array().unwrap() {
        ask("DELETE", &format!("/connections/{}", connection["id"])).await;
    }
    let last = timeout(PATIENCE, subscription.next()).await.expect("in time");
    assert!(matches!(last, Some(Err(Ended::Kicked))), "{last:?}");
    assert!(subscription.next().await.is_none());
    let ended = timeout(PATIENCE, delivery.join()).await.expect("in time");
    assert!(matches!(ended, Err(DeliveryError::Ended(Ended::Kicked))), "{ended:?}");
    let mut next = feed.subscribe("tasks").await.unwrap();
    feed.shutdown(PATIENCE).await;
    assert!(next.next().await.is_none(), "that is the end of the feed");
}
