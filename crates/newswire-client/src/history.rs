//! What was: pages of stored events, and how the server is.

use std::collections::HashMap;

use newswire_protocol::{Epoch, Event};
use serde_json::value::RawValue;

use crate::client::{Client, Unanswered};
use crate::problem::Problem;

/// An event as it arrived: read, and in the server's own words.
#[derive(Clone, Debug)]
pub struct Received {
    /// The event.
    pub event: Event,
    /// Its JSON text, byte for byte.
    pub text: String,
}

/// Which stored events to list.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    parameters: Vec<(String, String)>,
}

impl HistoryQuery {
    /// Every channel, oldest first, as many as the server gives by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these channels.
    #[must_use]
    pub fn channels(self, channels: &[impl AsRef<str>]) -> Self {
        let names: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
        self.with("channels", &names.join(","))
    }

    /// Only offsets beyond this one: the `next` of an ascending page.
    #[must_use]
    pub fn after(self, offset: u64) -> Self {
        self.with("after", &offset.to_string())
    }

    /// Only offsets before this one: the `next` of a descending page.
    #[must_use]
    pub fn before(self, offset: u64) -> Self {
        self.with("before", &offset.to_string())
    }

    /// At most this many events, 1 to 1000.
    #[must_use]
    pub fn limit(self, events: u32) -> Self {
        self.with("limit", &events.to_string())
    }

    /// Newest first.
    #[must_use]
    pub fn newest_first(self) -> Self {
        self.with("order", "desc")
    }

    /// Any other parameter: `since`, `event_type`, or a filter key. The last value of a name counts.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As [`HistoryQuery::with`], beside what was given for that parameter before.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A page of stored events.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// In the order asked for; may be short or empty although there are more.
    pub events: Vec<Received>,
    /// The incarnation of the log.
    pub epoch: Epoch,
    /// The log's end: the last offset there is.
    pub offset: u64,
    /// Where the next page begins (`after` when ascending, `before` when descending); None: that was all.
    pub next: Option<u64>,
    /// Of an ascending page behind `after`: whether every event of these channels behind it is still kept. None where the
    /// server does not say.
    pub recovered: Option<bool>,
}

/// Whether the server is well.
#[derive(Clone, Debug)]
pub struct Health {
    /// It takes and delivers events.
    pub healthy: bool,
    /// What it says about itself.
    pub report: serde_json::Value,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// Over TLS, the two sides do not trust each other.
    #[error("{0}")]
    Distrust(String),
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
    /// An answer that is none of Newswire's.
    #[error("unreadable answer from {url}: {detail}")]
    Unreadable {
        /// Where the request went.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Client {
    /// One page of stored events. Safe to repeat, and to drop.
    pub async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, RequestError> {
        let (url, status, body) = self.get("events", &query.parameters).await?;
        if !status.is_success() {
            return Err(RequestError::Refused(Problem::read(status, &body)));
        }
        read_page(&body).map_err(|detail| RequestError::Unreadable { url: url.to_string(), detail })
    }

    /// The event at this offset, if it is (still) there.
    pub async fn event_at(&self, offset: u64) -> Result<Option<Received>, RequestError> {
        let (url, status, body) = self.get(&format!("events/{offset}"), &[]).await?;
        if matches!(status.as_u16(), 404 | 410) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(RequestError::Refused(Problem::read(status, &body)));
        }
        read_event(&body)
            .map(Some)
            .map_err(|detail| RequestError::Unreadable { url: url.to_string(), detail })
    }

    /// How the server is. An unhealthy one is an answer, not an error.
    pub async fn health(&self) -> Result<Health, RequestError> {
        let (url, status, body) = self.get("health", &[]).await?;
        match serde_json::from_slice(&body) {
            Ok(report) if status.is_success() || status.as_u16() == 503 => {
                Ok(Health { healthy: status.is_success(), report })
            }
            Ok(_) => Err(RequestError::Refused(Problem::read(status, &body))),
            Err(error) => Err(RequestError::Unreadable { url: url.to_string(), detail: error.to_string() }),
        }
    }

    async fn get(
        &self,
        path: &str,
        parameters: &[(String, String)],
    ) -> Result<(url::Url, http::StatusCode, bytes::Bytes), RequestError> {
        let mut url = self.endpoint(path);
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let answer = async {
            let response = self.http().get(url.clone()).send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) => Ok((url, status, body)),
            Err(error) => Err(match self.unanswered(&error).await {
                Unanswered::Distrust(reason) => RequestError::Distrust(reason),
                Unanswered::Unreachable(reason) => RequestError::Unreachable(reason),
            }),
        }
    }
}

fn read_page(body: &[u8]) -> Result<HistoryPage, String> {
    let top: HashMap<&str, &RawValue> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let member = |key: &str| top.get(key).map_or("null", |raw| raw.get());
    let texts: Vec<&RawValue> =
        serde_json::from_str(member("data")).map_err(|error| format!("data: {error}"))?;
    let events = texts.into_iter().map(|text| received(text.get())).collect::<Result<_, _>>()?;
    let epoch: String = serde_json::from_str(member("epoch")).map_err(|error| format!("epoch: {error}"))?;
    Ok(HistoryPage {
        events,
        epoch: epoch.parse().map_err(|error| format!("epoch: {error}"))?,
        offset: serde_json::from_str(member("offset")).map_err(|error| format!("offset: {error}"))?,
        next: serde_json::from_str(member("next")).map_err(|error| format!("next: {error}"))?,
        recovered: serde_json::from_str(member("recovered"))
            .map_err(|error| format!("recovered: {error}"))?,
    })
}

fn read_event(body: &[u8]) -> Result<Received, String> {
    let top: HashMap<&str, &RawValue> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    received(top.get("data").map_or("null", |raw| raw.get()))
}

fn received(text: &str) -> Result<Received, String> {
    let event = serde_json::from_str(text).map_err(|error| format!("event: {error}"))?;
    Ok(Received { event, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = concat!(
        r#"{"event_type":"task.created","channel":"tasks","timestamp":"2026-11-22T15:24:00Z","#,
        r#""payload":{"n":1.0},"event_id":"a","offset":5,"version":1}"#
    );

    #[test]
    fn a_page_keeps_the_text_of_its_events() {
        let body = format!(
            r#"{{"data":[{EVENT}],"epoch":"0197a6b0-0000-4000-8000-000000000000","offset":9,"next":5}}"#
        );
        let page = read_page(body.as_bytes()).unwrap();
        assert_eq!(page.events[0].text, EVENT);
        assert_eq!(page.events[0].event.offset, 5);
        assert_eq!((page.offset, page.next, page.recovered), (9, Some(5), None));
        let overtaken = body.replace("\"next\":5", "\"next\":5,\"recovered\":false");
        assert_eq!(read_page(overtaken.as_bytes()).unwrap().recovered, Some(false));
        assert!(read_page(b"{}").unwrap_err().starts_with("data: "));
    }

    #[test]
    fn one_event() {
        let body = format!(r#"{{"data":{EVENT}}}"#);
        assert_eq!(read_event(body.as_bytes()).unwrap().text, EVENT);
        assert!(read_event(b"{}").is_err());
    }

    #[test]
    fn the_last_value_of_a_parameter_counts() {
        let query = HistoryQuery::new().channels(&["a", "b"]).after(1).after(2).newest_first();
        let expected = [("channels", "a,b"), ("after", "2"), ("order", "desc")];
        assert_eq!(query.parameters, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
