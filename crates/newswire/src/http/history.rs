//! `GET /events` and `GET /events/{offset}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use newswire_core::{
    ChannelPattern, Direction, Filter, Page, Principal, ReadRequest, Run, Selector, SelectorEntry,
};
use newswire_log::ReadError;
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::query::{Order, Query};

use super::problem::Problem;
use super::{Caller, Segment, json_response, read_query, segment};
use crate::{Feed, ingest};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1_000;

/// Frames one page may have, in bytes.
const PAGE_BYTES: usize = 8 << 20;

/// Bytes of the log one page may look at: a filter that matches rarely gives short pages, not long waits.
const SCAN_BYTES: usize = 16 << 20;

/// A page of history.
pub(super) async fn events(State(feed): State<Feed>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let query = read_query(&uri)?;
    let end = feed.log().tail() - 1;
    let request = request(&feed, caller.0, &query)?;
    let page = feed.inner.reader.read(request).await.map_err(|error| read_problem(&error))?;
    Ok(page_response(&page, end))
}

fn request(feed: &Feed, principal: Principal, query: &Query) -> Result<ReadRequest, Problem> {
    let patterns = if query.channels.is_empty() {
        vec![ChannelPattern::Prefix("".into())]
    } else {
        feed.inner.channels.patterns(&query.channels)?
    };
    let filter = Filter::compile(&query.filters);
    let entries =
        patterns.into_iter().map(|pattern| SelectorEntry::new(pattern, Arc::clone(&filter))).collect();
    let after = query.after.unwrap_or(0);
    let before = query.before.unwrap_or(MAX_OFFSET + 1);
    let (direction, from, until) = match query.order.unwrap_or_default() {
        Order::Asc => (Direction::Forward, after, before.saturating_sub(1)),
        Order::Desc => (Direction::Backward, before, after + 1),
    };
    Ok(ReadRequest {
        selector: Arc::new(Selector::new(entries, principal)),
        direction,
        from,
        since: query.since.map(|since| since.resolve(ingest::now())),
        until,
        max_bytes: PAGE_BYTES,
        max_events: limit(query)?,
        max_scan_bytes: SCAN_BYTES,
    })
}

fn limit(query: &Query) -> Result<usize, Problem> {
    match query.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        limit => Err(Problem::bad_request(format!("limit must be from 1 to {MAX_LIMIT}, not {limit}"))),
    }
}

fn everything(principal: Principal) -> Arc<Selector> {
    let entry = SelectorEntry::new(ChannelPattern::Prefix("".into()), Filter::compile(&Default::default()));
    Arc::new(Selector::one(entry, principal))
}

/// `{"data":[…],"epoch":"…","offset":N,"next":M}`; the events are the very bytes that are streamed.
fn page_response(page: &Page, end: u64) -> Response {
    let bytes: usize = page.runs.iter().map(Run::bytes).sum();
    let mut body = Vec::with_capacity(bytes + 256);
    body.extend_from_slice(b"{\"data\":[");
    let mut separator: &[u8] = b"";
    let mut write = |json: &[u8]| {
        body.extend_from_slice(separator);
        body.extend_from_slice(json);
        separator = b",";
    };
    for event in page.runs.iter().flat_map(Run::iter) {
        write(event.json);
    }
    let next = if page.end { "null".to_owned() } else { page.reached.to_string() };
    body.extend_from_slice(
        format!("],\"epoch\":\"{}\",\"offset\":{end},\"next\":{next}}}", page.epoch).as_bytes(),
    );
    json_response(body)
}

/// One event, by offset.
pub(super) async fn event(
    State(feed): State<Feed>,
    caller: Caller,
    offset: Segment,
) -> Result<Response, Problem> {
    let Ok(offset @ 1..=MAX_OFFSET) = segment(offset)?.parse::<u64>() else {
        return Err(Problem::bad_request(format!("an offset is a whole number from 1 to {MAX_OFFSET}")));
    };
    let request = ReadRequest {
        selector: everything(caller.0),
        direction: Direction::Forward,
        from: offset - 1,
        since: None,
        until: offset,
        max_bytes: PAGE_BYTES,
        max_events: 1,
        max_scan_bytes: SCAN_BYTES,
    };
    let page = feed.inner.reader.read(request).await.map_err(|error| read_problem(&error))?;
    match page.runs.first() {
        Some(run) => {
            let event = run.batch.get(run.index(0)).json;
            Ok(json_response([b"{\"data\":", event, b"}"].concat()))
        }
        None if offset >= feed.log().tail() => {
            Err(Problem::not_found(format!("the log ends at offset {}", feed.log().tail() - 1)))
        }
        None => Err(Problem::not_found(format!(
            "event {offset} is no longer retained; the oldest retained offset is {}",
            feed.log().head()
        ))),
    }
}

fn read_problem(error: &ReadError) -> Problem {
    tracing::error!(%error, "reading the log failed");
    Problem::unavailable(error.to_string())
}
