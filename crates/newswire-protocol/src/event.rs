//! Events: parsed once when published, encoded once for the log and all subscribers, and read by clients.

use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::codes::{ErrorCode, Refusal};
use crate::json::{self, Kind, RawString, Scanner, SyntaxError, write_string};
use crate::limits::Limits;
use crate::names;
use crate::payload::PayloadWatch;
use crate::scalar::Scalar;
use crate::time::{Rfc3339, UnixMicros};

/// An event that a publisher offers: checked, without offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes; a channel name, not known to be declared.
    pub channel: String,
    /// Its type, of an open vocabulary.
    pub event_type: String,
    /// When it happened, in UTC with `Z` and the sub-second digits as given; `None` for the server's clock.
    pub timestamp: Option<String>,
    /// The publisher's own id, its idempotency key.
    pub event_id: Option<String>,
    /// A JSON object, byte for byte as published; `{}` if none was.
    pub payload: Box<str>,
    /// Who or what says so.
    pub source: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The conversation it belongs to.
    pub correlation_id: Option<String>,
    /// The event that led to it.
    pub causation_id: Option<String>,
    routing: Routing,
}

impl Draft {
    /// Parses an event object. A `publish` command is one too: `action` and `id` are ignored like all unknown
    /// fields, and so are an `offset` and a `version` that a publisher gives. `null` is absent.
    ///
    /// # Errors
    /// [`ErrorCode::EventTooLarge`] (unread), [`ErrorCode::InvalidJson`], [`ErrorCode::ExpectedJsonObject`], and
    /// [`ErrorCode::InvalidEvent`] with a detail that names the field.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, Refusal> {
        if text.len() > limits.event_bytes {
            return Err(too_large(limits));
        }
        let mut fields = Fields::default();
        let is_object = json::members_with(text, |key, scanner| fields.member(key, scanner).map(drop));
        match is_object {
            Err(syntax) => Err(invalid_json(syntax)),
            Ok(false) => Err(ErrorCode::ExpectedJsonObject.into()),
            Ok(true) => fields.check(),
        }
    }

    /// Checks an event that came in another shape than the feed's own JSON object.
    ///
    /// # Errors
    /// As [`Draft::parse`].
    pub fn from_parts(parts: &Parts<'_>, limits: &Limits) -> Result<Self, Refusal> {
        let payload = parts.payload.unwrap_or("{}");
        let strings = [
            parts.channel,
            parts.event_type,
            parts.timestamp,
            parts.event_id,
            parts.source,
            parts.traceparent,
            parts.correlation_id,
            parts.causation_id,
        ];
        let bytes = payload.len() + strings.iter().flatten().map(|text| text.len()).sum::<usize>();
        if bytes > limits.event_bytes {
            return Err(too_large(limits));
        }
        let mut watch = PayloadWatch::default();
        let payload = json::document_with(payload, &mut watch).map_err(invalid_json)?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            channel: required("channel", owned(parts.channel))?,
            event_type: required("event_type", owned(parts.event_type))?,
            timestamp: owned(parts.timestamp),
            event_id: owned(parts.event_id),
            payload: payload.into(),
            source: owned(parts.source),
            traceparent: owned(parts.traceparent),
            correlation_id: owned(parts.correlation_id),
            causation_id: owned(parts.causation_id),
            routing: checked_payload(payload, watch)?,
        }
        .checked()
    }

    /// The field rules that hold whatever shape the event came in.
    fn checked(mut self) -> Result<Self, Refusal> {
        if !names::is_channel_name(&self.channel) {
            return Err(invalid("channel", "must be 1 to 128 characters of A-Z a-z 0-9 _ . : # @ -"));
        }
        if !names::is_event_type(&self.event_type) {
            return Err(invalid("event_type", "must be 1 to 128 characters of A-Z a-z 0-9 _ . : / -"));
        }
        if self.event_id.as_deref().is_some_and(|id| !names::is_event_id(id)) {
            return Err(invalid("event_id", "must be 1 to 128 printable ASCII characters"));
        }
        if let Some(given) = &self.timestamp {
            let time = Rfc3339::parse(given).ok_or_else(|| {
                invalid("timestamp", "must be RFC 3339 with an offset and at most 9 sub-second digits")
            })?;
            if !time.is_written_so(given) {
                self.timestamp = Some(time.to_string());
            }
        }
        Ok(self)
    }

    /// What the well-known filter keys `agent` and `project` compare; taken out while the payload was checked.
    pub fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// As [`Draft::routing`], moved out instead of copied.
    pub fn take_routing(&mut self) -> Routing {
        std::mem::take(&mut self.routing)
    }

    /// Tells two events apart that came under one id: channel, type, payload bytes and given timestamp.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        let timestamp = self.timestamp.as_deref();
        // Each part goes in behind its length, so that no two lists of parts run together.
        for part in [Some(&*self.channel), Some(&*self.event_type), Some(&*self.payload), timestamp] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hasher.update(&length.to_le_bytes());
            hasher.update(part.unwrap_or_default().as_bytes());
        }
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        fingerprint
    }

    /// Writes the event as subscribers will get it, all but the digits of its offset.
    ///
    /// `event_id` is the draft's own or one made for it; `now` stands in where the publisher gave no time.
    pub fn encode(&self, event_id: &str, now: UnixMicros) -> Encoded {
        let optional = [
            ("source", &self.source),
            ("traceparent", &self.traceparent),
            ("correlation_id", &self.correlation_id),
            ("causation_id", &self.causation_id),
        ];
        let strings: usize =
            optional.iter().filter_map(|(_, text)| text.as_deref()).map(|text| text.len() + 24).sum();
        let known = self.channel.len() + self.event_type.len() + self.payload.len() + event_id.len();
        let mut json = Vec::with_capacity(known + strings + 160);
        json.extend_from_slice(b"{\"event_type\":");
        write_string(&mut json, &self.event_type);
        json.extend_from_slice(b",\"channel\":");
        write_string(&mut json, &self.channel);
        json.extend_from_slice(b",\"timestamp\":\"");
        match &self.timestamp {
            Some(given) => json.extend_from_slice(given.as_bytes()),
            None => write!(json, "{now}").expect("writing into memory cannot fail"),
        }
        json.extend_from_slice(b"\",\"payload\":");
        let payload = json.len()..json.len() + self.payload.len();
        json.extend_from_slice(self.payload.as_bytes());
        json.extend_from_slice(b",\"event_id\":");
        write_string(&mut json, event_id);
        json.extend_from_slice(b",\"offset\":");
        let offset_at = json.len();
        json.extend_from_slice(b",\"version\":1");
        for (name, text) in optional {
            if let Some(text) = text {
                json.extend_from_slice(b",\"");
                json.extend_from_slice(name.as_bytes());
                json.extend_from_slice(b"\":");
                write_string(&mut json, text);
            }
        }
        json.push(b'}');
        Encoded { json, offset_at, payload }
    }
}

/// The parts of an event that came in another shape, such as a CloudEvent. `None` is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    /// Required.
    pub channel: Option<&'a str>,
    /// Required.
    pub event_type: Option<&'a str>,
    /// RFC 3339 with an offset.
    pub timestamp: Option<&'a str>,
    /// The publisher's id.
    pub event_id: Option<&'a str>,
    /// The text of a JSON object.
    pub payload: Option<&'a str>,
    /// Optional.
    pub source: Option<&'a str>,
    /// Optional.
    pub traceparent: Option<&'a str>,
    /// Optional.
    pub correlation_id: Option<&'a str>,
    /// Optional.
    pub causation_id: Option<&'a str>,
}

/// The raw fields of an event object as they are met, one slot a known field.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    raw: [Option<&'a str>; NAMES.len()],
    twice: Option<&'static str>,
    payload: PayloadWatch<'a>,
}

const NAMES: [&str; 9] = [
    "channel",
    "event_type",
    "timestamp",
    "event_id",
    "source",
    "traceparent",
    "correlation_id",
    "causation_id",
    "payload",
];
const PAYLOAD: usize = NAMES.len() - 1;

impl<'a> Fields<'a> {
    /// Scans the value of this member and keeps it if it is a field of an event.
    pub(crate) fn member(
        &mut self,
        key: RawString<'a>,
        scanner: &mut Scanner<'a>,
    ) -> Result<&'a str, SyntaxError> {
        let Some(slot) = NAMES.iter().position(|name| key.is(name)) else {
            return scanner.value(&mut json::Ignore);
        };
        if self.raw[slot].is_some() {
            self.twice.get_or_insert(NAMES[slot]);
            return scanner.value(&mut json::Ignore);
        }
        let value = if slot == PAYLOAD {
            scanner.value(&mut self.payload)?
        } else {
            scanner.value(&mut json::Ignore)?
        };
        self.raw[slot] = Some(value);
        Ok(value)
    }

    /// The event, once the text around the fields has proved to be JSON.
    pub(crate) fn check(self) -> Result<Draft, Refusal> {
        if let Some(name) = self.twice {
            return Err(invalid(name, "is given twice"));
        }
        let [
            channel,
            event_type,
            timestamp,
            event_id,
            source,
            traceparent,
            correlation_id,
            causation_id,
            payload,
        ] = self.raw.map(|raw| raw.filter(|raw| *raw != "null"));
        let payload_text = payload.unwrap_or("{}");
        Draft {
            channel: required("channel", text("channel", channel)?)?,
            event_type: required("event_type", text("event_type", event_type)?)?,
            timestamp: text("timestamp", timestamp)?,
            event_id: text("event_id", event_id)?,
            source: text("source", source)?,
            traceparent: text("traceparent", traceparent)?,
            correlation_id: text("correlation_id", correlation_id)?,
            causation_id: text("causation_id", causation_id)?,
            payload: payload_text.into(),
            routing: checked_payload(payload_text, self.payload)?,
        }
        .checked()
    }
}

fn checked_payload(raw: &str, watch: PayloadWatch<'_>) -> Result<Routing, Refusal> {
    if json::kind(raw) != Kind::Object {
        return Err(invalid("payload", "must be an object"));
    }
    watch.finish().map_err(|rule| invalid("payload", rule))
}

fn text(name: &str, raw: Option<&str>) -> Result<Option<String>, Refusal> {
    raw.map(|raw| json::string(raw).map(Cow::into_owned).ok_or_else(|| invalid(name, "must be a string")))
        .transpose()
}

fn required(name: &str, text: Option<String>) -> Result<String, Refusal> {
    text.ok_or_else(|| invalid(name, "is required"))
}

fn invalid(field: &str, rule: &str) -> Refusal {
    Refusal::because(ErrorCode::InvalidEvent, format!("{field} {rule}"))
}

fn too_large(limits: &Limits) -> Refusal {
    Refusal::because(ErrorCode::EventTooLarge, format!("an event has at most {} bytes", limits.event_bytes))
}

fn invalid_json(syntax: SyntaxError) -> Refusal {
    Refusal::because(ErrorCode::InvalidJson, syntax.to_string())
}

/// An event as it is stored and sent, all but the digits of its offset, which are known only when it is stored.
///
/// The final bytes are `json[..offset_at]`, the offset in decimal, `json[offset_at..]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The object with nothing behind `"offset":`.
    pub json: Vec<u8>,
    /// Where the digits go.
    pub offset_at: usize,
    /// Where the payload stands; always before `offset_at`, so valid in the final bytes too.
    pub payload: Range<usize>,
}

impl Encoded {
    /// The final bytes with this offset.
    pub fn with_offset(&self, offset: u64) -> Vec<u8> {
        let digits = offset.to_string();
        let mut out = Vec::with_capacity(self.json.len() + digits.len());
        out.extend_from_slice(&self.json[..self.offset_at]);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.json[self.offset_at..]);
        out
    }
}

/// Fields of a payload that the filter key `agent` compares.
pub const AGENT_FIELDS: [&str; 5] = ["agent_id", "agent", "from", "to", "assigned_to"];

/// Fields of a payload that the filter key `project` compares.
pub const PROJECT_FIELDS: [&str; 2] = ["project", "project_id"];

/// What the filter keys `agent` and `project` compare: values of the payload's well-known top-level keys, in the
/// order of the payload. A value too long for any filter is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// From `agent_id`, `agent`, `from`, `to`, `assigned_to`.
    pub agents: Vec<Scalar>,
    /// From `project`, `project_id`.
    pub projects: Vec<Scalar>,
}

#[derive(Clone, Copy)]
pub(crate) enum RoutingKey {
    Agent,
    Project,
}

impl RoutingKey {
    pub(crate) fn of(name: &str) -> Option<Self> {
        if AGENT_FIELDS.contains(&name) {
            Some(Self::Agent)
        } else {
            PROJECT_FIELDS.contains(&name).then_some(Self::Project)
        }
    }
}

impl Routing {
    pub(crate) fn add(&mut self, key: RoutingKey, raw: &str) {
        let values = match key {
            RoutingKey::Agent => &mut self.agents,
            RoutingKey::Project => &mut self.projects,
        };
        if let Some(value) = Scalar::from_raw_json(raw)
            && value.fits_filter()
            && !values.contains(&value)
        {
            values.push(value);
        }
    }
}

/// An event as clients read it. Unknown fields are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its type.
    pub event_type: String,
    /// Its channel.
    pub channel: String,
    /// When it happened, RFC 3339 in UTC.
    pub timestamp: String,
    /// A JSON object, as published.
    pub payload: Box<RawValue>,
    /// The publisher's id or a UUIDv7.
    pub event_id: String,
    /// Its position in the log.
    pub offset: u64,
    /// Version of this shape.
    #[serde(default = "version_one")]
    pub version: u32,
    /// Who or what says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
}

fn version_one() -> u32 {
    1
}
