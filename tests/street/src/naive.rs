//! What a subscriber should receive, written as plainly as the protocol says it.

use serde_json::Value;

/// Whether a name is meant by a channel of a subscription: exact, or a prefix ending in `*`.
pub fn channel_matches(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == name, |prefix| name.starts_with(prefix))
}

/// Whether an event passes filters (an object, or null for none). Keys are ANDed, values ORed.
pub fn filters_match(filters: &Value, event: &Value) -> bool {
    let Some(filters) = filters.as_object() else { return true };
    filters.iter().all(|(key, wanted)| {
        let wanted = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
        let found = values_of(key, event);
        wanted.iter().any(|wanted| found.iter().any(|found| value_matches(key, wanted, found)))
    })
}

/// Whether a subscription to `channels` with `filters` receives the event.
pub fn wants(channels: &[&str], filters: &Value, event: &Value) -> bool {
    let name = event["channel"].as_str().expect("an event has a channel");
    channels.iter().any(|wanted| channel_matches(wanted, name)) && filters_match(filters, event)
}

/// What of the event a filter key looks at.
fn values_of<'a>(key: &str, event: &'a Value) -> Vec<&'a Value> {
    let payload_keys: &[&str] = match key {
        "event_type" | "correlation_id" | "causation_id" | "source" => {
            return event.get(key).into_iter().collect();
        }
        "agent" => &["agent_id", "agent", "from", "to", "assigned_to"],
        "project" => &["project", "project_id"],
        other => return event["payload"].get(other).into_iter().collect(),
    };
    payload_keys.iter().filter_map(|key| event["payload"].get(key)).collect()
}

fn value_matches(key: &str, wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(wanted), Value::String(found)) if key == "event_type" => {
            channel_matches(wanted, found)
        }
        (Value::String(wanted), Value::String(found)) => wanted == found,
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        (Value::Bool(wanted), Value::Bool(found)) => wanted == found,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_anded_and_values_ored() {
        let event =
            json!({"channel": "tasks", "event_type": "task.created", "payload": {"to": "ann", "n": 1.0}});
        assert!(wants(&["ta*"], &json!({"agent": ["bob", "ann"], "n": 1, "event_type": "task.*"}), &event));
        assert!(!wants(&["tasks"], &json!({"agent": "ann", "n": "1"}), &event));
        assert!(!wants(&["tasks"], &json!({"agent": []}), &event));
        assert!(!wants(&["budget"], &Value::Null, &event));
    }
}
