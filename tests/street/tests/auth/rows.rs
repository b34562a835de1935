//! Who sees only some rows sees no others, by any way to read; and what is masked is masked on every way.

use newswire_street_tests::deflated::Client as Deflated;
use newswire_street_tests::sse::EventStream;
use newswire_street_tests::{Answer, Server, Socket, data};
use serde_json::{Value, json};

use crate::support::*;

const MINE: &str = "proj-456";

/// A good token of somebody with these permissions.
fn token_of(subject: &str, permissions: &Value) -> String {
    token(&with(claims(subject, "observer"), &json!({"newswire": permissions})))
}

fn row_reader() -> String {
    token_of("rita", &json!({"rows": {"project": [MINE]}}))
}

/// Events of several projects, and of none, on two channels.
fn events() -> Vec<Value> {
    let payloads = [
        json!({"project": MINE}),
        json!({"project": "proj-1", "cost": 7, "deep": [{"cost": 8}]}),
        json!({}),
        json!({"project_id": MINE, "cost": 7, "deep": [{"cost": 8}]}),
        json!({"project": [MINE]}),
        json!({"Project": MINE, "nested": {"project": MINE}}),
        json!({"project": "proj-4567"}),
        json!({"project": null, "project_id": 456}),
    ];
    let number = |n: usize, mut payload: Value| {
        payload["n"] = json!(n);
        data::event(if n.is_multiple_of(3) { "agents" } else { "tasks" }, "task.updated", payload)
    };
    (0..40).map(|n| number(n, payloads[n * 7 % payloads.len()].clone())).collect()
}

fn is_mine(event: &Value) -> bool {
    event["payload"]["project"] == MINE || event["payload"]["project_id"] == MINE
}

/// Publishes the events, and gives the offsets of those that the model shows.
async fn publish_all(server: &Server) -> Vec<u64> {
    let events = events();
    let results = publish_as(server, &good("p", "publisher"), &Value::Array(events.clone())).await.data();
    let offsets = results["results"].as_array().unwrap().iter().map(|one| one["offset"].as_u64().unwrap());
    offsets.zip(&events).filter(|(_, event)| is_mine(event)).map(|(offset, _)| offset).collect()
}

fn offsets<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<u64> {
    events.into_iter().map(|event| event["offset"].as_u64().unwrap_or_else(|| panic!("{event}"))).collect()
}

async fn page(server: &Server, token: &str, query: &str) -> Value {
    let answer: Answer = get_as(server, token, &format!("/api/v1/events?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Every page, by the cursor.
async fn all_pages(server: &Server, token: &str, query: &str, cursor: &str) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let page = page(server, token, &format!("{query}{from}")).await;
        found.extend(offsets(page["data"].as_array().unwrap()));
        match page["next"].as_u64() {
            Some(next) => from = format!("&{cursor}={next}"),
            None => return found,
        }
    }
}

async fn stream_as(server: &Server, token: &str, path: &str) -> EventStream {
    EventStream::open_with(&server.http(), path, &[("authorization", &bearer(token))]).await
}

async fn replayed(socket: &mut Socket, command: &Value) -> Vec<u64> {
    socket.send(command).await;
    socket.expect("subscribed").await;
    offsets(&socket.until("caught_up").await.0)
}

#[tokio::test]
async fn a_row_rule_holds_on_every_way_to_read() {
    let (_home, server) = server();
    let rita = row_reader();
    let mut live = socket_as(&server, &rita).await;
    for channels in [&["tasks"][..], &["*"], &["agents", "t*"]] {
        live.subscribe(channels).await;
    }
    let mut narrow = socket_as(&server, &rita).await;
    // No filter of the client's makes anything else appear.
    let filter = json!({"action": "subscribe", "channels": ["*"], "filters": {"project": ["proj-1", MINE, "proj-4567"]}});
    narrow.ask(&filter).await;
    let mut stream = stream_as(&server, &rita, "/events/stream?channels=tasks,agents").await;
    let mine = publish_all(&server).await;
    assert!(mine.len() > 5);
    for socket in [&mut live, &mut narrow] {
        assert_eq!(offsets(&socket.events(mine.len()).await), mine);
        socket.nothing_more().await;
    }
    for offset in &mine {
        assert_eq!(stream.next_event().await.unwrap()["offset"], *offset);
    }
    // Replays and catching up, on a connection and over SSE.
    let mut socket = socket_as(&server, &rita).await;
    for start in [json!({"after": 0}), json!({"since": "10m"}), json!({"history": 100})] {
        let command = with(json!({"action": "subscribe", "channels": ["*"]}), &start);
        assert_eq!(replayed(&mut socket, &command).await, mine, "{start}");
    }
    let last_two = replayed(
        &mut socket,
        &json!({"action": "subscribe", "channels": ["tasks"], "history": 2, "sub": "s"}),
    )
    .await;
    let on_tasks = |offset: &&u64| events()[usize::try_from(**offset).unwrap() - 1]["channel"] == "tasks";
    let expected: Vec<u64> = mine.iter().filter(on_tasks).copied().collect();
    assert_eq!(last_two, expected[expected.len() - 2..]);
    let mut stream = stream_as(&server, &rita, "/events/stream?after=0").await;
    for offset in &mine {
        assert_eq!(stream.next_event().await.unwrap()["offset"], *offset);
    }
    // Pages, in both directions and of every size, and single events.
    for limit in [1, 3, 1000] {
        assert_eq!(all_pages(&server, &rita, &format!("limit={limit}"), "after").await, mine);
        let mut down = all_pages(&server, &rita, &format!("limit={limit}&order=desc"), "before").await;
        down.reverse();
        assert_eq!(down, mine);
    }
    assert!(all_pages(&server, &rita, "project=proj-1", "after").await.is_empty());
    for offset in 1..=40 {
        let answer = get_as(&server, &rita, &format!("/api/v1/events/{offset}")).await;
        assert_eq!(answer.status == 200, mine.contains(&offset), "{offset}: {answer:?}");
    }
}

#[tokio::test]
async fn nothing_is_counted_or_told_around_a_row_rule() {
    let (_home, server) = server();
    let (rita, admin) = (row_reader(), good("boss", "admin"));
    let mine = publish_all(&server).await;
    let hidden = (1..=40).find(|offset| !mine.contains(offset)).unwrap();
    // What is hidden is answered as what was never there, whatever the caller says to know of it.
    let url = format!("/api/v1/events/{hidden}");
    let seen = get_as(&server, &admin, &url).await;
    let tag = seen.headers["etag"].to_str().unwrap().to_owned();
    let headers = [("authorization", bearer(&rita)), ("if-none-match", tag)];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = server.http().send("GET", &url, &headers, "").await;
    assert_eq!(refused.problem(404), "not_found");
    // Channels are named, and nothing of them is counted.
    for channel in get_as(&server, &rita, "/api/v1/channels").await.data().as_array().unwrap() {
        for figure in ["first_offset", "last_offset", "events", "subscribers"] {
            assert!(channel[figure].is_null(), "{channel}");
        }
    }
    assert_eq!(get_as(&server, &rita, "/api/v1/metrics").await.problem(403), "forbidden");
    assert_eq!(get_as(&server, &rita, "/metrics").await.problem(403), "forbidden");
    let some = get_as(&server, &rita, "/api/v1/health").await.data();
    let all = get_as(&server, &good("tim", "observer"), "/api/v1/health").await.data();
    for (part, figure) in
        [("log", "head"), ("log", "offset"), ("feed", "dispatched"), ("feed", "connections")]
    {
        assert!(some[part].get(figure).is_none() && all[part][figure].is_u64(), "{some}");
    }
    assert_eq!((&some["status"], &some["log"]["status"]), (&json!("ok"), &json!("ok")));
    // One who may list connections, but sees only some rows, is not told what others are sent and ask for.
    let operator = token_of("olga", &json!({"role": "operator", "rows": {"project": MINE}}));
    let mut other = socket_as(&server, &good("tom", "observer")).await;
    other.ask(&json!({"action": "subscribe", "channels": ["tasks"], "filters": {"project": "proj-1"}})).await;
    let _own = socket_as(&server, &operator).await;
    let listed = get_as(&server, &operator, "/api/v1/connections").await.data();
    assert!(listed.as_array().unwrap().iter().all(|one| one["identity"] == "olga"), "{listed}");
    // A publisher that does not see its own event is told where it stands, and no more.
    let blind = token_of("bert", &json!({"role": "publisher", "rows": {"project": MINE}}));
    let event = with(data::task(1), &json!({"event_id": "once"}));
    let first = publish_as(&server, &blind, &event).await.data()["results"][0].clone();
    let again = publish_as(&server, &blind, &event).await.data()["results"][0].clone();
    assert_eq!((&again["offset"], &again["duplicate"]), (&first["offset"], &json!(true)));
    // The same id of somebody else is none of its business.
    let foreign = with(data::task(2), &json!({"event_id": "secret"}));
    publish_as(&server, &good("p", "publisher"), &foreign).await;
    let own = publish_as(&server, &blind, &foreign).await.data()["results"][0].clone();
    assert!(
        own.get("duplicate").is_none_or(|duplicate| duplicate == false) && own["offset"].is_u64(),
        "{own}"
    );
}

#[tokio::test]
async fn an_administrator_of_some_rows_administers_no_others() {
    let (_home, server) = server();
    publish_all(&server).await;
    let (boss, limits) =
        (good("boss", "admin"), [json!({"rows": {"project": MINE}}), json!({"history": ["tasks"]})]);
    let other = socket_as(&server, &good("tom", "observer")).await;
    let connections = get_as(&server, &boss, "/api/v1/connections").await.data();
    let id = connections[0]["id"].as_u64().unwrap();
    let close = async |token: &str, id: u64| {
        let path = format!("/api/v1/connections/{id}");
        server.http().send("DELETE", &path, &[("authorization", &bearer(token))], "").await.status
    };
    for limit in limits {
        let some = token_of("sue", &with(limit, &json!({"role": "admin"})));
        for (path, body) in [
            ("/api/v1/admin/trim", json!({"before": 10})),
            ("/api/v1/admin/trim", json!({"before": 10, "channels": ["tasks"]})),
            ("/api/v1/admin/compact", json!({})),
            ("/api/v1/admin/revoke", json!({"identity": "boss"})),
        ] {
            let answer = post_as(&server, &some, path, &body).await;
            assert_eq!(answer.problem(403), "forbidden", "{path}");
        }
        assert_eq!(close(&some, id).await, 404);
        let mut own = socket_as(&server, &some).await;
        let listed = get_as(&server, &some, "/api/v1/connections").await.data();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(close(&some, listed[0]["id"].as_u64().unwrap()).await, 200);
        own.ending().await;
    }
    assert_eq!(get_as(&server, &boss, "/api/v1/connections").await.data()[0]["id"], id);
    assert_eq!(
        post_as(&server, &boss, "/api/v1/admin/trim", &json!({"before": 10})).await.data()["removed"],
        9
    );
    assert_eq!(close(&boss, id).await, 200);
    drop(other);
}

/// A client of its own for each, that reads compressed frames as a strict one does.
#[tokio::test]
async fn what_is_compressed_is_redacted_for_each_as_it_should_be() {
    let home = tempfile::tempdir().unwrap();
    let server = options(&home).set("fanout.shards", 1).start();
    let masked = token_of("mia", &json!({"payload": "redacted", "masked": ["cost"]}));
    let other = token_of("max", &json!({"payload": "redacted", "masked": ["title"]}));
    let rows = token_of("rita", &json!({"rows": {"project": MINE}, "masked": ["cost"]}));
    let blind = token_of("ben", &json!({"payload": "none"}));
    let tokens = [&masked, &other, &rows, &blind, &good("ann", "observer")];
    let mut clients = Vec::new();
    for token in tokens {
        // Two of each read along in one stream.
        for _ in 0..2 {
            let headers = [("authorization", bearer(token))];
            let path = "/api/v1/ws?channels=tasks";
            let mut client = Deflated::open_with(server.addr, path, &headers).await;
            assert_eq!(client.next().await["action"], "subscribed");
            clients.push(client);
        }
    }
    let title = "a title that stands in every event, so that a window is worth something";
    let event = |n: u64| {
        let project = if n.is_multiple_of(2) { MINE } else { "proj-1" };
        data::event("tasks", "t", json!({"n": n, "cost": 7_000_000 + n, "title": title, "project": project}))
    };
    let events: Vec<Value> = (1..=60).map(event).collect();
    let p = good("p", "publisher");
    for piece in events.chunks(7) {
        publish_as(&server, &p, &Value::Array(piece.to_vec())).await;
    }
    for (at, client) in clients.iter_mut().enumerate() {
        for event in &events {
            let payload = &event["payload"];
            let expected = match at / 2 {
                1 => payload.clone().masked("title"),
                2 if payload["project"] != MINE => continue,
                0 | 2 => payload.clone().masked("cost"),
                3 => json!({}),
                _ => payload.clone(),
            };
            assert_eq!(client.next().await["payload"], expected, "client {at}");
        }
        assert!(client.compressed >= 20, "only {} came compressed to client {at}", client.compressed);
    }
}

/// The same with a field that is not shown.
trait Mask {
    fn masked(self, field: &str) -> Value;
}

impl Mask for Value {
    fn masked(mut self, field: &str) -> Value {
        self[field] = Value::Null;
        self
    }
}

#[tokio::test]
async fn a_channel_that_was_not_granted_is_refused_by_name_and_matched_by_no_pattern() {
    let (_home, server) = server();
    let permissions = json!({"role": "publisher", "subscribe": ["tasks", "agents"], "publish": ["agents"], "history": ["agents"]});
    let sam = token_of("sam", &permissions);
    let mut socket = socket_as(&server, &sam).await;
    let answer = socket.subscribe(&["tasks", "budget", "nowhere", "b*", "user:tom", "*"]).await;
    assert_eq!(answer["channels"], json!(["*", "tasks"]));
    for (refused, name) in
        answer["rejected"].as_array().unwrap().iter().zip(["budget", "nowhere", "b*", "user:tom"])
    {
        assert_eq!((&refused["channel"], &refused["reason"]), (&json!(name), &json!("forbidden")));
    }
    let refused =
        socket.ask(&json!({"action": "subscribe", "channels": ["tasks"], "sub": "s", "after": 0})).await;
    assert_eq!(refused["rejected"], json!([{"channel": "tasks", "reason": "forbidden"}]));
    socket.expect("caught_up").await;
    for (path, status) in [
        ("/api/v1/events?channels=tasks", 403),
        ("/api/v1/events?channels=budget", 403),
        ("/api/v1/events?channels=nowhere", 403),
        ("/api/v1/events?channels=agents", 200),
        ("/api/v1/events/stream?channels=budget", 403),
        ("/api/v1/events/stream?channels=tasks&after=0", 403),
    ] {
        assert_eq!(get_as(&server, &sam, path).await.status, status, "{path}");
    }
    for (channel, code) in [("tasks", "forbidden"), ("nowhere", "forbidden"), ("user:tom", "forbidden")] {
        let event = data::event(channel, "t", json!({}));
        assert_eq!(publish_as(&server, &sam, &event).await.data()["results"][0]["code"], code);
        let asked = socket.ask(&with(event, &json!({"action": "publish"}))).await;
        assert_eq!(asked["code"], code);
    }
    let p = good("p", "publisher");
    let all: Vec<Value> =
        ["budget", "tasks", "agents"].map(|channel| data::event(channel, "t", json!({}))).into();
    publish_as(&server, &p, &Value::Array(all)).await;
    assert_eq!(offsets(&socket.events(2).await), [2, 3]);
    socket.nothing_more().await;
    // The past of a pattern is that of the channels whose past may be read.
    let mut again = socket_as(&server, &sam).await;
    let answer = again.ask(&json!({"action": "subscribe", "channels": ["*"], "after": 0})).await;
    assert_eq!(answer["recovered"], false);
    let gap = again.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["from"], &gap["to"]), (&json!("forbidden"), &json!(1), &json!(3)));
    assert_eq!(again.replayed_offsets().await, [3]);
    assert_eq!(all_pages(&server, &sam, "limit=1", "after").await, [3]);
    assert_eq!(get_as(&server, &sam, "/api/v1/events/2").await.status, 404);
    let listed = get_as(&server, &sam, "/api/v1/channels").await.data();
    let figure = |name: &str| listed.as_array().unwrap().iter().find(|one| one["channel"] == name).cloned();
    assert!(figure("budget").is_none() && figure("tasks").unwrap()["events"].is_null());
    assert_eq!(figure("agents").unwrap()["events"], 1);
}

#[tokio::test]
async fn what_is_masked_is_masked_on_every_way_and_cannot_be_filtered_on() {
    let (_home, server) = server();
    let masked = token_of("mia", &json!({"payload": "redacted", "masked": ["cost"]}));
    let blind = token_of("ben", &json!({"payload": "none"}));
    let mut live = Vec::new();
    for token in [&masked, &blind, &good("ann", "observer")] {
        let mut socket = socket_as(&server, token).await;
        socket.subscribe(&["tasks"]).await;
        live.push(socket);
    }
    let payload = json!({"cost": 7, "agent": "x", "deep": [{"cost": {"of": 8}}]});
    publish_as(&server, &good("p", "publisher"), &data::event("tasks", "t", payload.clone())).await;
    let shown = json!({"cost": null, "agent": "x", "deep": [{"cost": null}]});
    for (socket, expected) in live.iter_mut().zip([&shown, &json!({}), &payload]) {
        assert_eq!(socket.event().await["payload"], *expected);
    }
    for (token, expected) in [(&masked, &shown), (&blind, &json!({}))] {
        let mut socket = socket_as(&server, token).await;
        socket.send(&json!({"action": "subscribe", "channels": ["tasks"], "after": 0})).await;
        socket.expect("subscribed").await;
        assert_eq!(socket.event().await["payload"], *expected);
        let mut stream = stream_as(&server, token, "/events/stream?after=0").await;
        assert_eq!(stream.next_event().await.unwrap()["payload"], *expected);
        assert_eq!(page(&server, token, "").await["data"][0]["payload"], *expected);
        assert_eq!(get_as(&server, token, "/api/v1/events/1").await.data()["payload"], *expected);
        let headers =
            [("authorization", bearer(token)), ("accept", "application/cloudevents-batch+json".to_owned())];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let cloud = server.http().send("GET", "/api/v1/events", &headers, "").await.json();
        assert_eq!(cloud[0]["data"], *expected, "{cloud}");
    }
    for path in ["/api/v1/events?cost=7", "/api/v1/events/stream?cost=7"] {
        let answer = get_as(&server, &masked, path).await;
        assert_eq!(answer.problem(403), "forbidden");
        assert!(answer.json()["detail"].as_str().unwrap().contains("cost"), "{answer:?}");
    }
    let command = json!({"action": "subscribe", "channels": ["tasks"], "filters": {"cost": 7}});
    let refused = live[0].ask(&command).await;
    assert_eq!((&refused["action"], &refused["code"]), (&json!("error"), &json!("forbidden")));
    assert!(refused["detail"].as_str().unwrap().contains("cost"), "{refused}");
    live[0].nothing_more().await;
}
