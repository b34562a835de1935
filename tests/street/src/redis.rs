//! A Redis server, which syncs everything to its append-only file before it acknowledges it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{PATIENCE, process};

/// One server. Dropping it kills the process; a panicking test prints what the server said.
pub struct RedisServer {
    /// Where it listens.
    pub addr: SocketAddr,
    password: Option<String>,
    home: TempDir,
    child: Option<Child>,
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
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { addr: free_port(), password, home, child: None };
        server.restart();
        server
    }

    /// The address for clients, without the password.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Ends it with SIGKILL and waits until it is gone; one that is stopped as well.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().expect("a killed process ends");
        }
    }

    /// Asks it to stop (SIGTERM) and waits.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(child.id(), "TERM");
            child.wait().expect("our own child");
        }
    }

    /// Starts it again over the same data, on the same port, and waits until it serves; kills it first if it still runs.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.addr.port().to_string()]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.arg("--dir").arg(self.home.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("redis-server starts (make setup installs it)"));
        let asked = Instant::now();
        while self.run(&["PING"]).trim() != "PONG" {
            assert!(asked.elapsed() < PATIENCE, "redis-server does not serve:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stands still (SIGSTOP): connections stay, and nothing is answered.
    pub fn pause(&self) {
        process::signal(self.pid(), "STOP");
    }

    /// Goes on (SIGCONT).
    pub fn resume(&self) {
        process::signal(self.pid(), "CONT");
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
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

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- redis-server on {} said:\n{}", self.addr, self.log());
        }
    }
}

/// A port that nobody uses. A server needs it before it starts, to be found again after a restart.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
