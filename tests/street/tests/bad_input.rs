//! Every limit at its edge, and everything malformed that a client may send: each is refused with its own words, the
//! connection stays, and a neighbour never notices.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use newswire_street_tests::data::{event, sized, task};
use newswire_street_tests::{Frame, Heard, Http, Server, Socket};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Somebody else on the same server: a subscriber of `system`, and a publisher that never rests.
struct Neighbour {
    socket: Socket,
    stop: Arc<AtomicBool>,
    publisher: JoinHandle<Vec<u64>>,
}

impl Neighbour {
    async fn beside(server: &Server) -> Self {
        let mut socket = server.socket().await;
        socket.subscribe(&["system"]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (http, stopped) = (server.http(), Arc::clone(&stop));
        let publisher = tokio::spawn(async move {
            let mut published = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let results =
                    http.publish(&[event("system", "neighbour", json!({"n": published.len()}))]).await;
                published.push(results[0]["offset"].as_u64().expect("a good event is stored"));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            published
        });
        Self { socket, stop, publisher }
    }

    /// Everything that was published beside the mischief has arrived, in order and once.
    async fn was_undisturbed(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let published = self.publisher.await.unwrap();
        assert!(!published.is_empty());
        for offset in published {
            assert_eq!(self.socket.event().await["offset"], offset);
        }
        self.socket.nothing_more().await;
    }
}

/// Commands and the error that each must get.
fn bad_commands() -> Vec<(String, &'static str)> {
    let words = [
        ("", "Invalid JSON"),
        (" ", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("}", "Invalid JSON"),
        ("{'action':'ping'}", "Invalid JSON"),
        (r#"{"action":"ping",}"#, "Invalid JSON"),
        (r#"{"action":"ping"} x"#, "Invalid JSON"),
        (r#"{"action":"ping"}{"action":"ping"}"#, "Invalid JSON"),
        (r#"{"action":"ping" /* please */}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":01}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":1.}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":.5}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":+1}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":NaN}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":Infinity}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":tru}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":"\q"}"#, "Invalid JSON"),
        (r#"{"action":"ping","x":"\u12"}"#, "Invalid JSON"),
        ("{\"action\":\"ping\",\"x\":\"a\nb\"}", "Invalid JSON"),
        ("{\"action\":\"ping\",\"x\":\"\u{0}\"}", "Invalid JSON"),
        ("\u{feff}{\"action\":\"ping\"}", "Invalid JSON"),
        ("[]", "Expected JSON object"),
        ("null", "Expected JSON object"),
        ("7", "Expected JSON object"),
        (r#""ping""#, "Expected JSON object"),
        (r#"[{"action":"ping"}]"#, "Expected JSON object"),
        ("{}", "Unknown action"),
        (r#"{"action":null}"#, "Unknown action"),
        (r#"{"action":"PING"}"#, "Unknown action"),
        (r#"{"action":"pings"}"#, "Unknown action"),
        (r#"{"action":7}"#, "Unknown action"),
        (r#"{"action":["ping"]}"#, "Unknown action"),
        (r#"{"Action":"ping"}"#, "Unknown action"),
        (r#"{"action":"ping","id":true}"#, "Invalid control message"),
        (r#"{"action":"ping","id":{}}"#, "Invalid control message"),
        (r#"{"action":"ping","id":[1]}"#, "Invalid control message"),
        (r#"{"action":"ping","id":1.5}"#, "Invalid control message"),
        (r#"{"action":"auth","token":7}"#, "Invalid control message"),
        (r#"{"action":"subscribe"}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":null}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":"tasks"}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":{"tasks":1}}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":["tasks",7]}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":[["tasks"]]}"#, "channels must be a list of strings"),
        (r#"{"action":"subscribe","channels":[null]}"#, "channels must be a list of strings"),
        (r#"{"action":"unsubscribe"}"#, "channels must be a list of strings"),
        (r#"{"action":"unsubscribe","channels":7}"#, "channels must be a list of strings"),
    ];
    let mut commands: Vec<_> = words.iter().map(|&(text, error)| (text.to_owned(), error)).collect();
    let fields = [
        (r#""filters":[]"#, "filters must be an object"),
        (r#""filters":"agent""#, "filters must be an object"),
        (r#""filters":7"#, "filters must be an object"),
        (r#""filters":{"agent":null}"#, "Invalid control message"),
        (r#""filters":{"agent":{}}"#, "Invalid control message"),
        (r#""filters":{"agent":["ann",["bob"]]}"#, "Invalid control message"),
        (r#""filters":{"agent":["ann",null]}"#, "Invalid control message"),
        (r#""after":-1"#, "Invalid control message"),
        (r#""after":"7""#, "Invalid control message"),
        (r#""after":1.5"#, "Invalid control message"),
        (r#""after":true"#, "Invalid control message"),
        (r#""after":9007199254740992"#, "Invalid control message"),
        (r#""after":1,"epoch":7"#, "Invalid control message"),
        (r#""since":7"#, "Invalid control message"),
        (r#""since":"tomorrow""#, "Invalid control message"),
        (r#""since":"2026-11-22""#, "Invalid control message"),
        (r#""since":"2026-11-22T15:00:00""#, "Invalid control message"),
        (r#""since":"2026-13-22T15:00:00Z""#, "Invalid control message"),
        (r#""since":"-10m""#, "Invalid control message"),
        (r#""history":-1"#, "Invalid control message"),
        (r#""history":"20""#, "Invalid control message"),
        (r#""history":[1]"#, "Invalid control message"),
        (r#""sub":7"#, "Invalid control message"),
        (r#""sub":["s"]"#, "Invalid control message"),
    ];
    for (field, error) in fields {
        commands.push((format!(r#"{{"action":"subscribe","channels":["tasks"],{field}}}"#), error));
    }
    commands.push(("[".repeat(2000) + &"]".repeat(2000), "Expected JSON object"));
    commands.push(("[".repeat(4000), "Invalid JSON"));
    commands.push((r#"{"a":"#.repeat(800), "Invalid JSON"));
    commands
}

#[tokio::test]
async fn bad_commands_get_their_text_and_the_connection_stays() {
    let server = Server::start();
    let neighbour = Neighbour::beside(&server).await;
    let mut socket = server.socket().await;
    socket.subscribe(&["budget"]).await;
    for (number, (command, error)) in bad_commands().into_iter().enumerate() {
        let answer = socket.refused(&command).await;
        assert_eq!(answer["error"], error, "to {command:.200}");
        let code = answer["code"].as_str().unwrap();
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{answer}");
        if number % 8 == 0 {
            let offset = server.http().publish_one(&event("budget", "t", json!({}))).await;
            assert_eq!(socket.event().await["offset"], offset, "after {command:.200}");
        }
    }
    assert_eq!(socket.ask(&json!({"action": "ping"})).await, json!({"action": "pong"}));
    neighbour.was_undisturbed().await;
}

#[tokio::test]
async fn unknown_fields_and_null_options_are_ignored() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let command = r#"{"action":"subscribe","channels":["tasks"],"filters":null,"after":null,"epoch":null,"since":null,
        "history":null,"sub":null,"id":null,"unknown":{"deep":[1e999,"\ud83d\ude00"]},"token":null}"#;
    socket.send_text(command).await;
    let answer = socket.expect("subscribed").await;
    assert!(answer.get("id").is_none() && answer.get("sub").is_none() && answer.get("recovered").is_none());
    socket.nothing_more().await;
}

/// A ping of exactly this many bytes.
fn ping_of(bytes: usize) -> String {
    let ping = r#"{"action":"ping","pad":""}"#;
    ping.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - ping.len())))
}

#[tokio::test]
async fn a_command_has_4096_bytes_and_a_publish_the_events_limit() {
    let server = Server::start();
    let neighbour = Neighbour::beside(&server).await;
    let mut socket = server.socket().await;
    socket.send_text(&ping_of(4096)).await;
    socket.expect("pong").await;
    let too_large = [
        ping_of(4097),
        "x".repeat(4097),
        "[".repeat(5000),
        format!("{{}}{}", " ".repeat(5000)),
        format!(r#"{{"action":"nonsense","pad":"{}"}}"#, "x".repeat(5000)),
        format!(r#"{{"action":"publish","pad":"{}"#, "x".repeat(5000)),
        " ".repeat(1 << 20),
    ];
    for command in too_large {
        let answer = socket.refused(&command).await;
        assert_eq!(
            (&answer["error"], &answer["code"]),
            (&json!("Message too large"), &json!("message_too_large"))
        );
    }
    let as_command = |bytes: usize| {
        let action = r#""action":"publish","#;
        sized("tasks", bytes - action.len()).replacen('{', &format!("{{{action}"), 1)
    };
    for bytes in [4097, 65_536] {
        assert_eq!(as_command(bytes).len(), bytes);
        socket.send_text(&as_command(bytes)).await;
        socket.expect("published").await;
    }
    let answer = socket.refused(&as_command(65_537)).await;
    assert_eq!(answer["error"], "Message too large");
    socket.send_text(&" ".repeat((1 << 20) + 1)).await;
    assert!(matches!(socket.ending().await, Heard::Close(1009, _)));
    neighbour.was_undisturbed().await;
}

#[tokio::test]
async fn configured_limits_hold() {
    let server = Server::options().set("limits.command_bytes", 256).set("limits.event_bytes", 1024).start();
    let mut socket = server.socket().await;
    socket.send_text(&ping_of(256)).await;
    socket.expect("pong").await;
    assert_eq!(socket.refused(&ping_of(257)).await["error"], "Message too large");
    let results = server.http().publish_texts(&[sized("tasks", 1024), sized("tasks", 1025)]).await;
    assert_eq!((&results[0]["offset"], &results[1]["code"]), (&json!(1), &json!("event_too_large")));
}

#[tokio::test]
async fn filters_are_bounded() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let keys =
        |count: usize| (0..count).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>();
    let values = |count: usize| json!({"k": (0..count).collect::<Vec<_>>()});
    let fits = [
        json!(keys(10)),
        values(64),
        json!({"k": "v".repeat(256)}),
        json!({"k": "é".repeat(256)}),
        json!({"😀".repeat(256): 1}),
    ];
    for filters in fits {
        let command = json!({"action": "subscribe", "channels": ["tasks"], "filters": filters});
        assert_eq!(socket.ask(&command).await["action"], "subscribed", "{filters:.100}");
    }
    let exceed = [
        json!(keys(11)),
        values(65),
        json!({"k": "v".repeat(257)}),
        json!({"k": ["v", "é".repeat(257)]}),
        json!({"k".repeat(257): 1}),
    ];
    for filters in exceed {
        let command = json!({"action": "subscribe", "channels": ["tasks"], "filters": filters});
        let answer = socket.refused(&command.to_string()).await;
        let wanted = (&json!("Filter bounds exceeded"), &json!("filter_bounds_exceeded"));
        assert_eq!((&answer["error"], &answer["code"]), wanted, "{filters:.100}");
    }
}

#[tokio::test]
async fn a_connection_subscribes_as_much_as_it_may_and_no_more() {
    let server = Server::options()
        .set("limits.subscriptions", 3)
        .set("limits.sets", 2)
        .set("limits.filter_bytes", "1KiB")
        .start();
    let mut socket = server.socket().await;
    socket.subscribe(&["tasks", "agents", "budget"]).await;
    let refused = socket.refused(r#"{"action":"subscribe","channels":["messages"]}"#).await;
    assert!(refused["detail"].as_str().unwrap().contains("at most 3 subscriptions"), "{refused}");
    socket.ask(&json!({"action": "unsubscribe", "channels": ["agents", "budget"]})).await;
    let set = |sub: &str| json!({"action": "subscribe", "channels": ["agents"], "sub": sub});
    assert_eq!(socket.ask(&set("a")).await["action"], "subscribed");
    let refused = socket.refused(&set("b").to_string()).await;
    assert!(refused["detail"].as_str().unwrap().contains("at most 2 sets"), "{refused}");
    let values: Vec<String> = (0..50).map(|n| format!("somebody with a long name {n}")).collect();
    let wide = json!({"action": "subscribe", "channels": ["budget"], "filters": {"agent": values}});
    let refused = socket.refused(&wide.to_string()).await;
    assert!(refused["detail"].as_str().unwrap().contains("at most 1024 bytes"), "{refused}");
    let counted = "newswire_command_errors_total{reason=\"invalid_control_message\"}";
    assert_eq!(server.http().metric(counted).await, 3.0);
}

#[tokio::test]
async fn a_connection_has_at_most_100_sets() {
    let server = Server::start();
    let mut socket = server.socket().await;
    for number in 0..100 {
        let command = json!({"action": "subscribe", "channels": ["tasks"], "sub": format!("s{number}")});
        assert_eq!(socket.ask(&command).await["action"], "subscribed", "set {number}");
    }
    let more = json!({"action": "subscribe", "channels": ["tasks"], "sub": "one too many"});
    socket.refused(&more.to_string()).await;
    let known = json!({"action": "subscribe", "channels": ["budget"], "sub": "s7"});
    assert_eq!(
        socket.ask(&known).await["channels"],
        json!(["budget", "tasks"]),
        "a set that exists may change"
    );
    let left = socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks"], "sub": "s8"})).await;
    assert_eq!(left["channels"], json!([]));
    assert_eq!(socket.ask(&more).await["action"], "subscribed", "an empty set makes room");
    let offset = server.http().publish_one(&task(1)).await;
    assert_eq!(socket.event().await["offset"], offset);
    socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks"], "sub": "s9"})).await;
    socket.nothing_more().await;
}

/// The text of an event with this payload text.
fn with_payload(payload: &str) -> String {
    format!(r#"{{"channel":"tasks","event_type":"t","payload":{payload}}}"#)
}

/// An event with one more field, as text.
fn with_field(field: &str) -> String {
    format!(r#"{{"channel":"tasks","event_type":"t",{field}}}"#)
}

/// A payload whose innermost level is this deep; the payload itself is the first.
fn nested(depth: usize) -> String {
    format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
}

/// Events that are valid JSON objects but no valid events.
fn invalid_events() -> Vec<String> {
    let long = "n".repeat(129);
    let mut events = vec![
        r#"{}"#.to_owned(),
        r#"{"channel":"tasks"}"#.to_owned(),
        r#"{"event_type":"t"}"#.to_owned(),
        r#"{"channel":null,"event_type":"t"}"#.to_owned(),
        r#"{"channel":7,"event_type":"t"}"#.to_owned(),
        r#"{"channel":"","event_type":"t"}"#.to_owned(),
        r#"{"channel":"ta sks","event_type":"t"}"#.to_owned(),
        r#"{"channel":"tasks*","event_type":"t"}"#.to_owned(),
        r#"{"channel":"tásks","event_type":"t"}"#.to_owned(),
        r#"{"channel":"ta/sks","event_type":"t"}"#.to_owned(),
        r#"{"channel":"tasks","event_type":7}"#.to_owned(),
        r#"{"channel":"tasks","event_type":""}"#.to_owned(),
        r#"{"channel":"tasks","event_type":"a b"}"#.to_owned(),
        r#"{"channel":"tasks","event_type":"task.*"}"#.to_owned(),
        r#"{"channel":"tasks","event_type":"täsk"}"#.to_owned(),
        format!(r#"{{"channel":"{long}","event_type":"t"}}"#),
        format!(r#"{{"channel":"tasks","event_type":"{long}"}}"#),
    ];
    let payloads = [
        "[]",
        "7",
        "\"x\"",
        "true",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"x":{"y":[{"a":1,"b":2,"a":3}]}}"#,
        r#"{"":1,"":2}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":"\ud800\u0041"}"#,
        r#"{"\udfff":1}"#,
        r#"{"a":[["\ud83d"]]}"#,
        r#"{"a":"\ud83d\ud83d\ude00"}"#,
    ];
    events.extend(payloads.map(with_payload));
    events.extend([65, 66, 1000, 20_000].map(|depth| with_payload(&nested(depth))));
    let fields = [
        r#""timestamp":"yesterday""#.to_owned(),
        r#""timestamp":1700000000"#.to_owned(),
        r#""timestamp":"2026-11-22T15:24:00""#.to_owned(),
        r#""timestamp":"2026-11-22""#.to_owned(),
        r#""timestamp":"2026-02-30T00:00:00Z""#.to_owned(),
        r#""timestamp":"2026-11-22T25:00:00Z""#.to_owned(),
        r#""timestamp":"2026-11-22T15:24:00.1234567890Z""#.to_owned(),
        r#""event_id":"""#.to_owned(),
        r#""event_id":7"#.to_owned(),
        r#""event_id":"naïve""#.to_owned(),
        r#""event_id":"line\nbreak""#.to_owned(),
        r#""event_id":"\u007f""#.to_owned(),
        format!(r#""event_id":"{long}""#),
        r#""source":7"#.to_owned(),
        r#""traceparent":{}"#.to_owned(),
        r#""correlation_id":[]"#.to_owned(),
        r#""causation_id":false"#.to_owned(),
    ];
    events.extend(fields.iter().map(|field| with_field(field)));
    events
}

/// Events at the very edge of what is allowed.
fn edge_events() -> Vec<String> {
    let longest = "n".repeat(128);
    let all_channel = "AZaz09_.:#@-";
    let all_type = "AZaz09_.:/-";
    let printable: String = (' '..='~').filter(|c| !"\"\\".contains(*c)).collect();
    let mut events = vec![
        format!(r#"{{"channel":"{longest}","event_type":"{longest}","event_id":"{longest}"}}"#),
        format!(r#"{{"channel":"{all_channel}","event_type":"{all_type}","event_id":"{printable}"}}"#),
        r#"{"channel":"\u0074asks","event_type":"t","payload":null,"timestamp":null,"event_id":null,"source":null}"#
            .to_owned(),
        sized("tasks", 65_536),
    ];
    let payloads = [
        "{}".to_owned(),
        nested(64),
        r#"{"a":1e999999,"b":-0.0e-0,"c":123456789012345678901234567890.5}"#.to_owned(),
        format!(r#"{{"n":{}}}"#, "9".repeat(5000)),
        r#"{"a":"\ud83d\ude00","\ud83d\ude00":"\u0000\n"}"#.to_owned(),
        r#"{"a":{"a":{"a":1}},"b":{"a":[{"a":1},{"a":1}]}}"#.to_owned(),
        r#"{"A":1,"a":2,"a ":3,"":4}"#.to_owned(),
    ];
    events.extend(payloads.iter().map(|payload| with_payload(payload)));
    events.extend(
        [
            r#""timestamp":"2026-11-22T15:24:00Z""#,
            r#""timestamp":"2026-11-22T15:24:00.123456789-12:59""#,
            r#""timestamp":"2024-02-29t23:59:59z""#,
            r#""offset":"anything","version":[],"unknown":{"x":1}"#,
        ]
        .map(with_field),
    );
    events
}

/// Publishes an event in each way there is, and gives `offset` or `code` of each: alone, between others in an array and
/// among lines, and over the socket.
async fn in_every_way(http: &Http, socket: &mut Socket, text: &str) -> [Value; 4] {
    let verdict =
        |answer: &Value| answer.get("offset").or(answer.get("code")).cloned().unwrap_or(answer.clone());
    let good = task(0).to_string();
    let alone = http.post_events("application/json", text).await.data()["results"][0].clone();
    let array = http.publish_texts(&[&good, text, &good]).await;
    let lines = http.post_events("application/x-ndjson", format!("{good}\n{text}\n{good}\n")).await;
    let lines = lines.data()["results"].clone();
    for good in [&array[0], &array[2], &lines[0], &lines[2]] {
        assert!(good["offset"].is_u64(), "a neighbour of {text:.100} was refused: {good}");
    }
    socket.send_text(&text.replacen('{', r#"{"action":"publish","#, 1).replace(",}", "}")).await;
    let over_socket = socket.next().await;
    [verdict(&alone), verdict(&array[1]), verdict(&lines[1]), verdict(&over_socket)]
}

#[tokio::test]
async fn malformed_events_are_refused_alike_in_every_way() {
    let server = Server::start();
    let neighbour = Neighbour::beside(&server).await;
    let (http, mut socket) = (server.http(), server.socket().await);
    for text in invalid_events() {
        let verdicts = in_every_way(&http, &mut socket, &text).await;
        assert_eq!(verdicts, ["invalid_event"; 4].map(Value::from), "{text:.200}");
    }
    let unknown = r#"{"channel":"nowhere","event_type":"t"}"#;
    let verdicts = in_every_way(&http, &mut socket, unknown).await;
    assert_eq!(verdicts, ["unknown_channel"; 4].map(Value::from));
    neighbour.was_undisturbed().await;
}

#[tokio::test]
async fn events_at_the_edge_are_taken_in_every_way() {
    let server = Server::with("arbitrary_channels_allowed", true);
    let neighbour = Neighbour::beside(&server).await;
    let (http, mut socket) = (server.http(), server.socket().await);
    for text in edge_events() {
        let verdicts = in_every_way(&http, &mut socket, &text).await;
        let over_socket_it_is_larger = text.len() + r#""action":"publish","#.len() > 65_536;
        let taken = if over_socket_it_is_larger { &verdicts[..3] } else { &verdicts[..] };
        assert!(taken.iter().all(Value::is_u64), "{text:.200}: {verdicts:?}");
    }
    let verdicts = http.publish_texts(&[sized("tasks", 65_537)]).await;
    assert_eq!(verdicts[0]["code"], "event_too_large");
    neighbour.was_undisturbed().await;
}

#[tokio::test]
async fn a_payload_travels_byte_for_byte() {
    let server = Server::start();
    let mut socket = server.socket().await;
    socket.subscribe(&["tasks"]).await;
    let payloads = [
        "{ }",
        "{\"a\" :\t[ 1 ,2.50, 1E+2 ]}",
        r#"{"escape":"\u0041\/\u00e9\"\\","raw":"é😀"}"#,
        r#"{"n":100000000000000000000000000000000000001,"m":-0,"e":1e-9999}"#,
    ];
    let events: Vec<String> = payloads.iter().map(|payload| with_payload(payload)).collect();
    server.http().publish_texts(&events).await;
    for payload in payloads {
        let Heard::Text(text) = socket.hear().await else { panic!("no event") };
        assert!(text.contains(&format!("\"payload\":{payload},")), "{payload} in {text}");
    }
}

#[tokio::test]
async fn noise_ends_its_own_connection_at_most() {
    let server = Server::start();
    let neighbour = Neighbour::beside(&server).await;
    let mut random = fastrand::Rng::with_seed(7);
    let seeds: Vec<String> = bad_commands()
        .into_iter()
        .map(|(text, _)| text)
        .chain([
            task(1).to_string(),
            r#"{"action":"subscribe","channels":["tasks"],"after":0,"history":3}"#.into(),
        ])
        .collect();
    for round in 0..60 {
        let mut raw = server.raw().await;
        for _ in 0..random.usize(1..20) {
            let mut bytes = seeds[random.usize(..seeds.len())].clone().into_bytes();
            for _ in 0..random.usize(..4) {
                if !bytes.is_empty() {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
            let mut frame = Frame::text(bytes).encode();
            if round % 3 == 0 {
                let at = random.usize(..frame.len());
                frame[at] = random.u8(..);
            }
            raw.write(&frame).await;
        }
        raw.shutdown().await;
        while let Some(frame) = raw.next().await {
            let known = [1000, 1001, 1002, 1005, 1007, 1009];
            assert!(
                frame.opcode != 8 || known.contains(&frame.close_code()) || frame.close_code() >= 3000,
                "{frame:?}"
            );
        }
    }
    neighbour.was_undisturbed().await;
}

#[tokio::test]
async fn noise_instead_of_http_disturbs_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start();
    let neighbour = Neighbour::beside(&server).await;
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..60 {
        let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let mut bytes: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            let head =
                b"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
            bytes = [head, &b"Content-Length: 5000\r\n\r\n"[..], &bytes].concat();
        }
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = tokio::time::timeout(newswire_street_tests::PATIENCE, stream.read_to_end(&mut Vec::new()))
            .await
            .unwrap();
    }
    neighbour.was_undisturbed().await;
}
