//! One `newswire serve` process: started on a free port, watched, killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Http, Raw, Socket, binary, process};

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct ServerOptions {
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    launcher: Vec<String>,
}

impl ServerOptions {
    /// Adds `--set key=value`.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "callers give literals and numbers in place")]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// The address to listen on, in the place of loopback.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// Adds a variable to the server's environment.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "callers give literals and numbers in place")]
    pub fn env(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.push((key.to_owned(), value.to_string()));
        self
    }

    /// Uses this data directory instead of a temporary one.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Runs the server through another program, which must `exec` its last arguments (so that its process id is ours).
    #[must_use]
    pub fn launcher(mut self, words: &[&str]) -> Self {
        self.launcher = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Panics
    /// When it does not, with what it wrote to standard error.
    pub fn start(self) -> Server {
        Server::launch(self)
    }

    fn command(&self, data_dir: &Path) -> Command {
        let mut words = self.launcher.clone();
        words.push(binary::newswire().display().to_string());
        let mut command = Command::new(&words[0]);
        let listen = self.listen.map_or_else(|| "127.0.0.1:0".to_owned(), |addr| addr.to_string());
        command.args(&words[1..]).args(["serve", "--listen", &listen, "--data-dir"]).arg(data_dir);
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        process::without_settings(&mut command);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.current_dir(std::env::temp_dir());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A running server. Dropping it kills the process; a panicking test prints what the server said.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    options: ServerOptions,
    home: Arc<TempDir>,
    stderr: Arc<Mutex<String>>,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server with the defaults.
    pub fn start() -> Self {
        ServerOptions::default().start()
    }

    /// Options to start from.
    pub fn options() -> ServerOptions {
        ServerOptions::default()
    }

    /// A server with one setting.
    pub fn with(key: &str, value: impl ToString) -> Self {
        ServerOptions::default().set(key, value).start()
    }

    fn launch(options: ServerOptions) -> Self {
        Self::spawn(options, Arc::new(tempfile::tempdir().expect("a temporary directory")))
    }

    fn spawn(options: ServerOptions, home: Arc<TempDir>) -> Self {
        let data_dir = options.data_dir.clone().unwrap_or_else(|| home.path().join("data"));
        let mut child = options.command(&data_dir).spawn().expect("the server starts");
        let stderr = collect(child.stderr.take().expect("standard error is piped"));
        let printed = Arc::default();
        let address =
            bound_address(child.stdout.take().expect("standard output is piped"), Arc::clone(&printed));
        let Ok(addr) = address.recv_timeout(Duration::from_secs(20)) else {
            let _ = child.kill();
            let status = child.wait();
            panic!("the server did not listen ({status:?}):\n{}", stderr.lock().unwrap());
        };
        Self { child, addr, options, home, stderr, printed }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its log lies.
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.home.path().join("data"))
    }

    /// A directory that lives as long as the server and its restarts.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it has written to standard error.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The first line on standard output that holds this text, once it is there.
    pub async fn printed(&self, text: &str) -> String {
        crate::eventually(text, async || {
            self.printed.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
        })
        .await
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        process::rss_bytes(self.pid())
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a killed process ends");
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Panics
    /// When it still runs after 30 seconds.
    pub fn stop(&mut self) -> ExitStatus {
        process::signal(self.pid(), "TERM");
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                asked.elapsed() < Duration::from_secs(30),
                "the server does not stop:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again over the same data, on the same port; kills it first if it still runs.
    pub fn restart(&mut self) {
        let options = self.options.clone();
        self.restart_with(options);
    }

    /// As [`Self::restart`], with other options (the data directory and the port stay).
    pub fn restart_with(&mut self, options: ServerOptions) {
        self.kill();
        let options = ServerOptions { listen: Some(self.addr), data_dir: Some(self.data_dir()), ..options };
        let next = Self::spawn(options, Arc::clone(&self.home));
        drop(std::mem::replace(self, next));
    }

    /// An HTTP client of it.
    pub fn http(&self) -> Http {
        Http::new(self.addr)
    }

    /// A WebSocket to `/api/v1/ws`.
    pub async fn socket(&self) -> Socket {
        Socket::open(self.addr, "/api/v1/ws").await
    }

    /// A WebSocket to any path and query.
    pub async fn socket_at(&self, path: &str) -> Socket {
        Socket::open(self.addr, path).await
    }

    /// A WebSocket whose frames the test writes by hand.
    pub async fn raw(&self) -> Raw {
        Raw::open(self.addr, "/api/v1/ws").await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server on {} said:\n{}", self.addr, self.stderr());
        }
    }
}

/// Reads a stream to its end in the background, so that the process never blocks on a full pipe.
fn collect(mut stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    });
    collected
}

/// The address in the `listening on` line, as soon as it is printed; every line goes into `printed`.
fn bound_address(
    stdout: impl Read + Send + 'static,
    printed: Arc<Mutex<Vec<String>>>,
) -> mpsc::Receiver<SocketAddr> {
    let (address_tx, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            printed.lock().unwrap().push(line.clone());
            if let Some((_, rest)) = line.split_once("listening on ") {
                let text = rest.trim().trim_start_matches("http://").trim_start_matches("https://");
                let end = text.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(text.len());
                if let Ok(addr) = text[..end].parse() {
                    let _ = address_tx.send(addr);
                }
            }
        }
    });
    address
}
