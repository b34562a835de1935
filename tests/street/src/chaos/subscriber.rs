//! A subscriber: follows the feed on one node after another by resuming, as the protocol says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Shared;
use super::publisher::{CHANNELS, TYPES, pause};
use crate::history::{Record, content};
use crate::{Heard, Socket};

/// How long it waits for a connection to be made, and for the answer to its `subscribe`.
const ANSWER: Duration = Duration::from_secs(4);

/// One subscriber, over all its connections.
struct Subscriber {
    shared: Arc<Shared>,
    number: u64,
    channels: Vec<String>,
    filters: Value,
    position: Option<u64>,
    epoch: Option<String>,
}

/// Follows until it has reached the end that the round has come to.
pub(super) async fn run(shared: Arc<Shared>, number: u64, mut random: fastrand::Rng) {
    let (channels, filters) = interest(&mut random);
    // Most want the whole past.
    let position = (random.u64(..4) > 0).then_some(0);
    let mut subscriber = Subscriber { shared, number, channels, filters, position, epoch: None };
    loop {
        let why = match subscriber.visit(&mut random).await {
            Ok(offset) => return subscriber.tell(&Record::Done { subscriber: number, offset }),
            Err(why) => why,
        };
        subscriber.tell(&Record::Left { subscriber: number, why });
        pause(10..400, &mut random).await;
    }
}

/// What somebody wants: channels or a pattern, and often a filter.
fn interest(random: &mut fastrand::Rng) -> (Vec<String>, Value) {
    let channels = match random.u64(..4) {
        0 => vec!["*"],
        1 => random.choose_multiple(CHANNELS, 2),
        2 => vec!["a*", "tasks"],
        _ => random.choose_multiple(CHANNELS, 1),
    };
    let agent = |random: &mut fastrand::Rng| format!("agent-{}", random.u64(..8));
    let filters = match random.u64(..5) {
        0 => Value::Null,
        1 => json!({"agent": agent(random)}),
        2 => json!({"project": [format!("project-{}", random.u64(..4)), "project-0"]}),
        3 => json!({"event_type": ["task.*", random.choice(TYPES)]}),
        _ => json!({"agent": [agent(random), agent(random)], "event_type": "task.*"}),
    };
    (channels.into_iter().map(str::to_owned).collect(), filters)
}

impl Subscriber {
    fn tell(&self, record: &Record) {
        self.shared.history.write(record);
    }

    /// One connection to a random node, for a random while; gives the position where that is the end, else why it is over.
    async fn visit(&mut self, random: &mut fastrand::Rng) -> Result<u64, String> {
        let stay = Instant::now() + Duration::from_millis(random.u64(300..8_000));
        let shared = Arc::clone(&self.shared);
        let (node, (addr, _)) = shared.ways.door(random);
        let opened = tokio::time::timeout(ANSWER, Socket::try_open(*addr, "/api/v1/ws")).await;
        let mut socket = opened.map_err(|_| "no connection in time".to_owned())??;
        self.tell(&Record::Asks {
            subscriber: self.number,
            node,
            channels: self.channels.clone(),
            filters: self.filters.clone(),
            after: self.position,
            epoch: self.epoch.clone(),
        });
        let command = json!({"action": "subscribe", "channels": self.channels, "filters": self.filters, "after": self.position,
            "epoch": self.epoch});
        socket.try_send(&command.to_string()).await?;
        let unanswered = Instant::now() + ANSWER;
        let (mut joined, mut last) = (false, None);
        loop {
            if let Some(end) = self.shared.end() {
                if joined && self.position >= Some(end) {
                    return Ok(self.position.unwrap_or(end));
                }
                // Who is not told the end while live is told it by resuming.
                let last = last.get_or_insert_with(|| Instant::now() + Duration::from_secs(3));
                if Instant::now() > *last {
                    return Err("it left, to come to the end".to_owned());
                }
            }
            match socket.hear_within(Duration::from_millis(200)).await {
                Some(Heard::Text(text)) => joined |= self.hear(&text),
                Some(Heard::Close(code, reason)) => return Err(format!("closed: {code} {reason}")),
                Some(Heard::Broken(error)) => return Err(error),
                None => {}
            }
            let now = Instant::now();
            if !joined && now > unanswered {
                return Err("no answer in time".to_owned());
            }
            if joined && now > stay && self.shared.end().is_none() {
                return Err("it left".to_owned());
            }
        }
    }

    /// Takes a message in; whether it was the answer to the `subscribe`.
    fn hear(&mut self, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).expect("the server speaks JSON");
        let subscriber = self.number;
        let offset = message["offset"].as_u64();
        let epoch = message["epoch"].as_str().map(str::to_owned);
        match message["action"].as_str() {
            None => {
                let event = Record::Event {
                    subscriber,
                    offset: offset.expect("events have offsets"),
                    epoch: self.epoch.clone().unwrap_or_default(),
                    event_id: message["event_id"].as_str().expect("events have ids").to_owned(),
                    content: content(&message),
                };
                self.tell(&event);
                self.position = self.position.max(offset);
            }
            Some("subscribed") => {
                let (offset, epoch) = (offset.expect("an offset"), epoch.expect("an epoch"));
                let recovered = message["recovered"].as_bool();
                self.tell(&Record::Joined { subscriber, offset, epoch: epoch.clone(), recovered });
                let anew = self.epoch.as_ref().is_some_and(|known| *known != epoch);
                self.position = if anew { Some(0) } else { self.position.or(Some(offset)) };
                self.epoch = Some(epoch);
                return true;
            }
            Some("caught_up" | "checkpoint") => {
                let offset = offset.expect("an offset");
                self.tell(&Record::Position { subscriber, offset });
                self.position = self.position.max(Some(offset));
            }
            Some("gap") => {
                let bound = |name: &str| message[name].as_u64().expect("a gap has bounds");
                let reason = message["reason"].as_str().expect("a gap has a reason").to_owned();
                let (from, to) = (bound("from"), bound("to"));
                self.tell(&Record::Gap { subscriber, from, to, reason, epoch: epoch.clone() });
                if epoch.is_some() && epoch != self.epoch {
                    (self.epoch, self.position) = (epoch, Some(0));
                }
            }
            _ => panic!("subscriber {subscriber} does not know what to make of {text}"),
        }
        false
    }
}
