//! A system under measurement as a child process: pinned, heard, and killed in the end.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::machine;

/// How long a system may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process. Dropping it kills and reaps it.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts a command on these cores, its output in a file of the directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, cores: &[usize], dir: &Path) -> anyhow::Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
        let output = dir.join(format!("{name}.output"));
        let file = File::create(&output).with_context(|| output.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A child inherits the affinity of the thread that starts it.
        let child =
            machine::on_cores(cores, || command.spawn())?.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its own id and those of all processes that it started, itself first.
    pub fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            next += 1;
        }
        pids
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until what it prints makes `found` true.
    ///
    /// # Errors
    /// When it ends or takes too long, with what it printed.
    pub fn wait_for_output<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        self.wait(|process| found(&process.output()))
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// When it ends or takes too long, with what it printed.
    pub fn wait_for_port(&mut self, addr: SocketAddr) -> anyhow::Result<()> {
        self.wait(|_| TcpStream::connect(addr).ok()).map(drop)
    }

    fn wait<T>(&mut self, found: impl Fn(&Self) -> Option<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}) before it listened:\n{}", self.output());
            }
            if started.elapsed() > PATIENCE {
                bail!("it does not listen:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
