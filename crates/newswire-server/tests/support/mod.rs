//! A `newswire serve` process under test, and a plain HTTP client.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough that only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, with nothing of this process's environment or directory that could configure it.
pub(crate) fn newswire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_newswire"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEWSWIRE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// Runs the binary to its end, which is expected soon.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let child = newswire(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = Some(child);
    let (sender, receiver) = std::sync::mpsc::channel();
    let id = child.as_ref().unwrap().id();
    let owned = child.take().unwrap();
    std::thread::spawn(move || sender.send(owned.wait_with_output().unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        signal(id, "KILL");
        panic!("newswire {arguments:?} does not end")
    })
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends a signal by name.
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {process}");
}

/// A running server; killed when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) first_line: String,
    rest: Option<JoinHandle<String>>,
    log: Option<JoinHandle<()>>,
    said: Arc<Mutex<String>>,
}

impl Served {
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let directory = data_dir.display().to_string();
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &directory];
        Self::spawn(newswire(&[&fixed, arguments].concat()))
    }

    /// A server that may have only so many files open.
    pub(crate) fn start_with_few_files(data_dir: &Path, files: usize) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {files} && exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_newswire")]).arg(data_dir);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let log = std::thread::spawn(move || {
            for line in errors.split(b'\n').map_while(Result::ok) {
                *heard.lock().unwrap() += &(String::from_utf8_lossy(&line).into_owned() + "\n");
            }
        });
        let mut first_line = String::new();
        output.read_line(&mut first_line).unwrap();
        let Some(address) = first_line.trim_end().strip_prefix("newswire listening on http://") else {
            let _ = child.kill();
            log.join().unwrap();
            panic!("the server said {first_line:?} and {}", said.lock().unwrap());
        };
        let address = address.parse().unwrap();
        let rest = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            text
        });
        Self { child, address, first_line, rest: Some(rest), log: Some(log), said }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until its log has a text for the nth time.
    pub(crate) fn says(&self, text: &str, times: usize) {
        let begin = Instant::now();
        while self.said.lock().unwrap().matches(text).count() < times {
            assert!(begin.elapsed() < PATIENCE, "never said {text:?}: {}", self.said.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end: the status, what else it wrote on standard output, and its log.
    pub(crate) fn ended(mut self) -> (ExitStatus, String, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let rest = self.rest.take().unwrap().join().unwrap();
        self.log.take().unwrap().join().unwrap();
        let log = self.said.lock().unwrap().clone();
        (status, rest, log)
    }

    /// Waits until it takes no connections any more.
    pub(crate) async fn closed(&self) {
        let refused = async {
            while TcpStream::connect(self.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("still takes connections");
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let host = self.address.to_string();
        self.request(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
    }

    pub(crate) async fn publish(&self, event: &str) -> (u16, String) {
        self.request(&publish_request(self.address, event)).await
    }

    /// Sends a whole request and reads a whole answer.
    pub(crate) async fn request(&self, text: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A POST of one event.
pub(crate) fn publish_request(address: SocketAddr, event: &str) -> String {
    let length = event.len();
    format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{event}"
    )
}

/// Reads until the server closes: the status and the body.
pub(crate) async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("no answer").unwrap();
    status_and_body(&bytes)
}

/// Reads an answer that comes in one piece, on a connection that stays open.
pub(crate) async fn short_answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = vec![0; 8192];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("no answer").unwrap();
    status_and_body(&bytes[..length])
}

fn status_and_body(bytes: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let status = text.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {text:?}"));
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// The files below a directory, with their bytes.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}
