//! Delivery to a callback in the background, and every way in which it ends.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use newswire::{BacklogPolicy, DeliveryError, Ended, Feed, Interest, NewEvent, Update};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn feed() -> Feed {
    Feed::builder().build().unwrap()
}

fn task(n: usize) -> NewEvent {
    NewEvent::new("tasks", "task.created").payload(&json!({"n": n}))
}

/// Offsets that a callback was given.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>);

impl Seen {
    fn note(&self, update: &Update) {
        if let Update::Event(event) = update {
            self.0.lock().push(event.offset());
        }
    }

    fn offsets(&self) -> Vec<u64> {
        self.0.lock().clone()
    }
}

#[tokio::test]
async fn a_join_delivers_what_was_published_and_ends_though_nobody_publishes() {
    let feed = feed();
    feed.publish_all((0..100).map(task)).await;
    let seen = Seen::default();
    // Still replaying when it is joined, and slower than the publisher.
    let tasks = feed.subscribe(Interest::in_channels(["tasks"]).history(1_000)).await.unwrap();
    let callback = seen.clone();
    let delivery = feed.deliver(tasks, move |update| {
        callback.note(&update);
        tokio::task::yield_now()
    });
    feed.publish_all((100..300).map(task)).await;
    timeout(PATIENCE, delivery.join()).await.expect("a join ends").unwrap();
    assert_eq!(seen.offsets(), (1..=300).collect::<Vec<_>>());
    feed.publish(task(300)).await.unwrap();
    assert_eq!(feed.health().feed.connections, 0, "it has left");
    assert_eq!(seen.offsets().len(), 300);
}

#[tokio::test]
async fn a_join_ends_though_publishers_go_on() {
    let feed = feed();
    let seen = Seen::default();
    let (tasks, callback) = (feed.subscribe("tasks").await.unwrap(), seen.clone());
    let delivery = feed.deliver(tasks, move |update| {
        callback.note(&update);
        tokio::task::yield_now()
    });
    let endless = tokio::spawn({
        let feed = feed.clone();
        async move {
            loop {
                feed.publish(task(0)).await.unwrap();
            }
        }
    });
    while seen.offsets().len() < 10 {
        tokio::task::yield_now().await;
    }
    let durable = feed.log().tail() - 1;
    timeout(PATIENCE, delivery.join()).await.expect("a join ends").unwrap();
    endless.abort();
    let offsets = seen.offsets();
    assert!(offsets.len() as u64 >= durable);
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_join_ends_whatever_was_added_and_removed_before() {
    let feed = feed();
    feed.publish_all((0..50).map(task)).await;
    feed.publish_all((0..50).map(|n| NewEvent::new("budget", "budget.alert").payload(&json!({"n": n}))))
        .await;
    let mut both = feed.subscribe("tasks").await.unwrap();
    // Taken already when it is delivered, and still on its way.
    both.add("agents").await.unwrap();
    assert!(matches!(both.next().await, Some(Ok(Update::Subscribed(_)))));
    both.remove(["tasks", "agents"]).await.unwrap();
    both.add(Interest::in_channels(["budget", "b*"]).history(100)).await.unwrap();
    let seen = Seen::default();
    let callback = seen.clone();
    let delivery = feed.deliver(both, move |update| {
        callback.note(&update);
        std::future::ready(())
    });
    timeout(PATIENCE, delivery.join()).await.expect("a join ends").unwrap();
    assert_eq!(seen.offsets(), (51..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_that_has_ended_can_be_asked_again() {
    let feed = feed();
    let failing = async || {
        let delivery =
            feed.deliver(feed.subscribe("tasks").await.unwrap(), async |_| Err(io::Error::other("no")));
        feed.publish(task(0)).await.unwrap();
        delivery
    };
    for _ in 0..2 {
        let mut delivery = failing().await;
        assert!(matches!(delivery.ended().await, Err(DeliveryError::Callback(_))));
        delivery.ended().await.expect("its outcome is told once");
        delivery.join().await.unwrap();
    }
    let mut delivery = failing().await;
    assert!(delivery.ended().await.is_err() && delivery.is_finished());
    delivery.cancel().await;
}

#[tokio::test]
async fn a_callback_that_fails_or_panics_ends_its_delivery_and_no_join_hangs() {
    let feed = feed();
    let failing = feed.deliver(feed.subscribe("tasks").await.unwrap(), async |update| match update {
        Update::Event(event) if event.offset() == 2 => Err(io::Error::other("the disk of somebody else")),
        _ => Ok(()),
    });
    let panicking = feed.deliver(feed.subscribe("tasks").await.unwrap(), async |update| {
        assert!(!matches!(update, Update::Event(event) if event.offset() == 2), "a bug in a callback");
    });
    feed.publish_all((0..10).map(task)).await;
    let failed = timeout(PATIENCE, failing.join()).await.expect("a join ends").unwrap_err();
    assert!(matches!(&failed, DeliveryError::Callback(error) if error.to_string().contains("somebody else")));
    let panicked = timeout(PATIENCE, panicking.join()).await.expect("a join ends").unwrap_err();
    assert!(matches!(&panicked, DeliveryError::Panicked(text) if text.contains("a bug")), "{panicked:?}");
    assert_eq!(feed.health().feed.connections, 0);
}

#[tokio::test]
async fn cancelled_or_dropped_it_ends_in_the_middle_of_a_callback() {
    let feed = feed();
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    struct OnDrop(Arc<AtomicUsize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let endless = async || {
        let tasks = feed.subscribe("tasks").await.unwrap();
        let (told, dropped) = (Arc::clone(&begun), Arc::clone(&dropped));
        let delivery = feed.deliver(tasks, move |_| {
            let (told, guard) = (Arc::clone(&told), OnDrop(Arc::clone(&dropped)));
            async move {
                told.notify_one();
                std::future::pending::<()>().await;
                drop(guard);
            }
        });
        feed.publish(task(0)).await.unwrap();
        begun.notified().await;
        delivery
    };
    timeout(PATIENCE, endless().await.cancel()).await.expect("a cancel ends");
    assert_eq!((dropped.load(Ordering::SeqCst), feed.health().feed.connections), (1, 0));
    drop(endless().await);
    while feed.health().feed.connections > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_shutdown_waits_for_the_callback_and_ends_the_delivery() {
    let feed = feed();
    let (begun, finished) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (told, counter) = (Arc::clone(&begun), Arc::clone(&finished));
    let mut delivery = feed.deliver(feed.subscribe("tasks").await.unwrap(), move |_| {
        let (told, counter) = (Arc::clone(&told), Arc::clone(&counter));
        async move {
            told.notify_one();
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    feed.publish(task(0)).await.unwrap();
    begun.notified().await;
    assert!(feed.shutdown(PATIENCE).await);
    assert_eq!(finished.load(Ordering::SeqCst), 1);
    timeout(PATIENCE, delivery.ended()).await.expect("it ended").unwrap();
    assert!(delivery.is_finished());
}

#[tokio::test]
async fn a_policy_of_its_own_holds_for_one_subscription_only() {
    let feed = feed();
    let impatient = Interest::in_channels(["tasks"]).backlog(BacklogPolicy::Disconnect, 1 << 10);
    let strict = feed.subscribe(impatient).await.unwrap();
    let patient = feed.subscribe("tasks").await.unwrap();
    for n in 0..200 {
        feed.publish(task(n)).await.unwrap();
    }
    let ended = feed.deliver(strict, async |_| ()).join().await;
    assert!(matches!(ended, Err(DeliveryError::Ended(Ended::TooSlow))), "{ended:?}");
    let seen = Seen::default();
    let callback = seen.clone();
    let delivery = feed.deliver(patient, move |update| {
        callback.note(&update);
        std::future::ready(())
    });
    delivery.join().await.unwrap();
    assert_eq!(seen.offsets(), (1..=200).collect::<Vec<_>>());
}
