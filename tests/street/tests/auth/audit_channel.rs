//! The audit as a channel: administrators read it by its name, and nobody else sees that it is there; reading it makes no
//! more of it, and a flood of what it reports stops nobody.

use std::collections::BTreeMap;

use newswire_street_tests::{Server, ServerOptions, eventually};
use serde_json::{Value, json};

use crate::support::*;

const CHANNEL: &str = "admin:audit";

fn audited() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().unwrap();
    let server = audited_in(&home).start();
    (home, server)
}

fn audited_in(home: &tempfile::TempDir) -> ServerOptions {
    options(home).set("audit.channel", CHANNEL).set("arbitrary_channels_allowed", true)
}

fn task(n: u64) -> Value {
    json!({"channel": "tasks", "event_type": "task.created", "payload": {"n": n}})
}

/// Every event of the audit so far.
async fn history(server: &Server, boss: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/api/v1/events?channels={CHANNEL}&limit=1000&after={after}");
        let page = get_as(server, boss, &path).await.json();
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_u64() else { return found };
        after = next;
    }
}

#[tokio::test]
async fn administrators_read_the_audit_live_and_later() {
    let (_home, server) = audited();
    let (boss, sarah) = (good("boss", "admin"), good("sarah", "publisher"));
    let mut live = socket_as(&server, &boss).await;
    assert_eq!(live.subscribe(&[CHANNEL]).await["channels"], json!([CHANNEL]));
    publish_as(&server, &sarah, &task(1)).await;
    assert_eq!(server.http().get("/events").await.status, 401);
    let mut hers = socket_as(&server, &sarah).await;
    hers.ask(&json!({"action": "subscribe", "channels": ["tasks", CHANNEL]})).await;
    drop(hers);
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    while !seen.contains_key("audit.disconnected") {
        let event = live.event().await;
        assert_eq!(event["channel"], CHANNEL);
        seen.insert(event["event_type"].as_str().unwrap().to_owned(), event);
    }
    let of = |kind: &str, field: &str| seen[kind]["payload"][field].clone();
    assert_eq!(of("audit.published", "identity"), "sarah");
    assert_eq!(of("audit.published", "events"), 1);
    assert_eq!(
        (of("audit.request_refused", "status"), of("audit.request_refused", "path")),
        (json!(401), json!("/api/v1/events"))
    );
    assert_eq!(
        (of("audit.subscribed", "identity"), of("audit.subscribed", "channels")),
        (json!("sarah"), json!("tasks"))
    );
    assert_eq!(
        (of("audit.subscribe_refused", "channels"), of("audit.subscribe_refused", "reason")),
        (json!(CHANNEL), json!("forbidden"))
    );
    // The same later: by page, by replay, by number, as a stream, and in the list.
    let past = history(&server, &boss).await;
    assert!(past.iter().any(|event| event["event_type"] == "audit.published"));
    let offset = seen["audit.published"]["offset"].as_u64().unwrap();
    assert_eq!(get_as(&server, &boss, &format!("/api/v1/events/{offset}")).await.status, 200);
    live.send(&json!({"action": "subscribe", "channels": [CHANNEL], "after": 0, "sub": "again"})).await;
    assert_eq!(live.expect("subscribed").await["recovered"], true);
    assert_eq!(live.event().await["offset"], past[0]["offset"]);
    let listed = get_as(&server, &boss, "/api/v1/channels").await.data();
    assert!(listed.as_array().unwrap().iter().any(|channel| channel["channel"] == CHANNEL));
}

#[tokio::test]
async fn nobody_else_sees_the_audit_on_any_way() {
    let (_home, server) = audited();
    let boss = good("boss", "admin");
    publish_as(&server, &boss, &task(1)).await;
    let audit =
        eventually("something is audited", async || history(&server, &boss).await.first().cloned()).await;
    let offset = audit["offset"].as_u64().unwrap();
    let granted = json!({"newswire": {"role": "operator", "subscribe": ["*", "admin:*", CHANNEL],
        "history": ["*", "admin:*", CHANNEL], "publish": ["*", "admin:*", CHANNEL]}});
    let others = [
        good("olga", "observer"),
        good("paul", "publisher"),
        good("otto", "operator"),
        token(&with(claims("greta", "operator"), &granted)),
    ];
    let mut patterns = Vec::new();
    for token in &others {
        let path = format!("/api/v1/events/{offset}");
        assert_eq!(get_as(&server, token, &path).await.status, 404, "by number");
        for path in [
            format!("/api/v1/events?channels={CHANNEL}"),
            format!("/api/v1/events/stream?channels={CHANNEL}"),
            format!("/api/v1/events?channels={CHANNEL}&since=1h"),
        ] {
            assert_eq!(get_as(&server, token, &path).await.status, 403, "{path}");
        }
        let all = get_as(&server, token, "/api/v1/events?limit=1000").await.data();
        assert!(all.as_array().unwrap().iter().all(|event| event["channel"] == "tasks"), "{all}");
        let listed = get_as(&server, token, "/api/v1/channels").await.body;
        assert!(!listed.contains(CHANNEL), "{listed}");
        assert_eq!(
            publish_as(&server, token, &json!({"channel": CHANNEL, "event_type": "audit.forged"}))
                .await
                .json()["data"]["results"][0]["code"],
            "forbidden"
        );
        let mut socket = socket_as(&server, token).await;
        let answer =
            socket.ask(&json!({"action": "subscribe", "channels": [CHANNEL, "*", "a*"], "after": 0})).await;
        assert_eq!(answer["rejected"], json!([{"channel": CHANNEL, "reason": "forbidden"}]), "{answer}");
        assert_eq!(socket.event().await["channel"], "tasks", "of the past a pattern has the rest");
        assert_eq!(socket.next().await["action"], "caught_up");
        patterns.push(socket);
    }
    // Nor is it in an administrator's pattern; and nobody forges it, whoever it is.
    let mut all = socket_as(&server, &boss).await;
    all.subscribe(&["*"]).await;
    patterns.push(all);
    let forged = publish_as(&server, &boss, &json!({"channel": CHANNEL, "event_type": "audit.forged"})).await;
    assert_eq!(forged.json()["data"]["results"][0]["code"], "forbidden");
    let before = history(&server, &boss).await.len();
    eventually("more is audited", async || (history(&server, &boss).await.len() > before).then_some(()))
        .await;
    publish_as(&server, &boss, &task(2)).await;
    for mut socket in patterns {
        let event = socket.event().await;
        assert_eq!((&event["channel"], &event["payload"]["n"]), (&json!("tasks"), &json!(2)), "live, too");
    }
    assert!(!history(&server, &boss).await.iter().any(|event| event["event_type"] == "audit.forged"));
}

#[tokio::test]
async fn reading_the_audit_makes_no_more_of_it() {
    let (_home, server) = audited();
    let boss = good("boss", "admin");
    let mut live = socket_as(&server, &boss).await;
    live.subscribe(&[CHANNEL]).await;
    // What subscribing has made of it comes before what is made of the first publish.
    let until_published = async |live: &mut newswire_street_tests::Socket| {
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "audit.published") {
            kinds.push(live.event().await["event_type"].as_str().unwrap().to_owned());
        }
        kinds
    };
    publish_as(&server, &boss, &task(1)).await;
    until_published(&mut live).await;
    for n in 2..5 {
        // Reading by page is no act of the audit, and neither is what was just sent.
        history(&server, &boss).await;
        publish_as(&server, &boss, &task(n)).await;
        assert_eq!(until_published(&mut live).await, ["audit.published"], "one publish, one event");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_stops_nobody_and_is_counted_to_the_last() {
    const REFUSALS: u64 = 4_000;
    let home = tempfile::tempdir().unwrap();
    // Else most of them were refused for being too many, and that is another test's.
    let server = audited_in(&home).set("limits.auth_failures_burst", 2 * REFUSALS).start();
    let (boss, sarah) = (good("boss", "admin"), good("sarah", "publisher"));
    let mut watching = socket_as(&server, &sarah).await;
    watching.subscribe(&["tasks"]).await;
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let http = server.http();
            tokio::spawn(async move {
                for _ in 0..REFUSALS / 8 {
                    let wrong = [("authorization", "Bearer made.up.token")];
                    assert_eq!(http.send("GET", "/api/v1/events", &wrong, "").await.status, 401);
                }
            })
        })
        .collect();
    let mut n = 0;
    while !flood.iter().all(tokio::task::JoinHandle::is_finished) {
        n += 1;
        assert!(publish_as(&server, &sarah, &task(n)).await.data()["results"][0]["offset"].is_u64());
        assert_eq!(watching.event().await["payload"]["n"], n);
    }
    for task in flood {
        task.await.unwrap();
    }
    let dropped = async || {
        let page = get_as(&server, &boss, "/metrics").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix("newswire_audit_events_dropped_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    // Those who publish are audited as well; what became of each of all of these is known.
    eventually("everything is stored or counted", async || {
        let dropped = dropped().await;
        let stored = history(&server, &boss).await;
        let of = |kind: &str| stored.iter().filter(|event| event["event_type"] == kind).count() as u64;
        let told: u64 = stored
            .iter()
            .filter(|event| event["event_type"] == "audit.events_lost")
            .map(|event| event["payload"]["events"].as_u64().unwrap())
            .sum();
        let counted = of("audit.request_refused") + of("audit.published") + dropped;
        // Beside them there are the connection that watches, and its subscription; one or both may be among the lost.
        (counted >= REFUSALS + n && counted <= REFUSALS + n + 2 && told == dropped).then_some(())
    })
    .await;
}
