//! NATS servers with JetStream: one alone, or several as a cluster. Everything acknowledged is synced to the disk first.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, free_port};
use crate::{PATIENCE, tools};

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct NatsOptions {
    lines: String,
}

impl NatsOptions {
    /// Adds a line, or several, to its configuration.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.lines.push_str(text);
        self.lines.push('\n');
        self
    }

    /// Lets in only who knows this password.
    #[must_use]
    pub fn password(self, user: &str, password: &str) -> Self {
        self.line(&format!("authorization {{ user: {user:?}, password: {password:?} }}"))
    }

    /// Starts a server and waits until it serves.
    ///
    /// # Panics
    /// When it does not, with what it wrote.
    pub fn start(&self) -> NatsServer {
        let server = NatsServer::new("single", self, "");
        server.spawned()
    }

    /// Starts servers as one cluster and waits until all serve. Names are `n0`, `n1`, ….
    ///
    /// # Panics
    /// When they do not, with what they wrote.
    pub fn start_cluster(&self, count: usize) -> NatsCluster {
        let routes: Vec<SocketAddr> = (0..count).map(|_| free_port()).collect();
        self.start_cluster_over(&routes, "", |_, to| Some(routes[to]))
    }

    /// As [`Self::start_cluster`], where server n listens for the others at `listen[n]`, and server `from` reaches server
    /// `to` where `reach(from, to)` says, or waits to be reached. `lines` stand in the configuration's `cluster`.
    ///
    /// # Panics
    /// As there.
    pub fn start_cluster_over(
        &self,
        listen: &[SocketAddr],
        lines: &str,
        reach: impl Fn(usize, usize) -> Option<SocketAddr>,
    ) -> NatsCluster {
        let count = listen.len();
        let servers = (0..count).map(|number| {
            let mut cluster =
                format!("cluster {{ name: street, listen: \"{}\"\n{lines}\nroutes: [", listen[number]);
            let routes = (0..count).filter_map(|to| reach(number, to));
            routes.for_each(|route| writeln!(cluster, "\"nats-route://{route}\"").unwrap());
            NatsServer::new(&format!("n{number}"), self, &format!("{cluster}] }}\n"))
        });
        NatsCluster::start_as(servers)
    }
}

/// One server; see [`Daemon`] for what can be done to it.
pub struct NatsServer {
    /// Where it listens.
    pub addr: SocketAddr,
    monitor: SocketAddr,
    daemon: Daemon,
}

impl Deref for NatsServer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for NatsServer {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl NatsServer {
    /// A server with the defaults.
    pub fn start() -> Self {
        NatsOptions::default().start()
    }

    fn new(name: &str, options: &NatsOptions, cluster: &str) -> Self {
        let daemon = Daemon::new(name);
        let (addr, monitor) = (free_port(), free_port());
        let dir = daemon.home().display();
        let configuration = format!(
            "server_name: {name}\nlisten: \"{addr}\"\nhttp: \"{monitor}\"\n\
             jetstream {{ store_dir: \"{dir}/data\", sync_interval: always, max_file: 1TB, max_mem: 1GB }}\n\
             {cluster}{}",
            options.lines
        );
        Self::configured(addr, monitor, daemon, &configuration)
    }

    /// One with a configuration of the caller's, which says where it listens and is watched; not started. It finds its name
    /// in `NATS_NAME`, and keeps its data in the home of `daemon`, where the caller may have put files.
    pub fn configured(addr: SocketAddr, monitor: SocketAddr, daemon: Daemon, configuration: &str) -> Self {
        std::fs::write(daemon.home().join("nats.conf"), configuration).expect("a file in a new directory");
        Self { addr, monitor, daemon }
    }

    fn spawned(mut self) -> Self {
        self.restart();
        self
    }

    /// `nats-server` with its configuration.
    pub fn command(&self) -> Command {
        let mut command = tools::python_tool("nats-server");
        command.env("NATS_NAME", self.name()).arg("--config").arg(self.home().join("nats.conf"));
        command
    }

    /// The address for clients: `nats://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// Starts it again over the same data, on the same ports, and waits until it serves; kills it first if it still runs.
    pub fn restart(&mut self) {
        self.restart_unwatched();
        self.wait();
    }

    /// As [`Self::restart`], without waiting: alone, a server of a cluster does not serve.
    pub fn restart_unwatched(&mut self) {
        let command = self.command();
        self.spawn(command);
    }

    /// Waits until it says that it is well, with all streams that it keeps.
    ///
    /// # Panics
    /// When it does not, with what it wrote.
    pub fn wait(&self) {
        self.wait_until(|| self.is_well());
    }

    fn is_well(&self) -> bool {
        TcpStream::connect(self.addr).is_ok()
            && self.ask("/healthz").is_some_and(|health| health["status"] == "ok")
    }

    /// The name of the server that leads a stream, as this one knows it.
    pub fn leader_of(&self, stream: &str) -> Option<String> {
        Some(self.detail_of(stream)?["cluster"]["leader"].as_str()?.to_owned())
    }

    /// The oldest message that a stream still holds.
    pub fn first_of(&self, stream: &str) -> Option<u64> {
        self.detail_of(stream)?["state"]["first_seq"].as_u64()
    }

    fn detail_of(&self, stream: &str) -> Option<Value> {
        let all = self.ask("/jsz?accounts=true&streams=true")?;
        let accounts = all["account_details"].as_array()?.iter();
        let mut streams = accounts.filter_map(|account| account["stream_detail"].as_array()).flatten();
        streams.find(|found| found["name"] == stream).cloned()
    }

    /// What the server tells those who watch over it.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.monitor).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// Servers that keep streams together.
pub struct NatsCluster {
    /// Each of them.
    pub servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// A cluster with the defaults.
    pub fn start(count: usize) -> Self {
        NatsOptions::default().start_cluster(count)
    }

    /// Starts these servers, which know of each other, and waits until all serve.
    ///
    /// # Panics
    /// When they do not, with what they wrote.
    pub fn start_as(servers: impl IntoIterator<Item = NatsServer>) -> Self {
        let mut servers: Vec<NatsServer> = servers.into_iter().collect();
        servers.iter_mut().for_each(NatsServer::restart_unwatched);
        let cluster = Self { servers };
        cluster.wait();
        cluster
    }

    /// The addresses for clients.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Waits until all serve and say that they are well.
    pub fn wait(&self) {
        self.servers.iter().for_each(NatsServer::wait);
    }

    /// Which server leads a stream, waiting for one that does and runs.
    ///
    /// # Panics
    /// When nobody does.
    pub fn leader_of(&self, stream: &str) -> usize {
        let asked = Instant::now();
        loop {
            let running = self.servers.iter().filter(|server| server.runs());
            let leader = running.filter_map(|server| server.leader_of(stream)).next();
            let number = leader.and_then(|name| self.servers.iter().position(|server| server.name() == name));
            if let Some(number) = number.filter(|number| self.servers[*number].runs()) {
                return number;
            }
            assert!(asked.elapsed() < PATIENCE, "nobody leads {stream}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends all at once with SIGKILL.
    pub fn kill(&mut self) {
        self.servers.iter_mut().for_each(|server| server.kill());
    }

    /// Starts all again, each over its data and on its ports, and waits until they serve.
    pub fn restart(&mut self) {
        self.servers.iter_mut().for_each(NatsServer::restart_unwatched);
        self.wait();
    }
}
