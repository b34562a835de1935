//! Every example, run to its end as its reader would.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without has failed it")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use newswire_street_tests::{Heard, Socket, naive};
use serde_json::{Value, json};

/// Runs an example to its end; the lines that it printed.
fn run(example: &str, arguments: &[&Path]) -> Vec<String> {
    let output = Command::new(example).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{example}: {err}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn minimal() {
    let lines = run(env!("CARGO_BIN_EXE_minimal"), &[]);
    assert_eq!(lines, [r#"1: {"text":"hello"}"#, r#"2: {"text":"good bye"}"#]);
}

#[test]
fn chat() {
    let lines = run(env!("CARGO_BIN_EXE_chat"), &[]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "ada to tom: shall we begin?");
    assert_eq!(lines[1], r#"tom to ada: I heard "shall we begin?""#);
    assert!(lines[2].starts_with("ada to tom: ") && lines[3].starts_with("tom to ada: "));
}

#[test]
fn own_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy.jsonl");
    for times in 1..=2 {
        let lines = run(env!("CARGO_BIN_EXE_own_log"), &[&file]);
        let numbers: Vec<u64> = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [1, 2, 3].repeat(times));
    }
}

/// A process that ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn beside_an_application() {
    let directory = tempfile::tempdir().unwrap();
    for run in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beside"));
        command.arg("127.0.0.1:0").arg(directory.path().join("events"));
        let mut process = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on ").unwrap();
        let order = async |user: &str| {
            let request = reqwest::Client::new().post(format!("http://{address}/orders"));
            let answer = request.header("x-user", user).send().await.unwrap().bytes().await.unwrap();
            serde_json::from_slice::<Value>(&answer).unwrap()["order"].as_u64().unwrap()
        };
        assert_eq!(order("ada").await, run * 2 + 1, "orders of before are there");
        let mut socket = Socket::open(address.parse().unwrap(), "/live/orders").await;
        let answer = socket.next().await;
        assert_eq!(answer["action"], "subscribed");
        loop {
            let message = socket.next().await;
            if message["action"] == "caught_up" {
                break;
            }
            assert_eq!(message["event_type"], "order.placed");
        }
        assert_eq!(order("bob").await, run * 2 + 2);
        assert_eq!(socket.next().await["payload"]["by"], "bob");
        let page = reqwest::get(format!("http://{address}/feed/v1/events")).await.unwrap();
        let page: Value = serde_json::from_slice(&page.bytes().await.unwrap()).unwrap();
        assert_eq!(page["data"].as_array().unwrap().len() as u64, run * 2 + 2);
        writeln!(process.0.stdin.take().unwrap()).unwrap();
        let Heard::Close(code, _) = socket.hear().await else { panic!("no goodbye") };
        assert_eq!(code, 1001);
        drop(socket);
        assert_eq!(lines.next().unwrap().unwrap(), "good bye");
        assert!(process.0.wait().unwrap().success());
    }
}

#[tokio::test]
async fn members_come_in_by_token_and_ticket_and_leave_when_they_log_out() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_members"));
    let mut process = Running(command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("listening on ").unwrap();
    let post = async |path: &str, token: &str| {
        let request = reqwest::Client::new().post(format!("http://{address}{path}"));
        let answer = request.header("authorization", format!("Bearer {token}")).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
    };
    let token = post("/login/ada", "").await.1["token"].as_str().unwrap().to_owned();
    assert_eq!(post("/api/v1/auth/ws-ticket", "made-up").await.0, 401);
    let ticket =
        post("/api/v1/auth/ws-ticket", &token).await.1["data"]["ticket"].as_str().unwrap().to_owned();
    let mut sockets = Vec::new();
    for credential in [json!({"ticket": ticket}), json!({"token": token})] {
        let mut socket = Socket::open(address.parse().unwrap(), "/api/v1/ws").await;
        let mut auth = credential;
        auth["action"] = json!("auth");
        assert_eq!(socket.ask(&auth).await["action"], "auth_ok");
        sockets.push(socket);
    }
    let mut again = Socket::open(address.parse().unwrap(), "/api/v1/ws").await;
    again.send(&json!({"action": "auth", "ticket": ticket})).await;
    assert!(matches!(again.hear().await, Heard::Close(4001, _)), "a ticket is used once");
    assert_eq!(post("/logout/ada", "").await.1["closed"], 2);
    for mut socket in sockets {
        assert!(matches!(socket.ending().await, Heard::Close(4003, _)));
    }
    assert_eq!(post("/api/v1/auth/ws-ticket", &token).await.0, 401);
}

#[test]
fn recorded_events_of_two_files() {
    let directory = tempfile::tempdir().unwrap();
    let agents = ["ada", "bob", "cyd"];
    let event = |n: usize| json!({"channel": format!("room-{}", n % 4), "event_type": "a", "payload": {"agent": agents[n % 3], "n": n}});
    let mut shown = Vec::new();
    for (file, numbers) in [("first.jsonl", 0..700), ("second.jsonl", 700..1_300)] {
        let file = directory.path().join(file);
        let lines: Vec<String> = numbers.map(|n| event(n).to_string()).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let feed = directory.path().join("feed");
        shown.extend(run(env!("CARGO_BIN_EXE_recorded"), &[&file, &feed, Path::new("agent=ada")]));
    }
    let filter = json!({"agent": "ada"});
    let wanted: Vec<usize> = (0..1_300).filter(|n| naive::wants(&["*"], &filter, &event(*n))).collect();
    let got: Vec<(u64, u64)> = shown
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| (event["offset"].as_u64().unwrap(), event["payload"]["n"].as_u64().unwrap()))
        .collect();
    assert_eq!(got, wanted.into_iter().map(|n| (n as u64 + 1, n as u64)).collect::<Vec<_>>());
}
