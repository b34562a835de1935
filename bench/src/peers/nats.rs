//! NATS: core publish and subscribe for the fan-out, JetStream where events are to be kept. Subscribers come over WebSocket, as
//! browsers do; publishers over TCP, as services do. `bench/peers/nats/nats.conf` is its configuration.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Purpose, Running, State, Subscriber,
    Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;

use super::{LESS_DURABLE, installed};

const BINARY: &str = "python/bin/nats-server";
const STREAM: &str = "EVENTS";
/// Said before anything else; the answer to `PING` says that all before it was done.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"bench\",\"version\":\"1\",\"protocol\":1}\r\n";
/// How long servers may take to agree who leads.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an acknowledgement of the stream has, and nothing else.
const ACKNOWLEDGED: &[u8] = b"\"seq\":";

/// NATS with one choice of when JetStream syncs; one server, or several that each keep every event.
pub(crate) struct Nats {
    sync_interval: &'static str,
    servers: usize,
}

impl Nats {
    /// Every acknowledged publish is synced first: `sync_interval: always`.
    pub(crate) fn synced() -> Self {
        Self { sync_interval: "always", servers: 1 }
    }

    /// JetStream's default: synced every two minutes.
    pub(crate) fn by_default() -> Self {
        Self { sync_interval: "\"2m\"", servers: 1 }
    }

    /// Three servers as one cluster, each of which syncs and keeps everything.
    pub(crate) fn cluster() -> Self {
        Self { sync_interval: "always", servers: 3 }
    }

    /// Starts all servers, with a stream where events are to be kept.
    ///
    /// # Errors
    /// When one does not start, or they do not make the stream.
    pub(crate) fn start_servers(&self, launch: &Launch<'_>) -> anyhow::Result<Servers> {
        let addrs = || -> Vec<SocketAddr> { (0..self.servers).map(|_| free_port()).collect() };
        let (publish_addrs, addrs, routes) = (addrs(), addrs(), addrs());
        let mut processes = Vec::new();
        for number in 0..self.servers {
            let dir = launch.dir.join(format!("n{number}"));
            std::fs::create_dir(&dir)?;
            let values = [
                ("NAME", &*format!("n{number}")),
                ("PORT", &*publish_addrs[number].port().to_string()),
                ("WS_PORT", &*addrs[number].port().to_string()),
                ("DIR", &*dir.display().to_string()),
                ("SYNC", self.sync_interval),
                ("CLUSTER", &*cluster(&routes, number)),
            ];
            let configuration = installed::write_configuration("nats/nats.conf", &dir, &values)?;
            let mut command = Command::new(installed::file(BINARY));
            command.arg("--config").arg(configuration);
            processes.push(Process::start(command, launch.cores, &dir)?);
        }
        for (number, process) in processes.iter_mut().enumerate() {
            process.wait_for_port(publish_addrs[number])?;
            process.wait_for_port(addrs[number])?;
        }
        let keeps = launch.purpose != Purpose::FanOut;
        if keeps {
            create_stream(publish_addrs[0], self.servers)?;
        }
        Ok(Servers { processes, addrs, publish_addrs, keeps, publishers: Cell::new(0) })
    }

    fn is_default(&self) -> bool {
        self.sync_interval != "always"
    }
}

impl Peer for Nats {
    fn name(&self) -> String {
        match (self.is_default(), self.servers) {
            (true, _) => format!("JetStream{LESS_DURABLE}"),
            (false, 1) => "NATS".to_owned(),
            (false, servers) => format!("NATS, {servers} servers"),
        }
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
            "subscribers over WebSocket; JetStream on files with sync_interval {sync} where events are kept, servers: {}",
            self.servers
        )
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        Ok(Box::new(self.start_servers(launch)?))
    }
}

/// What a configuration says of the others, where there are some.
fn cluster(routes: &[SocketAddr], number: usize) -> String {
    if routes.len() == 1 {
        return String::new();
    }
    let mut text = format!("cluster {{ name: bench, listen: \"{}\", routes: [", routes[number]);
    // Each on a line of its own: that is how the list is divided.
    for route in routes {
        let _ = write!(text, "\n\"nats-route://{route}\"");
    }
    text + "\n] }"
}

/// What a stream is: every event on the disks of so many servers, as long as there is room.
fn stream_config(replicas: usize) -> String {
    format!(
        r#"{{"name":"{STREAM}","subjects":["{CHANNEL}"],"storage":"file","retention":"limits","num_replicas":{replicas}}}"#
    )
}

/// Asks for the stream that keeps all events until it is there: servers that have just started first choose who leads.
fn create_stream(addr: SocketAddr, replicas: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match ask_for_stream(addr, &stream_config(replicas)) {
            Err(_) if replicas > 1 && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            made => return made,
        }
    }
}

fn ask_for_stream(addr: SocketAddr, config: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    let length = config.len();
    write!(
        stream,
        "{CONNECT}SUB _INBOX.s 1\r\nPUB $JS.API.STREAM.CREATE.{STREAM} _INBOX.s {length}\r\n{config}\r\n"
    )?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
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

/// Servers that run; killed when dropped.
pub(crate) struct Servers {
    processes: Vec<Process>,
    /// Where each takes WebSockets, and where plain connections.
    addrs: Vec<SocketAddr>,
    pub(crate) publish_addrs: Vec<SocketAddr>,
    /// Whether events go through JetStream.
    keeps: bool,
    /// Publishers so far: each has an inbox of its own.
    publishers: Cell<usize>,
}

impl Running for Servers {
    fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    fn publish_addr(&self) -> SocketAddr {
        self.publish_addrs[0]
    }

    fn nodes(&self) -> Vec<SocketAddr> {
        self.addrs.clone()
    }

    fn process(&self) -> Option<&Process> {
        self.processes.first()
    }

    fn pids(&self) -> Vec<u32> {
        self.processes.iter().flat_map(Process::tree).collect()
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
        Box::new(NatsPublisher { inbox: self.keeps.then(|| format!("_INBOX.p{nth}")), unread: Vec::new() })
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
    /// The end of what came, where an acknowledgement may be cut in two.
    unread: Vec<u8>,
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
        self.unread.extend_from_slice(message);
        let acknowledged = memmem::find_iter(&self.unread, ACKNOWLEDGED).count();
        let seen = self.unread.len().saturating_sub(ACKNOWLEDGED.len() - 1);
        self.unread.drain(..seen);
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
        installed::try_out(&Nats::cluster());
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
