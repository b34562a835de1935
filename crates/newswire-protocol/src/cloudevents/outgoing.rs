//! Stored events, written as CloudEvents.

use std::borrow::Cow;

use super::{VERSION, percent_encoded};
use crate::codes::Epoch;
use crate::json::{self, write_string};

/// A stored event as a CloudEvent.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Names and values, all strings, in the order in which they are written; those of the specification first.
    attributes: Vec<(&'static str, Cow<'a, str>)>,
    /// The payload, byte for byte.
    data: &'a str,
}

/// What is taken from the stored event as it is: its field, and the attribute.
const COPIED: [(&str, &str); 6] = [
    ("event_type", "type"),
    ("timestamp", "time"),
    ("channel", "channel"),
    ("traceparent", "traceparent"),
    ("correlation_id", "correlationid"),
    ("causation_id", "causationid"),
];

impl<'a> Outgoing<'a> {
    /// The event whose stored JSON this is, of a log with this epoch. `None` if it is no stored event.
    ///
    /// An event without a source is the log's: `urn:newswire:` and the epoch. Where the event id is what a CloudEvent of
    /// that source was stored under, `id` is that CloudEvent's again.
    pub fn of(event: &'a str, epoch: Epoch) -> Option<Self> {
        let (mut source, mut id, mut data, mut offset) = (None, None, None, None);
        let mut copied: [Option<Cow<'a, str>>; COPIED.len()] = Default::default();
        let is_object = json::members(event, |key, raw| {
            if let Some(slot) = COPIED.iter().position(|(field, _)| key.is(field)) {
                copied[slot] = json::string(raw);
            } else if key.is("source") {
                source = json::string(raw).filter(|source| !source.is_empty());
            } else if key.is("event_id") {
                id = json::string(raw);
            } else if key.is("payload") {
                data = Some(raw);
            } else if key.is("offset") {
                offset = Some(raw);
            }
        });
        if !is_object.ok()? {
            return None;
        }
        let id = original_id(id?, source.as_deref());
        let source = source.map_or_else(|| format!("urn:newswire:{epoch}").into(), uri_reference);
        let mut attributes = vec![("specversion", VERSION.into()), ("id", id), ("source", source)];
        let copied = COPIED.iter().zip(copied);
        attributes.extend(copied.filter_map(|((_, attribute), value)| Some((*attribute, value?))));
        attributes.push(("epoch", epoch.to_string().into()));
        // A string, because an integer of CloudEvents has 32 bits.
        attributes.push(("offset", offset?.into()));
        Some(Self { attributes, data: data? })
    }

    /// Appends the event in the JSON format.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (name, value) in &self.attributes {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_string(out, value);
            out.push(b',');
        }
        out.extend_from_slice(b"\"datacontenttype\":\"application/json\",\"data\":");
        out.extend_from_slice(self.data.as_bytes());
        out.push(b'}');
    }

    /// The attributes as headers carry them: names without `ce-`, values in visible ASCII.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        self.attributes.iter().map(|(name, value)| {
            (
                *name,
                percent_encoded(value, |byte| matches!(byte, b'"' | b'%') || !(0x21..0x7f).contains(&byte)),
            )
        })
    }

    /// The data, JSON.
    pub fn data(&self) -> &'a str {
        self.data
    }
}

/// Undoes [`event_id`](super::event_id), where it can be undone.
fn original_id<'a>(event_id: Cow<'a, str>, source: Option<&str>) -> Cow<'a, str> {
    let own = source.and_then(|source| event_id.strip_prefix(source)?.strip_prefix('#'));
    match own.filter(|own| !own.is_empty()) {
        Some(own) => Cow::Owned(own.to_owned()),
        None => event_id,
    }
}

/// A source is any string to us and a URI reference to CloudEvents: what none may hold is percent-encoded.
fn uri_reference(source: Cow<'_, str>) -> Cow<'_, str> {
    let may_not = |byte: u8| !(0x21..0x7f).contains(&byte) || b"\"<>\\^`{|}".contains(&byte);
    match percent_encoded(&source, may_not) {
        Cow::Borrowed(_) => source,
        Cow::Owned(encoded) => Cow::Owned(encoded),
    }
}
