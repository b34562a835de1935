//! The HTTP surface: publishing in every form, history and its paging, channels, health, metrics, and every refusal.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::data::{event, task};
use newswire_street_tests::{Http, Raw, Server};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

fn offsets(events: &Value) -> Vec<u64> {
    events.as_array().unwrap().iter().map(|event| event["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn one_event_an_array_and_lines_are_all_taken() {
    let server = Server::start();
    let http = server.http();
    let one = http.post_events(JSON, task(1).to_string()).await.data();
    assert_eq!(one["results"].as_array().unwrap().len(), 1);
    assert_eq!(one["results"][0]["offset"], 1);
    assert!(one["results"][0]["event_id"].is_string());
    let array = http
        .post_events("application/json; charset=utf-8", json!([task(2), task(3)]).to_string())
        .await
        .data();
    assert_eq!(offsets(&array["results"]), [2, 3]);
    let lines = format!("{}\n{}\r\n\n{}", task(4), task(5), task(6));
    let lines = http.post_events(NDJSON, lines).await.data();
    assert_eq!(offsets(&lines["results"]), [4, 5, 6]);
    let empty = http.post_events(JSON, "[]").await.data();
    assert_eq!(empty["results"], json!([]));
    let ids: Vec<Value> = http.history("").await.iter().map(|event| event["payload"]["n"].clone()).collect();
    assert_eq!(ids, (1..=6).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn bad_events_are_refused_alone_and_in_their_place() {
    let server = Server::start();
    let http = server.http();
    let events = json!([
        task(1),
        {"channel": "nowhere", "event_type": "t"},
        7,
        {"channel": "tasks", "event_type": "has space"},
        {"event_type": "t"},
        {"channel": "tasks", "event_type": "t", "payload": []},
        {"channel": "tasks", "event_type": "t", "payload": {"pad": "x".repeat(70_000)}},
        {"channel": "tasks", "event_type": "t", "timestamp": "yesterday"},
        task(2),
    ]);
    let results = http.post_events(JSON, events.to_string()).await.data()["results"].clone();
    let seen: Vec<Value> = results
        .as_array()
        .unwrap()
        .iter()
        .map(
            |result| {
                if result["offset"].is_u64() { result["offset"].clone() } else { result["code"].clone() }
            },
        )
        .collect();
    let invalid = "invalid_event";
    assert_eq!(
        json!(seen),
        json!([
            1,
            "unknown_channel",
            "expected_json_object",
            invalid,
            invalid,
            invalid,
            "event_too_large",
            invalid,
            2
        ]),
        "{results}"
    );
    assert!(results[1]["error"].is_string());
    let lines = format!("{}\nnot json\n{}\n", task(3), task(4));
    let results = http.post_events(NDJSON, lines).await.data()["results"].clone();
    assert_eq!((&results[0]["offset"], &results[2]["offset"]), (&json!(3), &json!(4)), "{results}");
    assert!(results[1]["code"].is_string(), "{results}");
}

#[tokio::test]
async fn what_cannot_be_read_at_all_is_400_or_415_or_413() {
    let server = Server::start();
    let http = server.http();
    for (body, why) in
        [("{\"channel\":", "cut off"), ("", "empty"), ("[1,", "open array"), ("hello", "words")]
    {
        let code = http.post_events(JSON, body).await.problem(400);
        assert!(!code.is_empty(), "{why}");
    }
    http.post_events(JSON, vec![b'"', 0xff, 0xfe, b'"']).await.problem(400);
    let text = task(1).to_string();
    for content_type in
        ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "text/json2"]
    {
        http.post_events(content_type, text.clone()).await.problem(415);
    }
    http.send("POST", "/api/v1/events", &[], text.clone()).await.problem(415);
    let huge = format!("[{}]", vec![newswire_street_tests::data::sized("tasks", 60_000); 340].join(","));
    let too_large =
        http.try_send("POST", "/api/v1/events", &[("content-type", JSON)], huge.into_bytes()).await;
    // A server may close while the client still writes; then there is no answer to read.
    if let Ok(answer) = too_large {
        answer.problem(413);
    }
    // The refused connection is gone; a new client has connections of its own.
    let http = server.http();
    assert_eq!(http.history("").await.len(), 0, "nothing of all that was stored");
    http.publish_one(&task(1)).await;
}

#[tokio::test]
async fn an_event_id_is_an_idempotency_key() {
    let server = Server::start();
    let http = server.http();
    let mut keyed = task(1);
    keyed["event_id"] = json!("once");
    keyed["timestamp"] = json!("2026-01-02T03:04:05.600+01:00");
    let first = http.publish(&[keyed.clone()]).await;
    assert_eq!(first, [json!({"offset": 1, "event_id": "once"})]);
    let again = http.publish(&[keyed.clone(), keyed.clone()]).await;
    let duplicate = json!({"offset": 1, "event_id": "once", "duplicate": true});
    assert_eq!(again, [duplicate.clone(), duplicate]);
    for (field, value) in [
        ("channel", json!("budget")),
        ("event_type", json!("task.other")),
        ("payload", json!({"n": 2})),
        ("timestamp", json!("2026-01-02T03:04:06Z")),
    ] {
        let mut other = keyed.clone();
        other[field] = value;
        assert_eq!(http.publish(&[other]).await[0]["code"], "id_conflict", "another {field}");
    }
    let mut twice = task(5);
    twice["event_id"] = json!("same batch");
    let results = http.publish(&[twice.clone(), twice.clone()]).await;
    assert_eq!((&results[0]["offset"], &results[1]["offset"]), (&json!(2), &json!(2)), "{results:?}");
    assert_eq!((results[0].get("duplicate"), &results[1]["duplicate"]), (None, &json!(true)));
    assert_eq!(http.history("").await.len(), 2);
}

#[tokio::test]
async fn duplicates_are_known_after_a_restart() {
    let mut server = Server::start();
    let mut keyed = task(1);
    keyed["event_id"] = json!("survivor");
    server.http().publish_one(&keyed).await;
    server.restart();
    let again = server.http().publish(&[keyed.clone()]).await;
    assert_eq!(again[0], json!({"offset": 1, "event_id": "survivor", "duplicate": true}));
    keyed["event_type"] = json!("other");
    assert_eq!(server.http().publish(&[keyed]).await[0]["code"], "id_conflict");
}

#[tokio::test]
async fn an_event_comes_back_as_it_was_given() {
    let server = Server::start();
    let http = server.http();
    let payload =
        r#"{ "z": 1.50, "a": 1e400, "n": 12345678901234567890123, "ü": "\u00fc\/", "e": {"":[ ]} }"#;
    let given = format!(
        r#"{{"channel":"tasks","event_type":"a.B-c_d:e/f","timestamp":"2026-11-22T16:24:00.1234567+01:00","payload":{payload},
        "event_id":"id ~!","source":"s","traceparent":"00-ab","correlation_id":"c","causation_id":"d","offset":77,"version":9}}"#
    );
    let result = &http.publish_texts(&[given]).await[0];
    assert_eq!((&result["offset"], &result["event_id"]), (&json!(1), &json!("id ~!")), "{result}");
    let answer = http.get("/events/1").await;
    assert!(answer.body.contains(payload), "the payload is passed on byte for byte: {}", answer.body);
    let fields = [
        ("channel", "tasks"),
        ("event_type", "a.B-c_d:e/f"),
        ("timestamp", "2026-11-22T15:24:00.1234567Z"),
        ("event_id", "id ~!"),
        ("source", "s"),
        ("traceparent", "00-ab"),
        ("correlation_id", "c"),
        ("causation_id", "d"),
    ];
    // Values like 1e400 do not fit a parsed document, so the text is looked at.
    for (field, value) in fields {
        assert!(answer.body.contains(&format!("\"{field}\":\"{value}\"")), "{field}: {}", answer.body);
    }
    assert!(answer.body.contains("\"offset\":1") && answer.body.contains("\"version\":1"), "{}", answer.body);
    http.get("/events/2").await.problem(404);
    http.get("/events/0").await.problem(400);
    http.get("/events/x").await.problem(400);
}

/// Offsets 1..=30: tasks at every offset not divisible by 3, budget at the others; `n` is the offset.
async fn thirty(http: &Http) {
    let events: Vec<Value> = (1..=30u64)
        .map(|n| {
            let (channel, kind) =
                if n % 3 == 0 { ("budget", "budget.alert") } else { ("tasks", "task.updated") };
            event(channel, kind, json!({"n": n, "agent_id": if n % 2 == 0 { "even" } else { "odd" }}))
        })
        .collect();
    http.publish(&events).await;
}

#[tokio::test]
async fn history_is_filtered_bounded_and_ordered() {
    let server = Server::start();
    let http = server.http();
    thirty(&http).await;
    let all: Vec<u64> = (1..=30).collect();
    let of = |keep: &dyn Fn(u64) -> bool| all.iter().copied().filter(|n| keep(*n)).collect::<Vec<_>>();
    let cases = [
        ("order=asc", of(&|_| true)),
        ("order=asc&limit=4", vec![1, 2, 3, 4]),
        ("order=desc&limit=4", vec![30, 29, 28, 27]),
        ("order=asc&channels=budget", of(&|n| n % 3 == 0)),
        ("order=asc&channels=budget,tasks&after=27", vec![28, 29, 30]),
        ("order=asc&channels=b*", of(&|n| n % 3 == 0)),
        ("order=asc&event_type=task.*&after=10&before=20", of(&|n| n % 3 != 0 && n > 10 && n < 20)),
        ("order=desc&before=5", vec![4, 3, 2, 1]),
        ("order=desc&after=25&before=29", vec![28, 27, 26]),
        ("order=asc&agent=even&channels=budget", of(&|n| n % 6 == 0)),
        ("order=asc&n=7,8&n=9", vec![7, 8, 9]),
        ("order=asc&since=10m&limit=2", vec![1, 2]),
        ("order=asc&agent=nobody", vec![]),
    ];
    for (query, wanted) in cases {
        let answer = http.get(&format!("/events?{query}")).await;
        assert_eq!(offsets(&answer.data()), wanted, "{query}");
        let body = answer.json();
        assert_eq!(
            (&body["offset"], body["epoch"].as_str().map(str::len)),
            (&json!(30), Some(36)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn pages_follow_their_cursor_both_ways() {
    let server = Server::start();
    let http = server.http();
    thirty(&http).await;
    for (order, cursor) in [("asc", "after"), ("desc", "before")] {
        let (mut seen, mut position, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let answer = http.get(&format!("/events?channels=tasks&order={order}&limit=7{position}")).await;
            let page = offsets(&answer.data());
            assert!(page.len() <= 7);
            seen.extend(page);
            pages += 1;
            let body = answer.json();
            assert!(body.as_object().unwrap().contains_key("next"), "{body}");
            let Some(next) = body["next"].as_u64() else { break };
            position = format!("&{cursor}={next}");
            assert!(pages < 20, "the cursor does not advance");
        }
        let mut wanted: Vec<u64> = (1..=30).filter(|n| n % 3 != 0).collect();
        if order == "desc" {
            wanted.reverse();
        }
        assert_eq!(seen, wanted, "{order}");
    }
}

#[tokio::test]
async fn bad_history_parameters_are_400() {
    let server = Server::start();
    let http = server.http();
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "order=sideways",
        "after=-1",
        "after=9007199254740993",
        "before=x",
        "since=whenever",
    ] {
        http.get(&format!("/events?{query}")).await.problem(400);
    }
    let answer = http.get("/events?channels=nowhere").await;
    assert_eq!(answer.problem(404), "unknown_channel");
}

#[tokio::test]
async fn channels_are_counted() {
    let server = Server::start();
    let http = server.http();
    thirty(&http).await;
    let mut socket = server.socket().await;
    socket.subscribe(&["budget"]).await;
    let budget = http.channel("budget").await;
    let text = budget.to_string();
    assert_eq!((&budget["events"], &budget["subscribers"]), (&json!(10), &json!(1)), "{text}");
    assert!(text.contains(":3") && text.contains(":30"), "first and last offset: {text}");
    assert_eq!(http.channel("tasks").await["subscribers"], 0);
    let declared = http.get("/channels").await.data().as_array().unwrap().len();
    assert_eq!(declared, 5, "declared channels are listed, empty or not");
}

#[tokio::test]
async fn health_and_metrics_tell_what_happens() {
    let server = Server::start();
    let http = server.http();
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
    }
    let text = http.get("/metrics").await;
    assert!(
        text.content_type.starts_with("text/plain") || text.content_type.contains("openmetrics"),
        "{text:?}"
    );
    let before = http.send("GET", "/metrics", &[], "").await.body;
    let mut socket = server.socket().await;
    socket.subscribe(&["tasks", "budget"]).await;
    thirty(&http).await;
    socket.events(30).await;
    let after = http.send("GET", "/metrics", &[], "").await.body;
    assert!(
        after.lines().all(|line| line.starts_with('#')
            || line.starts_with("newswire_")
            || line.starts_with("process_")),
        "{after}"
    );
    let topics =
        ["publish", "commit", "sync", "deliver", "bytes", "lag", "cursor", "gap", "connection", "heartbeat"];
    let missing: Vec<_> = topics.iter().filter(|topic| !after.contains(*topic)).collect();
    assert!(missing.is_empty(), "no metric about {missing:?} in\n{after}");
    let moved = |topic: &str| {
        let sum = |text: &str| -> f64 {
            let samples = text.lines().filter(|line| line.starts_with("newswire_") && line.contains(topic));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        sum(&after) > sum(&before)
    };
    for topic in ["publish", "commit", "connection", "bytes"] {
        assert!(moved(topic), "no metric about {topic} has moved");
    }
}

#[tokio::test]
async fn wrong_paths_and_methods_are_problems() {
    let server = Server::start();
    let http = server.http();
    assert_eq!(http.get("/nothing/here").await.problem(404), "not_found");
    for (method, path) in
        [("PUT", "/api/v1/events"), ("DELETE", "/api/v1/channels"), ("POST", "/api/v1/events/1")]
    {
        let answer = http.send(method, path, &[], "").await;
        answer.problem(405);
        assert!(answer.headers.contains_key("allow"), "405 names what is allowed: {answer:?}");
    }
    let plain = http.get("/ws").await;
    assert!((400..500).contains(&plain.status), "{plain:?}");
    plain.problem(plain.status);
}

#[tokio::test]
async fn foreign_origins_and_hosts_are_refused() {
    let server = Server::start();
    let http = server.http();
    let port = server.addr.port();
    let own = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")];
    let body = task(1).to_string();
    for origin in ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://evil.example:80"]
    {
        let headers = [("content-type", JSON), ("origin", origin)];
        http.send("POST", "/api/v1/events", &headers, body.clone()).await.problem(403);
        http.send("GET", "/api/v1/events", &[("origin", origin)], "").await.problem(403);
        let head = upgrade(&server, &server.addr.to_string(), Some(origin)).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{origin}: {head}");
    }
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        let answer = http.send("GET", "/api/v1/events", &[("host", host)], "").await;
        assert!((400..500).contains(&answer.status), "{host}: {answer:?}");
        answer.problem(answer.status);
        let head = upgrade(&server, host, None).await;
        assert!(head.starts_with("HTTP/1.1 4"), "{host}: {head}");
    }
    assert_eq!(http.history("").await.len(), 0, "no foreign page has published");
    let counted =
        async |code: &str| http.metric(&format!("newswire_http_problems_total{{code=\"{code}\"}}")).await;
    assert_eq!((counted("forbidden_origin").await, counted("forbidden_host").await), (12.0, 6.0));
    for origin in &own {
        let headers = [("content-type", JSON), ("origin", origin.as_str())];
        assert_eq!(http.send("POST", "/api/v1/events", &headers, body.clone()).await.status, 200, "{origin}");
        let head = upgrade(&server, &format!("localhost:{port}"), Some(origin)).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{origin}: {head}");
    }
}

/// The head of the answer to an upgrade with this Host and Origin.
async fn upgrade(server: &Server, host: &str, origin: Option<&str>) -> String {
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{origin}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    Raw::request(server.addr, &request).await.0
}

#[tokio::test]
async fn a_configured_origin_is_let_in() {
    let server = Server::with("cors.origins", "https://dashboard.example");
    let headers = [("origin", "https://dashboard.example")];
    let answer = server.http().send("GET", "/api/v1/channels", &headers, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://dashboard.example");
    server
        .http()
        .send("GET", "/api/v1/channels", &[("origin", "https://other.example")], "")
        .await
        .problem(403);
}

/// A file system of twelve megabytes that only the server and this test see: a mount in the server's own namespace.
const SMALL_DISK: &str = r#"mkdir -p "$0" && mount -t tmpfs -o size=12m tmpfs "$0" && exec "$@""#;

#[tokio::test]
async fn a_full_disk_refuses_publishes_serves_reads_and_heals() {
    let home = tempfile::tempdir().unwrap();
    let disk = home.path().join("disk").display().to_string();
    let launcher = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, &disk];
    let probe = std::process::Command::new(launcher[0]).args(&launcher[1..]).arg("true").status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system lets nobody mount a small file system");
        return;
    }
    let options = Server::options().launcher(&launcher).data_dir(format!("{disk}/data"));
    let server = options.set("log.segment_bytes", "1MiB").start();
    let http = server.http();
    let mut socket = server.socket().await;
    socket.subscribe(&["tasks"]).await;
    let stored = http.publish_one(&task(1)).await;
    assert_eq!(socket.event().await["offset"], stored);

    // The namespace is reached through the process that lives in it.
    let filler = format!("/proc/{}/root{disk}/filler", server.pid());
    let mut file = std::fs::File::create(&filler).expect("the small disk is reachable");
    let block = vec![0u8; 16 * 1024];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    while std::io::Write::write_all(&mut file, &[0]).is_ok() {}

    let big = newswire_street_tests::data::sized("tasks", 60_000);
    let mut accepted = stored;
    let refused = newswire_street_tests::eventually("the disk is full", || async {
        let answer = http.post_events(JSON, big.clone()).await;
        let result = if answer.status == 200 { answer.data()["results"][0].clone() } else { answer.json() };
        (result["offset"].as_u64().is_none()).then_some((answer.status, result))
    })
    .await;
    assert_eq!((refused.0, &refused.1["code"]), (507, &json!("storage_full")), "{}", refused.1);
    let mut over_socket = server.socket().await;
    let publish = big.replacen('{', r#"{"action":"publish","#, 1);
    let error = over_socket.refused(&publish).await;
    assert_eq!((&error["error"], &error["code"]), (&json!("Storage full"), &json!("storage_full")));
    let events = http.history("channels=tasks").await;
    assert_eq!(events[0]["offset"], stored, "reads go on");
    accepted = accepted.max(events.last().unwrap()["offset"].as_u64().unwrap());

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let healed = newswire_street_tests::eventually("the server heals", || async {
        http.post_events(JSON, task(2).to_string()).await.json()["data"]["results"][0]["offset"].as_u64()
    })
    .await;
    assert_eq!(healed, accepted + 1, "no hole where publishes were refused");
    loop {
        if socket.event().await["offset"] == healed {
            break;
        }
    }
}
