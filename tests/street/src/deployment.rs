//! The deployment in `deploy/`, set up on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::{Daemon, free_port};
use crate::nats::{NatsCluster, NatsServer};
use crate::{ServerOptions, binary, tools};

/// The names of the servers, and of the nodes, as far as they differ.
pub const LETTERS: [&str; 3] = ["a", "b", "c"];

/// The text of a file in `deploy/`.
///
/// # Panics
/// When it is not there.
pub fn file(name: &str) -> String {
    let path = binary::workspace_root().join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with `to` in the place of `from`.
///
/// # Panics
/// When `from` is not in there: then what was tested would not be what is deployed.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in\n{text}");
    text.replace(from, to)
}

/// What `secrets.sh` made, and where the servers of this machine are.
pub struct Deployment {
    home: TempDir,
    clients: [SocketAddr; 3],
    routes: [SocketAddr; 3],
}

impl Deployment {
    /// Makes secrets and chooses ports; nothing runs yet.
    ///
    /// # Panics
    /// When the script fails, with what it said.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut script = Command::new(binary::workspace_root().join("deploy/secrets.sh"));
        tools::succeeds(script.arg(home.path().join("secrets")), "");
        Self { home, clients: [(); 3].map(|()| free_port()), routes: [(); 3].map(|()| free_port()) }
    }

    /// One of the secrets.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.home.path().join("secrets").join(name)
    }

    /// `nats.conf` for one of the servers, which keeps its data in `home`.
    pub fn nats_conf(&self, server: usize, monitor: SocketAddr, home: &Path) -> String {
        let mut text = file("nats.conf");
        for (from, to) in [
            ("0.0.0.0:4222", self.clients[server].to_string()),
            ("0.0.0.0:6222", self.routes[server].to_string()),
            ("127.0.0.1:8222", monitor.to_string()),
            ("/var/lib/nats", home.join("data").display().to_string()),
            (
                "/etc/nats/tls.pem",
                self.secret(&format!("nats-{}.pem", LETTERS[server])).display().to_string(),
            ),
            (
                "/etc/nats/tls.key",
                self.secret(&format!("nats-{}.key", LETTERS[server])).display().to_string(),
            ),
            ("/etc/nats/ca.pem", self.secret("ca.pem").display().to_string()),
        ] {
            text = replaced(&text, from, &to);
        }
        for (letter, route) in LETTERS.iter().zip(self.routes) {
            text = replaced(&text, &format!("nats-{letter}:6222"), &route.to_string());
        }
        std::fs::copy(self.secret("auth.conf"), home.join("auth.conf")).expect("a file in a new directory");
        text
    }

    /// Starts the three servers, and waits until they serve.
    ///
    /// # Panics
    /// When they do not, with what they wrote.
    pub fn start_nats(&self) -> NatsCluster {
        NatsCluster::start_as([0, 1, 2].map(|number| {
            let (daemon, monitor) = (Daemon::new(&format!("nats-{}", LETTERS[number])), free_port());
            let text = self.nats_conf(number, monitor, daemon.home());
            NatsServer::configured(self.clients[number], monitor, daemon, &text)
        }))
    }

    /// `newswire.toml`, as a file.
    pub fn newswire_toml(&self) -> PathBuf {
        let mut text = file("newswire.toml");
        for (letter, addr) in LETTERS.iter().zip(self.clients) {
            text = replaced(&text, &format!("nats-{letter}:4222"), &addr.to_string());
        }
        text = replaced(&text, "/etc/newswire/ca.pem", &self.secret("ca.pem").display().to_string());
        text = replaced(&text, "10.20.0.10", "127.0.0.1");
        let path = self.home.path().join("newswire.toml");
        std::fs::write(&path, text).expect("a file in a new directory");
        path
    }

    /// What the environment of a node says.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("NEWSWIRE_CONFIG", self.newswire_toml().display().to_string()),
            ("NEWSWIRE_JETSTREAM__PASSWORD_FILE", self.secret("nats-password").display().to_string()),
            ("NEWSWIRE_AUTH__JWT__SECRET_FILE", self.secret("auth-secret").display().to_string()),
        ]
    }

    /// A node, to be started.
    pub fn node(&self) -> ServerOptions {
        self.environment()
            .into_iter()
            .fold(ServerOptions::default(), |node, (name, value)| node.env(name, value))
    }
}

impl Default for Deployment {
    fn default() -> Self {
        Self::new()
    }
}
