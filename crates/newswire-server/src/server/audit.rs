//! Publishes the audit on the channel of `audit.channel`.
//!
//! Its own publishes are in no audit, and neither is reading; so nobody who reads the audit makes more of it. A flood is
//! published at a bounded rate, because events of the audit take room in the log as all others do: the rest of it is lost,
//! counted and told.

use std::mem;
use std::time::{Duration, SystemTime};

use newswire::{Feed, NewEvent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::logging::{AuditEvents, Audited};

/// Events that are published together, and the pause behind them: 256 a second at most.
const BATCH: usize = 64;
const PAUSE: Duration = Duration::from_millis(250);

/// Counts what was lost and told.
pub(super) fn register(registry: &mut Registry) -> Counter {
    let dropped = Counter::default();
    registry.register(
        "newswire_audit_events_dropped",
        "Events of the audit that were not published: more happened than audit.channel takes",
        dropped.clone(),
    );
    dropped
}

/// Publishes until `stop`, then what waits by then.
pub(super) async fn publish(
    feed: Feed,
    channel: String,
    mut events: AuditEvents,
    dropped: Counter,
    stop: CancellationToken,
) {
    let mut taken = Vec::new();
    while let Some(1..) = stop.run_until_cancelled(events.waiting.recv_many(&mut taken, BATCH)).await {
        tell_losses(&events, &dropped, &mut taken);
        store(&feed, &channel, &events, mem::take(&mut taken)).await;
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            break;
        }
    }
    while let Ok(event) = events.waiting.try_recv() {
        taken.push(event);
    }
    tell_losses(&events, &dropped, &mut taken);
    store(&feed, &channel, &events, taken).await;
}

/// How much was lost since it was told last, as one event more.
fn tell_losses(events: &AuditEvents, dropped: &Counter, taken: &mut Vec<Audited>) {
    let more = events.lost.get() - dropped.get();
    if more > 0 {
        dropped.inc_by(more);
        tracing::warn!(events = more, "events of the audit are lost: more happens than audit.channel takes");
        let fields = [("events".to_owned(), more.into())].into_iter().collect();
        taken.push(Audited { act: "events lost".to_owned(), fields, at: SystemTime::now() });
    }
}

async fn store(feed: &Feed, channel: &str, events: &AuditEvents, taken: Vec<Audited>) {
    let event = |audited: Audited| {
        let kind = format!("audit.{}", audited.act.replace(' ', "_"));
        NewEvent::new(channel, kind).payload(&audited.fields).at(audited.at)
    };
    let results = feed.publish_unaudited(taken.into_iter().map(event)).await;
    let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if let Some(refusal) = refused.first() {
        events.lost.inc_by(refused.len() as u64);
        tracing::warn!(events = refused.len(), %refusal, "events of the audit are not stored");
    }
}
