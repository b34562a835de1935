//! `POST /events`: one event, an array, or NDJSON.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use newswire_core::Principal;
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::event::Draft;
use newswire_protocol::json;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use crate::{Feed, Published};

/// Bytes that one permit of [`crate::feed::Inner::body_room`] stands for.
pub(crate) const BODY_GRAIN: usize = 1 << 10;

type Drafts = Vec<Result<Draft, Refusal>>;

/// The handler: reads the body, stores what is good, answers in the order sent.
pub(super) async fn publish(
    State(feed): State<Feed>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form = Form::of(&headers)?;
    let _room = room_for(&feed, body.size_hint().upper()).await?;
    let body = read_body(body, feed.settings().request_max_bytes).await?;
    let drafts = match form {
        Form::Json => parse_json(&feed, &body)?,
        Form::Lines => parse_lines(&feed, &body)?,
    };
    let results = feed.publish_parsed(&principal, drafts).await;
    if let Some(problem) = nothing_stored(&results) {
        return Err(problem);
    }
    let results: Vec<Value> = results.iter().map(result_json).collect();
    Ok(axum::Json(json!({ "data": { "results": results } })).into_response())
}

/// How the body is written.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Lines,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let given =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => Ok(Self::Lines),
            _ => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Unsupported media type",
                "send events as application/json (one event or an array) or application/x-ndjson (one a line)",
            )),
        }
    }
}

/// Waits until a body of this size may be held in memory, first come first served.
///
/// The whole is reserved before the first byte is read: bodies that hold a part each and wait for more would wait for
/// one another.
async fn room_for(feed: &Feed, announced: Option<u64>) -> Result<OwnedSemaphorePermit, Problem> {
    let max_bytes = feed.settings().request_max_bytes;
    let bytes =
        announced.map_or(max_bytes, |bytes| usize::try_from(bytes).unwrap_or(max_bytes)).min(max_bytes);
    let room = Arc::clone(&feed.inner.body_room);
    let permits = u32::try_from(bytes.div_ceil(BODY_GRAIN)).unwrap_or(u32::MAX);
    room.acquire_many_owned(permits).await.map_err(|_| Problem::unavailable("the server is shutting down"))
}

async fn read_body(body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            "Request too large",
            format!("a request may have {max_bytes} bytes; send the events in several requests"),
        )),
        Err(error) => Err(Problem::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// One event object or an array of them.
fn parse_json(feed: &Feed, body: &[u8]) -> Result<Drafts, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid_json(format!("the body is not UTF-8 from byte {}", error.valid_up_to())))?;
    let limits = &feed.settings().limits;
    match text.trim_start().as_bytes().first() {
        Some(b'[') => {
            let elements = json::elements(text).map_err(|error| invalid_json(error.to_string()))?;
            Ok(elements.into_iter().flatten().map(|element| Draft::parse(element, limits)).collect())
        }
        Some(b'{') => match Draft::parse(text, limits) {
            Err(refusal) if refusal.code == ErrorCode::InvalidJson => Err(refusal.into()),
            Err(refusal) if refusal.code == ErrorCode::EventTooLarge => Err(refusal.into()),
            result => Ok(vec![result]),
        },
        _ => {
            json::document(text).map_err(|error| invalid_json(error.to_string()))?;
            Err(invalid_json("expected an event object or an array of them".to_owned()))
        }
    }
}

/// One event a line; empty lines are passed over, a bad line is refused alone.
fn parse_lines(feed: &Feed, body: &[u8]) -> Result<Drafts, Problem> {
    let limits = &feed.settings().limits;
    let drafts: Drafts = body
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| match std::str::from_utf8(line) {
            Ok(line) => Draft::parse(line.trim(), limits),
            Err(_) => {
                Err(Refusal { code: ErrorCode::InvalidJson, detail: Some("the line is not UTF-8".into()) })
            }
        })
        .collect();
    let unreadable = |draft: &Result<Draft, Refusal>| {
        draft.as_ref().is_err_and(|refusal| refusal.code == ErrorCode::InvalidJson)
    };
    if !drafts.is_empty() && drafts.iter().all(unreadable) {
        return Err(invalid_json("no line of the body is JSON".to_owned()));
    }
    Ok(drafts)
}

fn invalid_json(detail: String) -> Problem {
    Refusal { code: ErrorCode::InvalidJson, detail: Some(detail) }.into()
}

/// The problem to answer when the storage refused every event that was good enough to be stored.
fn nothing_stored(results: &[Result<Published, Refusal>]) -> Option<Problem> {
    let of_storage =
        |refusal: &&Refusal| matches!(refusal.code, ErrorCode::StorageFull | ErrorCode::Unavailable);
    let stored = results.iter().any(Result::is_ok);
    let refused = results.iter().filter_map(|result| result.as_ref().err()).find(of_storage)?;
    (!stored).then(|| refused.clone().into())
}

fn result_json(result: &Result<Published, Refusal>) -> Value {
    match result {
        Ok(Published { offset, event_id, duplicate: false }) => {
            json!({ "offset": offset, "event_id": event_id })
        }
        Ok(Published { offset, event_id, duplicate: true }) => {
            json!({ "offset": offset, "event_id": event_id, "duplicate": true })
        }
        Err(Refusal { code, detail }) => {
            let mut result = json!({ "error": code.text(), "code": code.code() });
            if let Some(detail) = detail {
                result["detail"] = json!(detail);
            }
            result
        }
    }
}
