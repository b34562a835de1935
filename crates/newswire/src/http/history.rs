//! `GET /events` and `GET /events/{offset}`.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use newswire_core::Variant;
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::query::Order;

use super::cloudevents::{self, Mode};
use super::problem::Problem;
use super::{Caller, Segment, is_known, json_response, next_json, page_limit, read_query, segment};
use crate::history::{History, HistoryError, HistoryPage};
use crate::{Event, Feed};

/// The form of an answer depends on this header.
const VARY: HeaderValue = HeaderValue::from_static("accept");

/// A page of history.
pub(super) async fn events(
    State(feed): State<Feed>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = read_query(&uri)?;
    let cursor = if query.order == Some(Order::Desc) { "before" } else { "after" };
    let limit = page_limit(&query)?;
    let wanted = History::from_query(query, caller.0).limit(limit);
    let page = feed.history(wanted).await.map_err(HistoryError::into_refusal)?;
    let mut response = match Mode::of_page(&headers) {
        Mode::Own => page_response(&page),
        Mode::Structured | Mode::Binary => cloudevents::batch(&page, &uri, cursor)?,
    };
    response.headers_mut().append(header::VARY, VARY);
    Ok(response)
}

/// `{"data":[…],"epoch":"…","offset":N,"next":M}`, and `recovered` behind a cursor; the events are the very bytes that are streamed.
fn page_response(page: &HistoryPage) -> Response {
    let bytes: usize = page.events.iter().map(|event| event.json().len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 256);
    body.extend_from_slice(b"{\"data\":[");
    for (place, event) in page.events.iter().enumerate() {
        body.extend_from_slice(if place > 0 { b"," } else { b"" });
        body.extend_from_slice(event.json());
    }
    let HistoryPage { epoch, end, next, recovered, .. } = page;
    let next = next_json(*next);
    body.extend_from_slice(format!("],\"epoch\":\"{epoch}\",\"offset\":{end},\"next\":{next}").as_bytes());
    if let Some(recovered) = recovered {
        body.extend_from_slice(format!(",\"recovered\":{recovered}").as_bytes());
    }
    body.push(b'}');
    json_response(body)
}

/// One event, by offset. Within an epoch it never changes, so whoever has it is told no more than that (304).
pub(super) async fn event(
    State(feed): State<Feed>,
    caller: Caller,
    offset: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mode = Mode::of_one(&uri, &headers)?;
    let Ok(offset @ 1..=MAX_OFFSET) = segment(offset)?.parse::<u64>() else {
        return Err(Problem::bad_request(format!("an offset is a whole number from 1 to {MAX_OFFSET}")));
    };
    match feed.event(offset, &caller.0).await.map_err(HistoryError::into_refusal)? {
        Some(event) => event_response(&feed, &event, &caller.0.variant, mode, &headers),
        None if offset >= feed.log().tail() => {
            Err(Problem::not_found(format!("the log ends at offset {}", feed.log().tail() - 1)))
        }
        // The same for what was trimmed and for what the caller does not see.
        None => Err(Problem::not_found(format!("there is no event {offset} to be seen here"))),
    }
}

/// What one variant of the payload looks like is no other's answer.
fn variant_tag(variant: &Variant) -> String {
    if *variant == Variant::Full {
        return String::new();
    }
    let mut hasher = DefaultHasher::new();
    variant.hash(&mut hasher);
    format!(":{:x}", hasher.finish())
}

fn event_response(
    feed: &Feed,
    event: &Event,
    variant: &Variant,
    mode: Mode,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let epoch = feed.log().epoch();
    let tag = format!("\"{epoch}:{}{}{}\"", event.offset(), mode.tag(), variant_tag(variant));
    let tag = HeaderValue::try_from(tag).expect("an epoch and a number are visible ASCII");
    let mut response = match mode {
        _ if is_known(headers, &tag) => StatusCode::NOT_MODIFIED.into_response(),
        Mode::Own => json_response([b"{\"data\":", event.json(), b"}"].concat()),
        mode => cloudevents::one(event, epoch, mode)?,
    };
    response.headers_mut().insert(header::ETAG, tag);
    // To be asked again each time: a later epoch may have another event here, and retention none.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().append(header::VARY, VARY);
    Ok(response)
}
