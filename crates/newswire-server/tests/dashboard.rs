//! The dashboard and the alert rules ask for nothing that a running server does not serve.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

mod support;

use support::Served;

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../ops/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What an expression asks for: metrics, each with the labels that stand in its braces, and labels it groups by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeSet<String>,
}

/// Words of the language that may stand without a parenthesis behind them.
const WORDS: [&str; 10] = ["sum", "min", "max", "avg", "count", "by", "on", "and", "or", "unless"];

impl Asked {
    fn of(expression: &str) -> Self {
        let mut asked = Self::default();
        let (mut rest, mut last) = (expression.to_owned(), None::<String>);
        let mut grouping = false;
        while let Some(sign) = rest.chars().next() {
            if sign.is_ascii_alphabetic() || matches!(sign, '_' | '$') {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '$' | ':'));
                let word: String = rest.drain(..end.unwrap_or(rest.len())).collect();
                let is_function = rest.trim_start().starts_with('(');
                grouping = word == "by";
                if !is_function && !word.starts_with('$') && !WORDS.contains(&word.as_str()) {
                    asked.metrics.entry(word.clone()).or_default();
                    last = Some(word);
                }
            } else if sign == '{' {
                let end = rest.find('}').unwrap();
                let matchers: String = rest.drain(..=end).collect();
                let names = matchers[1..end]
                    .split(',')
                    .map(|matcher| matcher.split(['=', '!']).next().unwrap().trim());
                asked.metrics.get_mut(&last.take().unwrap()).unwrap().extend(names.map(str::to_owned));
            } else if sign == '[' {
                rest.drain(..=rest.find(']').unwrap());
            } else if sign == '(' && grouping {
                let end = rest.find(')').unwrap();
                asked.groups.extend(rest[1..end].split(',').map(|name| name.trim().to_owned()));
                rest.drain(..=end);
                grouping = false;
            } else {
                rest.drain(..sign.len_utf8());
            }
        }
        asked
    }
}

#[test]
fn an_expression_is_taken_apart() {
    let asked = Asked::of(
        r#"histogram_quantile(0.99, sum by (le, reason) (rate(a_bucket{job="$job",reason=~"x|y"}[5m]))) > 2 * c_total"#,
    );
    let labels = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(asked.groups, labels(&["le", "reason"]));
    assert_eq!(asked.metrics["a_bucket"], labels(&["job", "reason"]));
    assert_eq!(asked.metrics.keys().collect::<Vec<_>>(), ["a_bucket", "c_total"]);
}

/// What a server serves: the names of its samples, each with its labels where there is a sample.
struct ServedMetrics {
    names: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Counts of errors and closes are served once there are any.
async fn break_the_rules(server: &Served) {
    let address = format!("ws://{}/api/v1/ws", server.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
    socket.send(Message::text("no JSON")).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().into_text().unwrap().contains("invalid_json"));
    socket.send(Message::text("x".repeat(2 << 20))).await.ok();
    while let Some(Ok(_)) = socket.next().await {}
}

async fn served() -> ServedMetrics {
    let home = tempfile::tempdir().unwrap();
    let server = Served::start(home.path(), &[]);
    assert_eq!(server.publish(r#"{"channel":"tasks","event_type":"t","payload":{}}"#).await.0, 200);
    let refused = server.publish(r#"{"channel":"nowhere","event_type":"t","payload":{}}"#).await.1;
    assert!(refused.contains("unknown_channel"), "{refused}");
    break_the_rules(&server).await;
    let text = server.get("/metrics").await.1;
    let mut served = ServedMetrics { names: BTreeSet::new(), labels: BTreeMap::new() };
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let ends: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            served.names.extend(ends.iter().map(|end| format!("{name}{end}")));
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
            let inside =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
            let names = inside.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            served.labels.entry(name.to_owned()).or_default().extend(names);
        }
    }
    served
}

/// Labels that Prometheus itself puts on every sample.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

fn check(place: &str, expression: &str, served: &ServedMetrics) {
    let asked = Asked::of(expression);
    assert!(!asked.metrics.is_empty(), "{place}: asks for nothing: {expression}");
    for (metric, labels) in &asked.metrics {
        if metric == "up" {
            continue;
        }
        assert!(served.names.contains(metric), "{place}: nobody serves {metric}: {expression}");
        let Some(known) = served.labels.get(metric) else { continue };
        for label in labels.union(&asked.groups) {
            assert!(
                OF_PROMETHEUS.contains(&label.as_str()) || known.contains(label),
                "{place}: {metric} has no label {label}: {expression}"
            );
        }
    }
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_is_served() {
    let served = served().await;
    assert!(served.labels["newswire_publish_refusals_total"].contains("reason"));

    let dashboard: Value = serde_json::from_str(&file("grafana-dashboard.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            check(panel["title"].as_str().unwrap(), expression, &served);
            shown.extend(Asked::of(expression).metrics.into_keys());
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        check("annotation", annotation["expr"].as_str().unwrap(), &served);
    }
    // The other way round: what is served and says how the feed is doing can be seen.
    let family = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let shown: BTreeSet<String> = shown.iter().map(|name| family(name)).collect();
    let unseen: Vec<_> = served
        .names
        .iter()
        .map(|name| family(name))
        .filter(|name| name.starts_with("newswire_") && !shown.contains(name))
        .collect();
    let left_out = [
        "newswire_audit_events_dropped_total",
        "newswire_build_info",
        "newswire_channels",
        "newswire_connections_displaced_total",
        "newswire_connections_opened_total",
        "newswire_connections_unauthenticated",
        "newswire_dropped_events",
        "newswire_engine_interruptions_total",
        "newswire_http_accept_errors_total",
        "newswire_http_bodies_timed_out_total",
        "newswire_http_connections_accepted_total",
        "newswire_http_connections_timed_out_total",
        "newswire_http_tls_handshakes_failed_total",
        "newswire_log_following",
        "newswire_log_read_bytes_total",
    ];
    assert_eq!(unseen, left_out, "not on the dashboard");

    let rules = file("prometheus-alerts.yaml");
    let expressions: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), rules.matches("- alert: ").count());
    for expression in expressions {
        check("alert", expression, &served);
    }
}
