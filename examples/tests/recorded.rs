//! Recorded companies through the library: every event of real runs, a feed that ends in the middle and is opened again, and
//! subscribers in the process who receive exactly what a naive filter over the file gives.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::sync::Arc;
use std::time::Duration;

use newswire::{Delivery, Draft, Feed, Interest, Principal, Scalar, Update};
use newswire_street_tests::{data, naive};
use parking_lot::Mutex;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// What people might watch: channels and filters.
fn interests(events: &[Value]) -> Vec<(Vec<&'static str>, Value)> {
    let project = |at: usize| events[at]["payload"]["project"].clone();
    vec![
        (vec!["*"], json!({})),
        (vec!["tasks"], json!({})),
        (vec!["m*", "sys*"], json!({})),
        (vec!["*"], json!({"agent": ["counselor", "programmer"]})),
        (vec!["*"], json!({"project": project(events.len() / 2)})),
        (vec!["*"], json!({"event_type": ["agent.*", "budget.alert"]})),
        (vec!["tasks", "agents"], json!({"status": ["active", "in_progress"]})),
        (vec!["budget"], json!({"cost_usd": [0.000_767, 0.0003, 0.001]})),
        (vec!["*"], json!({"agent": "nobody"})),
    ]
}

fn interest((channels, filters): &(Vec<&'static str>, Value)) -> Interest {
    let mut interest = Interest::in_channels(channels.iter().copied());
    for (key, values) in filters.as_object().unwrap() {
        let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
        for value in values {
            interest = interest.filter(key, Scalar::from_raw_json(&value.to_string()).unwrap());
        }
    }
    interest
}

/// What one subscriber received: offsets and payloads.
type Account = Arc<Mutex<Vec<(u64, Value)>>>;

fn keep(feed: &Feed, subscription: newswire::Subscription, account: &Account) -> Delivery {
    let account = Arc::clone(account);
    feed.deliver(subscription, move |update| {
        match update {
            Update::Event(event) => account.lock().push((event.offset(), event.payload_as().unwrap())),
            Update::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
        tokio::task::yield_now()
    })
}

async fn publish(feed: &Feed, lines: &[String]) {
    // Single events and large calls by turns.
    let mut left = lines;
    for size in [1, 7, 300, 64].into_iter().cycle() {
        let (now, later) = left.split_at(size.min(left.len()));
        let drafts = now.iter().map(|line| Draft::parse(line, &feed.settings().limits).unwrap()).collect();
        for result in feed.publish_drafts(&Principal::anonymous(), drafts).await {
            assert!(!result.unwrap().duplicate);
        }
        left = later;
        if left.is_empty() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_companies_through_the_library_restart_in_between_exact() {
    let Some(lines) = data::recorded() else { return };
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let interests = interests(&events);
    let accounts: Vec<Account> = interests.iter().map(|_| Account::default()).collect();
    let directory = tempfile::tempdir().unwrap();
    let open = || Feed::builder().arbitrary_channels().data_dir(directory.path()).build().unwrap();
    let (first, second) = lines.split_at(lines.len() / 2);

    let feed = open();
    let epoch = feed.log().epoch();
    let mut deliveries = Vec::new();
    for (wanted, account) in interests.iter().zip(&accounts) {
        let subscription = feed.subscribe(interest(wanted)).await.unwrap();
        deliveries.push(keep(&feed, subscription, account));
    }
    publish(&feed, first).await;
    // In the middle of their deliveries: whoever was behind goes on behind what it has.
    assert!(feed.shutdown(PATIENCE).await);
    for mut delivery in deliveries {
        delivery.ended().await.unwrap();
    }
    drop(feed);

    let feed = open();
    assert_eq!(feed.log().epoch(), epoch, "a clean end keeps the epoch");
    let mut deliveries = Vec::new();
    for (wanted, account) in interests.iter().zip(&accounts) {
        let last = account.lock().last().map_or(0, |(offset, _)| *offset);
        let subscription = feed.subscribe(interest(wanted).after(epoch, last)).await.unwrap();
        assert_eq!(subscription.answer().recovered, Some(true));
        deliveries.push(keep(&feed, subscription, account));
    }
    publish(&feed, second).await;
    for delivery in deliveries {
        tokio::time::timeout(PATIENCE, delivery.join()).await.unwrap().unwrap();
    }
    assert!(feed.shutdown(PATIENCE).await);

    for ((channels, filters), account) in interests.iter().zip(&accounts) {
        let account = account.lock();
        let wanted = events.iter().zip(1_u64..).filter(|(event, _)| naive::wants(channels, filters, event));
        let wanted: Vec<(u64, &Value)> = wanted.map(|(event, offset)| (offset, &event["payload"])).collect();
        let got: Vec<(u64, &Value)> = account.iter().map(|(offset, payload)| (*offset, payload)).collect();
        assert!(got == wanted, "{channels:?} {filters}: {} of {} events", got.len(), wanted.len());
    }
    println!("{} events, {} subscribers", events.len(), interests.len());
}
