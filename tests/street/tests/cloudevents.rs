//! CloudEvents over HTTP, in all three modes, in and out; and single events that a client has already.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::data::task;
use newswire_street_tests::{Answer, Http, Server};
use serde_json::{Value, json};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

#[allow(clippy::needless_pass_by_value, reason = "callers write json!() in place")]
fn cloudevent(id: &str, more: Value) -> Value {
    let mut event = json!({"specversion": "1.0", "type": "task.created", "source": "/planner", "id": id});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

async fn post(http: &Http, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    http.send("POST", &format!("/api/v1/events{path}"), headers, body).await
}

#[tokio::test]
async fn one_in_structured_mode() {
    let server = Server::start();
    let http = server.http();
    let text =
        cloudevent("1", json!({"channel": "tasks", "time": "2026-11-22T15:24:00.5+01:00"})).to_string();
    let text = text.replacen('{', "{\"data\":{\"n\": 1.10},", 1);
    let headers = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let results = post(&http, "", &headers, text.clone()).await.data()["results"].clone();
    assert_eq!(results, json!([{"offset": 1, "event_id": "/planner#1"}]));
    let again = post(&http, "", &headers, text).await.data()["results"].clone();
    assert_eq!(again[0]["duplicate"], true, "source and id are the idempotency key");
    let stored = http.get("/events/1").await;
    assert!(stored.body.contains(r#""payload":{"n": 1.10}"#), "{stored:?}");
    let event = stored.data();
    assert_eq!(
        (&event["event_type"], &event["source"], &event["timestamp"]),
        (&json!("task.created"), &json!("/planner"), &json!("2026-11-22T14:24:00.5Z"))
    );
    post(&http, "", &headers, "[]").await.problem(400);
    post(&http, "", &headers, "{").await.problem(400);
}

#[tokio::test]
async fn a_batch_refuses_its_bad_ones_alone() {
    let server = Server::start();
    let http = server.http();
    let batch = json!([
        cloudevent("1", json!({})),
        cloudevent("2", json!({"channel": "budget", "data": {"a": 1}})),
        cloudevent("3", json!({"datacontenttype": "text/xml", "data": "<a/>"})),
        cloudevent("4", json!({"specversion": "0.3"})),
        7,
    ]);
    let answer = post(&http, "?channel=tasks", &[("content-type", BATCH)], batch.to_string()).await;
    let results = answer.data()["results"].clone();
    assert_eq!((&results[0]["offset"], &results[1]["offset"]), (&json!(1), &json!(2)), "{results}");
    let codes: Vec<&Value> = (2..5).map(|place| &results[place]["code"]).collect();
    assert_eq!(codes, ["invalid_event", "invalid_event", "expected_json_object"]);
    assert_eq!(http.get("/events/2").await.data()["channel"], "budget");
    assert_eq!(post(&http, "", &[("content-type", BATCH)], "[]").await.data()["results"], json!([]));
    post(&http, "", &[("content-type", BATCH)], cloudevent("5", json!({})).to_string()).await.problem(400);
    post(&http, "?channel=a&channel=b", &[("content-type", BATCH)], "[]").await.problem(400);
}

#[tokio::test]
async fn one_in_binary_mode() {
    let server = Server::start();
    let http = server.http();
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-type", "task.created"),
        ("ce-source", "/planner/Euro%20%E2%82%AC"),
        ("ce-id", "\"a b\""),
        ("ce-channel", "tasks"),
        ("ce-time", "2026-11-22T15:24:00Z"),
        ("content-type", "application/json"),
    ];
    let result = post(&http, "", &attributes, r#"{"n": 1.10}"#).await.data()["results"][0].clone();
    assert_eq!(result["offset"], 1, "{result}");
    assert!(result["event_id"].as_str().unwrap().starts_with("blake3:"), "not ASCII: {result}");
    let stored = http.get("/events/1").await;
    assert!(stored.body.contains(r#""payload":{"n": 1.10}"#), "{stored:?}");
    assert_eq!(stored.data()["source"], "/planner/Euro €");
    let without_data = post(&http, "", &attributes[..5], "").await.data()["results"][0].clone();
    assert_eq!(without_data["code"], "id_conflict", "the same id with another payload: {without_data}");
    let mut bad = attributes;
    bad[2].1 = "%C0%A0";
    assert_eq!(post(&http, "", &bad, "{}").await.data()["results"][0]["code"], "invalid_event");
    bad[6].1 = "text/xml";
    post(&http, "", &bad, "<a/>").await.problem(415);
    let one_of_many = post(&http, "", &[("content-type", ONE), ("ce-specversion", "1.0")], "{}").await;
    assert_eq!(one_of_many.data()["results"][0]["code"], "invalid_event", "the content type decides first");
}

#[tokio::test]
async fn a_page_as_a_batch_leads_to_the_next() {
    let server = Server::start();
    let http = server.http();
    http.publish(&(1..=5).map(task).collect::<Vec<_>>()).await;
    let epoch = http.get("/events").await.json()["epoch"].as_str().unwrap().to_owned();
    let mut path = "/api/v1/events?channels=tasks&limit=2".to_owned();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = http.send("GET", &path, &[("accept", BATCH)], "").await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, BATCH));
        for event in answer.json().as_array().unwrap() {
            assert_eq!(event["specversion"], "1.0");
            assert_eq!(event["source"], format!("urn:newswire:{epoch}"));
            assert_eq!((&event["channel"], &event["epoch"]), (&json!("tasks"), &json!(epoch)));
            assert_eq!(event["offset"], event["data"]["n"].to_string());
            seen.push(event["data"]["n"].as_u64().unwrap());
        }
        let Some(link) = answer.headers.get("link") else { break };
        let query =
            link.to_str().unwrap().strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0;
        path = format!("/api/v1/events{query}");
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    let plain = http.send("GET", "/api/v1/events", &[("accept", "*/*")], "").await;
    assert_eq!(
        (plain.content_type.as_str(), &plain.headers["vary"]),
        ("application/json", &"accept".parse().unwrap())
    );
}

#[tokio::test]
async fn one_event_out_in_both_modes_is_the_same_event_in_again() {
    let server = Server::start();
    let http = server.http();
    let given =
        cloudevent("1", json!({"channel": "tasks", "time": "2026-11-22T15:24:00Z", "data": {"n": 1}}));
    post(&http, "", &[("content-type", ONE)], given.to_string()).await.data();
    let structured = http.send("GET", "/api/v1/events/1", &[("accept", ONE)], "").await;
    assert_eq!((structured.status, structured.content_type.as_str()), (200, ONE));
    assert_eq!((&structured.json()["id"], &structured.json()["data"]), (&json!("1"), &json!({"n": 1})));
    let again = post(&http, "", &[("content-type", ONE)], structured.body.clone()).await.data();
    assert_eq!(again["results"][0]["duplicate"], true, "{again}");
    let binary = http.get("/events/1?cloudevents=binary").await;
    assert_eq!((binary.content_type.as_str(), binary.body.as_str()), ("application/json", r#"{"n":1}"#));
    let headers: Vec<(&str, &str)> = binary
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-") || *name == "content-type")
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let again = post(&http, "", &headers, binary.body.clone()).await.data();
    assert_eq!(again["results"][0]["duplicate"], true, "{again}");
    assert_eq!(http.get("/events/1?cloudevents=neither").await.problem(400), "bad_request");
}

#[tokio::test]
async fn a_client_that_has_an_event_is_told_so() {
    let server = Server::start();
    let http = server.http();
    http.publish(&[task(1), task(2)]).await;
    let first = http.get("/events/1").await;
    let epoch = http.get("/events").await.json()["epoch"].as_str().unwrap().to_owned();
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{epoch}:1\""));
    assert_eq!(first.headers["cache-control"], "private, no-cache");
    for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let answer = http.send("GET", "/api/v1/events/1", &[("if-none-match", &known)], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
        assert_eq!(answer.headers["etag"].to_str().unwrap(), tag);
    }
    let other = http.send("GET", "/api/v1/events/2", &[("if-none-match", &tag)], "").await;
    assert_eq!(other.status, 200);
    let form = http.send("GET", "/api/v1/events/1", &[("if-none-match", &tag), ("accept", ONE)], "").await;
    assert_eq!(form.status, 200, "another form is another representation");
    let head = http.send("HEAD", "/api/v1/events/1", &[], "").await;
    assert_eq!(
        (head.status, head.body.as_str(), head.headers["etag"].to_str().unwrap()),
        (200, "", tag.as_str())
    );
    assert_eq!(http.send("HEAD", "/api/v1/events/9", &[], "").await.status, 404);
}

#[tokio::test]
async fn the_trace_of_a_request_is_the_event_s_where_it_has_none() {
    let server = Server::start();
    let http = server.http();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut own = task(2);
    own["traceparent"] = json!("mine");
    let headers = [("content-type", "application/json"), ("traceparent", trace)];
    post(&http, "", &headers, json!([task(1), own]).to_string()).await.data();
    for bad in [
        "00-0af7",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        post(&http, "", &[("content-type", "application/json"), ("traceparent", bad)], task(3).to_string())
            .await;
    }
    let traces: Vec<Value> =
        http.history("").await.iter().map(|event| event["traceparent"].clone()).collect();
    assert_eq!(traces, [json!(trace), json!("mine"), Value::Null, Value::Null, Value::Null]);
}
