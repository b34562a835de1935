//! HTTP to the server: thin enough that a test sees every header and byte.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};

use crate::PATIENCE;

/// A client of one server; connections are kept alive.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
}

/// One answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Content-Type`, empty if there is none.
    pub content_type: String,
    /// All headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// `data` of a success.
    ///
    /// # Panics
    /// When the status is not 200.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["data"].clone()
    }

    /// Asserts a problem document with this status, and gives its `code`.
    ///
    /// # Panics
    /// When the status, the content type or one of the members is not as RFC 9457 and the protocol say.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.content_type.starts_with("application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], status, "{self:?}");
        for member in ["type", "title", "detail", "code"] {
            assert!(body[member].is_string(), "{member} is missing: {self:?}");
        }
        body["code"].as_str().unwrap().to_owned()
    }
}

impl Http {
    /// A client of the server at `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE * 2).build();
        Self { client: client.expect("a client without TLS"), base: format!("http://{addr}") }
    }

    /// Any request to a path (from the root). An error is a broken connection, not a status.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let response = request.send().await?;
        let headers = response.headers().clone();
        let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        let (status, content_type) = (response.status().as_u16(), content_type.to_owned());
        Ok(Answer { status, content_type, headers, body: response.text().await? })
    }

    /// Any request, which must be answered.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body.into()).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// GET whose body is read as it comes.
    ///
    /// # Panics
    /// When nothing is answered.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        // Without the time limit of other requests.
        let client = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
        let mut request = client.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    /// GET below `/api/v1`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("/api/v1{path}"), &[], "").await
    }

    /// POST /events with this content type.
    pub async fn post_events(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send("POST", "/api/v1/events", &[("content-type", content_type)], body).await
    }

    /// Publishes a JSON array and gives the results in order.
    ///
    /// # Panics
    /// When the answer is not 200 with as many results as events.
    pub async fn publish(&self, events: &[Value]) -> Vec<Value> {
        self.publish_texts(&events.iter().map(Value::to_string).collect::<Vec<_>>()).await
    }

    /// As [`Self::publish`], with the events' own bytes.
    pub async fn publish_texts<S: AsRef<str>>(&self, events: &[S]) -> Vec<Value> {
        let texts: Vec<&str> = events.iter().map(AsRef::as_ref).collect();
        let answer = self.post_events("application/json", format!("[{}]", texts.join(","))).await;
        let results = answer.data()["results"].as_array().expect("results are an array").clone();
        assert_eq!(results.len(), events.len(), "{answer:?}");
        results
    }

    /// Publishes one event that must be accepted, and gives its offset.
    pub async fn publish_one(&self, event: &Value) -> u64 {
        let results = self.publish(std::slice::from_ref(event)).await;
        results[0]["offset"].as_u64().unwrap_or_else(|| panic!("not accepted: {}", results[0]))
    }

    /// Everything that `GET /events?order=asc&{query}` gives, page after page.
    pub async fn history(&self, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer = self.get(&format!("/events?order=asc&limit=1000&{query}{cursor}")).await;
            events.extend(answer.data().as_array().expect("data is an array").iter().cloned());
            match answer.json()["next"].as_u64() {
                Some(next) => cursor = format!("&after={next}"),
                None => return events,
            }
        }
    }

    /// What `GET /channels` says about one channel; null if it does not list it.
    pub async fn channel(&self, name: &str) -> Value {
        let channels = self.get("/channels").await.data();
        let listed = channels.as_array().expect("channels are an array").iter();
        let mut named = listed.filter(|channel| channel["channel"] == name);
        named.next().cloned().unwrap_or(json!(null))
    }

    /// How many subscribers a channel has.
    pub async fn subscribers(&self, channel: &str) -> u64 {
        self.channel(channel).await["subscribers"].as_u64().expect("subscribers are counted")
    }

    /// The samples of `/metrics` whose name starts with `name`, added up.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.send("GET", "/metrics", &[], "").await.body;
        let samples = text.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
