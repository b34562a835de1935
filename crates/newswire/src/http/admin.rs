//! `POST /admin/trim` and `POST /admin/compact`: space is given back now instead of by the policy's time.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use newswire_core::Role;
use newswire_log::{EventLog, Trim, TrimError};
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::{ErrorCode, Refusal};
use serde_json::Value;

use super::problem::Problem;
use super::{Caller, json_response};
use crate::{Feed, audit};

/// Makes events before an offset disappear, of some channels or of all.
pub(super) async fn trim(
    State(feed): State<Feed>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    caller.0.require_of_all(Role::Admin)?;
    let wanted = read(&headers, body)?;
    let before = match wanted.get("before").map(|before| (whole(before), before)) {
        Some((Some(before @ 1..=MAX_OFFSET), _)) => before,
        Some((_, other)) => {
            return Err(Problem::bad_request(format!(
                "before must be an offset from 1 to {MAX_OFFSET}, not {other}"
            )));
        }
        None => return Err(Problem::bad_request("before is required: the first offset that stays")),
    };
    let channels = channels(&feed, wanted.get("channels"))?;
    let trims: Vec<Trim> = match channels {
        None => vec![Trim { channel: None, up_to: before - 1 }],
        Some(names) => {
            names.into_iter().map(|name| Trim { channel: Some(name), up_to: before - 1 }).collect()
        }
    };
    audit::administered(&caller.0, "trim");
    tracing::info!(by = %caller.0.id, before, ?trims, "events are trimmed by an administrator");
    remove(feed, move |log| trims.iter().try_fold(0, |removed, trim| Ok(removed + log.trim(trim)?))).await
}

/// Applies retention now, which otherwise happens every few seconds.
pub(super) async fn compact(State(feed): State<Feed>, caller: Caller) -> Result<Response, Problem> {
    caller.0.require_of_all(Role::Admin)?;
    audit::administered(&caller.0, "compact");
    remove(feed, EventLog::retain).await
}

/// A whole number, however it is written: to JSON `7.0` is one.
fn whole(number: &Value) -> Option<u64> {
    let exact = |float: &f64| float.fract() == 0.0 && (0.0..=MAX_OFFSET as f64).contains(float);
    number.as_u64().or_else(|| number.as_f64().filter(exact).map(|float| float as u64))
}

/// Only channels that have events, by their whole names; `None` is all of them.
fn channels(feed: &Feed, wanted: Option<&Value>) -> Result<Option<Vec<Arc<str>>>, Problem> {
    let wanted = match wanted {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(wanted)) if !wanted.is_empty() => wanted,
        Some(_) => return Err(Problem::bad_request("channels must be a list of names, or absent for all")),
    };
    let known = feed.log().channels();
    let name = |wanted: &Value| -> Result<Arc<str>, Problem> {
        let found = known.iter().find(|known| Some(&***known) == wanted.as_str()).cloned();
        found.ok_or_else(|| {
            Refusal::because(ErrorCode::UnknownChannel, format!("{wanted} has no events")).into()
        })
    };
    wanted.iter().map(name).collect::<Result<_, _>>().map(Some)
}

/// The object of a JSON body.
pub(super) fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, Problem> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with("application/json") {
        return Err(Problem::unsupported_media_type("send the body as application/json"));
    }
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => super::publish::too_large("this call needs no such body".to_owned()),
        _ => Problem::bad_request(error.body_text()),
    })?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Refusal::because(ErrorCode::InvalidJson, error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(Refusal::from(ErrorCode::ExpectedJsonObject).into()) }
}

/// Does what blocks on the disk, and answers what it came to.
async fn remove(
    feed: Feed,
    work: impl FnOnce(&dyn EventLog) -> Result<u64, TrimError> + Send + 'static,
) -> Result<Response, Problem> {
    let work = move || {
        let before = feed.log().stats().bytes;
        let removed = work(feed.log())?;
        let after = feed.log().stats();
        Ok::<_, TrimError>((removed, before.saturating_sub(after.bytes), after))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (removed, freed, after) = match done {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            tracing::error!(%error, "trimming failed");
            return Err(Problem::unavailable(error.to_string()));
        }
        Err(_) => return Err(Problem::unavailable("trimming failed")),
    };
    let body = format!(
        "{{\"data\":{{\"removed\":{removed},\"freed_bytes\":{freed},\"head\":{},\"events\":{},\"bytes\":{}}}}}",
        after.head, after.events, after.bytes
    );
    Ok(json_response(body.into_bytes()))
}
