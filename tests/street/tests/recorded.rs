//! Recorded companies: every event of real runs goes through the feed, and each of twenty subscribers, half of them
//! dropped and resumed at random, receives exactly what a naive filter over the file gives.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use newswire_street_tests::{Heard, Server, Socket, data, naive};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What twenty people might watch: channels and filters.
fn interests(events: &[Value]) -> Vec<(Vec<&'static str>, Value)> {
    let project = |at: usize| events[at]["payload"]["project"].clone();
    let half = events.len() / 2;
    vec![
        (vec!["*"], json!(null)),
        (vec!["tasks"], json!(null)),
        (vec!["budget", "agents"], json!({})),
        (vec!["m*", "sys*"], json!(null)),
        (vec!["*"], json!({"agent": "programmer"})),
        (vec!["*"], json!({"agent": ["counselor", "software_test_engineer"]})),
        (vec!["messages"], json!({"agent": "chief_technology_officer"})),
        (vec!["*"], json!({"project": project(0)})),
        (vec!["tasks", "messages"], json!({"project": [project(half), project(events.len() - 1)]})),
        (vec!["*"], json!({"project": project(half), "agent": "programmer", "event_type": "task.*"})),
        (vec!["*"], json!({"event_type": "system.error"})),
        (vec!["*"], json!({"event_type": ["agent.*", "budget.alert"]})),
        (vec!["tasks", "agents"], json!({"status": ["active", "in_progress"]})),
        (vec!["budget"], json!({"input_tokens": (100..164).collect::<Vec<_>>()})),
        (vec!["budget"], json!({"cost_usd": [0.000_767, 0.0003, 0.001]})),
        (vec!["*"], json!({"to": "engineering", "priority": "normal"})),
        (vec!["*"], json!({"from": "code_reviewer"})),
        (vec!["*"], json!({"role": "Programmer"})),
        (vec!["tasks"], json!({"event_type": "task.status_changed", "status": "completed"})),
        (vec!["*"], json!({"agent": "nobody"})),
    ]
}

/// One subscriber's account: what it received, as offsets and texts.
struct Account {
    interest: usize,
    received: Vec<(u64, String)>,
    resumed: u32,
}

/// Receives until it has `wanted` events, dropping and resuming its connection now and then if it is `restless`.
async fn subscribe(
    addr: SocketAddr,
    interest: usize,
    (channels, filters): (Vec<&'static str>, Value),
    wanted: usize,
    restless: bool,
) -> Account {
    let mut random = fastrand::Rng::with_seed(interest as u64);
    let mut account = Account { interest, received: Vec::with_capacity(wanted), resumed: 0 };
    let mut epoch = Value::Null;
    loop {
        let mut socket = Socket::open(addr, "/api/v1/ws").await;
        let after = account.received.last().map_or(0, |(offset, _)| *offset);
        let command = json!({"action": "subscribe", "channels": channels, "filters": filters, "after": after, "epoch": epoch});
        let answer = socket.ask(&command).await;
        assert_eq!(
            (&answer["action"], &answer["recovered"]),
            (&json!("subscribed"), &json!(true)),
            "{answer}"
        );
        epoch = answer["epoch"].clone();
        let patience =
            if restless && account.resumed < 12 { random.usize(..wanted.max(8) / 4) } else { usize::MAX };
        let mut caught_up = 0;
        let mut taken = 0;
        while account.received.len() < wanted && taken < patience {
            let Heard::Text(text) = socket.hear().await else { panic!("subscriber {interest} was cut off") };
            match newswire_street_tests::socket::offset_of(&text) {
                Some(offset) if !text.contains("\"action\":") => {
                    account.received.push((offset, text));
                    taken += 1;
                }
                _ if text.contains("\"caught_up\"") => caught_up += 1,
                _ => assert!(text.contains("\"checkpoint\""), "unexpected: {text}"),
            }
        }
        assert!(caught_up <= 1, "one replay, one caught_up");
        if account.received.len() == wanted {
            if caught_up == 0 {
                socket.until("caught_up").await;
            }
            // Live or not, nothing that the filter does not want may follow.
            socket.nothing_more().await;
            return account;
        }
        account.resumed += 1;
        drop(socket);
    }
}

fn raw_payload(text: &str) -> String {
    let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
    fields["payload"].get().to_owned()
}

/// Lets twenty subscribers watch while `publish` sends all lines, then compares every account with the file.
async fn watch_recording<Fut: Future<Output = Vec<u64>> + Send + 'static>(
    publish: impl FnOnce(SocketAddr, Arc<Vec<String>>) -> Fut,
) {
    let Some(lines) = data::recorded() else { return };
    let lines = Arc::new(lines);
    let events: Arc<Vec<Value>> =
        Arc::new(lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect());
    let server = Server::start();
    let interests = interests(&events);
    assert_eq!(interests.len(), 20);
    let mut subscribers = tokio::task::JoinSet::new();
    let mut expected = Vec::new();
    for (number, (channels, filters)) in interests.into_iter().enumerate() {
        let wanted: Vec<u64> = (1..)
            .zip(events.iter())
            .filter(|(_, event)| naive::wants(&channels, &filters, event))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(wanted.is_empty(), number == 19, "interest {number} should match something");
        subscribers.spawn(subscribe(server.addr, number, (channels, filters), wanted.len(), number % 2 == 0));
        expected.push(wanted);
    }
    let offsets = tokio::spawn(publish(server.addr, Arc::clone(&lines))).await.unwrap();
    assert_eq!(offsets, (1..=lines.len() as u64).collect::<Vec<_>>(), "stored in the order published");
    let mut resumed = 0;
    while let Some(account) = subscribers.join_next().await {
        let account = account.unwrap();
        let offsets: Vec<u64> = account.received.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, expected[account.interest], "interest {}", account.interest);
        for (offset, text) in &account.received {
            let line = &lines[*offset as usize - 1];
            assert_eq!(raw_payload(text), raw_payload(line), "the payload is passed on byte for byte");
            let (event, given): (Value, &Value) =
                (serde_json::from_str(text).unwrap(), &events[*offset as usize - 1]);
            for field in ["channel", "event_type", "timestamp"] {
                assert_eq!(event[field], given[field], "{field} at {offset}");
            }
        }
        resumed += account.resumed;
    }
    assert!(resumed >= 40, "subscribers were dropped and resumed only {resumed} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_in_batches() {
    watch_recording(|addr, lines| async move {
        let http = newswire_street_tests::Http::new(addr);
        let mut random = fastrand::Rng::with_seed(1);
        let (mut offsets, mut rest) = (Vec::new(), &lines[..]);
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.usize(1..=200).min(rest.len()));
            let results = if random.bool() {
                http.publish_texts(batch).await
            } else {
                let answer = http.post_events("application/x-ndjson", batch.join("\n")).await;
                answer.data()["results"].as_array().unwrap().clone()
            };
            offsets.extend(results.iter().map(|result| result["offset"].as_u64().unwrap()));
            rest = later;
        }
        offsets
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_websocket_one_by_one() {
    watch_recording(|addr, lines| async move {
        let mut socket = Socket::open(addr, "/api/v1/ws").await;
        let mut offsets = Vec::new();
        for line in lines.iter() {
            socket.send_text(&line.replacen('{', r#"{"action":"publish","#, 1)).await;
            offsets.push(socket.expect("published").await["offset"].as_u64().unwrap());
        }
        offsets
    })
    .await;
}
