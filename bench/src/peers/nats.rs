//! NATS: core publish and subscribe for the fan-out, JetStream where events are to be kept. Subscribers come over WebSocket, as
//! browsers do; publishers over TCP, as services do. `bench/peers/nats/nats.conf` is its configuration.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Purpose, Running, State, Subscriber,
    Transport,
};
use newswire_load::process::{Process, free_port};

use super::{LESS_DURABLE, installed};

const BINARY: &str = "python/bin/nats-server";
const STREAM: &str = "EVENTS";
/// Said before anything else; the answer to `PING` says that all before it was done.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"bench\",\"version\":\"1\",\"protocol\":1}\r\n";
/// What a stream is: every event once on this machine's disk, as long as there is room.
const STREAM_CONFIG: &str =
    r#"{"name":"EVENTS","subjects":["tasks"],"storage":"file","retention":"limits","num_replicas":1}"#;

/// NATS with one choice of when JetStream syncs.
pub(super) struct Nats {
    sync_interval: &'static str,
}

impl Nats {
    /// Every acknowledged publish is synced first: `sync_interval: always`.
    pub(super) fn synced() -> Self {
        Self { sync_interval: "always" }
    }

    /// JetStream's default: synced every two minutes.
    pub(super) fn by_default() -> Self {
        Self { sync_interval: "\"2m\"" }
    }

    fn is_default(&self) -> bool {
        self.sync_interval != "always"
    }
}

impl Peer for Nats {
    fn name(&self) -> String {
        if self.is_default() { format!("JetStream{LESS_DURABLE}") } else { "NATS".to_owned() }
    }

    fn version(&self) -> Result<String, String> {
        installed::version_of(installed::file(BINARY), &["--version"])
    }

    fn abilities(&self) -> Abilities {
        let synced = !self.is_default();
        Abilities { fan_out: synced, filters: false, durable: true, resume: synced }
    }

    fn configuration(&self) -> String {
        let sync = self.sync_interval;
        format!(
            "subscribers over WebSocket; JetStream on files with sync_interval {sync} where events are kept"
        )
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let (publish_addr, addr) = (free_port()?, free_port()?);
        let values = [
            ("PORT", &*publish_addr.port().to_string()),
            ("WS_PORT", &*addr.port().to_string()),
            ("DIR", &*launch.dir.display().to_string()),
            ("SYNC", self.sync_interval),
        ];
        let configuration = installed::write_configuration("nats/nats.conf", launch.dir, &values)?;
        let mut command = Command::new(installed::file(BINARY));
        command.arg("--config").arg(configuration);
        let mut process = launch.serve(command, publish_addr)?;
        process.wait_for_port(addr)?;
        let keeps = launch.purpose != Purpose::FanOut;
        if keeps {
            create_stream(publish_addr)?;
        }
        Ok(Box::new(Instance { process, addr, publish_addr, keeps, publishers: Cell::new(0) }))
    }
}

/// Asks for the stream that keeps all events, and waits for it.
fn create_stream(addr: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    let length = STREAM_CONFIG.len();
    write!(
        stream,
        "{CONNECT}SUB _INBOX.s 1\r\nPUB $JS.API.STREAM.CREATE.{STREAM} _INBOX.s {length}\r\n{STREAM_CONFIG}\r\n"
    )?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while memmem::find(&answer, b"\"did_create\":true").is_none() {
        let read = stream.read(&mut piece).context("no answer about the stream")?;
        answer.extend_from_slice(&piece[..read]);
        let refused = read == 0 || memmem::find(&answer, b"\"error\"").is_some();
        ensure!(!refused, "no stream: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

struct Instance {
    process: Process,
    addr: SocketAddr,
    publish_addr: SocketAddr,
    /// Whether events go through JetStream.
    keeps: bool,
    /// Publishers so far: each has an inbox of its own.
    publishers: Cell<usize>,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn publish_addr(&self) -> SocketAddr {
        self.publish_addr
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        let remembers = *interest == Interest::Resumable;
        Box::new(NatsSubscriber {
            greeted: false,
            consumes: self.keeps.then_some(After::Now),
            remembers,
            sequence: 0,
        })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        let nth = self.publishers.get();
        self.publishers.set(nth + 1);
        Box::new(NatsPublisher { inbox: self.keeps.then(|| format!("_INBOX.p{nth}")) })
    }

    /// NATS gathers what waits for a connection into one WebSocket message.
    fn batches(&self) -> bool {
        true
    }
}

/// Where a consumer of the stream begins.
#[derive(Clone, Copy)]
enum After {
    Now,
    Sequence(u64),
}

struct NatsSubscriber {
    /// The server repeats its first word when it has something to add.
    greeted: bool,
    /// `None`: core NATS, without the stream.
    consumes: Option<After>,
    remembers: bool,
    /// Of the last event in the stream.
    sequence: u64,
}

impl NatsSubscriber {
    /// What an ordered consumer asks for, but for flow control and its heartbeat: they only slow the server down where
    /// nothing is lost on the way.
    fn consumer(after: After) -> String {
        let begin = match after {
            After::Now => r#""deliver_policy":"new""#.to_owned(),
            After::Sequence(sequence) => {
                format!(r#""deliver_policy":"by_start_sequence","opt_start_seq":{}"#, sequence + 1)
            }
        };
        format!(
            r#"{{"stream_name":"{STREAM}","config":{{"deliver_subject":"@INBOX@.e",{begin},"ack_policy":"none","max_deliver":1,"mem_storage":true,"num_replicas":1}}}}"#
        )
    }
}

impl Subscriber for NatsSubscriber {
    fn transport(&self) -> Transport {
        Transport::websocket("/")
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        // The server speaks first; its word holds what makes this connection's inbox its own.
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        if memmem::find(message, b"-ERR").is_some() {
            bail!("{}", String::from_utf8_lossy(message));
        }
        if !self.greeted && message.starts_with(b"INFO ") {
            self.greeted = true;
            out.binary(self.greeting(message)?.as_bytes());
            return Ok(State::Waiting);
        }
        if memmem::find(message, b"PING\r\n").is_some() {
            out.binary(b"PONG\r\n");
        }
        if self.remembers
            && let Some(sequence) = last_sequence(message)
        {
            self.sequence = sequence;
        }
        let confirmed: &[u8] = if self.consumes.is_some() { b"\"stream_name\"" } else { b"PONG\r\n" };
        if memmem::find(message, b"\"error\":{").is_some() {
            bail!("{}", String::from_utf8_lossy(message));
        }
        let ready = memmem::find(message, confirmed).is_some();
        Ok(if ready { State::Ready } else { State::Waiting })
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        self.consumes?;
        let after = After::Sequence(self.sequence);
        Some(Box::new(Self {
            greeted: false,
            consumes: Some(after),
            remembers: false,
            sequence: self.sequence,
        }))
    }
}

impl NatsSubscriber {
    fn greeting(&self, info: &[u8]) -> anyhow::Result<String> {
        let Some(after) = self.consumes else { return Ok(format!("{CONNECT}SUB {CHANNEL} 1\r\nPING\r\n")) };
        let info: serde_json::Value = serde_json::from_slice(info[b"INFO ".len()..].trim_ascii_end())?;
        let inbox = format!("_INBOX.{}", info["client_id"]);
        let consumer = Self::consumer(after).replace("@INBOX@", &inbox);
        let length = consumer.len();
        // A consumer looks for somebody who subscribes to its subject by its whole name, not by `.*`.
        Ok(format!(
            "{CONNECT}SUB {inbox}.e 1\r\nSUB {inbox}.r 2\r\nPUB $JS.API.CONSUMER.CREATE.{STREAM} {inbox}.r {length}\r\n{consumer}\r\n"
        ))
    }
}

/// The position in the stream of the last event in a message. It stands in the subject that would acknowledge it:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<position>.<…>.<time>.<pending>`, in newer servers with a domain and an account
/// in front of the stream.
fn last_sequence(message: &[u8]) -> Option<u64> {
    let at = memmem::rfind(message, b"$JS.ACK.")?;
    let reply = message[at..].split(|&byte| byte == b' ').next()?;
    let parts: Vec<&str> = std::str::from_utf8(reply).ok()?.split('.').collect();
    let position = if parts.len() > 9 { 7 } else { 5 };
    parts.get(position)?.parse().ok()
}

struct NatsPublisher {
    /// Where acknowledgements of the stream come, and to nobody else.
    inbox: Option<String>,
}

impl Publisher for NatsPublisher {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        out.raw(CONNECT.as_bytes());
        if let Some(inbox) = &self.inbox {
            out.raw(format!("SUB {inbox} 1\r\n").as_bytes());
        }
        out.raw(b"PING\r\n");
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        let bad = memmem::find(message, b"-ERR").or_else(|| memmem::find(message, b"\"error\":{"));
        ensure!(bad.is_none(), "{}", String::from_utf8_lossy(message));
        if memmem::find(message, b"PING\r\n").is_some() {
            out.raw(b"PONG\r\n");
        }
        let ready = memmem::find(message, b"PONG\r\n").is_some();
        let acknowledged = memmem::find_iter(message, b"\"seq\":").count();
        Ok(Progress { state: if ready { State::Ready } else { State::Waiting }, acknowledged })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        let inbox = self.inbox.as_deref().unwrap_or_default();
        for event in events {
            out.raw(format!("PUB {CHANNEL} {inbox} {}\r\n", event.len()).as_bytes());
            out.raw(event);
            out.raw(b"\r\n");
        }
    }

    fn acknowledges(&self) -> bool {
        self.inbox.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_does_what_it_says_it_can() {
        installed::try_out(&Nats::synced());
        installed::try_out(&Nats::by_default());
    }

    #[test]
    fn the_position_of_the_last_event_is_read() {
        let message = b"MSG tasks 1 $JS.ACK.EVENTS.c.1.41.1.99.0 2\r\n{}\r\nMSG tasks 1 $JS.ACK.EVENTS.c.1.42.2.99.0 2\r\n{}\r\n";
        assert_eq!(last_sequence(message), Some(42));
        let newer = b"MSG tasks 1 $JS.ACK._.hash.EVENTS.c.1.43.2.99.0 2\r\n{}\r\n";
        assert_eq!(last_sequence(newer), Some(43));
        assert_eq!(last_sequence(b"PING\r\n"), None);
    }
}
