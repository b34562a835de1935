//! A server of somebody else's that tests start, break and start again: one process over a directory of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{PATIENCE, process};

/// The process of a server. Dropping it kills the process; a panicking test prints what it said.
pub struct Daemon {
    name: String,
    home: TempDir,
    child: Option<Child>,
}

impl Daemon {
    /// Nothing runs yet.
    ///
    /// # Panics
    /// Where there is no room for a directory.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), home: tempfile::tempdir().expect("a temporary directory"), child: None }
    }

    /// Starts it; what it says is added to its log. Kills it first if it still runs.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn(&mut self, mut command: Command) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let started = command.spawn();
        self.child = Some(started.unwrap_or_else(|error| {
            panic!("{} does not start ({error}); scripts/setup-tests.sh installs it", self.name)
        }));
    }

    /// Waits until `is_well`.
    ///
    /// # Panics
    /// When it does not get there, with what it wrote.
    pub fn wait_until(&self, is_well: impl Fn() -> bool) {
        let asked = Instant::now();
        while !is_well() {
            assert!(asked.elapsed() < PATIENCE, "{} does not serve:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As it was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was started and not ended.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// A directory that lives as long as this, over restarts.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
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

    /// Stands still (SIGSTOP): connections stay, and nothing is answered.
    pub fn pause(&self) {
        process::signal(self.pid(), "STOP");
    }

    /// Goes on (SIGCONT).
    pub fn resume(&self) {
        process::signal(self.pid(), "CONT");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.log());
        }
    }
}

/// A port of 127.0.0.1 that nobody uses, and that this process was not given before: nobody listens there yet. A server needs
/// it before it starts, to be found again after a restart, or because it cannot choose one itself.
///
/// # Panics
/// When there is none.
pub fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(addr.port()) {
            return addr;
        }
    }
}
