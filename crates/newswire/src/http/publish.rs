//! `POST /events`: one event, an array, or NDJSON.

use std::error::Error;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use newswire_core::Principal;
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::event::Draft;
use newswire_protocol::json;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::json_response;
use super::problem::Problem;
use crate::{Feed, Published};

/// Bytes that one permit of [`crate::feed::Inner::body_room`] stands for.
pub(crate) const BODY_GRAIN: usize = 1 << 10;

/// Events of one request: what is made of each takes more memory than the least of them in the body.
const MAX_EVENTS: usize = 65_536;

/// What stands for one event in the body.
type Text<'a> = Result<&'a str, Refusal>;

/// The handler: reads the body, stores what is good, answers in the order sent.
pub(super) async fn publish(
    State(feed): State<Feed>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form = Form::of(&headers)?;
    let body = read_body(&feed, body).await?;
    let bare = matches!(form, Form::Json) && body.bytes.trim_ascii_start().starts_with(b"{");
    let texts = match form {
        Form::Json => split_json(&body.bytes)?,
        Form::Lines => split_lines(&body.bytes)?,
    };
    let limits = feed.inner.live.limits();
    let drafts = texts.into_iter().map(|text| Draft::parse(text?, &limits));
    let results = feed.publish_parsed(&principal, drafts).await;
    match nothing_to_answer(&results, bare) {
        Some(problem) => Err(problem),
        None => Ok(json_response(results_json(&results))),
    }
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

/// A body in memory, and its share of the room for bodies.
struct HeldBody {
    bytes: BytesMut,
    _room: Option<OwnedSemaphorePermit>,
}

/// Reads the whole body. Room is taken as bytes arrive and never waited for, so that bodies which hold a part each
/// cannot wait for one another, and one that trickles in holds no more than it sent.
async fn read_body(feed: &Feed, body: Body) -> Result<HeldBody, Problem> {
    let max_bytes = feed.settings().request_max_bytes;
    let mut body = Limited::new(body, max_bytes);
    let mut held = HeldBody { bytes: BytesMut::new(), _room: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreadable(&*error, max_bytes))?;
        let Ok(data) = frame.into_data() else { continue };
        let before = held.bytes.len().div_ceil(BODY_GRAIN);
        held.bytes.extend_from_slice(&data);
        let grains = held.bytes.len().div_ceil(BODY_GRAIN) - before;
        let room = Arc::clone(&feed.inner.body_room)
            .try_acquire_many_owned(u32::try_from(grains).unwrap_or(u32::MAX))
            .map_err(|_| {
                Problem::unavailable("too many publishes are being received; send this one again")
            })?;
        match &mut held._room {
            Some(held) => held.merge(room),
            none => *none = Some(room),
        }
    }
    Ok(held)
}

fn unreadable(error: &(dyn Error + Send + Sync + 'static), max_bytes: usize) -> Problem {
    if error.is::<LengthLimitError>() {
        too_large(format!("a request may have {max_bytes} bytes; send the events in several requests"))
    } else {
        Problem::bad_request(format!("the body could not be read: {error}"))
    }
}

fn too_large(detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "Request too large", detail)
}

fn too_many() -> Problem {
    too_large(format!("a request may have {MAX_EVENTS} events; send them in several requests"))
}

/// One event object or an array of them.
fn split_json(body: &[u8]) -> Result<Vec<Text<'_>>, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid_json(format!("the body is not UTF-8 from byte {}", error.valid_up_to())))?;
    if text.trim_start().starts_with('{') {
        return Ok(vec![Ok(text)]);
    }
    let mut texts = Vec::new();
    let mut count = 0_usize;
    let is_array = json::each_element(text, |element| {
        count += 1;
        if count <= MAX_EVENTS {
            texts.push(Ok(element));
        }
    })
    .map_err(|error| invalid_json(error.to_string()))?;
    match is_array {
        true if count > MAX_EVENTS => Err(too_many()),
        true => Ok(texts),
        false => Err(invalid_json("expected an event object or an array of them".to_owned())),
    }
}

/// One event a line; empty lines are passed over, a bad line is refused alone.
fn split_lines(body: &[u8]) -> Result<Vec<Text<'_>>, Problem> {
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let texts: Vec<Text<'_>> = lines.take(MAX_EVENTS + 1).map(line_text).collect();
    if texts.len() > MAX_EVENTS { Err(too_many()) } else { Ok(texts) }
}

fn line_text(line: &[u8]) -> Text<'_> {
    std::str::from_utf8(line)
        .map(str::trim)
        .map_err(|_| Refusal::because(ErrorCode::InvalidJson, "the line is not UTF-8"))
}

fn invalid_json(detail: String) -> Problem {
    Refusal::because(ErrorCode::InvalidJson, detail).into()
}

/// The problem to answer instead of results: nothing could be read at all, or the storage refused everything that was
/// good enough to be stored.
fn nothing_to_answer(results: &[Result<Published, Refusal>], bare: bool) -> Option<Problem> {
    if results.iter().any(Result::is_ok) {
        return None;
    }
    let refusals = || results.iter().filter_map(|result| result.as_ref().err());
    let unreadable = |refusal: &Refusal| match refusal.code {
        ErrorCode::InvalidJson => true,
        // The event was the whole request: its size is the request's.
        ErrorCode::EventTooLarge => bare,
        _ => false,
    };
    let of_storage =
        |refusal: &Refusal| matches!(refusal.code, ErrorCode::StorageFull | ErrorCode::Unavailable);
    let all_unreadable = refusals().next().filter(|_| refusals().all(unreadable));
    refusals().find(|refusal| of_storage(refusal)).or(all_unreadable).map(|refusal| refusal.clone().into())
}

fn results_json(results: &[Result<Published, Refusal>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + results.len() * 80);
    body.extend_from_slice(b"{\"data\":{\"results\":[");
    for (place, result) in results.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        match result {
            Ok(published) => write_published(&mut body, published),
            Err(refusal) => body.extend_from_slice(refusal_json(refusal).to_string().as_bytes()),
        }
    }
    body.extend_from_slice(b"]}}");
    body
}

/// Written by hand: there is one for every event.
fn write_published(body: &mut Vec<u8>, Published { offset, event_id, duplicate }: &Published) {
    body.extend_from_slice(b"{\"offset\":");
    body.extend_from_slice(offset.to_string().as_bytes());
    body.extend_from_slice(b",\"event_id\":");
    json::write_string(body, event_id);
    body.extend_from_slice(if *duplicate { b",\"duplicate\":true}" } else { b"}" });
}

fn refusal_json(Refusal { code, detail }: &Refusal) -> Value {
    let mut result = json!({ "error": code.text(), "code": code.code() });
    if let Some(detail) = detail {
        result["detail"] = json!(detail);
    }
    result
}
