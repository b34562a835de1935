//! A reader of event streams, written down from the HTML standard alone: what a browser's EventSource would dispatch.

use std::time::Duration;

use crate::{Http, PATIENCE};

/// What the stream dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// `message` where the stream named none.
    pub event: String,
    /// The data, its lines joined.
    pub data: String,
    /// The last event id at that moment.
    pub id: String,
}

/// An open event stream.
pub struct EventStream {
    response: reqwest::Response,
    unread: String,
    /// The last event id so far: also moved by ids without data, which dispatch nothing.
    pub last_id: String,
    /// The pause that the server asked for last.
    pub retry: Option<Duration>,
}

impl EventStream {
    /// Opens `path` (below `/api/v1`), which must be answered with a stream.
    ///
    /// # Panics
    /// When it is not.
    pub async fn open(http: &Http, path: &str, last_id: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last_id.map(|id| ("last-event-id", id)).into_iter().collect();
        Self::open_with(http, path, &headers).await
    }

    /// The same with any headers.
    ///
    /// # Panics
    /// When it is not answered with a stream.
    pub async fn open_with(http: &Http, path: &str, more: &[(&str, &str)]) -> Self {
        let headers = [&[("accept", "text/event-stream")], more].concat();
        let last_id = more.iter().find(|(name, _)| *name == "last-event-id").map(|(_, id)| *id);
        let response = http.open(&format!("/api/v1{path}"), &headers).await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let last_id = last_id.unwrap_or_default().to_owned();
        Self { response, unread: String::new(), last_id, retry: None }
    }

    /// Reads on to the next id, of a stream that begins with one and no data.
    ///
    /// # Panics
    /// When the stream ends before it.
    pub async fn read_id(&mut self) {
        loop {
            let line = self.line().await.expect("the stream says its place");
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = id.to_owned();
                return;
            }
        }
    }

    /// The next thing dispatched; `None` when the stream has ended or broken off.
    ///
    /// # Panics
    /// When neither happens.
    pub async fn next(&mut self) -> Option<Dispatched> {
        let (mut event, mut data) = (String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "event" => event = value,
                "data" => data.push(value),
                "id" => self.last_id = value,
                "retry" => self.retry = value.parse().ok().map(Duration::from_millis),
                "" if line.is_empty() && !data.is_empty() => {
                    let event = if event.is_empty() { "message".to_owned() } else { event };
                    return Some(Dispatched { event, data: data.join("\n"), id: self.last_id.clone() });
                }
                "" if line.is_empty() => event.clear(),
                _ => {}
            }
        }
    }

    /// The next event of the feed, past everything else.
    pub async fn next_event(&mut self) -> Option<serde_json::Value> {
        loop {
            let dispatched = self.next().await?;
            if dispatched.event == "message" {
                return Some(serde_json::from_str(&dispatched.data).expect("data is an event"));
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.unread.split_once('\n') {
                let line = line.to_owned();
                self.unread = rest.to_owned();
                return Some(line);
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("the stream stands still");
            self.unread.push_str(std::str::from_utf8(&chunk.ok()??).expect("the tests' events are ASCII"));
        }
    }
}
