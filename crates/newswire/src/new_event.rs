//! Events made of the application's values.

use std::time::SystemTime;

use newswire_protocol::{Draft, ErrorCode, Limits, Parts, Refusal, UnixMicros};
use serde::Serialize;

/// An event to be published.
///
/// ```
/// use newswire::NewEvent;
///
/// #[derive(serde::Serialize)]
/// struct Task { id: String, done: bool }
///
/// let task = Task { id: "task-7".into(), done: false };
/// let event = NewEvent::new("tasks", "task.created").payload(&task).id("task-7/created");
/// ```
///
/// What breaks a rule of the protocol is refused when it is published, alone.
#[derive(Clone, Debug)]
#[must_use = "an event does nothing before it is published"]
pub struct NewEvent {
    channel: String,
    event_type: String,
    payload: Result<Option<String>, String>,
    timestamp: Option<String>,
    event_id: Option<String>,
    source: Option<String>,
    traceparent: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
}

impl NewEvent {
    /// An event of this type in this channel, that happens now and has the payload `{}`.
    pub fn new(channel: impl Into<String>, event_type: impl Into<String>) -> Self {
        Self {
            channel: channel.into(),
            event_type: event_type.into(),
            payload: Ok(None),
            timestamp: None,
            event_id: None,
            source: None,
            traceparent: None,
            correlation_id: None,
            causation_id: None,
        }
    }

    /// What happened: anything that is written as a JSON object.
    pub fn payload<T: Serialize + ?Sized>(mut self, payload: &T) -> Self {
        self.payload = serde_json::to_string(payload).map(Some).map_err(|error| error.to_string());
        self
    }

    /// What happened, as the text of a JSON object, which is passed on as it stands.
    pub fn payload_json(mut self, payload: impl Into<String>) -> Self {
        self.payload = Ok(Some(payload.into()));
        self
    }

    /// The same in another channel.
    pub fn to(mut self, channel: impl Into<String>) -> Self {
        self.channel = channel.into();
        self
    }

    /// Your id for it, 1 to 128 printable ASCII characters: published again under it within `log.dedup_window`, it is stored
    /// once.
    pub fn id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// When it happened.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.timestamp = Some(UnixMicros::from(time).to_string());
        self
    }

    /// When it happened, RFC 3339 with an offset.
    pub fn timestamp(mut self, timestamp: impl Into<String>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    /// Who or what says so.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// W3C trace context.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The conversation it belongs to.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The event that led to it.
    pub fn causation_id(mut self, id: impl Into<String>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// Checked by the rules that hold for every publisher.
    pub(crate) fn draft(&self, limits: &Limits) -> Result<Draft, Refusal> {
        let payload = self.payload.as_ref().map_err(|error| {
            Refusal::because(ErrorCode::InvalidEvent, format!("payload cannot be written as JSON: {error}"))
        })?;
        let parts = Parts {
            channel: Some(&self.channel),
            event_type: Some(&self.event_type),
            timestamp: self.timestamp.as_deref(),
            event_id: self.event_id.as_deref(),
            payload: payload.as_deref(),
            source: self.source.as_deref(),
            traceparent: self.traceparent.as_deref(),
            correlation_id: self.correlation_id.as_deref(),
            causation_id: self.causation_id.as_deref(),
        };
        Draft::from_parts(&parts, limits)
    }
}
