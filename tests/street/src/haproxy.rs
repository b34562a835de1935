//! HAProxy before nodes on this machine, set up as `deploy/haproxy.cfg` says.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::chaos::Before;
use crate::daemon::{Daemon, free_port};
use crate::deployment::{self, replaced};

/// How clients reach it.
#[derive(Clone, Copy)]
pub enum Front<'a> {
    /// Without TLS.
    Plain,
    /// With the certificate and key in this file.
    Tls(&'a Path),
}

/// One process. Dropping it ends it; a panicking test prints what it said: a line for each request.
pub struct HaProxy {
    addr: SocketAddr,
    daemon: Daemon,
}

impl HaProxy {
    /// Starts it before these three nodes, and waits until it leads to one.
    ///
    /// # Panics
    /// When it does not, with what it wrote; when the file has lost what is replaced here.
    pub fn start(nodes: &[SocketAddr], front: Front<'_>) -> Self {
        let addr = free_port();
        let mut daemon = Daemon::new("haproxy");
        let configuration = daemon.home().join("haproxy.cfg");
        std::fs::write(&configuration, here(nodes, addr, front)).expect("a file in a new directory");
        let mut command = command();
        command.arg("-f").arg(&configuration);
        daemon.spawn(command);
        daemon.wait_until(|| TcpStream::connect(addr).is_ok());
        Self { addr, daemon }
    }

    /// Where clients reach it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Before for HaProxy {
    fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // Asked, not killed: what it started for the work ends with it.
        self.daemon.stop();
    }
}

/// `haproxy`, to be given its arguments. It lies where the path of a user may not lead.
pub fn command() -> Command {
    let installed = Path::new("/usr/sbin/haproxy");
    Command::new(if installed.exists() { installed } else { Path::new("haproxy") })
}

/// The file of the deployment with the addresses of this machine.
pub fn here(nodes: &[SocketAddr], addr: SocketAddr, front: Front<'_>) -> String {
    let mut text = deployment::file("haproxy.cfg");
    // The user belongs to the package; a test may run as anybody.
    text = replaced(&replaced(&text, "    user haproxy\n", ""), "    group haproxy\n", "");
    // A test may have fewer descriptors.
    text = replaced(&text, "maxconn 40000", "maxconn 1000");
    for (name, node) in ["a", "b", "c"].iter().zip(nodes) {
        text = replaced(&text, &format!(" node-{name}:8080"), &format!(" {node}"));
    }
    text = replaced(&text, "bind :80\n", &format!("bind {}\n", free_port()));
    match front {
        Front::Plain => {
            let tls = "bind :443 ssl crt /etc/haproxy/feed.pem alpn h2,http/1.1";
            replaced(&text, tls, &format!("bind {addr}"))
        }
        Front::Tls(file) => {
            let tls = replaced(&text, "/etc/haproxy/feed.pem", &file.display().to_string());
            replaced(&tls, "bind :443", &format!("bind {addr}"))
        }
    }
}
