//! The audit as events of the feed: its log events are taken down in a bounded queue, from which the server publishes them on
//! `audit.channel`.
//!
//! Whoever is audited waits for nobody: where the queue is full, what happened is counted as lost and forgotten.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// What may wait to be published.
const QUEUE: usize = 1_024;
/// Characters of a value that are kept: callers choose the paths that they ask for.
const MAX_CHARS: usize = 1_024;

/// Something that the audit says.
#[derive(Debug)]
pub struct Audited {
    /// In two or three words.
    pub act: String,
    /// What it says beside that.
    pub fields: Map<String, Value>,
    /// When it happened.
    pub at: SystemTime,
}

/// The end of the queue from which events are published.
#[derive(Debug)]
pub struct AuditEvents {
    /// What waits, in the order in which it happened.
    pub waiting: mpsc::Receiver<Audited>,
    /// What is in no event and never will be.
    pub lost: Counter,
}

/// The end that takes events down.
pub(super) struct TakeDown {
    queue: mpsc::Sender<Audited>,
    lost: Counter,
}

/// Both ends of a queue.
pub(super) fn queue() -> (TakeDown, AuditEvents) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let lost = Counter::default();
    (TakeDown { queue, lost: lost.clone() }, AuditEvents { waiting, lost })
}

impl<S: Subscriber> Layer<S> for TakeDown {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Ok(place) = self.queue.try_reserve() else {
            self.lost.inc();
            return;
        };
        let mut said = Said::default();
        event.record(&mut said);
        place.send(Audited { act: said.act, fields: said.fields, at: SystemTime::now() });
    }
}

#[derive(Default)]
struct Said {
    act: String,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, text: &str) {
        let text: String = text.chars().take(MAX_CHARS).collect();
        if field.name() == "act" {
            self.act = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.put(field, number.into());
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        self.put(field, number.into());
    }

    fn record_bool(&mut self, field: &Field, is: bool) {
        self.put(field, is.into());
    }

    /// What is recorded by its `Display` comes here as well.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_is_said_is_taken_down_and_what_finds_no_room_is_counted() {
        let (take_down, mut events) = queue();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(take_down), || {
            let long = "x".repeat(5_000);
            tracing::info!(act = "request refused", status = 403_u16, path = long, address = %"::1");
            for _ in 0..QUEUE + 6 {
                tracing::info!(act = "connected");
            }
        });
        let first = events.waiting.try_recv().unwrap();
        assert_eq!((first.act.as_str(), &first.fields["status"]), ("request refused", &Value::from(403)));
        assert_eq!(first.fields["path"].as_str().unwrap().len(), MAX_CHARS);
        assert_eq!(first.fields["address"], "::1");
        let rest = std::iter::from_fn(|| events.waiting.try_recv().ok()).count();
        assert_eq!((rest, events.lost.get()), (QUEUE - 1, 7));
    }
}
