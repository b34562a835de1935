//! Litestar's channels, served by uvicorn: `bench/peers/litestar/app.py`.

use std::net::SocketAddr;
use std::process::Command;

use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Running, State, Subscriber, Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;

use super::installed;

const PYTHON: &str = "python/bin/python";

/// Litestar with one way of sending.
pub(super) struct Litestar {
    joins: bool,
}

impl Litestar {
    /// The handlers that the channels plugin makes: one event, one send.
    pub(super) fn channels() -> Self {
        Self { joins: false }
    }

    /// A handler written by hand over the same plugin: all that waits for a subscriber in one frame.
    pub(super) fn joining() -> Self {
        Self { joins: true }
    }

    /// The faster of uvicorn's WebSocket implementations for each way, measured.
    fn implementation(&self) -> &'static str {
        if self.joins { "wsproto" } else { "websockets-sansio" }
    }
}

impl Peer for Litestar {
    fn name(&self) -> String {
        if self.joins { "Litestar, joined by hand" } else { "Litestar" }.to_owned()
    }

    fn version(&self) -> Result<String, String> {
        let ask = "from importlib.metadata import version; print(version('litestar'))";
        installed::version_of(installed::file(PYTHON), &["-c", ask])
    }

    fn abilities(&self) -> Abilities {
        // Its history is "the last n", whoever asks: nobody can go on from where they were.
        Abilities { fan_out: true, ..Abilities::default() }
    }

    fn configuration(&self) -> String {
        format!("memory backend, one uvicorn worker, uvloop, httptools, {}", self.implementation())
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let addr = free_port();
        let mut command = Command::new(installed::file(PYTHON));
        command.current_dir(installed::configuration("litestar")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", &addr.port().to_string()]);
        // What its documentation recommends for speed, and no compression for each subscriber.
        command.args(["--loop", "uvloop", "--http", "httptools", "--ws", self.implementation()]);
        command.args(["--ws-per-message-deflate", "false", "--backlog", "4096"]);
        command.args(["--no-access-log", "--log-level", "warning"]);
        let process = launch.serve(command, addr)?;
        Ok(Box::new(Instance { process, addr, joins: self.joins }))
    }
}

struct Instance {
    process: Process,
    addr: SocketAddr,
    joins: bool,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, _: &Interest) -> Box<dyn Subscriber> {
        Box::new(ChannelSubscriber { joins: self.joins })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(ChannelPublisher)
    }

    fn batches(&self) -> bool {
        self.joins
    }
}

struct ChannelSubscriber {
    joins: bool,
}

impl Subscriber for ChannelSubscriber {
    fn transport(&self) -> Transport {
        let before = if self.joins { "/joined" } else { "" };
        Transport::websocket(format!("{before}/{CHANNEL}"))
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        // It says nothing when the subscription holds, which is before anybody else is served.
        State::Ready
    }

    fn message(&mut self, _: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<State> {
        Ok(State::Ready)
    }
}

struct ChannelPublisher;

impl Publisher for ChannelPublisher {
    fn transport(&self) -> Transport {
        Transport::websocket(format!("/publish/{CHANNEL}"))
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Ready
    }

    fn message(&mut self, _: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        Ok(Progress { state: State::Ready, acknowledged: 0 })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        events.iter().for_each(|event| out.text(event));
    }

    fn acknowledges(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litestar_does_what_it_says_it_can() {
        installed::try_out(&Litestar::channels());
        installed::try_out(&Litestar::joining());
    }
}
