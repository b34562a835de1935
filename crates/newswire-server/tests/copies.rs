//! `newswire backup`, `restore` and `export`, against a server that works.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

mod support;

use support::{Served, run, stderr};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn event(n: u64) -> String {
    let channel = ["tasks", "budget", "agents"][(n % 3) as usize];
    let source = if n.is_multiple_of(2) { r#","source":"a test""# } else { "" };
    format!(
        r#"{{"channel":"{channel}","event_type":"test.t{}","timestamp":"2026-11-22T15:24:00.123456789Z","payload":{{"n":{n},"agent":"ann","π":"ü"}}{source}}}"#,
        n % 5
    )
}

async fn filled(data: &Path, events: u64) -> Served {
    let server = Served::start(data, &["--set", "log.segment_bytes=1MiB"]);
    let lines: Vec<String> = (1..=events).map(event).collect();
    for chunk in lines.chunks(1_000) {
        let body = format!("[{}]", chunk.join(","));
        let (status, answer) = server.publish(&body).await;
        assert!(status == 200 && !answer.contains(r#""error""#), "{status} {answer}");
    }
    server
}

fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Events as JSON, one a line, in order.
fn exported(arguments: &[&str]) -> Vec<Value> {
    let lines = done(&[&["export"], arguments].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["payload"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_restored_as_the_prefix_it_was() {
    let home = tempfile::tempdir().unwrap();
    let (data, copy, again) = (home.path().join("data"), home.path().join("copy"), home.path().join("again"));
    let server = Arc::new(filled(&data, 3_000).await);
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(3_000)));
    let publishing = {
        let (server, stop, acknowledged) = (server.clone(), stop.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut n = 3_000;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                assert_eq!(server.publish(&event(n)).await.0, 200);
                acknowledged.store(n, Ordering::Release);
            }
            n
        })
    };
    while acknowledged.load(Ordering::Acquire) < 3_050 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let least = acknowledged.load(Ordering::Acquire);
    let arguments = ["backup", "--data-dir", text(&data), text(&copy)].map(str::to_owned);
    let said =
        tokio::task::spawn_blocking(move || done(&arguments.each_ref().map(String::as_str))).await.unwrap();
    assert!(said.contains("verified") && said.contains("epoch"), "{said}");
    stop.store(true, Ordering::Relaxed);
    let all = publishing.await.unwrap();
    done(&["check", text(&copy)]);

    done(&["restore", "--data-dir", text(&again), text(&copy)]);
    let restored = Served::start(&again, &[]);
    let url = format!("http://{}", restored.address);
    let events = exported(&["--url", &url]);
    let held = events.len() as u64;
    assert!((least..=all).contains(&held), "{least} {held} {all}");
    assert_eq!(numbers(&events), (1..=held).collect::<Vec<_>>());
    assert!(events == exported(&["--url", &format!("http://{}", server.address)])[..events.len()]);
    let epoch = async |server: &Served| {
        let page: Value = serde_json::from_str(&server.get("/api/v1/events?limit=1").await.1).unwrap();
        page["epoch"].as_str().unwrap().to_owned()
    };
    assert_ne!(epoch(&restored).await, epoch(&server).await);
    assert_eq!(restored.publish(&event(0)).await.0, 200);

    let refused = run(&["restore", "--data-dir", text(&again), text(&copy)]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("not empty"), "{}", stderr(&refused));
}

#[tokio::test]
async fn an_export_is_the_same_from_server_and_files_and_takes_what_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = filled(&data, 2_500).await;
    let url = format!("http://{}", server.address);
    let from_server = |more: &[&str]| exported(&[&["--url", &url], more].concat());
    let from_files = |more: &[&str]| exported(&[&["--data-dir", text(&data)], more].concat());
    assert_eq!(numbers(&from_server(&[])), (1..=2_500).collect::<Vec<_>>());
    for more in [
        &[][..],
        &["tasks", "bud*", "--after", "700"],
        &["--filter", "event_type=test.t1", "--filter", "event_type=test.t2", "--filter", "agent=ann"],
        &["--filter", "source=a test", "-n", "7"],
        &["--since", "10m", "-n", "1200"],
        &["--since", "2100-01-01T00:00:00Z"],
        &["--after", "2500"],
    ] {
        let found = from_server(more);
        assert_eq!(numbers(&found), numbers(&from_files(more)), "{more:?}");
        assert!(found == from_files(more), "{more:?}");
        assert_eq!(
            found.is_empty(),
            more.contains(&"2500") || more.contains(&"2100-01-01T00:00:00Z"),
            "{more:?}"
        );
    }
    assert_eq!(from_files(&["--filter", "source=a test", "-n", "7"]).len(), 7);

    let zipped = home.path().join("all.jsonl.gz");
    done(&["export", "--url", &url, "-o", text(&zipped)]);
    let mut plain = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(&zipped).unwrap()).read_to_string(&mut plain).unwrap();
    let lines: Vec<Value> = plain.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines == from_files(&[]));
    let refused = run(&["export", "--url", &url, "-o", text(&zipped)]);
    assert_eq!(refused.status.code(), Some(1), "nothing is overwritten");
    let failed = run(&["export", "--url", "http://127.0.0.1:1", "-o", text(&home.path().join("no.jsonl"))]);
    assert_eq!(failed.status.code(), Some(1));
    let left: Vec<_> =
        support::files(home.path()).into_iter().filter(|(path, _)| text(path).contains("no.jsonl")).collect();
    assert!(left.is_empty(), "half a file stays: {left:?}");
}

#[tokio::test]
async fn databases_and_columns_hold_what_was_published() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let server = filled(&data, 1_500).await;
    let (database, columns) = (home.path().join("all.sqlite"), home.path().join("all.parquet"));
    done(&["export", "--url", &format!("http://{}", server.address), "-o", text(&database)]);
    done(&["export", "--data-dir", text(&data), "-o", text(&columns)]);
    let events = exported(&["--data-dir", text(&data)]);

    let connection = rusqlite::Connection::open(&database).unwrap();
    let mut query = connection
        .prepare(
            "select offset, timestamp, channel, event_type, event_id, payload, source, payload ->> '$.n' \
             from events order by offset",
        )
        .unwrap();
    let mut rows = query.query([]).unwrap();
    let file = SerializedFileReader::new(std::fs::File::open(&columns).unwrap()).unwrap();
    let mut groups = file.get_row_iter(None).unwrap();
    for event in &events {
        let row = rows.next().unwrap().unwrap();
        let cell = |name: &str| row.get::<_, Option<String>>(name).unwrap();
        let field = |name: &str| event[name].as_str().map(str::to_owned);
        let group = groups.next().unwrap().unwrap();
        assert_eq!(row.get::<_, i64>(0).unwrap(), event["offset"].as_i64().unwrap());
        assert_eq!(group.get_long(0).unwrap() as u64, event["offset"].as_u64().unwrap());
        for name in ["timestamp", "channel", "event_type", "event_id", "source"] {
            assert_eq!(cell(name), field(name), "{name}");
        }
        for (column, name) in [(2, "channel"), (3, "event_type"), (4, "event_id"), (6, "source")] {
            assert_eq!(group.get_string(column).ok().cloned(), field(name), "{name}");
        }
        assert_eq!(group.get_timestamp_micros(1).unwrap(), 1_795_361_040_123_456);
        let payload: Value = serde_json::from_str(&cell("payload").unwrap()).unwrap();
        assert_eq!(payload, event["payload"]);
        assert_eq!(row.get::<_, i64>(7).unwrap(), event["payload"]["n"].as_i64().unwrap());
        let payload: Value = serde_json::from_str(group.get_string(5).unwrap()).unwrap();
        assert_eq!(payload, event["payload"]);
    }
    assert!(rows.next().unwrap().is_none() && groups.next().is_none());
    assert_eq!(events.len(), 1_500);
}

#[tokio::test]
async fn an_export_that_retention_overtakes_fails_instead_of_leaving_a_hole() {
    let home = tempfile::tempdir().unwrap();
    let server = filled(&home.path().join("data"), 20_000).await;
    let url = format!("http://{}", server.address);
    let mut exporting = support::newswire(&["export", "--url", &url])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads on behind the first byte, so it cannot be further than its queues and the pipe are long.
    let mut out = exporting.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    let trimmed = "POST /api/v1/admin/trim HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   content-length: 16\r\nconnection: close\r\n\r\n{\"before\":19999}";
    assert_eq!(server.request(trimmed).await.0, 200);
    let (mut rest, mut said) = (String::new(), String::new());
    out.read_to_string(&mut rest).unwrap();
    exporting.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(exporting.wait().unwrap().code(), Some(6), "{said}");
    assert!(said.contains("retention has removed events after offset"), "{said}");
    assert!(rest.lines().count() < 19_000);

    let output = run(&["export", "--url", &url, "--after", "7"]);
    assert!(stderr(&output).contains("after offset 7 are no longer kept"), "{}", stderr(&output));
    let whole = run(&["export", "--url", &url]);
    assert_eq!((whole.status.code(), stderr(&whole)), (Some(0), String::new()), "all that there is");
}
