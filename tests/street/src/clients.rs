//! `newswire publish`, `tail`, `demo` and `check` as child processes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{PATIENCE, binary, process};

/// A command of the binary that runs until it ends or is dropped (then it is killed).
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

/// The binary with arguments, without colours and away from the project's directory.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary::newswire());
    process::without_settings(&mut command);
    command.args(args).env("NO_COLOR", "1").current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end in time.
pub fn run(args: &[&str]) -> Output {
    let mut running = start(args);
    let status = running.wait();
    let text = |lines: &Mutex<Vec<String>>| lines.lock().unwrap().join("\n").into_bytes();
    // The readers may still be at the last lines when the process is gone; they end with the pipes.
    let _ = running.settle();
    Output { status, stdout: text(&running.lines), stderr: text(&running.errors) }
}

/// Starts a command and reads what it prints.
pub fn start(args: &[&str]) -> Running {
    let mut child =
        command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let lines = collect(child.stdout.take().expect("piped"));
    let errors = collect(child.stderr.take().expect("piped"));
    Running { child, lines, errors }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The lines it has written to standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Waits until it has printed `count` lines.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn wait_for_lines(&self, count: usize) -> Vec<String> {
        crate::eventually(&format!("{count} printed lines; stderr: {:?}", self.errors()), || async {
            let lines = self.lines();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    /// Sends it a signal, as `kill` names it.
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it runs longer than a minute.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE * 2,
                "it does not end: {:?} {:?}",
                self.lines(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the readers have seen the ends of both pipes.
    fn settle(&self) -> bool {
        let started = Instant::now();
        while Arc::strong_count(&self.lines) + Arc::strong_count(&self.errors) > 2 {
            if started.elapsed() > Duration::from_secs(5) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            sink.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}
