//! The Python of `docs/how-to/python.md`, saved and run as its reader would.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use newswire_street_tests::documents::{self, PRINTED_ADDRESS};
use newswire_street_tests::{Server, process};
use serde_json::json;
use tempfile::TempDir;

const DOCUMENT: &str = "docs/how-to/python.md";

/// A directory with the files of the document, which speak to `server`.
fn desk(server: &Server) -> TempDir {
    let document = documents::read(DOCUMENT);
    let dir = tempfile::tempdir().unwrap();
    for (info, text) in documents::blocks(&document) {
        if let Some(name) = info.strip_prefix("python ") {
            let text = text.replace(PRINTED_ADDRESS, &server.addr.to_string());
            fs::write(dir.path().join(name), text).unwrap();
        }
    }
    dir
}

fn python(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("python3");
    process::without_settings(&mut command);
    command.args(arguments).current_dir(dir).output().expect("python3 starts")
}

#[test]
fn the_agent_of_the_document_prints_what_it_says() {
    let server = Server::start();
    let output = python(desk(&server).path(), &["agent.py"]);
    assert!(output.status.success(), "{output:?}");
    let printed = documents::read(DOCUMENT);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), documents::block(&printed, "text"));
}

#[test]
fn a_publisher_rides_out_a_restart_and_stores_nothing_twice() {
    let mut server = Server::start();
    let dir = desk(&server);
    let script = "import sys, time\nfrom feed import publish\nfor n in range(60):\n    \
                  publish({'channel': 'tasks', 'event_type': 'task.updated', 'payload': {'n': n}})\n    \
                  print(n, flush=True)\n    time.sleep(0.01)\n";
    fs::write(dir.path().join("many.py"), script).unwrap();
    let publisher = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || python(&dir, &["many.py"])
    });
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        server.restart();
    }
    let output = publisher.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let script = "from feed import history\nprint([event['payload']['n'] for event in history(channels='tasks', limit=7)])";
    let output = python(dir.path(), &["-c", script]);
    let stored: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stored, json!((0..60).collect::<Vec<_>>()), "each once, in order");
}

#[test]
fn what_is_refused_says_why() {
    let server = Server::start();
    let dir = desk(&server);
    let script =
        "from feed import publish\nprint(publish({'channel': 'nowhere', 'event_type': 'x', 'payload': {}}))";
    let output = python(dir.path(), &["-c", script]);
    let shown =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("Unknown channel") || shown.contains("unknown_channel"), "{shown}");
}

#[test]
fn a_follower_rides_out_a_restart_and_sees_each_event_once() {
    let mut server = Server::start();
    let dir = desk(&server);
    let script = "import sys\nfrom follow import follow\nfor _, event in follow(channels='tasks', after=0):\n    \
                  print(event['payload']['n'], file=sys.stderr, flush=True)\n    \
                  if event['payload']['n'] == 59:\n        break\n";
    fs::write(dir.path().join("all.py"), script).unwrap();
    let follower = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || python(&dir, &["all.py"])
    });
    for round in 0..3 {
        let numbers = (round * 20..round * 20 + 20).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let script = format!(
            "from feed import publish\nfor n in [{numbers}]:\n    \
             publish({{'channel': 'tasks', 'event_type': 'task.updated', 'payload': {{'n': n}}}})\n"
        );
        let output = python(dir.path(), &["-c", &script]);
        assert!(output.status.success(), "{output:?}");
        server.restart();
    }
    let output = follower.join().unwrap();
    let seen: Vec<u64> =
        String::from_utf8(output.stderr).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}
