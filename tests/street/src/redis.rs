//! A Redis server, which syncs everything to its append-only file before it acknowledges it.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::Command;

use crate::daemon::{Daemon, free_port};

/// One server; see [`Daemon`] for what can be done to it.
pub struct RedisServer {
    /// Where it listens.
    pub addr: SocketAddr,
    password: Option<String>,
    daemon: Daemon,
}

impl Deref for RedisServer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for RedisServer {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl RedisServer {
    /// Starts one that lets everybody in, and waits until it serves.
    ///
    /// # Panics
    /// When it does not, with what it wrote.
    pub fn start() -> Self {
        Self::started(None)
    }

    /// As [`Self::start`]; lets in only who knows the password.
    pub fn with_password(password: &str) -> Self {
        Self::started(Some(password.to_owned()))
    }

    fn started(password: Option<String>) -> Self {
        let mut server = Self { addr: free_port(), password, daemon: Daemon::new("redis-server") };
        server.restart();
        server
    }

    /// The address for clients, without the password.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Starts it again over the same data, on the same port, and waits until it serves; kills it first if it still runs.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.addr.port().to_string()]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.arg("--dir").arg(self.home());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        self.spawn(command);
        self.wait_until(|| self.run(&["PING"]).trim() == "PONG");
    }

    /// Runs a command as somebody else would (`redis-cli`); answers what that printed.
    pub fn run(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.addr.port().to_string()]);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        let output = cli.args(command).output().expect("redis-cli comes with the server");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
