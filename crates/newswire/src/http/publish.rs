//! `POST /events`: one event, an array, NDJSON, or CloudEvents.

use std::error::Error;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use newswire_core::Principal;
use newswire_protocol::cloudevents::{BATCH, STRUCTURED};
use newswire_protocol::codes::{ErrorCode, Refusal};
use newswire_protocol::event::Draft;
use newswire_protocol::json;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use super::{cloudevents, json_response};
use crate::traces::Origin;
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
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form = Form::of(&headers)?;
    let channel = cloudevents::channel(&uri)?;
    let body = read_body(&feed, body).await?;
    let texts = form.split(&body.bytes)?;
    let bare = match form {
        Form::Json => body.bytes.trim_ascii_start().starts_with(b"{"),
        Form::CloudEvent | Form::BinaryCloudEvent => true,
        Form::Lines | Form::CloudEvents => false,
    };
    let limits = feed.inner.live.limits();
    let read = |text| match form {
        Form::Json | Form::Lines => Draft::parse(text, &limits),
        Form::CloudEvent | Form::CloudEvents => {
            newswire_protocol::cloudevents::parse(text, channel.as_deref(), &limits)
        }
        Form::BinaryCloudEvent => cloudevents::read_binary(&headers, text, channel.as_deref(), &limits),
    };
    let trace = traceparent(&headers);
    let drafts = texts.into_iter().map(|text| {
        let mut draft = read(text?)?;
        draft.traceparent = draft.traceparent.or_else(|| trace.map(str::to_owned));
        Ok(draft)
    });
    let results = feed.publish_parsed(&principal, Origin::Request(trace), drafts).await;
    match nothing_to_answer(&results, bare) {
        Some(problem) => Err(problem),
        None => Ok(json_response(results_json(&results))),
    }
}

/// How the body is written.
#[derive(Clone, Copy)]
enum Form {
    /// One event or an array of them.
    Json,
    /// One event a line.
    Lines,
    CloudEvent,
    /// An array.
    CloudEvents,
    /// Its attributes are headers, and the body is its data.
    BinaryCloudEvent,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let given =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            STRUCTURED => Ok(Self::CloudEvent),
            BATCH => Ok(Self::CloudEvents),
            "" | "application/json" | "text/json" if cloudevents::is_binary(headers) => {
                Ok(Self::BinaryCloudEvent)
            }
            media if cloudevents::is_binary(headers) && media.ends_with("+json") => {
                Ok(Self::BinaryCloudEvent)
            }
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => Ok(Self::Lines),
            _ => Err(Problem::unsupported_media_type(
                "send events as application/json (one event or an array), application/x-ndjson (one a line), or as \
                 CloudEvents whose data is JSON",
            )),
        }
    }

    /// What stands for each event.
    fn split(self, body: &[u8]) -> Result<Vec<Text<'_>>, Problem> {
        match self {
            Self::Json => split_json(body),
            Self::Lines => split_lines(body),
            Self::CloudEvent => match utf8(body)? {
                text if text.trim_start().starts_with('{') => Ok(vec![Ok(text)]),
                _ => Err(invalid_json("expected a CloudEvent, which is an object".to_owned())),
            },
            Self::CloudEvents => split_array(utf8(body)?, "expected an array of CloudEvents"),
            Self::BinaryCloudEvent => Ok(vec![Ok(utf8(body)?)]),
        }
    }
}

/// The W3C trace context that the request came with, if it is one.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = given.split('-');
    let hex = |part: Option<&str>, digits: usize| {
        part.is_some_and(|part| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    // Later versions may have more parts behind these; 255 is none.
    let is_one =
        !given.starts_with("ff") && [2, 32, 16, 2].into_iter().all(|digits| hex(parts.next(), digits));
    let nothing_behind = parts.next().is_none() || !given.starts_with("00");
    (is_one && nothing_behind && given.len() <= 128).then_some(given)
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

pub(super) fn too_large(detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "Request too large", detail)
}

fn too_many() -> Problem {
    too_large(format!("a request may have {MAX_EVENTS} events; send them in several requests"))
}

/// One event object or an array of them.
fn split_json(body: &[u8]) -> Result<Vec<Text<'_>>, Problem> {
    let text = utf8(body)?;
    if text.trim_start().starts_with('{') {
        return Ok(vec![Ok(text)]);
    }
    split_array(text, "expected an event object or an array of them")
}

fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body)
        .map_err(|error| invalid_json(format!("the body is not UTF-8 from byte {}", error.valid_up_to())))
}

fn split_array<'a>(text: &'a str, expected: &str) -> Result<Vec<Text<'a>>, Problem> {
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
        false => Err(invalid_json(expected.to_owned())),
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

fn refusal_json(Refusal { code, detail, .. }: &Refusal) -> Value {
    let mut result = json!({ "error": code.text(), "code": code.code() });
    if let Some(detail) = detail {
        result["detail"] = json!(detail);
    }
    result
}
