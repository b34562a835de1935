//! One event of the sample company, and its text on the wire.

use serde_json::{Value, json};

/// An event before it has a timestamp.
#[derive(Clone, Debug)]
pub(crate) struct DemoEvent {
    /// Counts from 1 over the whole life of the company.
    pub(crate) number: u64,
    pub(crate) event_id: String,
    pub(crate) channel: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) payload: Value,
    /// The seed's name: the same for all events of one company.
    pub(crate) source: String,
    /// The task or project it belongs to.
    pub(crate) correlation_id: Option<String>,
    /// The event that led to it.
    pub(crate) causation_id: Option<String>,
}

impl DemoEvent {
    /// The event object. Without a timestamp the server's clock gives one.
    pub(crate) fn to_json(&self, timestamp: Option<&str>) -> String {
        let mut text = format!(r#"{{"event_type":"{}","channel":"{}""#, self.event_type, self.channel);
        let optional = [
            ("timestamp", timestamp),
            ("event_id", Some(self.event_id.as_str())),
            ("source", Some(self.source.as_str())),
            ("correlation_id", self.correlation_id.as_deref()),
            ("causation_id", self.causation_id.as_deref()),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                text += &format!(r#","{name}":{}"#, json!(value));
            }
        }
        text + &format!(r#","payload":{}}}"#, self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use newswire_protocol::{Draft, Limits};

    #[test]
    fn its_text_is_an_event_that_servers_take() {
        let event = DemoEvent {
            number: 1,
            event_id: "demo-1-1".into(),
            channel: "tasks",
            event_type: "task.created",
            payload: json!({"title": "Say \"no\""}),
            source: "demo-1".into(),
            correlation_id: Some("task-1".into()),
            causation_id: None,
        };
        let draft = Draft::parse(&event.to_json(None), &Limits::default()).unwrap();
        assert_eq!((draft.event_id.as_deref(), draft.timestamp), (Some("demo-1-1"), None));
        assert_eq!((draft.correlation_id.as_deref(), draft.causation_id), (Some("task-1"), None));
        assert_eq!(&*draft.payload, r#"{"title":"Say \"no\""}"#);
        let dated = Draft::parse(&event.to_json(Some("2026-01-05T09:00:00Z")), &Limits::default()).unwrap();
        assert_eq!(dated.timestamp.as_deref(), Some("2026-01-05T09:00:00Z"));
    }
}
