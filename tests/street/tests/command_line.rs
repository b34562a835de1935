//! The command line: publish, tail, demo, check and serve, as people and scripts run them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use newswire_street_tests::data::{event, task};
use newswire_street_tests::{Server, ServerOptions, clients, eventually};
use serde_json::{Value, json};

fn url(server: &Server) -> String {
    format!("http://{}", server.addr)
}

/// A file of events, one a line, `n` counting from 0.
fn file_of(server: &Server, name: &str, lines: &[String]) -> String {
    let path = server.home().join(name);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path.display().to_string()
}

fn tasks(count: u64) -> Vec<String> {
    (0..count).map(|n| task(n).to_string()).collect()
}

fn numbers(log: &[Value]) -> Vec<u64> {
    log.iter().map(|event| event["payload"]["n"].as_u64().unwrap()).collect()
}

fn said(output: &std::process::Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn publish_takes_plain_files_gzip_and_standard_input() {
    let server = Server::start();
    let lines = tasks(700);
    let plain = file_of(&server, "plain.jsonl", &lines[..300]);
    let output = clients::run(&["publish", &plain, "--url", &url(&server)]);
    assert!(output.status.success(), "{}", said(&output));

    let zipped = server.home().join("zipped.jsonl.gz");
    let mut gzip = GzEncoder::new(std::fs::File::create(&zipped).unwrap(), Compression::fast());
    gzip.write_all(lines[300..600].join("\n").as_bytes()).unwrap();
    gzip.finish().unwrap();
    let output = clients::run(&["publish", zipped.to_str().unwrap(), "--url", &url(&server)]);
    assert!(output.status.success(), "{}", said(&output));

    let mut command = clients::command(&["publish", "-", "--url", &url(&server)]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines[600..].join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());

    let log = server.http().history("channels=tasks").await;
    assert_eq!(numbers(&log), (0..700).collect::<Vec<_>>());
}

#[tokio::test]
async fn publish_names_rejected_lines_and_goes_on() {
    let server = Server::start();
    let mut lines = tasks(20);
    lines[2] = event("nowhere", "t", json!({})).to_string();
    lines[6] = "not json".to_owned();
    lines[16] = r#"{"channel":"tasks","event_type":"t","payload":{"a":1,"a":2}}"#.to_owned();
    let file = file_of(&server, "mixed.jsonl", &lines);
    let output = clients::run(&["publish", &file, "--url", &url(&server)]);
    assert!(!output.status.success(), "some lines were not stored");
    let said = said(&output);
    for (line, reason) in [(3, "nknown channel"), (7, "nvalid JSON"), (17, "nvalid event")] {
        let found = said.lines().any(|text| text.contains(&line.to_string()) && text.contains(reason));
        assert!(found, "line {line}, {reason}: {said}");
    }
    let log = server.http().history("channels=tasks").await;
    let wanted: Vec<u64> = (0..20).filter(|n| ![2, 6, 16].contains(n)).collect();
    assert_eq!(numbers(&log), wanted);
}

#[tokio::test]
async fn publish_paces_by_the_recorded_times() {
    let server = Server::start();
    let lines: Vec<String> = (0..4)
        .map(|n| {
            let mut event = task(n);
            event["timestamp"] = json!(format!("2026-01-01T00:00:{:02}Z", n * 2));
            event.to_string()
        })
        .collect();
    let file = file_of(&server, "paced.jsonl", &lines);
    let started = Instant::now();
    let output = clients::run(&["publish", &file, "--pace", "10x", "--url", &url(&server)]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        started.elapsed() >= Duration::from_millis(550),
        "six recorded seconds took {:?}",
        started.elapsed()
    );
    let log = server.http().history("channels=tasks").await;
    assert_eq!(numbers(&log), [0, 1, 2, 3]);
    assert_eq!(log[3]["timestamp"], "2026-01-01T00:00:06Z", "pace changes when, not what");
    let bad = clients::run(&["publish", &file, "--pace", "sideways", "--url", &url(&server)]);
    assert!(!bad.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_publish_resumes_without_doubling() {
    const COUNT: u64 = 20_000;
    let server = Server::start();
    let http = server.http();
    let file = file_of(&server, "long.jsonl", &tasks(COUNT));
    let mut interruptions = 0;
    for signal in ["KILL", "INT"] {
        let stored = http.get("/events?limit=1").await.json()["offset"].as_u64().unwrap();
        let mut publish = clients::start(&["publish", &file, "--url", &url(&server)]);
        eventually("publishing has begun", || async {
            let now = http.get("/events?limit=1").await.json()["offset"].as_u64()?;
            (now > stored + 200 || now >= COUNT).then_some(())
        })
        .await;
        publish.signal(signal);
        interruptions += u32::from(!publish.wait().success());
    }
    let output = clients::run(&["publish", &file, "--url", &url(&server)]);
    assert!(output.status.success(), "{}", said(&output));
    let log = http.history("channels=tasks").await;
    assert_eq!(numbers(&log), (0..COUNT).collect::<Vec<_>>(), "every line once, in order");
    assert!(interruptions > 0, "publishing was too quick to be interrupted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_goes_on_through_a_kill_of_the_server() {
    const COUNT: u64 = 20_000;
    let mut server = Server::start();
    let file = file_of(&server, "long.jsonl", &tasks(COUNT));
    let mut publish = clients::start(&["publish", &file, "--url", &url(&server)]);
    for stored in [300, 3000] {
        let http = server.http();
        eventually("publishing has come so far", || async {
            (http.get("/events?limit=1").await.json()["offset"].as_u64()? >= stored).then_some(())
        })
        .await;
        tokio::task::block_in_place(|| server.restart());
    }
    let status = tokio::task::block_in_place(|| publish.wait());
    assert!(status.success(), "{:?}", publish.errors());
    let log = server.http().history("channels=tasks").await;
    assert_eq!(numbers(&log), (0..COUNT).collect::<Vec<_>>(), "every line once, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_goes_through_publish_and_tail_unchanged() {
    let Some(lines) = newswire_street_tests::data::recorded() else { return };
    let server = Server::start();
    let tail = clients::start(&["tail", "*", "--json", "--after", "0", "--url", &url(&server)]);
    let zipped = server.home().join("recorded.jsonl.gz");
    let mut gzip = GzEncoder::new(std::fs::File::create(&zipped).unwrap(), Compression::fast());
    gzip.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    gzip.finish().unwrap();
    let output = clients::run(&["publish", zipped.to_str().unwrap(), "--url", &url(&server)]);
    assert!(output.status.success(), "{}", said(&output));
    let printed = tail.wait_for_lines(lines.len()).await;
    assert_eq!(printed.len(), lines.len());
    for (printed, line) in printed.iter().zip(&lines) {
        let (printed, line): (Value, Value) =
            (serde_json::from_str(printed).unwrap(), serde_json::from_str(line).unwrap());
        for field in ["channel", "event_type", "timestamp", "payload"] {
            assert_eq!(printed[field], line[field], "{field} of {printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_prints_every_event_once_through_kills_of_the_server() {
    let mut server = Server::start();
    let tail = clients::start(&["tail", "*", "--json", "--after", "0", "--url", &url(&server)]);
    let mut published = 0;
    for _ in 0..4 {
        for _ in 0..5 {
            server.http().publish(&(published..published + 20).map(task).collect::<Vec<_>>()).await;
            published += 20;
        }
        tokio::task::block_in_place(|| server.restart());
    }
    server.http().publish_one(&task(published)).await;
    let lines = tail.wait_for_lines(published as usize + 1).await;
    let printed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed, server.http().history("channels=*").await);
    // Whatever a second subscription would repeat has had its time by now: one more event, and nothing beside it.
    server.http().publish_one(&task(published + 1)).await;
    assert_eq!(tail.wait_for_lines(published as usize + 2).await.len(), published as usize + 2);
}

#[tokio::test]
async fn tail_chooses_and_shows() {
    let server = Server::start();
    let http = server.http();
    let of =
        |channel, agent: &str, n: u64| event(channel, "task.created", json!({"agent_id": agent, "n": n}));
    http.publish(&[
        of("tasks", "ann", 1),
        of("budget", "ann", 2),
        of("tasks", "bob", 3),
        of("tasks", "ann", 4),
    ])
    .await;
    let tail = |args: &[&str]| {
        let url = url(&server);
        let mut all = vec!["tail"];
        all.extend(args);
        all.extend(["--url", &url]);
        clients::start(&all)
    };
    let filtered = tail(&["tasks", "--filter", "agent=ann", "--since", "10m", "--json"]);
    let numeric = tail(&["--filter", "n=3", "--filter", "agent=bob", "--since", "10m", "--json"]);
    let after = tail(&["tasks", "budget", "--after", "1", "--json"]);
    let shown = tail(&["tasks", "--after", "3"]);
    let offsets = |lines: Vec<String>| -> Vec<u64> {
        lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(offsets(filtered.wait_for_lines(2).await), [1, 4]);
    assert_eq!(offsets(numeric.wait_for_lines(1).await), [3]);
    assert_eq!(offsets(after.wait_for_lines(3).await), [2, 3, 4]);
    let shown = shown.wait_for_lines(1).await.join("\n");
    assert!(shown.contains("task.created") && shown.contains("tasks"), "{shown}");
    let mut nowhere = tail(&["nowhere", "--json"]);
    assert!(!nowhere.wait().success(), "an unknown channel never will have events: {:?}", nowhere.lines());
}

/// Events of two projects and of none, stored just now.
async fn two_projects(server: &Server) {
    let of = |channel, kind, payload| event(channel, kind, payload);
    let events = [
        of("tasks", "task.created", json!({"id": "t1", "project": "atlas"})),
        of("messages", "coordination.phase_completed", json!({"name": "plan", "project_id": "borealis"})),
        of("tasks", "task.created", json!({"id": "t2", "project": "atlas"})),
        of("agents", "agent.hired", json!({"agent_id": "ann"})),
    ];
    server.http().publish(&events).await;
}

#[tokio::test]
async fn tail_shows_projects_beside_each_other_and_the_age_of_events() {
    let server = Server::start();
    two_projects(&server).await;
    let url = url(&server);
    let tail = clients::start(&["tail", "--after", "0", "--relative", "--follow-projects", "--url", &url]);
    let lines = tail.wait_for_lines(4).await;
    let place = |line: &str, text: &str| line.find(text).unwrap_or_else(|| panic!("no {text} in {line}"));
    for (line, project) in lines.iter().zip(["atlas", "borealis", "atlas", "·"]) {
        let age = line.get(..10).unwrap().trim_start();
        assert!(age == "now" || age.ends_with(" s ago"), "{line}");
        assert_eq!(place(line, project), 11, "{line}");
    }
    // What the second line made wider stays so.
    assert_eq!(place(&lines[2], " t2"), place(&lines[1], " plan"));
    let announced = || async {
        let said = tail.errors();
        let of =
            |name| said.iter().filter(|line| line.contains("new project:") && line.contains(name)).count();
        (of("atlas") + of("borealis") == 2).then_some(())
    };
    eventually("each project is announced once", announced).await;
    // A view for people and one for programs are not one.
    let both = clients::run(&["tail", "--json", "--relative", "--url", &url]);
    assert_eq!(both.status.code(), Some(2));
}

#[tokio::test]
async fn tail_has_colours_on_a_terminal_and_where_it_is_told_to() {
    let server = Server::start();
    two_projects(&server).await;
    let url = url(&server);
    let base = ["tail", "--after", "0", "--limit", "4", "--url", &url];
    let coloured = |mut command: std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("task.created"), "{text}");
        text.contains("\u{1b}[")
    };
    let piped = |more: &[&str]| clients::command(&[&base[..], more].concat());
    // A terminal of its own, which `script` makes.
    let on_a_terminal = |environment: &str| {
        let mut command = std::process::Command::new("script");
        let tail = format!(
            "{environment} {} {}",
            newswire_street_tests::binary::newswire().display(),
            base.join(" ")
        );
        command
            .args(["-qec", &format!("env -u NO_COLOR TERM=xterm {tail}"), "/dev/null"])
            .stdin(Stdio::null());
        command
    };
    let mut without_no_color = piped(&[]);
    without_no_color.env_remove("NO_COLOR").env("TERM", "xterm");
    assert!(!coloured(without_no_color), "a pipe is no terminal");
    assert!(coloured(piped(&["--color", "always"])), "who asks for colours gets them");
    assert!(coloured(on_a_terminal("")));
    assert!(!coloured(on_a_terminal("NO_COLOR=1")));
}

#[tokio::test]
async fn tail_and_publish_stop_on_request() {
    let server = Server::start();
    let mut tail = clients::start(&["tail", "tasks", "--json", "--url", &url(&server)]);
    eventually("tail subscribes", || async { (server.http().subscribers("tasks").await == 1).then_some(()) })
        .await;
    tail.signal("INT");
    tail.wait();
    eventually("it says goodbye", || async { (server.http().subscribers("tasks").await == 0).then_some(()) })
        .await;
}

/// The demo's events without what the clock and the log add.
async fn demo_events(seed: &str) -> Vec<Value> {
    let server = Server::start();
    let demo =
        clients::run(&["demo", "--url", &url(&server), "--seed", seed, "--events", "150", "--pace", "max"]);
    assert!(demo.status.success(), "{}", said(&demo));
    let mut log = server.http().history("channels=*").await;
    for event in &mut log {
        let event = event.as_object_mut().unwrap();
        event.remove("timestamp");
        event.remove("event_id");
    }
    log
}

#[tokio::test]
async fn the_demo_is_the_same_for_the_same_seed() {
    let (one, again, other) = (demo_events("7").await, demo_events("7").await, demo_events("8").await);
    assert!(one.len() >= 100, "{} events", one.len());
    assert_eq!(one, again);
    assert_ne!(one, other);
    for channel in ["tasks", "agents", "budget", "messages"] {
        assert!(one.iter().any(|event| event["channel"] == channel), "nothing on {channel}");
    }
    assert!(one.iter().any(|event| event["event_type"] == "system.error"), "no error in the whole company");
}

/// The log's segment files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(segments(&entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "seg") {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn check_accepts_a_good_log_and_names_the_damage_of_a_bad_one() {
    let options = ServerOptions::default().set("log.segment_bytes", "1MiB").set("log.verify_on_start", false);
    let mut server = options.start();
    let pad = "x".repeat(2000);
    for batch in 0..20 {
        let events: Vec<Value> =
            (0..50).map(|n| event("tasks", "t", json!({"n": batch * 50 + n, "pad": pad}))).collect();
        server.http().publish(&events).await;
    }
    let dir = server.data_dir().display().to_string();
    server.kill();
    let good = clients::run(&["check", &dir]);
    assert!(good.status.success(), "{}", said(&good));
    assert!(said(&good).contains("1000"), "it says how much it has read: {}", said(&good));

    let segments = segments(Path::new(&dir));
    assert!(segments.len() > 1, "two megabytes fill more than one segment of one");

    // In a segment that is finished, damage is found by checking, by a start that verifies, and by whoever reads there.
    let sealed = &segments[0];
    let whole = flip_a_bit(sealed, pad.as_bytes());
    let bad = clients::run(&["check", &dir]);
    let name = sealed.file_name().unwrap().to_str().unwrap();
    assert!(!bad.status.success() && said(&bad).contains(name), "the file is named: {}", said(&bad));
    let refused = clients::run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir]);
    assert!(!refused.status.success() && said(&refused).contains(name), "not served: {}", said(&refused));
    server.restart();
    let read = server.http().get("/events?order=asc&limit=1000").await;
    assert!(read.status >= 500, "damaged events are not served: {}", read.status);
    server.kill();
    std::fs::write(sealed, whole).unwrap();

    // In the segment being written, it stops the start.
    let last = segments.last().unwrap();
    let whole = flip_a_bit(last, pad.as_bytes());
    let damaged = std::fs::read(last).unwrap();
    let refused = clients::run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir]);
    let name = last.file_name().unwrap().to_str().unwrap();
    assert!(!refused.status.success(), "a damaged log is not served");
    assert!(said(&refused).contains(name) && said(&refused).contains("newswire check"), "{}", said(&refused));
    assert_eq!(std::fs::read(last).unwrap(), damaged, "refusing changes nothing");
    std::fs::write(last, whole).unwrap();
    server.restart();
    assert_eq!(server.http().history("channels=tasks").await.len(), 1000, "all is there once it is repaired");
}

/// Flips a bit inside the first event that holds `pad`; gives the file as it was.
fn flip_a_bit(file: &Path, pad: &[u8]) -> Vec<u8> {
    let whole = std::fs::read(file).unwrap();
    let at = whole.windows(pad.len()).position(|window| window == pad).expect("events stand in the segment");
    let mut damaged = whole.clone();
    damaged[at + 700] ^= 1;
    std::fs::write(file, damaged).unwrap();
    whole
}

#[tokio::test]
async fn a_second_server_on_one_directory_is_refused() {
    let server = Server::start();
    let dir = server.data_dir().display().to_string();
    let second = clients::run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir]);
    assert!(!second.status.success());
    assert!(said(&second).contains(&dir), "it names the directory: {}", said(&second));
    assert_eq!(server.http().publish_one(&task(1)).await, 1, "the first is not disturbed");
}

#[test]
fn configuration_mistakes_stop_the_start_by_name() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data").display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir];
    let with = |extra: &[&str]| clients::run(&[&serve[..], extra].concat());
    for (setting, name) in [
        ("log.sink=always", "log.sink"),
        ("backlog.policy=maybe", "backlog.policy"),
        ("heartbeat.interval=soon", "heartbeat.interval"),
        ("limits.event_bytes=-1", "limits.event_bytes"),
        ("nonsense", "nonsense"),
    ] {
        let output = with(&["--set", setting]);
        assert!(!output.status.success() && said(&output).contains(name), "{setting}: {}", said(&output));
    }
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, "[log]\nsync = \"always\"\nsegment_byte = 7\n").unwrap();
    let output = with(&["--config", file.to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("segment_byte"), "{}", said(&output));
    let output = clients::command(&serve).env("NEWSWIRE_LOG__SINK", "always").output().unwrap();
    assert!(!output.status.success() && said(&output).contains("NEWSWIRE_LOG__SINK"), "{}", said(&output));
    assert!(!Path::new(&dir).exists(), "nothing was touched before the configuration was read");
}

#[tokio::test]
async fn flags_beat_the_environment_and_the_environment_the_file() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("newswire.toml");
    std::fs::write(&file, "channels = [\"from-file\"]\n[limits]\nevent_bytes = 2000\ncommand_bytes = 3000\n")
        .unwrap();
    let server = Server::options()
        .env("NEWSWIRE_CONFIG", file.display())
        .env("NEWSWIRE_LIMITS__EVENT_BYTES", 1500)
        .env("NEWSWIRE_LIMITS__COMMAND_BYTES", 2500)
        .set("limits.command_bytes", 1024)
        .start();
    let http = server.http();
    let sized = newswire_street_tests::data::sized;
    let results = http.publish_texts(&[sized("from-file", 1500), sized("from-file", 1501)]).await;
    assert_eq!((&results[0]["offset"], &results[1]["code"]), (&json!(1), &json!("event_too_large")));
    let mut socket = server.socket().await;
    let ping = |bytes: usize| format!("{}{}", r#"{"action":"ping"}"#, " ".repeat(bytes - 17));
    socket.send_text(&ping(1024)).await;
    socket.expect("pong").await;
    assert_eq!(socket.refused(&ping(1025)).await["error"], "Message too large");
}

#[tokio::test]
async fn bench_starts_its_own_server_and_counts_every_event() {
    let output = clients::run(&[
        "bench",
        "paced",
        "flood",
        "--rounds",
        "1",
        "--subscribers",
        "3",
        "--time-ms",
        "100",
        "--json",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let series = report["series"].as_array().unwrap();
    assert_eq!(series.len(), 2, "{report}");
    for one in series {
        assert_eq!((&one["faults"], &one["failure"]), (&json!(0), &Value::Null), "{report}");
        assert!(one["figures"][0]["estimate"]["median"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[tokio::test]
async fn bench_measures_a_server_that_runs() {
    let server = Server::start();
    let url = format!("ws://{}", server.addr);
    let output = clients::run(&["bench", "durable", "--rounds", "1", "--time-ms", "50", "--url", &url]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("acknowledged (/s)"), "{}", said(&output));
    assert!(server.http().channel("tasks").await["events"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn bench_names_its_scenarios() {
    let help = clients::run(&["bench", "--help"]);
    assert!(help.status.success() && said(&help).contains("reconnect"), "{}", said(&help));
    let unknown = clients::run(&["bench", "speed"]);
    assert!(
        !unknown.status.success() && said(&unknown).contains("one of paced, flood"),
        "{}",
        said(&unknown)
    );
}
