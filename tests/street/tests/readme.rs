//! The README's commands, typed by somebody who believes it, and `make run`.
//!
//! Blocks marked `sh` run to their end and must succeed. Blocks marked `sh follow` hold one command that goes on until it
//! is stopped: it must show an event and then end well on Ctrl-C. Lines that begin with `make` are left to the reader,
//! as are blocks of any other kind. All of them meet one server that a few minutes of `make run` have filled, in the order
//! of the page, in an empty directory.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use newswire_street_tests::documents::{self, PRINTED_ADDRESS};
use newswire_street_tests::{PATIENCE, Server, binary, process};

const SIGINT: i32 = 2;

/// Stands in for `websocat` where it is not installed: does the handshake and prints the text of what arrives.
const WEBSOCAT: &str = r#"#!/usr/bin/env bash
rest=${1#ws://} host=${1#ws://}
host=${host%%/*} path=/${rest#*/}
exec 3<>"/dev/tcp/${host%:*}/${host#*:}"
printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' "$path" "$host" >&3
printf 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' >&3
trap 'exit 0' INT
cat <&3 & wait
"#;

struct Block {
    line: usize,
    follow: bool,
    script: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (line, text) in (1..).zip(page.lines()) {
        match text {
            "```sh" | "```sh follow" => {
                open = true;
                found.push(Block { line, follow: text.ends_with("follow"), script: String::new() });
            }
            _ if text.starts_with("```") => open = false,
            _ if open && !text.starts_with("make ") => {
                found.last_mut().unwrap().script += &format!("{text}\n");
            }
            _ => {}
        }
    }
    found.retain(|block| block.script.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    found
}

/// A directory to be first on the `PATH`: the binary under its name, and what the page takes for granted.
fn tools(home: &Path) -> PathBuf {
    let dir = home.join("bin");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(binary::newswire(), dir.join("newswire")).unwrap();
    let installed = Command::new("websocat").arg("--version").stdout(Stdio::null()).status();
    if installed.is_err() {
        let path = dir.join("websocat");
        fs::write(&path, WEBSOCAT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// Runs a block in a process group of its own, as a terminal does, with its output in a file.
fn run(block: &Block, server: &Server, tools: &Path, dir: &Path) -> String {
    let output = dir.join("output");
    let file = fs::File::create(&output).unwrap();
    let script = block.script.replace(PRINTED_ADDRESS, &server.addr.to_string());
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    process::without_settings(&mut command);
    command.args(["-euo", "pipefail", "-c", &script]).current_dir(dir).process_group(0);
    command.env("PATH", path).env("NEWSWIRE_URL", format!("http://{}", server.addr));
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let mut interrupted = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let shown = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
        if block.follow && !interrupted && shown.contains("task.") {
            interrupted = true;
            // As Ctrl-C does: to everything that the block has started.
            process::signal_group(child.id(), "INT");
        }
        if started.elapsed() > PATIENCE {
            process::signal_group(child.id(), "KILL");
            panic!("README.md:{} neither ended nor showed an event:\n{script}\n{shown}", block.line);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let shown = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
    // Programs that know nothing of Ctrl-C, as websocat, are ended by the signal itself.
    let stopped = interrupted && status.signal() == Some(SIGINT);
    let well = if block.follow { interrupted && (stopped || status.success()) } else { status.success() };
    assert!(well, "README.md:{} ended with {status}:\n{script}\n{shown}", block.line);
    shown
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let page = documents::read("README.md");
    let blocks = blocks(&page);
    assert!(
        blocks.iter().any(|block| block.follow) && blocks.iter().any(|block| !block.follow),
        "blocks of both kinds"
    );
    let server = Server::start();
    let tools = tools(server.home());
    let dir = server.home().join("reader");
    fs::create_dir(&dir).unwrap();
    let company = "newswire demo --pace max --events 400".to_owned();
    run(&Block { line: 0, follow: false, script: company }, &server, &tools, &dir);
    for block in blocks {
        let shown = run(&block, &server, &tools, &dir);
        assert!(!shown.trim().is_empty(), "README.md:{} shows nothing:\n{}", block.line, block.script);
    }
}

/// `make run` without its build: the script with a binary that is there, on a free port.
#[test]
fn make_run_plays_the_company_and_stops_cleanly() {
    let server = Server::start();
    let tools = tools(server.home());
    let script = format!(
        "cd '{}' && BINARY='{}' LISTEN=127.0.0.1:0 DATA_DIR='{}' exec scripts/run.sh",
        binary::workspace_root().display(),
        binary::newswire().display(),
        server.home().join("run").display(),
    );
    let shown = run(&Block { line: 0, follow: true, script }, &server, &tools, server.home());
    assert!(shown.contains("\nStopped. The events are kept in "), "{shown}");
    let address =
        shown.split("listens on http://").nth(1).unwrap().lines().next().unwrap().trim_end_matches('.');
    assert_ne!(address, server.addr.to_string());
    assert!(TcpStream::connect(address).is_err(), "the server at {address} still runs");
    let log = fs::read_to_string(binary::workspace_root().join("target/newswire-serve.log")).unwrap();
    assert!(log.contains(" stopped elapsed_ms="), "the server was not stopped in order:\n{log}");
}
