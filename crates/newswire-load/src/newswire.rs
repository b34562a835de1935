//! Newswire itself, as a peer: its own binary, its defaults, full sessions and heartbeats.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command as Program;

use anyhow::{Context, bail, ensure};
use newswire_protocol::command::{Command, CommandFrame, FilterChange, Start, Subscribe};
use newswire_protocol::{Draft, FilterSpec, Limits, Scalar, ServerMessage, parse_server_message};

use crate::event::{CHANNEL, EventText};
use crate::http::Answers;
use crate::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Running, State, Subscriber, Transport,
    Writes,
};
use crate::process::Process;

const PATH: &str = "/api/v1/ws";

/// Newswire, started from a binary.
pub struct Newswire {
    binary: PathBuf,
    /// `--set key=value` beyond the defaults.
    settings: Vec<String>,
    name: String,
    over_http: bool,
}

impl Newswire {
    /// With the defaults: embedded log, every commit synced.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), settings: Vec::new(), name: "Newswire".to_owned(), over_http: false }
    }

    /// Publishing over HTTP, one event a request, instead of a WebSocket.
    #[must_use]
    pub fn over_http(mut self) -> Self {
        self.name.push_str(" over HTTP");
        self.over_http = true;
        self
    }

    /// Under another name with settings, each `key=value`.
    #[must_use]
    pub fn with(mut self, name: &str, settings: &[&str]) -> Self {
        self.name = name.to_owned();
        self.settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        self
    }
}

impl Peer for Newswire {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn version(&self) -> Result<String, String> {
        let missing = || format!("{} is not there; build it first", self.binary.display());
        let output = Program::new(&self.binary).arg("--version").output().map_err(|_| missing())?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.split_ascii_whitespace().last().unwrap_or("unknown").to_owned())
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: true, durable: true, resume: true }
    }

    fn configuration(&self) -> String {
        if self.settings.is_empty() {
            "defaults: embedded log, every commit synced".to_owned()
        } else {
            self.settings.join(", ")
        }
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let mut command = Program::new(&self.binary);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEWSWIRE_"))
        {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(launch.dir.join("data"));
        // More than any measurement opens, so that the server's own bound is not what is measured.
        command.args(["--set", "limits.connections=19000"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.current_dir(launch.dir);
        let mut process = Process::start(command, launch.cores, launch.dir)?;
        let addr = process.wait_for_output(listening_on)?;
        Ok(Box::new(Instance { process: Some(process), addr, over_http: self.over_http }))
    }
}

/// A Newswire that somebody else runs.
pub struct Remote {
    addr: SocketAddr,
}

impl Remote {
    /// At this address.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }
}

impl Peer for Remote {
    fn name(&self) -> String {
        format!("Newswire at {}", self.addr)
    }

    fn version(&self) -> Result<String, String> {
        Ok("unknown".to_owned())
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: true, durable: true, resume: true }
    }

    fn configuration(&self) -> String {
        "its own".to_owned()
    }

    fn start(&self, _: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        Ok(Box::new(Instance { process: None, addr: self.addr, over_http: false }))
    }
}

/// The address in the line that says it.
fn listening_on(output: &str) -> Option<SocketAddr> {
    let line = output.lines().find_map(|line| line.split_once("listening on "))?.1;
    let text = line.trim().trim_start_matches("http://");
    text[..text.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(text.len())].parse().ok()
}

/// A server that runs: our own child, or one that somebody else started.
struct Instance {
    process: Option<Process>,
    addr: SocketAddr,
    over_http: bool,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        let filters = match interest {
            Interest::Agent(agent) => FilterChange::Replace(of_agent(agent)),
            Interest::Everything | Interest::Resumable => FilterChange::Keep,
        };
        let remembers = *interest == Interest::Resumable;
        Box::new(NewswireSubscriber { filters, start: Start::Live, remembers, epoch: None, offset: 0 })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        if self.over_http {
            return Box::new(HttpPublisher::new(self.addr, 1));
        }
        Box::new(NewswirePublisher { before: None })
    }

    fn batch_publisher(&self, most: usize) -> Box<dyn Publisher> {
        Box::new(HttpPublisher::new(self.addr, most))
    }

    fn writes(&self) -> anyhow::Result<Option<Writes>> {
        let metrics = get(self.addr, "/metrics").context("reading the metrics")?;
        let count = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<f64>().ok().map(|count| count as u64)
        };
        let events = count("newswire_deliveries_total ");
        let writes = count("newswire_socket_writes_total ");
        Ok(events.zip(writes).map(|(events, writes)| Writes { events, writes }))
    }
}

/// The answer to a plain request, head and body.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn of_agent(agent: &str) -> FilterSpec {
    FilterSpec { clauses: vec![("agent".to_owned(), vec![Scalar::string(agent)])] }
}

struct NewswireSubscriber {
    filters: FilterChange,
    start: Start,
    remembers: bool,
    epoch: Option<String>,
    offset: u64,
}

impl Subscriber for NewswireSubscriber {
    fn transport(&self) -> Transport {
        Transport::websocket(PATH)
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        out.text(&subscription(self.filters.clone(), self.start.clone()));
        State::Waiting
    }

    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<State> {
        match parse_server_message(std::str::from_utf8(message)?)? {
            ServerMessage::Subscribed { offset, epoch, rejected, .. } => {
                ensure!(rejected.is_empty(), "the channel was rejected");
                (self.offset, self.epoch) = (offset, Some(epoch));
                Ok(State::Ready)
            }
            ServerMessage::Event(event) => {
                self.offset = event.offset;
                Ok(State::Waiting)
            }
            ServerMessage::Error { error, detail, .. } => bail!("{error} {}", detail.unwrap_or_default()),
            ServerMessage::Gap { from, to, .. } => bail!("a gap from {from} to {to}"),
            _ => Ok(State::Waiting),
        }
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        let start = Start::After { offset: self.offset, epoch: self.epoch.clone() };
        Some(Box::new(Self {
            filters: self.filters.clone(),
            start,
            remembers: false,
            epoch: None,
            offset: self.offset,
        }))
    }
}

struct NewswirePublisher {
    /// What a publish command says in front of an event's own text.
    before: Option<Vec<u8>>,
}

impl Publisher for NewswirePublisher {
    fn transport(&self) -> Transport {
        Transport::websocket(PATH)
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        self.before = before_events();
        State::Ready
    }

    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        let acknowledged = match parse_server_message(std::str::from_utf8(message)?)? {
            ServerMessage::Published { .. } => 1,
            ServerMessage::Error { error, detail, .. } => bail!("{error} {}", detail.unwrap_or_default()),
            _ => 0,
        };
        Ok(Progress { state: State::Ready, acknowledged })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        let before = self.before.as_deref().unwrap_or_default();
        for event in events {
            out.text(&[before, &event[1..]].concat());
        }
    }
}

/// One request after the other, on a connection that is kept alive: a single event, or an array of them.
struct HttpPublisher {
    head: String,
    answers: Answers,
    /// Events of one request.
    most: usize,
    /// Those of the request that is not answered yet.
    waiting: usize,
    body: Vec<u8>,
}

impl HttpPublisher {
    fn new(addr: SocketAddr, most: usize) -> Self {
        let head =
            format!("POST /api/v1/events HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n");
        Self { head, answers: Answers::default(), most, waiting: 0, body: Vec::new() }
    }
}

impl Publisher for HttpPublisher {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Ready
    }

    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        self.answers.extend(message);
        let mut acknowledged = 0;
        while let Some(answer) = self.answers.next_answer()? {
            let refused = answer.status != 200 || memchr::memmem::find(&answer.body, b"\"error\":").is_some();
            ensure!(!refused, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
            acknowledged += std::mem::take(&mut self.waiting);
        }
        Ok(Progress { state: State::Ready, acknowledged })
    }

    fn room(&self) -> usize {
        if self.waiting == 0 { self.most } else { 0 }
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        self.body.clear();
        if let [event] = events {
            self.body.extend_from_slice(event);
        } else {
            for (nth, event) in events.iter().enumerate() {
                self.body.push(if nth == 0 { b'[' } else { b',' });
                self.body.extend_from_slice(event);
            }
            self.body.push(b']');
        }
        out.raw(self.head.as_bytes());
        out.raw(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        out.raw(&self.body);
        self.waiting = events.len();
    }
}

/// A publish command is the event's own object with something in front of its first member: what that is, taken from one
/// that the protocol wrote.
fn before_events() -> Option<Vec<u8>> {
    let mut events = EventText::new(0);
    let event = events.write(crate::event::Mark { due_us: 0, number: 0 });
    let draft = Draft::parse(std::str::from_utf8(event).ok()?, &Limits::default()).ok()?;
    let command = written(Command::Publish(Box::new(draft)));
    command.strip_suffix(&event[1..]).map(<[u8]>::to_vec)
}

/// The command that subscribes to the benchmark's channel.
pub(crate) fn subscription(filters: FilterChange, start: Start) -> Vec<u8> {
    written(Command::Subscribe(Subscribe { channels: vec![CHANNEL.to_owned()], filters, start, sub: None }))
}

fn written(command: Command) -> Vec<u8> {
    let mut text = Vec::new();
    CommandFrame { id: None, command }.write(&mut text);
    text
}

/// The address in a `ws://` or `http://` URL.
///
/// # Errors
/// When it is none.
pub fn addr_of(url: &str) -> anyhow::Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    host.to_socket_addrs()?.next().with_context(|| format!("{url} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Mark;

    #[test]
    fn a_request_has_one_event_or_an_array_and_its_answer_acknowledges_all() {
        let mut publisher = HttpPublisher::new(SocketAddr::from(([127, 0, 0, 1], 80)), 3);
        let events: Vec<Vec<u8>> =
            (0..3).map(|number| EventText::new(200).write(Mark { due_us: 7, number }).to_vec()).collect();
        for count in [1, 3] {
            let mut bytes = Vec::new();
            assert_eq!(publisher.room(), 3);
            publisher.publish(&events[..count], &mut Outgoing::new(&mut bytes));
            assert_eq!(publisher.room(), 0, "one request after the other");
            let text = String::from_utf8(bytes).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a request");
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let whole: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(whole.as_array().map_or(1, Vec::len), count);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            let progress = publisher.message(answer, &mut Outgoing::new(&mut Vec::new()));
            assert_eq!(progress.expect("a good answer").acknowledged, count);
        }
    }

    #[test]
    fn a_publish_is_what_the_protocol_reads() {
        let mut bytes = Vec::new();
        let mut publisher = NewswirePublisher { before: None };
        let mut out = Outgoing::new(&mut bytes);
        publisher.opened(&mut out);
        let event = EventText::new(400).write(Mark { due_us: 7, number: 3 }).to_vec();
        assert_eq!(event.len(), 400);
        publisher.publish(std::slice::from_ref(&event), &mut out);
        let mut decoder = newswire_protocol::FrameDecoder::new(1 << 20, 1 << 20);
        let item = decoder.decode(&mut &bytes[..]).expect("a good frame");
        let Some(newswire_protocol::frame::Item::Text(text)) = item else { panic!("{item:?}") };
        let read = newswire_protocol::parse_command(&text, &Limits::default()).expect("a good command");
        let draft =
            Draft::parse(std::str::from_utf8(&event).expect("text"), &Limits::default()).expect("good");
        assert_eq!(read.command, Command::Publish(Box::new(draft)));
    }
}
