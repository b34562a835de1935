//! nchan, a module of nginx: `bench/peers/nchan/nginx.conf`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use newswire_load::event::CHANNEL;
use newswire_load::peer::{
    Abilities, Interest, Launch, Outgoing, Peer, Progress, Publisher, Running, State, Subscriber, Transport,
};
use newswire_load::process::Process;
use newswire_street_tests::daemon::free_port;

use super::installed;

const BINARY: &str = "nginx";
const MODULE: &str = "ngx_nchan_module.so";
/// Where distributions put the modules of nginx.
const MODULES: &[&str] =
    &["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/libexec/nginx/modules"];
/// Sends the id of each message in front of it, from which a client can go on.
const WITH_IDS: &str = "Sec-WebSocket-Protocol: ws+meta.nchan";

/// nchan in nginx.
pub(super) struct Nchan;

fn modules() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|dir| dir.join(MODULE).exists())
}

impl Peer for Nchan {
    fn name(&self) -> String {
        "nchan".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        let nginx = installed::version_of(BINARY, &["-v"])?;
        let missing = || format!("{MODULE} is in none of {}", MODULES.join(", "));
        modules().ok_or_else(missing)?;
        // The module does not say its own version.
        Ok(format!("of nginx {nginx}"))
    }

    fn abilities(&self) -> Abilities {
        Abilities { fan_out: true, filters: false, durable: false, resume: true }
    }

    fn configuration(&self) -> String {
        "one worker, messages in shared memory, WebSocket".to_owned()
    }

    fn start(&self, launch: &Launch<'_>) -> anyhow::Result<Box<dyn Running>> {
        let addr = free_port();
        let modules = modules().context("the module is not installed")?;
        let values = [
            ("PORT", &*addr.port().to_string()),
            ("DIR", &*launch.dir.display().to_string()),
            ("MODULES", &*modules.display().to_string()),
        ];
        let configuration = installed::write_configuration("nchan/nginx.conf", launch.dir, &values)?;
        let mut command = Command::new(BINARY);
        command.arg("-p").arg(launch.dir).arg("-c").arg(configuration);
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
        Box::new(ChannelSubscriber { remembers: *interest == Interest::Resumable, after: None, last: None })
    }

    fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(ChannelPublisher)
    }
}

impl Drop for Instance {
    /// The workers outlive a master that is killed, so they go first.
    fn drop(&mut self) {
        for worker in self.process.tree().into_iter().skip(1) {
            let pid = i32::try_from(worker).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

struct ChannelSubscriber {
    remembers: bool,
    /// The message after which it goes on.
    after: Option<String>,
    /// The last message that came.
    last: Option<String>,
}

impl Subscriber for ChannelSubscriber {
    fn transport(&self) -> Transport {
        let path = match &self.after {
            Some(after) => format!("/resume/{CHANNEL}?last_event_id={after}"),
            None => format!("/sub/{CHANNEL}"),
        };
        let with_ids = self.remembers || self.after.is_some();
        Transport::WebSocket { path, headers: with_ids.then(|| WITH_IDS.to_owned()).into_iter().collect() }
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        // The upgrade is answered when the subscription holds.
        State::Ready
    }

    fn message(&mut self, message: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<State> {
        if self.remembers
            && let Some(id) = id_of(message)
        {
            self.last = Some(id);
        }
        Ok(State::Ready)
    }

    fn wants_events(&self) -> bool {
        self.remembers
    }

    fn resumed(&self) -> Option<Box<dyn Subscriber>> {
        let after = Some(self.last.clone()?);
        Some(Box::new(Self { remembers: false, after, last: None }))
    }
}

/// The id in front of a message: `id: 1450755280:0`, a line of its own.
fn id_of(message: &[u8]) -> Option<String> {
    let rest = message.strip_prefix(b"id: ")?;
    let end = memchr::memchr(b'\n', rest)?;
    Some(String::from_utf8_lossy(&rest[..end]).trim_end().to_owned())
}

struct ChannelPublisher;

impl Publisher for ChannelPublisher {
    fn transport(&self) -> Transport {
        Transport::websocket(format!("/pub/{CHANNEL}"))
    }

    fn opened(&mut self, _: &mut Outgoing<'_>) -> State {
        State::Ready
    }

    fn message(&mut self, _: &[u8], _: &mut Outgoing<'_>) -> anyhow::Result<Progress> {
        // Each publish is answered with a few lines about the channel.
        Ok(Progress { state: State::Ready, acknowledged: 1 })
    }

    fn publish(&mut self, events: &[Vec<u8>], out: &mut Outgoing<'_>) {
        events.iter().for_each(|event| out.text(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nchan_does_what_it_says_it_can() {
        installed::try_out(&Nchan);
    }

    #[test]
    fn the_id_in_front_of_a_message_is_read() {
        assert_eq!(id_of(b"id: 1450755280:0\n\n{}").as_deref(), Some("1450755280:0"));
        assert_eq!(id_of(b"{}"), None);
    }
}
