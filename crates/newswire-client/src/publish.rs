//! Publishing over HTTP: a batch a request, a result an event.

use std::collections::HashMap;
use std::time::Duration;

use newswire_protocol::ErrorCode;
use serde_json::value::RawValue;

use crate::backoff::Backoff;
use crate::client::{Client, Unanswered};
use crate::problem::Problem;

/// What became of one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable at `offset`.
    Stored {
        /// Its place in the log.
        offset: u64,
        /// The publisher's id, or the one the server gave.
        event_id: String,
    },
    /// An event with this id is there already, at `offset`; nothing was stored.
    Duplicate {
        /// The place of the first.
        offset: u64,
        /// The id both have.
        event_id: String,
    },
    /// The server did not take it.
    Refused {
        /// The fixed text of the refusal: `Unknown channel`, `Event too large`, …
        error: String,
        /// Its machine-readable twin: `unknown_channel`, …
        code: String,
        /// More about this very event, where the server says more.
        detail: Option<String>,
    },
}

impl Outcome {
    /// Refused for a reason that passes by itself (a full disk, a server going down): worth sending again.
    pub fn is_temporary(&self) -> bool {
        let passing = [ErrorCode::StorageFull, ErrorCode::Unavailable];
        matches!(self, Self::Refused { code, .. } if passing.iter().any(|known| known.code() == code))
    }
}

/// Why a whole batch has no results.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The server could not be reached or refuses for now. Whether the batch was stored is not known: send the same
    /// events with the same ids again, and what was stored is answered as a duplicate.
    #[error("{reason}")]
    Retryable {
        /// What happened, for people.
        reason: String,
        /// The server asked to wait this long.
        retry_after: Option<Duration>,
    },
    /// Over TLS, the two sides do not trust each other. The batch was not stored.
    #[error("{reason}")]
    Distrust {
        /// In words.
        reason: String,
    },
    /// The request was larger than the server takes; a smaller batch may pass.
    #[error("the batch is larger than the server takes")]
    TooLarge,
    /// The server refused the request as a whole; sending it again would not help.
    #[error("the server refused the batch: {0}")]
    Refused(Problem),
    /// An answer that is none of Newswire's: is the address right?
    #[error("unreadable answer from {url}: {detail}")]
    Unreadable {
        /// Where the request went.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl PublishError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable { .. })
    }
}

impl Client {
    /// Publishes events in order, each the JSON text of one event object, and returns when the accepted ones are
    /// durable: one [`Outcome`] an event, in the order given. A bad event is refused alone.
    ///
    /// Dropping the future does not undo anything: the server may have stored the batch. Give each event an
    /// `event_id` and the same batch can be sent again without doubling.
    pub async fn publish_batch<T: AsRef<str>>(&self, events: &[T]) -> Result<Vec<Outcome>, PublishError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let url = self.endpoint("events");
        let request = self
            .http()
            .post(url.clone())
            .header(http::header::CONTENT_TYPE, "application/x-ndjson")
            .body(ndjson(events));
        let answer = async {
            let response = request.send().await?;
            let (status, retry_after) = (response.status(), retry_after(response.headers()));
            Ok::<_, reqwest::Error>((status, retry_after, response.bytes().await?))
        };
        let (status, retry_after, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.unanswered(&error).await.into()),
        };
        if status.is_success() {
            return read_results(&body, events.len())
                .map_err(|detail| PublishError::Unreadable { url: url.to_string(), detail });
        }
        let problem = Problem::read(status, &body);
        Err(match status.as_u16() {
            413 => PublishError::TooLarge,
            408 | 425 | 429 | 500..=599 => {
                PublishError::Retryable { reason: problem.to_string(), retry_after }
            }
            _ => PublishError::Refused(problem),
        })
    }

    /// [`Client::publish_batch`], again and again until the server answers: waits of `backoff`, or longer where the
    /// server asked for it. `waiting` is told the reason and the wait before each. Every event needs an `event_id`,
    /// else a lost answer doubles it.
    ///
    /// Fails only with what waiting cannot mend.
    pub async fn publish_until_answered<T: AsRef<str>>(
        &self,
        events: &[T],
        backoff: &mut Backoff,
        mut waiting: impl FnMut(&str, Duration),
    ) -> Result<Vec<Outcome>, PublishError> {
        let mut random = fastrand::Rng::new();
        loop {
            match self.publish_batch(events).await {
                Err(PublishError::Retryable { reason, retry_after }) => {
                    let wait = backoff.next(&mut random).max(retry_after.unwrap_or_default());
                    waiting(&reason, wait);
                    tokio::time::sleep(wait).await;
                }
                answered => {
                    backoff.reset();
                    return answered;
                }
            }
        }
    }
}

/// One event a line. JSON allows line breaks between tokens only, where a space means the same.
fn ndjson<T: AsRef<str>>(events: &[T]) -> String {
    let mut body = String::with_capacity(events.iter().map(|event| event.as_ref().len() + 1).sum());
    for event in events {
        body.extend(event.as_ref().trim().chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        body.push('\n');
    }
    body
}

impl From<Unanswered> for PublishError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Distrust(reason) => Self::Distrust { reason },
            Unanswered::Unreachable(reason) => Self::Retryable { reason, retry_after: None },
        }
    }
}

pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(3_600)))
}

fn read_results(body: &[u8], expected: usize) -> Result<Vec<Outcome>, String> {
    type Members<'a> = HashMap<&'a str, &'a RawValue>;
    let read = |text: &[u8]| -> Result<Vec<Outcome>, serde_json::Error> {
        let top: Members<'_> = serde_json::from_slice(text)?;
        let data: Members<'_> = serde_json::from_str(member(&top, "data"))?;
        let results: Vec<serde_json::Value> = serde_json::from_str(member(&data, "results"))?;
        Ok(results.iter().map(outcome).collect())
    };
    let results = read(body).map_err(|error| error.to_string())?;
    if results.len() != expected {
        return Err(format!("{} results for {expected} events", results.len()));
    }
    Ok(results)
}

fn member<'a>(members: &HashMap<&str, &'a RawValue>, key: &str) -> &'a str {
    members.get(key).map_or("null", |raw| raw.get())
}

fn outcome(result: &serde_json::Value) -> Outcome {
    let text = |key: &str| result.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let duplicate = result.get("duplicate").and_then(serde_json::Value::as_bool) == Some(true);
    match result.get("offset").and_then(serde_json::Value::as_u64) {
        Some(offset) if result.get("error").is_none_or(serde_json::Value::is_null) => {
            let event_id = text("event_id").unwrap_or_default();
            if duplicate {
                Outcome::Duplicate { offset, event_id }
            } else {
                Outcome::Stored { offset, event_id }
            }
        }
        _ => Outcome::Refused {
            error: text("error").unwrap_or_else(|| "no reason given".to_owned()),
            code: text("code").unwrap_or_default(),
            detail: text("detail"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_line() {
        assert_eq!(ndjson(&["{\n  \"a\": 1\r\n}", " {} \n"]), "{   \"a\": 1  }\n{}\n");
    }

    #[test]
    fn results_are_read_in_order_and_counted() {
        let body =
            br#"{"data":{"results":[{"offset":7,"event_id":"a"},{"offset":3,"event_id":"b","duplicate":true},
            {"error":"Event too large","code":"event_too_large","detail":"70000 of 65536 bytes"}]}}"#;
        assert_eq!(
            read_results(body, 3).unwrap(),
            vec![
                Outcome::Stored { offset: 7, event_id: "a".into() },
                Outcome::Duplicate { offset: 3, event_id: "b".into() },
                Outcome::Refused {
                    error: "Event too large".into(),
                    code: "event_too_large".into(),
                    detail: Some("70000 of 65536 bytes".into())
                },
            ]
        );
        assert_eq!(read_results(body, 2).unwrap_err(), "3 results for 2 events");
        assert!(read_results(b"<html>", 1).is_err());
        assert!(read_results(b"{}", 1).is_err());
    }

    #[test]
    fn only_passing_troubles_are_temporary() {
        let refused = |code: &str| Outcome::Refused { error: String::new(), code: code.into(), detail: None };
        assert!(refused("storage_full").is_temporary());
        assert!(!refused("unknown_channel").is_temporary());
    }
}
