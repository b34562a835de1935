//! A publisher: asks any node, and asks again where it got no answer; sometimes it gives up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::Shared;
use crate::history::{Answer, Record};

/// How long a publisher waits for an answer.
const ANSWER: Duration = Duration::from_secs(8);
/// How many of a hundred requests without an answer are given up instead of asked again.
const GIVEN_UP: u64 = 15;
/// How many of a hundred answered requests are asked once more, which must change nothing.
const ONCE_MORE: u64 = 5;

/// Channels that are declared by default.
pub(super) const CHANNELS: [&str; 4] = ["tasks", "agents", "budget", "messages"];
/// What events are about.
pub(super) const TYPES: [&str; 4] = ["task.created", "task.updated", "agent.hired", "message.sent"];

/// Publishes until it is stopped, and then until what it does not give up is answered.
pub(super) async fn run(shared: Arc<Shared>, number: u64, mut random: fastrand::Rng) {
    let mut made = 0;
    while !shared.stopped() {
        let count = if random.bool() { 1 } else { random.u64(2..=12) };
        let events: Vec<Value> = (made..made + count).map(|n| event(number, n, &mut random)).collect();
        made += count;
        let give_up = random.u64(..100) < GIVEN_UP;
        while !ask(&shared, number, &events, &mut random).await && !give_up {
            pause(20..400, &mut random).await;
        }
        if random.u64(..100) < ONCE_MORE {
            ask(&shared, number, &events, &mut random).await;
        }
        pause(10..150, &mut random).await;
    }
}

/// An event whose id makes every further ask the same publish.
fn event(publisher: u64, number: u64, random: &mut fastrand::Rng) -> Value {
    json!({
        "event_id": format!("p{publisher}-{number}"),
        "channel": random.choice(CHANNELS).expect("channels"),
        "event_type": random.choice(TYPES).expect("types"),
        "payload": {
            "agent": format!("agent-{}", random.u64(..8)),
            "project": format!("project-{}", random.u64(..4)),
            "n": number,
            "pad": "x".repeat(random.usize(..300)),
        },
    })
}

/// Asks a random node for all of them in one request; whether all were answered with an offset.
async fn ask(shared: &Shared, publisher: u64, events: &[Value], random: &mut fastrand::Rng) -> bool {
    let (node, (_, http)) = shared.ways.door(random);
    let ask = shared.history.next_ask();
    for event in events {
        shared.history.write(&Record::Asked { ask, publisher, node, event: event.clone() });
    }
    // A single event is an object as often as an array of one.
    let body = match events {
        [event] if random.bool() => event.to_string(),
        events => Value::from(events).to_string(),
    };
    let headers = [("content-type", "application/json")];
    let sent = http.try_send("POST", "/api/v1/events", &headers, body.into_bytes());
    let results = match tokio::time::timeout(ANSWER, sent).await {
        Err(_) => Err(Answer::Unknown("no answer in time".to_owned())),
        Ok(Err(error)) => Err(Answer::Unknown(error.to_string())),
        Ok(Ok(answer)) if answer.status == 200 => Ok(answer.data()["results"].clone()),
        // A load balancer has words of its own.
        Ok(Ok(answer)) => {
            let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            Err(Answer::Error(format!("{} {}", answer.status, problem["code"])))
        }
    };
    let mut all = true;
    for (index, event) in events.iter().enumerate() {
        let answer = results.as_ref().map_or_else(Clone::clone, |results| read(&results[index]));
        if let Answer::Stored { offset, .. } = answer {
            shared.highest.fetch_max(offset, Ordering::Relaxed);
        } else {
            all = false;
        }
        let event_id = event["event_id"].as_str().expect("events have ids").to_owned();
        shared.history.write(&Record::Answered { ask, event_id, answer });
    }
    all
}

fn read(result: &Value) -> Answer {
    match result["offset"].as_u64() {
        Some(offset) => Answer::Stored { offset, duplicate: result["duplicate"] == true },
        None => Answer::Error(result["code"].as_str().unwrap_or("no code").to_owned()),
    }
}

/// Waits for a random time, in milliseconds.
pub(super) async fn pause(range: std::ops::Range<u64>, random: &mut fastrand::Rng) {
    tokio::time::sleep(Duration::from_millis(random.u64(range))).await;
}
