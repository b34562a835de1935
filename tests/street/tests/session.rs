//! A connection's conversation: subscribing, filters, sets, patterns, start options, and the order of answers.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::HashSet;

use newswire_street_tests::data::{event, task};
use newswire_street_tests::{Heard, Server, Socket, eventually, naive};
use serde_json::{Value, json};

fn offsets(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["offset"].as_u64().expect("an event has an offset")).collect()
}

/// Publishes tasks `1..=count` in one batch, which a fresh log stores at offsets `1..=count`.
async fn publish_tasks(server: &Server, count: u64) {
    server.http().publish(&(1..=count).map(task).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn subscribing_answers_the_whole_sorted_set() {
    let server = Server::start();
    publish_tasks(&server, 3).await;
    let mut socket = server.socket().await;
    let answer = socket.subscribe(&["tasks", "budget"]).await;
    assert_eq!(answer["channels"], json!(["budget", "tasks"]));
    assert_eq!(answer["offset"], 3);
    assert_eq!(answer["epoch"].as_str().unwrap().len(), 36, "the epoch is a UUID: {answer}");
    for absent in ["recovered", "rejected", "sub", "id"] {
        assert!(answer.get(absent).is_none(), "{absent} has no place here: {answer}");
    }
    let answer = socket.subscribe(&["agents", "tasks", "agents"]).await;
    assert_eq!(answer["channels"], json!(["agents", "budget", "tasks"]));
    socket.nothing_more().await;
}

#[tokio::test]
async fn unknown_channels_are_rejected_by_name_and_the_others_subscribed() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let answer = socket.subscribe(&["nowhere", "tasks"]).await;
    assert_eq!(answer["channels"], json!(["tasks"]));
    assert_eq!(answer["rejected"], json!([{"channel": "nowhere", "reason": "unknown_channel"}]));
    publish_tasks(&server, 1).await;
    assert_eq!(socket.event().await["offset"], 1);
}

#[tokio::test]
async fn unsubscribing_ends_events_and_forgets_filters() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let command = json!({"action": "subscribe", "channels": ["tasks", "budget"], "filters": {"n": 2}});
    assert_eq!(socket.ask(&command).await["action"], "subscribed");
    let answer = socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks"]})).await;
    assert_eq!((&answer["action"], &answer["channels"]), (&json!("unsubscribed"), &json!(["budget"])));
    publish_tasks(&server, 3).await;
    socket.nothing_more().await;
    assert_eq!(socket.subscribe(&["tasks"]).await["channels"], json!(["budget", "tasks"]));
    publish_tasks(&server, 3).await;
    assert_eq!(offsets(&socket.events(3).await), [4, 5, 6], "the filter went with the subscription");
    let answer =
        socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks", "budget", "system"]})).await;
    assert_eq!(answer["channels"], json!([]));
}

/// Events that differ in everything a filter can look at.
fn varied() -> Vec<Value> {
    let mut with_envelope = event("system", "system.error", json!({"ok": false}));
    with_envelope["source"] = json!("test/source");
    with_envelope["correlation_id"] = json!("c-1");
    with_envelope["causation_id"] = json!("c-0");
    vec![
        event("tasks", "task.created", json!({"agent_id": "ann", "project": "p1", "n": 1})),
        event("tasks", "task.updated", json!({"assigned_to": "ann", "project_id": "p1", "n": 1.0})),
        event("tasks", "task.updated", json!({"agent": "bob", "project": "p2", "n": "1", "done": true})),
        event("messages", "message.sent", json!({"from": "ann", "to": "bob", "n": -0.5, "status": null})),
        event("messages", "message.sent", json!({"from": "bob", "to": "cho", "done": "true", "tags": ["x"]})),
        event("budget", "budget.alert", json!({"agent_id": 7, "n": 1e2, "status": {"of": "x"}})),
        event("budget", "budget.record_added", json!({"agent_id": "Ann", "n": 100, "done": false})),
        event("agents", "agent.hired", json!({})),
        event("agents", "task.foreign", json!({"агент": "søren", "": "empty key", "event_type": "inner"})),
        with_envelope,
    ]
}

fn filters_to_try() -> Vec<Value> {
    vec![
        json!(null),
        json!({}),
        json!({"agent": "ann"}),
        json!({"agent": ["ann", "bob"]}),
        json!({"agent": 7}),
        json!({"agent": []}),
        json!({"project": "p1"}),
        json!({"agent": "ann", "project": "p1"}),
        json!({"event_type": "task.updated"}),
        json!({"event_type": "task.*"}),
        json!({"event_type": ["task.created", "budget.*"]}),
        json!({"event_type": "*"}),
        json!({"event_type": "*.sent"}),
        json!({"n": 1}),
        json!({"n": 1.0}),
        json!({"n": "1"}),
        json!({"n": [100, -0.5]}),
        json!({"done": true}),
        json!({"done": ["true", false]}),
        json!({"agent_id": "ann"}),
        json!({"status": "x"}),
        json!({"tags": "x"}),
        json!({"missing": "anything"}),
        json!({"агент": "søren"}),
        json!({"": "empty key"}),
        json!({"source": "test/source", "correlation_id": "c-1", "causation_id": ["c-0", "c-9"]}),
        json!({"source": "test/*"}),
        json!({"agent": "ann*"}),
    ]
}

#[tokio::test]
async fn filters_pick_the_same_events_live_and_in_replay_as_a_naive_reading() {
    let server = Server::start();
    let all = ["tasks", "messages", "budget", "agents", "system"];
    let mut live = Vec::new();
    for filters in filters_to_try() {
        let mut socket = server.socket().await;
        let command = json!({"action": "subscribe", "channels": all, "filters": filters});
        assert_eq!(socket.ask(&command).await["action"], "subscribed", "{filters}");
        live.push((filters, socket));
    }
    let events = varied();
    server.http().publish(&events).await;
    for (filters, mut socket) in live {
        let wanted: Vec<u64> = (1..)
            .zip(&events)
            .filter(|(_, event)| naive::wants(&all, &filters, event))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(offsets(&socket.events(wanted.len()).await), wanted, "live, {filters}");
        socket.nothing_more().await;
        let again =
            json!({"action": "subscribe", "channels": all, "filters": filters, "after": 0, "sub": "again"});
        assert_eq!(socket.ask(&again).await["action"], "subscribed", "{filters}");
        let (replayed, _) = socket.until("caught_up").await;
        assert_eq!(offsets(&replayed), wanted, "replayed, {filters}");
    }
}

#[tokio::test]
async fn numbers_compare_by_exact_decimal_value() {
    let server = Server::start();
    let numbers =
        ["9007199254740993", "9007199254740992", "0.1", "0.10000000000000000001", "1e400", "10e399", "-0"];
    let texts: Vec<String> = numbers
        .iter()
        .map(|n| format!(r#"{{"channel":"tasks","event_type":"t","payload":{{"n":{n}}}}}"#))
        .collect();
    server.http().publish_texts(&texts).await;
    let cases: [(&str, &[u64]); 5] = [
        ("9007199254740993", &[1]),
        ("9007199254740992.0", &[2]),
        ("1e-1", &[3]),
        ("100e398", &[5, 6]),
        ("0.0", &[7]),
    ];
    let mut socket = server.socket().await;
    for (number, wanted) in cases {
        let command = format!(
            r#"{{"action":"subscribe","channels":["tasks"],"filters":{{"n":{number}}},"after":0,"sub":"{number}"}}"#
        );
        socket.send_text(&command).await;
        assert_eq!(socket.replayed_offsets().await, wanted, "n = {number}");
    }
}

#[tokio::test]
async fn filters_are_kept_cleared_and_replaced() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let steps = [
        (r#","filters":{"n":1}"#, vec![1]),
        ("", vec![1]),
        (r#","filters":null"#, vec![1]),
        (r#","filters":{"n":[2,3]}"#, vec![2, 3]),
        (r#","filters":{}"#, vec![1, 2, 3]),
    ];
    for (round, (filters, wanted)) in (0..).zip(steps) {
        socket.send_text(&format!(r#"{{"action":"subscribe","channels":["tasks"]{filters}}}"#)).await;
        socket.expect("subscribed").await;
        publish_tasks(&server, 3).await;
        let wanted: Vec<u64> = wanted.iter().map(|n| round * 3 + n).collect();
        assert_eq!(offsets(&socket.events(wanted.len()).await), wanted, "after {filters}");
        socket.nothing_more().await;
    }
}

#[tokio::test]
async fn filters_hold_for_the_channels_of_their_command_only() {
    let server = Server::start();
    let mut socket = server.socket().await;
    socket.subscribe(&["budget"]).await;
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "filters": {"n": 1}})).await;
    let n = |channel, n: u64| event(channel, "t", json!({"n": n}));
    server.http().publish(&[n("tasks", 1), n("budget", 1), n("tasks", 2), n("budget", 2)]).await;
    assert_eq!(offsets(&socket.events(3).await), [1, 2, 4]);
    socket.nothing_more().await;
}

#[tokio::test]
async fn patterns_stand_for_channels_now_and_later() {
    let server = Server::with("arbitrary_channels_allowed", true);
    let http = server.http();
    http.publish_one(&event("room:1", "t", json!({}))).await;
    let mut socket = server.socket().await;
    let answer = socket.ask(&json!({"action": "subscribe", "channels": ["room:*"], "after": 0})).await;
    assert_eq!(answer["channels"], json!(["room:*"]));
    let (replayed, caught_up) = socket.until("caught_up").await;
    assert_eq!((offsets(&replayed), &caught_up["offset"]), (vec![1], &json!(1)));
    for channel in ["room:2", "rooms", "room:", "tasks", "room:1"] {
        http.publish_one(&event(channel, "t", json!({}))).await;
    }
    assert_eq!(offsets(&socket.events(3).await), [2, 4, 6]);
    socket.nothing_more().await;
    let mut all = server.socket().await;
    all.ask(&json!({"action": "subscribe", "channels": ["*"], "after": 0})).await;
    assert_eq!(offsets(&all.until("caught_up").await.0), [1, 2, 3, 4, 5, 6]);
    let answer = socket.ask(&json!({"action": "unsubscribe", "channels": ["room:*"]})).await;
    assert_eq!(answer["channels"], json!([]));
}

#[tokio::test]
async fn after_replays_exclusively_then_goes_live() {
    let server = Server::start();
    publish_tasks(&server, 5).await;
    let mut socket = server.socket().await;
    let answer =
        socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "after": 2, "id": "r"})).await;
    assert_eq!((&answer["recovered"], &answer["id"]), (&json!(true), &json!("r")));
    let (replayed, caught_up) = socket.until("caught_up").await;
    assert_eq!(offsets(&replayed), [3, 4, 5]);
    assert_eq!(caught_up, json!({"action": "caught_up", "channels": ["tasks"], "offset": 5, "id": "r"}));
    publish_tasks(&server, 2).await;
    assert_eq!(offsets(&socket.events(2).await), [6, 7]);
    socket.nothing_more().await;
}

#[tokio::test]
async fn caught_up_says_how_far_even_without_events() {
    let server = Server::start();
    publish_tasks(&server, 5).await;
    let mut socket = server.socket().await;
    let answer = socket.ask(&json!({"action": "subscribe", "channels": ["budget"], "after": 0})).await;
    assert_eq!(answer["recovered"], true);
    assert_eq!(socket.expect("caught_up").await["offset"], 5);
    let mut empty = Server::start().socket().await;
    empty.send(&json!({"action": "ping"})).await;
}

#[tokio::test]
async fn history_takes_the_last_of_each_channel_in_offset_order() {
    let server = Server::start();
    let mixed = ["tasks", "budget", "tasks", "tasks", "budget", "agents", "budget", "tasks"];
    let events: Vec<Value> =
        mixed.iter().map(|channel| event(channel, "t", json!({"k": *channel}))).collect();
    server.http().publish(&events).await;
    let mut socket = server.socket().await;
    let answer =
        socket.ask(&json!({"action": "subscribe", "channels": ["tasks", "budget"], "history": 2})).await;
    assert!(answer.get("recovered").is_none(), "{answer}");
    let (sent, caught_up) = socket.until("caught_up").await;
    assert_eq!(offsets(&sent), [4, 5, 7, 8]);
    assert_eq!(caught_up["offset"], 8);
    let filtered = json!({"action": "subscribe", "channels": ["*"], "history": 1, "filters": {"k": "budget"}, "sub": "f"});
    socket.ask(&filtered).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [7], "the last matching, not the last");
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "history": 0, "sub": "none"})).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [0; 0]);
}

#[tokio::test]
async fn since_counts_when_the_server_stored_an_event() {
    let server = Server::start();
    let http = server.http();
    let mut old = task(1);
    old["timestamp"] = json!("2001-01-01T00:00:00Z");
    http.publish_one(&old).await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let mut with_time = task(2);
    with_time.as_object_mut().unwrap().remove("timestamp");
    http.publish_one(&with_time).await;
    let second = http.get("/events/2").await.data()["timestamp"].as_str().unwrap().to_owned();
    let mut socket = server.socket().await;
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "since": "10m", "sub": "a"})).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [1, 2], "both were stored just now");
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "since": second, "sub": "b"})).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [2], "stored at or after {second}");
    let answer = socket
        .ask(&json!({"action": "subscribe", "channels": ["tasks"], "since": "2001-01-01T00:00:00Z"}))
        .await;
    assert_eq!(answer["recovered"], true);
    assert_eq!(offsets(&socket.until("caught_up").await.0), [1, 2]);
}

#[tokio::test]
async fn after_wins_over_since_over_history() {
    let server = Server::start();
    publish_tasks(&server, 6).await;
    let mut socket = server.socket().await;
    let all = json!({"action": "subscribe", "channels": ["tasks"], "history": 1, "since": "1h", "after": 3, "sub": "a"});
    socket.ask(&all).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [4, 5, 6]);
    let two = json!({"action": "subscribe", "channels": ["tasks"], "history": 1, "since": "1h", "after": null, "sub": "b"});
    socket.ask(&two).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_foreign_epoch_or_an_offset_beyond_the_end_starts_over_and_says_so() {
    let server = Server::start();
    publish_tasks(&server, 3).await;
    let mut socket = server.socket().await;
    let epoch = socket.subscribe(&["budget"]).await["epoch"].clone();
    let same =
        json!({"action": "subscribe", "channels": ["tasks"], "after": 1, "epoch": epoch, "sub": "same"});
    assert_eq!(socket.ask(&same).await["recovered"], true);
    assert_eq!(offsets(&socket.until("caught_up").await.0), [2, 3]);
    let foreign = "00000000-0000-4000-8000-000000000000";
    for (sub, after, given) in
        [("foreign", 2, json!(foreign)), ("beyond", 99, json!(null)), ("both", 99, json!(foreign))]
    {
        let command =
            json!({"action": "subscribe", "channels": ["tasks"], "after": after, "epoch": given, "sub": sub});
        let answer = socket.ask(&command).await;
        assert_eq!((&answer["action"], &answer["recovered"]), (&json!("subscribed"), &json!(false)), "{sub}");
        let gap = socket.expect("gap").await;
        assert_eq!((&gap["reason"], &gap["sub"]), (&json!("epoch"), &json!(sub)), "{gap}");
        assert_eq!(gap["epoch"], epoch, "the new epoch is given");
        assert_eq!(offsets(&socket.until("caught_up").await.0), [1, 2, 3], "{sub}: from the oldest retained");
    }
}

#[tokio::test]
async fn trimmed_events_are_a_gap_only_for_those_who_missed_them() {
    let server = Server::options().set("retention.max_events", 10).set("log.segment_bytes", "1MiB").start();
    let http = server.http();
    for batch in 0..20 {
        let events: Vec<Value> = (1..=20)
            .map(|n| event("tasks", "t", json!({"n": batch * 20 + n, "pad": "x".repeat(6000)})))
            .collect();
        http.publish(&events).await;
    }
    let quiet = http.publish_one(&event("budget", "t", json!({}))).await;
    let oldest = eventually("the oldest tasks are trimmed", || async {
        let first =
            http.get("/events?channels=tasks&order=asc&limit=1").await.data()[0]["offset"].as_u64()?;
        (first > 1).then_some(first)
    })
    .await;
    let mut socket = server.socket().await;
    let answer = socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "after": 0})).await;
    assert_eq!(answer["recovered"], false, "{answer}");
    let gap = socket.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["channels"]), (&json!("retention"), &json!(["tasks"])), "{gap}");
    let (replayed, _) = socket.until("caught_up").await;
    let replayed = offsets(&replayed);
    assert!(
        replayed[0] >= oldest && gap["to"].as_u64().unwrap() < replayed[0],
        "{gap}, then {}",
        replayed[0]
    );
    assert_eq!(replayed, (replayed[0]..quiet).collect::<Vec<_>>());
    let answer = socket.ask(&json!({"action": "subscribe", "channels": ["budget"], "after": 0})).await;
    assert_eq!(answer["recovered"], true, "nothing of this channel is gone: {answer}");
    assert_eq!(offsets(&socket.until("caught_up").await.0), [quiet]);
}

#[tokio::test]
async fn a_start_option_on_a_subscribed_channel_replays_it_again() {
    let server = Server::start();
    let mut socket = server.socket().await;
    socket.subscribe(&["tasks"]).await;
    publish_tasks(&server, 3).await;
    assert_eq!(offsets(&socket.events(3).await), [1, 2, 3]);
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "after": 1})).await;
    assert_eq!(offsets(&socket.until("caught_up").await.0), [2, 3]);
    publish_tasks(&server, 1).await;
    assert_eq!(socket.event().await["offset"], 4);
    socket.nothing_more().await;
}

#[tokio::test]
async fn sets_are_independent_and_named_in_what_concerns_them() {
    let server = Server::start();
    publish_tasks(&server, 3).await;
    let mut socket = server.socket().await;
    let one = socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "sub": "one"})).await;
    assert_eq!((&one["sub"], &one["channels"]), (&json!("one"), &json!(["tasks"])));
    let two = json!({"action": "subscribe", "channels": ["tasks", "budget"], "filters": {"n": 2}, "after": 0, "sub": "two"});
    let two = socket.ask(&two).await;
    assert_eq!((&two["sub"], &two["channels"]), (&json!("two"), &json!(["budget", "tasks"])));
    let (replayed, caught_up) = socket.until("caught_up").await;
    assert_eq!((offsets(&replayed), &caught_up["sub"]), (vec![2], &json!("two")));
    publish_tasks(&server, 2).await;
    assert_eq!(offsets(&socket.events(2).await), [4, 5], "what both sets match comes once");
    socket.nothing_more().await;
    let left = socket.ask(&json!({"action": "unsubscribe", "channels": ["tasks"], "sub": "one"})).await;
    assert_eq!((&left["sub"], &left["channels"]), (&json!("one"), &json!([])));
    publish_tasks(&server, 3).await;
    assert_eq!(offsets(&socket.events(1).await), [7], "only the other set is left");
    socket.nothing_more().await;
    let unnamed = socket.subscribe(&["agents"]).await;
    assert_eq!(unnamed["channels"], json!(["agents"]), "the unnamed set knows nothing of the named");
}

#[tokio::test]
async fn answers_keep_the_order_of_their_commands_and_repeat_ids() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let commands = [
        (r#"{"action":"subscribe","channels":["tasks"],"id":1}"#, "subscribed", json!(1)),
        (r#"{"action":"ping","id":"two"}"#, "pong", json!("two")),
        (r#"{"action":"nonsense","id":"three"}"#, "error", json!("three")),
        (r#"{"action":"unsubscribe","channels":["tasks"],"id":-4}"#, "unsubscribed", json!(-4)),
        (r#"{"action":"subscribe","channels":7,"id":5}"#, "error", json!(5)),
        (r#"{"action":"ping","id":null}"#, "pong", json!(null)),
        (r#"not json"#, "error", json!(null)),
        (r#"{"action":"auth","ticket":"any","id":"eight"}"#, "auth_ok", json!("eight")),
        (r#"{"action":"ping"}"#, "pong", json!(null)),
        (r#"{"action":"subscribe","channels":["budget"],"after":0,"id":"十"}"#, "subscribed", json!("十")),
    ];
    for (command, ..) in &commands {
        socket.send_text(command).await;
    }
    for (command, action, id) in &commands {
        let answer = socket.next().await;
        assert_eq!((&answer["action"], &answer["id"]), (&json!(action), id), "to {command}");
    }
    assert_eq!(socket.expect("caught_up").await["id"], "十");
}

#[tokio::test]
async fn a_large_integer_id_keeps_its_digits() {
    let server = Server::start();
    let mut socket = server.socket().await;
    socket.send_text(r#"{"action":"ping","id":12345678901234567890123}"#).await;
    let Heard::Text(text) = socket.hear().await else { panic!("no answer") };
    assert!(text.contains("12345678901234567890123") || text.contains("Invalid control message"), "{text}");
}

#[tokio::test]
async fn an_answer_divides_the_stream_exactly() {
    let server = Server::start();
    let http = server.http();
    let publisher = tokio::spawn(async move {
        for batch in 0..120u64 {
            let events: Vec<Value> =
                (0..10).map(|n| event("tasks", "t", json!({"half": (batch * 10 + n) % 2}))).collect();
            http.publish(&events).await;
        }
    });
    let mut socket = server.socket().await;
    let mut half = 0;
    let first = json!({"action": "subscribe", "channels": ["tasks"], "filters": {"half": half}});
    let mut from = socket.ask(&first).await["offset"].as_u64().unwrap();
    while !publisher.is_finished() {
        let next = 1 - half;
        socket.send(&json!({"action": "subscribe", "channels": ["tasks"], "filters": {"half": next}})).await;
        let (before, answer) = socket.until("subscribed").await;
        let to = answer["offset"].as_u64().unwrap();
        // Offset 1 was published with half 0, so odd offsets are half 0.
        let wanted: Vec<u64> = (from + 1..=to).filter(|offset| (offset + 1) % 2 == half).collect();
        assert_eq!(offsets(&before), wanted, "between the answers at {from} and {to}");
        (from, half) = (to, next);
    }
    publisher.await.unwrap();
    assert!(from > 100, "the filter changed while events passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_joins_the_live_stream_without_a_seam() {
    let server = Server::start();
    publish_tasks(&server, 300).await;
    let (http, addr) = (server.http(), server.addr);
    let publisher = tokio::spawn(async move {
        for batch in 0..100 {
            http.publish(&(0..10).map(|n| task(batch * 10 + n)).collect::<Vec<_>>()).await;
        }
    });
    let readers: Vec<_> = (0..16u64)
        .map(|reader| {
            tokio::spawn(async move {
                let after = reader * 70;
                let mut socket = Socket::open(addr, "/api/v1/ws").await;
                let mut next = after + 1;
                // Offsets beyond the end would start over; such a reader waits until its place exists.
                eventually("the log reaches the reader's place", || async {
                    let end = newswire_street_tests::Http::new(addr).get("/events?limit=1").await;
                    (end.json()["offset"].as_u64()? >= after).then_some(())
                })
                .await;
                let command = json!({"action": "subscribe", "channels": ["tasks"], "after": after});
                assert_eq!(socket.ask(&command).await["recovered"], true);
                let mut caught_up = 0;
                while next <= 1300 {
                    let message = socket.next().await;
                    if message["action"] == "caught_up" {
                        assert_eq!(message["offset"], next - 1, "everything up to it has been sent");
                        caught_up += 1;
                        continue;
                    }
                    assert_eq!(message["offset"], next, "reader after {after}");
                    next += 1;
                }
                if caught_up == 0 {
                    socket.expect("caught_up").await;
                }
                socket.nothing_more().await;
            })
        })
        .collect();
    publisher.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_quiet_subscriber_gets_checkpoints_it_can_resume_from() {
    let server = Server::with("checkpoint.interval", "100ms");
    let http = server.http();
    let mut socket = server.socket().await;
    socket.subscribe(&["budget"]).await;
    publish_tasks(&server, 50).await;
    http.publish_one(&event("budget", "t", json!({}))).await;
    assert_eq!(socket.event().await["offset"], 51);
    publish_tasks(&server, 9).await;
    let Ok(Heard::Text(text)) = tokio::time::timeout(newswire_street_tests::PATIENCE, async {
        loop {
            match socket.hear().await {
                Heard::Text(text) if text.contains("\"offset\":60") => return Heard::Text(text),
                Heard::Text(_) => {}
                ending => return ending,
            }
        }
    })
    .await
    else {
        panic!("no checkpoint reaches the log's end");
    };
    let checkpoint: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(checkpoint, json!({"action": "checkpoint", "offset": 60}));
    http.publish_one(&event("budget", "t", json!({}))).await;
    let mut resumed = server.socket().await;
    resumed.ask(&json!({"action": "subscribe", "channels": ["budget"], "after": 60})).await;
    assert_eq!(offsets(&resumed.until("caught_up").await.0), [61]);
}

#[tokio::test]
async fn publishing_over_the_socket_answers_when_it_is_durable() {
    let server = Server::start();
    let mut socket = server.socket().await;
    let publish = json!({"action": "publish", "channel": "tasks", "event_type": "task.created",
        "payload": {"z": 1.50, "a": [1, {}]}, "event_id": "mine-1", "id": "p"});
    let answer = socket.ask(&publish).await;
    assert_eq!(answer, json!({"action": "published", "offset": 1, "event_id": "mine-1", "id": "p"}));
    assert_eq!(server.http().get("/events/1").await.data()["payload"], json!({"z": 1.5, "a": [1, {}]}));
    let again = socket.ask(&publish).await;
    assert_eq!((&again["offset"], &again["duplicate"]), (&json!(1), &json!(true)), "{again}");
    let mut other = publish.clone();
    other["payload"] = json!({"z": 2});
    let conflict = socket.refused(&other.to_string()).await;
    assert_eq!((&conflict["error"], &conflict["code"]), (&json!("Id conflict"), &json!("id_conflict")));
    let mut unknown = publish.clone();
    unknown["channel"] = json!("nowhere");
    let unknown = socket.refused(&unknown.to_string()).await;
    assert_eq!((&unknown["error"], &unknown["id"]), (&json!("Unknown channel"), &json!("p")));
    socket.subscribe(&["tasks"]).await;
    socket.send(&json!({"action": "publish", "channel": "tasks", "event_type": "task.created"})).await;
    let (mut event, mut published) = (socket.next().await, socket.next().await);
    if event["action"] == "published" {
        std::mem::swap(&mut event, &mut published);
    }
    assert_eq!(
        (&event["offset"], &event["payload"], &published["offset"]),
        (&json!(2), &json!({}), &json!(2))
    );
    assert_eq!(event["event_id"], published["event_id"], "the server made an id");
    assert_eq!(event["version"], 1);
}

#[tokio::test]
async fn pipelined_publishes_of_one_connection_keep_their_order() {
    let server = Server::start();
    let mut socket = server.socket().await;
    for n in 0..500 {
        let mut command = task(n);
        command["action"] = json!("publish");
        command["id"] = json!(n);
        socket.feed(&command.to_string()).await.unwrap();
    }
    for n in 0..500u64 {
        let answer = socket.expect("published").await;
        assert_eq!((answer["id"].as_u64(), answer["offset"].as_u64()), (Some(n), Some(n + 1)));
    }
}

#[tokio::test]
async fn the_channel_path_and_the_query_need_no_command() {
    let server = Server::start();
    let http = server.http();
    let n = |channel, n: Value| event(channel, "t", json!({"n": n, "agent_id": "ann"}));
    let events =
        [n("tasks", json!(1)), n("budget", json!("1")), n("tasks", json!(true)), n("agents", json!(2))];
    http.publish(&events).await;
    let cases: [(&str, &[u64]); 9] = [
        ("/ws/tasks?history=5", &[1, 3]),
        ("/ws/tasks?history=1", &[3]),
        ("/ws/tasks?after=1", &[3]),
        ("/ws?channels=tasks,budget&after=0", &[1, 2, 3]),
        ("/ws?channels=tasks&channels=agents&after=0", &[1, 3, 4]),
        ("/ws?channels=*&after=0&n=1", &[1, 2]),
        ("/ws?channels=*&after=0&n=true", &[3]),
        ("/ws?channels=*&after=0&n=2,1", &[1, 2, 4]),
        ("/ws?channels=*&after=0&agent=ann&n=2", &[4]),
    ];
    for (path, wanted) in cases {
        let mut socket = server.socket_at(&format!("/api/v1{path}")).await;
        let (before, caught_up) = socket.until("caught_up").await;
        let events: Vec<Value> =
            before.into_iter().filter(|message| message.get("action").is_none()).collect();
        assert_eq!(offsets(&events), wanted, "{path}");
        assert_eq!(caught_up["offset"], 4, "{path}");
    }
    let mut live = server.socket_at("/api/v1/ws/tasks").await;
    assert_eq!(live.expect("subscribed").await["channels"], json!(["tasks"]));
    http.publish_one(&task(9)).await;
    assert_eq!(live.event().await["offset"], 5);
}

#[tokio::test]
async fn bad_queries_are_refused_before_the_upgrade() {
    let server = Server::start();
    let cases = [
        ("/ws/nowhere", 404),
        ("/ws?channels=nowhere&history=1", 404),
        ("/ws/tasks?after=minus", 400),
        ("/ws/tasks?after=-1", 400),
        ("/ws/tasks?history=many", 400),
        ("/ws/tasks?since=yesterday", 400),
    ];
    for (path, status) in cases {
        let head = upgrade(&server, path, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        assert!(head.to_ascii_lowercase().contains("application/problem+json"), "{path}: {head}");
    }
}

/// The head of the answer to an upgrade request.
async fn upgrade(server: &Server, path: &str, extra: &str) -> String {
    let request = format!(
        "GET /api/v1{path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extra}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        server.addr
    );
    newswire_street_tests::Raw::request(server.addr, &request).await.0
}

#[tokio::test]
async fn event_ids_and_timestamps_are_given_where_the_publisher_gives_none() {
    let server = Server::start();
    let http = server.http();
    publish_tasks(&server, 100).await;
    let events = http.history("channels=tasks").await;
    let ids: HashSet<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 100, "ids are unique");
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "UUIDv7: {ids:?}");
    assert!(events.iter().all(|event| event["timestamp"].as_str().unwrap().ends_with('Z')));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_when_to_come_back() {
    let mut server = Server::start();
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = server.socket().await;
        socket.subscribe(&["tasks"]).await;
        sockets.push(socket);
    }
    publish_tasks(&server, 5).await;
    for socket in &mut sockets {
        assert_eq!(offsets(&socket.events(5).await), [1, 2, 3, 4, 5]);
    }
    let endings = tokio::spawn(async move {
        let mut endings = Vec::new();
        for mut socket in sockets {
            endings.push(socket.ending().await);
        }
        endings
    });
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "a stop on request is no failure: {status:?}\n{}", server.stderr());
    for ending in endings.await.unwrap() {
        let Heard::Close(1001, reason) = &ending else { panic!("{ending:?}") };
        let millis = reason.strip_prefix("retry_after_ms=").expect("the reason says when");
        millis.parse::<u64>().expect("milliseconds");
    }
    server.restart();
    assert_eq!(server.http().history("channels=tasks").await.len(), 5);
}
