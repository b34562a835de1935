//! Spans of OpenTelemetry, as a collector receives them from the real binary.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use newswire_street_tests::collector::{Collector, Received};
use newswire_street_tests::{Server, data, eventually};
use serde_json::json;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// The spans once there are so many.
async fn spans(collector: &Collector, count: usize) -> Vec<Received> {
    eventually("spans arrive", || async { (collector.spans().len() >= count).then(|| collector.spans()) })
        .await
}

fn named<'a>(spans: &'a [Received], name: &str) -> &'a Received {
    let mut named = spans.iter().filter(|span| span.name == name);
    let span = named.next().unwrap_or_else(|| panic!("no {name} in {spans:?}"));
    assert!(named.next().is_none(), "{name} more than once: {spans:?}");
    span
}

async fn publish(server: &Server, traceparent: &str, body: &str) {
    let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
    let answer = server.http().send("POST", "/api/v1/events", &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_publish_its_commit_and_its_fan_out_are_one_trace() {
    let collector = Collector::start().await;
    let server = Server::options()
        .set("telemetry.endpoint", collector.endpoint())
        .set("telemetry.service_name", "feed-of-tests")
        .set("fanout.shards", 2)
        .start();
    let mut watching = Vec::new();
    for _ in 0..4 {
        watching.push(server.socket_at("/api/v1/ws?channels=tasks").await);
    }
    eventually("all watch", || async { (server.http().subscribers("tasks").await == 4).then_some(()) }).await;
    publish(&server, &traceparent("01"), &data::task(1).to_string()).await;

    let spans = spans(&collector, 3).await;
    assert_eq!(spans.len(), 3, "{spans:?}");
    let (publish, commit) = (named(&spans, "publish"), named(&spans, "commit"));
    let fan_out = named(&spans, "fan-out");
    assert!(spans.iter().all(|span| span.trace == TRACE && span.service == "feed-of-tests"), "{spans:?}");
    assert_eq!(publish.parent, CALLER);
    assert_eq!((&commit.parent, &fan_out.parent), (&publish.id, &publish.id));
    assert!(spans.iter().all(|span| span.failure.is_none() && span.time.0 <= span.time.1), "{spans:?}");
    assert!(publish.time.0 <= commit.time.0 && commit.time.1 <= publish.time.1, "{spans:?}");
    assert_eq!((publish.counts["newswire.events"], publish.counts["newswire.first_offset"]), (1, 1));
    assert_eq!((fan_out.counts["newswire.publishes"], fan_out.counts["newswire.connections"]), (1, 4));
    assert!(fan_out.links.is_empty(), "{fan_out:?}");
}

#[tokio::test]
async fn an_event_with_a_trace_of_its_own_is_in_it_and_a_batch_is_linked_to_all() {
    let collector = Collector::start().await;
    let server = Server::with("telemetry.endpoint", collector.endpoint());
    // Over a WebSocket there is no header for each publish; the event says it.
    let mut socket = server.socket().await;
    let mut command = data::task(1);
    command["action"] = json!("publish");
    command["traceparent"] = json!(traceparent("01"));
    socket.send(&command).await;
    socket.expect("published").await;
    let first = spans(&collector, 3).await;
    assert_eq!((&*named(&first, "publish").parent, &*named(&first, "publish").trace), (CALLER, TRACE));

    // The request names one trace, its two events others: linked, not lost.
    let other = "1af7651916cd43dd8448eb211c80319d";
    let mut events = [data::task(2), data::task(3)];
    events[0]["traceparent"] = json!(format!("00-{other}-1111111111111111-01"));
    events[1]["traceparent"] = json!(format!("00-{other}-2222222222222222-01"));
    publish(&server, &traceparent("01"), &serde_json::to_string(&events).unwrap()).await;
    let both = spans(&collector, 6).await;
    let second = &both[3..];
    let publish = named(second, "publish");
    assert_eq!((&*publish.trace, &*publish.parent), (TRACE, CALLER));
    let linked: Vec<(&str, &str)> = publish.links.iter().map(|(trace, span)| (&**trace, &**span)).collect();
    assert_eq!(linked, [(other, "1111111111111111"), (other, "2222222222222222")]);
}

/// Concurrent publishers share commits and dispatches: one span a dispatched batch, which together name every publish.
#[tokio::test]
async fn fan_out_has_a_span_a_batch_and_every_publish_is_named_by_one() {
    const PUBLISHERS: usize = 40;
    let collector = Collector::start().await;
    let server = Server::with("telemetry.endpoint", collector.endpoint());
    let http = server.http();
    let publishes = (0..PUBLISHERS).map(|n| {
        let (http, body) = (http.clone(), data::task(n as u64).to_string());
        tokio::spawn(async move { http.post_events("application/json", body).await.status })
    });
    for publish in publishes.collect::<Vec<_>>() {
        assert_eq!(publish.await.unwrap(), 200);
    }
    let of_publishes = |spans: &[Received]| -> i64 {
        let fan_outs = spans.iter().filter(|span| span.name == "fan-out");
        fan_outs.map(|span| span.counts["newswire.publishes"]).sum()
    };
    let spans = eventually("every publish was dispatched", || async {
        let spans = collector.spans();
        let published = spans.iter().filter(|span| span.name == "publish").count();
        (published == PUBLISHERS && of_publishes(&spans) == PUBLISHERS as i64).then_some(spans)
    })
    .await;
    let mut publishes: Vec<&str> =
        spans.iter().filter(|span| span.name == "publish").map(|span| &*span.id).collect();
    let fan_outs = spans.iter().filter(|span| span.name == "fan-out");
    let mut fanned_out: Vec<&str> = fan_outs
        .flat_map(|span| std::iter::once(&*span.parent).chain(span.links.iter().map(|(_, id)| &**id)))
        .collect();
    publishes.sort_unstable();
    fanned_out.sort_unstable();
    assert_eq!(fanned_out, publishes);
}

#[tokio::test]
async fn nothing_is_sent_for_what_is_not_sampled_and_nothing_when_it_is_off() {
    let collector = Collector::start().await;
    let sampled = Server::options()
        .set("telemetry.endpoint", collector.endpoint())
        .set("telemetry.sampling", 0)
        .start();
    let off = Server::start();
    for server in [&sampled, &off] {
        publish(server, &traceparent("00"), &data::task(1).to_string()).await;
        server.http().publish_one(&data::task(2)).await;
    }
    // Who was sampled by the caller is; so the others would have arrived by now.
    publish(&off, &traceparent("01"), &data::task(3).to_string()).await;
    publish(&sampled, &traceparent("01"), &data::task(3).to_string()).await;
    let spans = spans(&collector, 3).await;
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
    assert_eq!(off.http().metric("newswire_spans_exported_total").await, 0.0);
}

/// A collector that refuses, one that does not answer, one that is gone: publishing goes on, what is lost is counted, and later spans arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_fails_harms_nothing() {
    let collector = Collector::start().await;
    let options = Server::options().set("telemetry.endpoint", collector.endpoint()).set("telemetry.queue", 4);
    collector.refuse(true);
    let mut server = options.start();
    let http = server.http();
    http.publish_one(&data::task(1)).await;
    let lost = || async { http.metric("newswire_spans_failed_total").await };
    eventually("the refused ones are counted", || async { (lost().await > 0.0).then_some(()) }).await;
    assert!(server.stderr().contains("spans cannot be sent"), "{}", server.stderr());
    collector.refuse(false);
    collector.be_silent(true);
    let asked = collector.requests();
    let dropped = || async { http.metric("newswire_spans_dropped_total").await };
    eventually("four wait behind those that are not answered, and the next are dropped", || async {
        http.publish_one(&data::task(100)).await;
        (dropped().await > 0.0).then_some(())
    })
    .await;
    assert_eq!(collector.requests(), asked + 1, "one request at a time");
    collector.be_silent(false);
    eventually("spans arrive again", || async { (!collector.spans().is_empty()).then_some(()) }).await;
    eventually("the server has noticed", || async {
        server.stderr().contains("are sent to telemetry.endpoint again").then_some(())
    })
    .await;
    // Nobody listens there any more: the server serves, and stops in order.
    let nowhere = collector.endpoint();
    drop(collector);
    server.restart_with(Server::options().set("telemetry.endpoint", nowhere).set("telemetry.queue", 4));
    for n in 200..220 {
        server.http().publish_one(&data::task(n)).await;
    }
    assert!(server.stop().success());
}

/// What waits is sent before the process ends. Waiting for that blocks a thread, and the collector needs one.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_on_shutdown() {
    let collector = Collector::start().await;
    let mut server = Server::with("telemetry.endpoint", collector.endpoint());
    publish(&server, &traceparent("01"), &data::task(1).to_string()).await;
    assert!(server.stop().success());
    assert_eq!(collector.spans().len(), 3, "{:?}", collector.spans());
}
