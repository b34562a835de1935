//! Socket.IO on Node, and socketioxide, which speaks the same protocol from Rust. The applications that both serve are
//! `bench/peers/socketio/server.js` and `bench/peers/socketioxide/src/main.rs`.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{bail, ensure};
use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Purpose, Running, State, Subscriber,
    Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;

use super::installed;

const OXIDE: &str = "socketioxide/newswire-bench-socketioxide";
const MODULES: &str = "socketio/node_modules";

/// Socket.IO itself, on the Node of the path.
pub(super) struct SocketIo;

impl Peer for SocketIo {
    fn name(&self) -> String {
        "Socket.IO".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        let package = installed::file(MODULES).join("socket.io/package.json");
        let version = format!("require({:?}).version", package.display().to_string());
        installed::version_of("node", &["--print", &version])
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: false, durable: false, resume: true }
    }

    fn configuration(&self) -> String {
        "WebSocket only, ws with bufferutil, no compression; connection state recovery where clients come back".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let mut command = Command::new("node");
        command.env("NODE_PATH", installed::file(MODULES)).env("NODE_ENV", "production");
        let recovers = launch.purpose == Purpose::Resume;
        if recovers {
            // What thousands of clients missed is queued for each of them, which Node's own bound of the heap would end.
            command.arg("--max-old-space-size=12288");
        }
        command.arg(installed::configuration("socketio/server.js"));
        start(command, recovers.then_some("--recovery"), launch)
    }
}

/// socketioxide under axum.
pub(super) struct Socketioxide;

impl Peer for Socketioxide {
    fn name(&self) -> String {
        "socketioxide".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        installed::version_of(installed::file(OXIDE), &["--version"])
    }

    fn abilities(&self) -> Abilities {
        // It has no connection state recovery.
        Abilities { fan_out: true, ..Abilities::default() }
    }

    fn configuration(&self) -> String {
        "axum, WebSocket only, LTO".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        start(Command::new(installed::file(OXIDE)), None, launch)
    }
}

fn start(
    mut command: Command,
    option: Option<&str>,
    launch: &Launch<'_>,
) -> anyhow::Result<Box<dyn Running>> {
    let addr = free_port();
    command.arg(addr.port().to_string()).args(option);
    let process = launch.serve(command, addr)?;
    Ok(Box::new(Instance { process, addr }))
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
        Box::new(RoomSubscriber { remembers, session: None, offset: None, comes_back: false })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(RoomPublisher)
    }
}

fn transport() -> Transport {
    Transport::websocket("/socket.io/?EIO=4&transport=websocket")
}

/// Subscribes to one room. `0`, `2`, `3` are opening, ping and pong of Engine.IO below; `4` carries a packet of Socket.IO: `40`
/// connects, `42` is an event, `43` acknowledges one.
struct RoomSubscriber {
    remembers: bool,
    /// The private id of the session, by which the server finds it again.
    session: Option<String>,
    /// Of the last event: the server adds it behind the event's own arguments.
    offset: Option<String>,
    comes_back: bool,
}

impl RoomSubscriber {
    fn connect(&self) -> String {
        match (&self.session, &self.offset) {
            (Some(pid), Some(offset)) => format!("40{}", serde_json::json!({ "pid": pid, "offset": offset })),
            _ => "40".to_owned(),
        }
    }

    fn connected(&mut self, answer: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        let answer: serde_json::Value = serde_json::from_slice(answer)?;
        let session = answer["pid"].as_str().map(str::to_owned);
        if self.comes_back {
            ensure!(session == self.session, "the session was not recovered");
            return Ok(State::Ready);
        }
        self.session = session;
        out.text(format!("420[\"subscribe\",\"{CHANNEL}\"]").as_bytes());
        Ok(State::Waiting)
    }
}

impl Subscriber for RoomSubscriber {
    fn transport(&self) -> Transport {
        transport()
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        match message {
            [b'0', ..] => out.text(self.connect().as_bytes()),
            [b'2'] => out.text(b"3"),
            [b'4', b'0', answer @ ..] => return self.connected(answer, out),
            [b'4', b'3', ..] => return Ok(State::Ready),
            [b'4', b'2', ..] if self.remembers => self.offset = last_text(message),
            [b'4', b'2', ..] => {}
            _ => bail!("{}", String::from_utf8_lossy(message)),
        }
        Ok(State::Waiting)
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        let (session, offset) = (Some(self.session.clone()?), Some(self.offset.clone()?));
        Some(Box::new(Self { remembers: false, session, offset, comes_back: true }))
    }
}

/// The last argument of an event, a string: `…,"MzUPkW0"]`.
fn last_text(message: &[u8]) -> Option<String> {
    let inner = message.strip_suffix(b"\"]")?;
    let begins = memchr::memrchr(b'"', inner)? + 1;
    String::from_utf8(inner[begins..].to_vec()).ok()
}

struct RoomPublisher;

impl Publisher for RoomPublisher {
    fn transport(&self) -> Transport {
        transport()
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        let mut state = State::Waiting;
        match message {
            [b'0', ..] => out.text(b"40"),
            [b'2'] => out.text(b"3"),
            [b'4', b'0', ..] => state = State::Ready,
            _ => bail!("{}", String::from_utf8_lossy(message)),
        }
        Ok(Progress { state, acknowledged: 0 })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        for event in events {
            let before = format!("42[\"publish\",\"{CHANNEL}\",");
            out.text(&[before.as_bytes(), event, b"]"].concat());
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
    fn socketio_does_what_it_says_it_can() {
        installed::try_out(&SocketIo);
    }

    #[test]
    fn socketioxide_does_what_it_says_it_can() {
        installed::try_out(&Socketioxide);
    }

    #[test]
    fn the_offset_behind_an_event_is_read() {
        assert_eq!(last_text(br#"42["event",{"a":"b"},"MzUPkW0"]"#).as_deref(), Some("MzUPkW0"));
        assert_eq!(last_text(br#"42["event",{"a":"b"}]"#), None);
    }
}
