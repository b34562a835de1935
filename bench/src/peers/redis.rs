//! Redis: publish and subscribe for the fan-out, a stream (`XADD`, `XREAD`) where events are to be kept. It has no
//! WebSocket, so its subscribers speak its own protocol over TCP. `bench/peers/redis/redis.conf` is its configuration.

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

use super::resp::Reader;
use super::{LESS_DURABLE, installed};

const BINARY: &str = "redis-server";
/// Entries that one `XREAD` gives at most.
const ENTRIES: &str = "1000";

/// Redis with one choice of when the append-only file is synced.
pub(crate) struct Redis {
    appendfsync: &'static str,
}

impl Redis {
    /// Synced before anything is answered.
    pub(crate) fn synced() -> Self {
        Self { appendfsync: "always" }
    }

    /// The default: synced every second.
    pub(crate) fn by_default() -> Self {
        Self { appendfsync: "everysec" }
    }

    fn is_default(&self) -> bool {
        self.appendfsync == "everysec"
    }
}

impl Peer for Redis {
    fn name(&self) -> String {
        if self.is_default() { format!("Redis{LESS_DURABLE}") } else { "Redis".to_owned() }
    }

    fn version(&self) -> Result<String, String> {
        // `Redis server v=7.0.15 sha=…`
        installed::version_of(BINARY, &["--version"])
    }

    fn abilities(&self) -> Abilities {
        let synced = !self.is_default();
        Abilities { fan_out: synced, filters: false, durable: true, resume: synced }
    }

    fn configuration(&self) -> String {
        format!(
            "publish/subscribe over TCP; streams with appendfsync {} where events are kept",
            self.appendfsync
        )
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let addr = free_port();
        let mut command = Command::new(BINARY);
        command.arg(installed::configuration("redis/redis.conf"));
        command.args(["--port", &addr.port().to_string(), "--appendfsync", self.appendfsync]);
        command.arg("--dir").arg(launch.dir);
        let process = launch.serve(command, addr)?;
        Ok(Box::new(Instance { process, addr, keeps: launch.purpose != Purpose::FanOut }))
    }
}

struct Instance {
    process: Process,
    addr: SocketAddr,
    /// Whether events go into the stream.
    keeps: bool,
}

impl Running for Instance {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn subscriber(&self, interest: &Interest) -> Box<dyn Subscriber> {
        if self.keeps {
            let remembers = *interest == Interest::Resumable;
            Box::new(StreamReader { last: None, remembers, reader: Reader::default() })
        } else {
            Box::new(ChannelSubscriber)
        }
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(RedisPublisher { keeps: self.keeps })
    }

    fn batches(&self) -> bool {
        true
    }
}

struct ChannelSubscriber;

impl Subscriber for ChannelSubscriber {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        command(out, &[b"SUBSCRIBE", CHANNEL.as_bytes()]);
        State::Waiting
    }

    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<State> {
        refuse_errors(message)?;
        Ok(State::Ready)
    }
}

/// Reads the stream: each `XREAD` asks for what comes after the last entry of the one before.
struct StreamReader {
    /// `None`: only what comes from now on.
    last: Option<String>,
    remembers: bool,
    reader: Reader,
}

impl StreamReader {
    fn read_on(&self, out: &mut Outgoing<'_>) {
        let after = self.last.as_deref().unwrap_or("$");
        let words = ["XREAD", "COUNT", ENTRIES, "BLOCK", "0", "STREAMS", CHANNEL, after];
        command(out, &words.map(str::as_bytes));
    }
}

impl Subscriber for StreamReader {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        // Its answer says that what follows is being read.
        command(out, &[b"ECHO", b"reading"]);
        State::Waiting
    }

    fn message(&mut self, message: &[u8], out: &mut Outgoing<'_>) -> anyhow::Result<State> {
        for reply in self.reader.read(message) {
            if reply.error {
                bail!("Redis refused: {}", reply.last_id.unwrap_or_default());
            }
            self.last = reply.last_id.or(self.last.take());
            self.read_on(out);
        }
        Ok(State::Ready)
    }

    /// Each answer has to be asked for, and the next question needs the last id of this answer.
    fn wants_events(&self) -> bool {
        true
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        self.remembers.then(|| {
            Box::new(Self { last: self.last.clone(), remembers: false, reader: Reader::default() })
                as Box<dyn Subscriber>
        })
    }
}

struct RedisPublisher {
    keeps: bool,
}

impl Publisher for RedisPublisher {
    fn transport(&self) -> Transport {
        Transport::Raw
    }

    fn opened(&mut self, out: &mut Outgoing<'_>) -> State {
        command(out, &[b"PING"]);
        State::Waiting
    }

    /// The first answer, `+PONG`, is no acknowledgement.
    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        refuse_errors(message)?;
        // `:3` (how many subscribers got it), or `$15` and the id of the entry.
        let begins = if self.keeps { b'$' } else { b':' };
        let acknowledged = memchr::memchr_iter(begins, message).count();
        Ok(Progress { state: State::Ready, acknowledged })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        for event in events {
            if self.keeps {
                command(out, &[b"XADD", CHANNEL.as_bytes(), b"*", b"e", event]);
            } else {
                command(out, &[b"PUBLISH", CHANNEL.as_bytes(), event]);
            }
        }
    }
}

fn refuse_errors(message: &[u8]) -> anyhow::Result<()> {
    ensure!(!message.starts_with(b"-"), "Redis refused: {}", String::from_utf8_lossy(message));
    Ok(())
}

fn command(out: &mut Outgoing<'_>, words: &[&[u8]]) {
    out.raw(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.raw(format!("${}\r\n", word.len()).as_bytes());
        out.raw(word);
        out.raw(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_does_what_it_says_it_can() {
        installed::try_out(&Redis::synced());
        installed::try_out(&Redis::by_default());
    }
}
