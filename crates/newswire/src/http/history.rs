//! `GET /events` and `GET /events/{offset}`.

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::query::Query;

use super::problem::Problem;
use super::{Caller, Segment, json_response, read_query, segment};
use crate::Feed;
use crate::history::{History, HistoryError, HistoryPage, MAX_HISTORY_EVENTS};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = MAX_HISTORY_EVENTS as u64;

/// A page of history.
pub(super) async fn events(State(feed): State<Feed>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let query = read_query(&uri)?;
    let limit = limit(&query)?;
    let wanted = History::from_query(query, caller.0).limit(limit);
    let page = feed.history(wanted).await.map_err(HistoryError::into_refusal)?;
    Ok(page_response(&page))
}

fn limit(query: &Query) -> Result<usize, Problem> {
    match query.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        limit => Err(Problem::bad_request(format!("limit must be from 1 to {MAX_LIMIT}, not {limit}"))),
    }
}

/// `{"data":[…],"epoch":"…","offset":N,"next":M}`; the events are the very bytes that are streamed.
fn page_response(page: &HistoryPage) -> Response {
    let bytes: usize = page.events.iter().map(|event| event.json().len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 256);
    body.extend_from_slice(b"{\"data\":[");
    for (place, event) in page.events.iter().enumerate() {
        body.extend_from_slice(if place > 0 { b"," } else { b"" });
        body.extend_from_slice(event.json());
    }
    let HistoryPage { epoch, end, next, .. } = page;
    let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
    body.extend_from_slice(format!("],\"epoch\":\"{epoch}\",\"offset\":{end},\"next\":{next}}}").as_bytes());
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
    match feed.event(offset, &caller.0).await.map_err(HistoryError::into_refusal)? {
        Some(event) => Ok(json_response([b"{\"data\":", event.json(), b"}"].concat())),
        None if offset >= feed.log().tail() => {
            Err(Problem::not_found(format!("the log ends at offset {}", feed.log().tail() - 1)))
        }
        None => Err(Problem::not_found(format!(
            "event {offset} is no longer retained; the oldest retained offset is {}",
            feed.log().head()
        ))),
    }
}
