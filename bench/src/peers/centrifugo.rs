//! Centrifugo: `bench/peers/centrifugo/config.json`.
//!
//! No registry carries it, so it takes part where somebody has put its binary on the path. Its clients speak its JSON protocol
//! over WebSocket: a line is a command, an answer or a push, and a message holds one line or several.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Purpose, Running, State, Subscriber,
    Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;
use serde_json::{Value, json};

use super::installed;

const BINARY: &str = "centrifugo";
const PATH: &str = "/connection/websocket";
/// Publications that a channel keeps for clients who come back: more than any measurement lets them miss.
const KEPT: &str = "20000";
/// A heartbeat, both ways.
const PING: &[u8] = b"{}";

/// Centrifugo.
pub(super) struct Centrifugo;

impl Peer for Centrifugo {
    fn name(&self) -> String {
        "Centrifugo".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        installed::version_of(BINARY, &["version"])
            .map_err(|error| format!("{error}; no registry carries it: put its binary on the path"))
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: false, durable: false, resume: true }
    }

    fn configuration(&self) -> String {
        "memory engine, JSON over WebSocket; history and recovery where clients come back".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let addr = free_port();
        let recovers = launch.purpose == Purpose::Resume;
        let values = [
            ("PORT", &*addr.port().to_string()),
            ("KEPT", if recovers { KEPT } else { "0" }),
            ("TTL", if recovers { "600s" } else { "0s" }),
            ("RECOVERY", if recovers { "true" } else { "false" }),
        ];
        let configuration = installed::write_configuration("centrifugo/config.json", launch.dir, &values)?;
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(configuration).current_dir(launch.dir);
        let process = launch.serve(command, addr)?;
        Ok(Box::new(Instance { process, addr }))
    }
}

struct Instance {
    process: Process,
    addr: SocketAddr,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        let remembers = *interest == Interest::Resumable;
        Box::new(ChannelSubscriber { remembers, resumes: None, position: None })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(ChannelPublisher { next: 2 })
    }

    fn batches(&self) -> bool {
        true
    }
}

/// The answers and pushes in a message; what tells of an error is one. Heartbeats are answered.
fn read(message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for line in message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line == PING {
            out.text(PING);
            continue;
        }
        let said: Value = serde_json::from_slice(line).context("no JSON")?;
        ensure!(said.get("error").is_none() && said["push"].get("disconnect").is_none(), "it says {said}");
        all.push(said);
    }
    Ok(all)
}

fn say(command: &Value, out: &mut Outgoing<'_>) {
    out.text(command.to_string().as_bytes());
}

/// A position in the channel's stream.
#[derive(Clone, Debug, PartialEq)]
struct Position {
    epoch: String,
    offset: u64,
}

struct ChannelSubscriber {
    remembers: bool,
    resumes: Option<Position>,
    position: Option<Position>,
}

impl ChannelSubscriber {
    fn subscribe(&self) -> Value {
        let mut subscribe = json!({ "channel": CHANNEL });
        if let Some(Position { epoch, offset }) = &self.resumes {
            subscribe["recover"] = true.into();
            subscribe["epoch"] = epoch.as_str().into();
            subscribe["offset"] = (*offset).into();
        }
        json!({ "id": 2, "subscribe": subscribe })
    }

    /// What the answer to the subscription says of where it begins.
    fn subscribed(&mut self, answer: &Value) -> anyhow::Result<()> {
        ensure!(self.resumes.is_none() || answer["recovered"] == true, "not recovered: {answer}");
        if self.remembers {
            let epoch = answer["epoch"].as_str().context("a subscription without an epoch")?.to_owned();
            self.position = Some(Position { epoch, offset: answer["offset"].as_u64().unwrap_or(0) });
        }
        Ok(())
    }
}

impl Subscriber for ChannelSubscriber {
    fn transport(&self) -> Transport {
        Transport::websocket(PATH)
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        say(&json!({ "id": 1, "connect": {} }), out);
        say(&self.subscribe(), out);
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        let mut state = State::Waiting;
        for said in read(message, out)? {
            if let Some(answer) = said.get("subscribe") {
                self.subscribed(answer)?;
                state = State::Ready;
            }
            let offset = said["push"]["pub"]["offset"].as_u64();
            if let (Some(position), Some(offset)) = (&mut self.position, offset) {
                position.offset = offset;
            }
        }
        Ok(state)
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        let resumes = Some(self.position.clone()?);
        Some(Box::new(Self { remembers: false, resumes, position: None }))
    }
}

struct ChannelPublisher {
    /// The number of the next command.
    next: u32,
}

impl Publisher for ChannelPublisher {
    fn transport(&self) -> Transport {
        Transport::websocket(PATH)
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        say(&json!({ "id": 1, "connect": {} }), out);
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        let mut progress = Progress { state: State::Waiting, acknowledged: 0 };
        for said in read(message, out)? {
            if said.get("connect").is_some() {
                progress.state = State::Ready;
            }
            progress.acknowledged += usize::from(said.get("publish").is_some());
        }
        Ok(progress)
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        let mut message = Vec::new();
        for event in events {
            // Put together by hand: the event's own text must not be written anew.
            let start = format!(r#"{{"id":{},"publish":{{"channel":"{CHANNEL}","data":"#, self.next);
            message.extend_from_slice(start.as_bytes());
            message.extend_from_slice(event);
            message.extend_from_slice(b"}}\n");
            self.next += 1;
        }
        message.pop();
        out.text(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centrifugo_does_what_it_says_it_can() {
        installed::try_out(&Centrifugo);
    }

    #[test]
    fn a_subscriber_goes_on_behind_the_last_publication_it_got() {
        let mut bytes = Vec::new();
        let mut out = Outgoing::new(&mut bytes);
        let mut subscriber = ChannelSubscriber { remembers: true, resumes: None, position: None };
        let connected = br#"{"id":1,"connect":{"client":"c","version":"6","ping":25,"pong":true}}"#;
        assert_eq!(subscriber.message(connected, &mut out).unwrap(), State::Waiting);
        let subscribed =
            br#"{"id":2,"subscribe":{"recoverable":true,"epoch":"xyz","offset":7,"positioned":true}}"#;
        assert_eq!(subscriber.message(subscribed, &mut out).unwrap(), State::Ready);
        let pushed = b"{\"push\":{\"channel\":\"tasks\",\"pub\":{\"data\":{},\"offset\":8}}}\n{}\n\
            {\"push\":{\"channel\":\"tasks\",\"pub\":{\"data\":{},\"offset\":9}}}";
        subscriber.message(pushed, &mut out).unwrap();
        assert_eq!(subscriber.position, Some(Position { epoch: "xyz".to_owned(), offset: 9 }));
        assert!(!bytes.is_empty(), "the heartbeat between them is answered");

        let mut next = ChannelSubscriber { remembers: false, resumes: subscriber.position, position: None };
        assert_eq!(
            next.subscribe(),
            json!({ "id": 2, "subscribe": { "channel": CHANNEL, "recover": true, "epoch": "xyz", "offset": 9 } })
        );
        let mut out = Outgoing::new(&mut bytes);
        let lost = br#"{"id":2,"subscribe":{"recoverable":true,"epoch":"new","recovered":false}}"#;
        assert!(next.message(lost, &mut out).is_err(), "a position that is gone is no resume");
    }

    #[test]
    fn publishes_are_lines_of_one_message_and_each_answer_counts() {
        let mut bytes = Vec::new();
        let mut publisher = ChannelPublisher { next: 2 };
        let events = [br#"{"t":1}"#.to_vec(), br#"{"t":2}"#.to_vec()];
        publisher.publish(&events, &mut Outgoing::new(&mut bytes));
        let mut out = Outgoing::new(&mut bytes);
        let answers = b"{\"id\":2,\"publish\":{}}\n{\"id\":3,\"publish\":{}}\n{}";
        assert_eq!(publisher.message(answers, &mut out).unwrap().acknowledged, 2);
        let refused = br#"{"id":4,"error":{"code":103,"message":"permission denied"}}"#;
        assert!(publisher.message(refused, &mut out).is_err());
        assert_eq!(publisher.next, 4);
    }
}
