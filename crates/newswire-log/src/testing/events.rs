//! Short ways to make events and to read a log back.

use std::sync::Arc;
use std::time::Duration;

use newswire_core::{
    ChannelPattern, Direction, EventHead, Filter, Page, Principal, ReadRequest, Selector, SelectorEntry,
};
use newswire_protocol::{Draft, FilterSpec, Limits, Scalar, UnixMicros};

use crate::dedup::Dedup;
use crate::event_log::{AppendError, Appended, EventLog, NewEvents};

/// An event of the JSON object `text`, as a publisher would send it; `event_id` makes it recognisable as a repeat.
///
/// # Panics
/// If `text` is no valid event.
pub fn event(text: &str) -> NewEvents {
    let draft = Draft::parse(text, &Limits::default()).expect("tests write valid events");
    let event_id = draft.event_id.clone().unwrap_or_else(|| "none".to_owned());
    let encoded = draft.encode(&event_id, UnixMicros(1_700_000_000_000_000));
    let dedup = draft.event_id.as_ref().map(|id| {
        let mut key = [0; 16];
        let len = id.len().min(16);
        key[..len].copy_from_slice(&id.as_bytes()[..len]);
        Dedup { key, fingerprint: draft.fingerprint() }
    });
    NewEvents::one(&EventHead::of(&draft, &encoded), &encoded, dedup)
}

/// An event of a channel with a payload that names `n`.
pub fn numbered(channel: &str, n: u64) -> NewEvents {
    event(&format!(r#"{{"channel":"{channel}","event_type":"test.numbered","payload":{{"n":{n}}}}}"#))
}

/// Waits for a future without a runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread needs nothing that may be missing").block_on(future)
}

/// Appends and waits.
///
/// # Errors
/// Those of [`EventLog::append`].
pub fn append(log: &dyn EventLog, events: Vec<NewEvents>) -> Result<Vec<Appended>, AppendError> {
    wait(log.append(events.into_iter().collect()))
}

/// Appends events that must all be stored; returns their offsets.
///
/// # Panics
/// If one is not.
pub fn store(log: &dyn EventLog, events: Vec<NewEvents>) -> Vec<u64> {
    let stored = |appended| match appended {
        Appended::Stored { offset } => offset,
        other => panic!("not stored: {other:?}"),
    };
    append(log, events).expect("the log takes events").into_iter().map(stored).collect()
}

/// A selector of channels (names or patterns), all with one filter, given as key and accepted strings.
pub fn selector(channels: &[&str], filter: &[(&str, &[&str])]) -> Arc<Selector> {
    let clauses = filter
        .iter()
        .map(|(key, values)| ((*key).to_owned(), values.iter().map(|value| Scalar::string(value)).collect()))
        .collect();
    let filter = Filter::compile(&FilterSpec { clauses });
    let entries = channels
        .iter()
        .map(|name| {
            let pattern = ChannelPattern::parse(name).expect("tests name valid channels");
            SelectorEntry::new(pattern, filter.clone())
        })
        .collect();
    Arc::new(Selector::new(entries, Principal::anonymous()))
}

/// A read without bounds.
pub fn request(selector: &Arc<Selector>, direction: Direction) -> ReadRequest {
    ReadRequest {
        selector: selector.clone(),
        direction,
        from: if direction == Direction::Forward { 0 } else { u64::MAX },
        since: None,
        until: if direction == Direction::Forward { u64::MAX } else { 0 },
        max_bytes: usize::MAX,
        max_events: usize::MAX,
        max_scan_bytes: usize::MAX,
    }
}

/// The offsets of a page, in its order.
pub fn offsets(page: &Page) -> Vec<u64> {
    page.runs.iter().flat_map(|run| run.iter().map(|event| event.offset).collect::<Vec<_>>()).collect()
}

/// Reads page after page until the end; returns all offsets in the order of the pages.
///
/// # Panics
/// If a read fails, or makes no progress.
pub fn read_all(log: &dyn EventLog, mut request: ReadRequest) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let page = log.read(&request).expect("the log can be read");
        all.extend(offsets(&page));
        if page.end {
            return all;
        }
        assert_ne!(page.reached, request.from, "a page must get on");
        request.from = page.reached;
    }
}

/// Tries until it holds, at most five seconds.
///
/// # Panics
/// If it does not hold by then.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not within five seconds: {what}");
}
