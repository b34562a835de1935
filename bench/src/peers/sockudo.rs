//! sockudo, which speaks the Pusher protocol and one of its own: `bench/peers/sockudo/config.toml`.
//!
//! The protocol's version 1, Pusher's, serves the fan-out. Version 2 numbers the events of a channel, so that clients who come
//! back can name the last one they got; it serves the resume. Publishers send client events over a WebSocket on a private
//! channel: the same broadcast as behind the HTTP interface, without an HTTP request and an MD5 sum for each event.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, bail};
use hmac::{Hmac, KeyInit, Mac};
use memchr::memmem;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Purpose, Running, State, Subscriber,
    Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;
use serde_json::{Value, json};
use sha2::Sha256;

use super::installed;

const BINARY: &str = "sockudo/bin/sockudo";
/// Client events are for private channels only.
const CHANNEL: &str = "private-tasks";
/// As the configuration has them.
const KEY: &str = "newswire-key";
const SECRET: &str = "newswire-secret";
/// Events that a channel keeps for clients who come back: more than any measurement lets them miss.
const KEPT: &str = "20000";
/// Events that may wait for one subscriber: as many as a flood is ever ahead of it. The default is 1000.
const WAITING: &str = "1100";
/// A client that comes back is sent all it missed at once.
const KEPT_WAITING: &str = "2000";

/// sockudo.
pub(super) struct Sockudo;

impl Peer for Sockudo {
    fn name(&self) -> String {
        "sockudo".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        installed::version_of(installed::file(BINARY), &["--version"])
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: false, durable: false, resume: true }
    }

    fn configuration(&self) -> String {
        "local adapter, nothing beside the broadcast; protocol 2 with connection recovery where clients come back"
            .to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let addr = free_port();
        let recovers = launch.purpose == Purpose::Resume;
        let values = [
            ("PORT", &*addr.port().to_string()),
            ("RECOVERY", if recovers { "true" } else { "false" }),
            ("MAX_RECOVERY", KEPT),
            ("WAITING", if recovers { KEPT_WAITING } else { WAITING }),
        ];
        let configuration = installed::write_configuration("sockudo/config.toml", launch.dir, &values)?;
        let mut command = Command::new(installed::file(BINARY));
        command.arg("--config").arg(configuration).current_dir(launch.dir);
        let process = launch.serve(command, addr)?;
        Ok(Box::new(Instance { process, addr, version: if recovers { Version::Two } else { Version::One } }))
    }
}

struct Instance {
    process: Process,
    addr: SocketAddr,
    version: Version,
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
        let talk = Talk { version: self.version, resumes: None };
        Box::new(ChannelSubscriber { talk, remembers, position: None })
    }

    fn marker(&self) -> &'static [u8] {
        b"{\\\"t\\\":"
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(ChannelPublisher { talk: Talk { version: self.version, resumes: None } })
    }
}

/// Versions of the protocol.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Version {
    /// What its system events begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::One => "pusher",
            Self::Two => "sockudo",
        }
    }

    fn transport(self) -> Transport {
        let number = match self {
            Self::One => 7,
            Self::Two => 2,
        };
        Transport::websocket(format!("/app/{KEY}?protocol={number}&client=bench&version=1"))
    }
}

/// A position in the events of the channel.
#[derive(Clone)]
struct Position {
    stream_id: String,
    serial: u64,
}

/// What both kinds of clients say until they are subscribed, and what they answer later.
struct Talk {
    version: Version,
    resumes: Option<Position>,
}

impl Talk {
    fn answer(&self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        let message: Value = serde_json::from_slice(message)?;
        let event = message["event"].as_str().unwrap_or_default();
        let Some((_, event)) = event.split_once(':') else { return Ok(State::Waiting) };
        match event {
            "connection_established" => {
                let data = message["data"].as_str().context("it says nothing about the connection")?;
                let data: Value = serde_json::from_str(data)?;
                self.subscribe(data["socket_id"].as_str().context("no socket id")?, out)?;
            }
            "subscription_succeeded" if self.resumes.is_none() => return Ok(State::Ready),
            "resume_success" => {
                let data = message["data"].as_str().unwrap_or_default();
                anyhow::ensure!(data.contains("\"failed\":[]"), "not resumed: {data}");
                return Ok(State::Ready);
            }
            "ping" => self.say("pong", &json!({}), out),
            "error" | "resume_failed" | "subscription_error" => bail!("{message}"),
            _ => {}
        }
        Ok(State::Waiting)
    }

    fn subscribe(&self, socket_id: &str, out: &mut Outgoing<'_>) -> anyhow::Result<()> {
        let auth = format!("{KEY}:{}", signature(&format!("{socket_id}:{CHANNEL}"))?);
        self.say("subscribe", &json!({ "channel": CHANNEL, "auth": auth }), out);
        // Right behind it, as its own client does.
        if let Some(position) = &self.resumes {
            let position = json!({ "stream_id": position.stream_id, "serial": position.serial });
            let data = json!({ "channel_positions": { CHANNEL: position } });
            self.say("resume", &Value::String(data.to_string()), out);
        }
        Ok(())
    }

    fn say(&self, event: &str, data: &Value, out: &mut Outgoing<'_>) {
        let event = format!("{}:{event}", self.version.prefix());
        out.text(json!({ "event": event, "data": data }).to_string().as_bytes());
    }
}

/// The protocol's signature of a text: HMAC with SHA-256, in hexadecimal digits.
fn signature(text: &str) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(text.as_bytes());
    let mut digits = String::new();
    for byte in mac.finalize().into_bytes() {
        write!(digits, "{byte:02x}")?;
    }
    Ok(digits)
}

struct ChannelSubscriber {
    talk: Talk,
    remembers: bool,
    position: Option<Position>,
}

impl Subscriber for ChannelSubscriber {
    fn transport(&self) -> Transport {
        self.talk.version.transport()
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        if memmem::find(message, b"\"client-event\"").is_none() {
            return self.talk.answer(message, out);
        }
        if self.remembers {
            let event: Value = serde_json::from_slice(message)?;
            let stream_id = event["stream_id"].as_str().context("an event without a position")?.to_owned();
            let serial = event["serial"].as_u64().context("an event without a number")?;
            self.position = Some(Position { stream_id, serial });
        }
        Ok(State::Waiting)
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        let resumes = Some(self.position.clone()?);
        let talk = Talk { version: self.talk.version, resumes };
        Some(Box::new(Self { talk, remembers: false, position: None }))
    }
}

struct ChannelPublisher {
    talk: Talk,
}

impl Publisher for ChannelPublisher {
    fn transport(&self) -> Transport {
        self.talk.version.transport()
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        Ok(Progress { state: self.talk.answer(message, out)?, acknowledged: 0 })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        for event in events {
            // As a string: the keys of an object would come out in another order.
            let data = String::from_utf8_lossy(event);
            let message = json!({ "event": "client-event", "channel": CHANNEL, "data": data });
            out.text(message.to_string().as_bytes());
        }
    }

    fn acknowledges(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockudo_does_what_it_says_it_can() {
        installed::try_out(&Sockudo);
    }

    /// The expected digits are those of Python's `hmac`.
    #[test]
    fn a_signature_is_what_the_protocol_says() {
        let signed = signature("1234.1234:private-foobar").expect("a key of any length is good");
        assert_eq!(signed, "e862a05dca6269ac2ad8bb365adf753702e1bbc27da575419c4d757493280792");
    }
}
