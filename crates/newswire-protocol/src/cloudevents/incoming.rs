//! CloudEvents that somebody publishes.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{VERSION, event_id, is_json};
use crate::codes::{ErrorCode, Refusal};
use crate::event::{Draft, Parts};
use crate::json;
use crate::limits::Limits;

/// Names of the attributes that are read; what else there is passes unread.
const NAMES: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "channel",
    "traceparent",
    "correlationid",
    "causationid",
    "data",
    "data_base64",
];
/// How many of them are attributes, which can come as headers; the others are members of the JSON format alone.
const ATTRIBUTES: usize = 10;

/// Reads one event in the JSON format. Its channel is the extension `channel`, or else the one given here.
///
/// # Errors
/// As [`Draft::parse`]; a detail names the attribute by CloudEvents' name for it.
pub fn parse(text: &str, channel: Option<&str>, limits: &Limits) -> Result<Draft, Refusal> {
    let mut raw: [Option<&str>; NAMES.len()] = [None; NAMES.len()];
    let mut twice = None;
    let is_object = json::members(text, |key, value| {
        if let Some(slot) = NAMES.iter().position(|name| key.is(name))
            && raw[slot].replace(value).is_some()
        {
            twice.get_or_insert(NAMES[slot]);
        }
    });
    match is_object {
        Err(syntax) => return Err(Refusal::because(ErrorCode::InvalidJson, syntax.to_string())),
        Ok(false) => return Err(ErrorCode::ExpectedJsonObject.into()),
        Ok(true) => {}
    }
    if let Some(name) = twice {
        return Err(invalid(name, "is given twice"));
    }
    let raw = raw.map(|raw| raw.filter(|raw| *raw != "null"));
    let mut attributes: [Option<Cow<'_, str>>; ATTRIBUTES] = Default::default();
    for (slot, attribute) in attributes.iter_mut().enumerate() {
        let string = |raw| json::string(raw).ok_or_else(|| invalid(NAMES[slot], "must be a string"));
        *attribute = raw[slot].map(string).transpose()?;
    }
    let [data, base64] = [raw[ATTRIBUTES], raw[ATTRIBUTES + 1]];
    let content_type = attributes[5].as_deref();
    let payload = match (data, base64) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err(invalid("data_base64", "excludes data")),
        (Some(data), None) if is_json(content_type) => Some(Cow::Borrowed(data)),
        (None, Some(base64)) if content_type.is_some() && is_json(content_type) => {
            Some(Cow::Owned(decoded(base64)?))
        }
        _ => return Err(not_json()),
    };
    draft(&attributes, payload.as_deref(), channel, limits)
}

/// Makes an event of attributes that came beside its data, as in HTTP headers: `attributes` are names without
/// `ce-`, in lower case, and their values ([`attribute_value`]); `content_type` is that of `data`.
///
/// # Errors
/// As [`parse`].
pub fn from_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>,
    content_type: Option<&str>,
    data: &str,
    channel: Option<&str>,
    limits: &Limits,
) -> Result<Draft, Refusal> {
    let mut known: [Option<Cow<'a, str>>; ATTRIBUTES] = Default::default();
    for (name, value) in attributes {
        if let Some(slot) = NAMES[..ATTRIBUTES].iter().position(|known| *known == name)
            && known[slot].replace(value).is_some()
        {
            return Err(invalid(NAMES[slot], "is given twice"));
        }
    }
    let payload = match data.trim_ascii() {
        "" | "null" => None,
        _ if content_type.is_some() && is_json(content_type) => Some(data.trim_ascii()),
        _ => return Err(not_json()),
    };
    draft(&known, payload, channel, limits)
}

fn draft(
    attributes: &[Option<Cow<'_, str>>; ATTRIBUTES],
    payload: Option<&str>,
    channel: Option<&str>,
    limits: &Limits,
) -> Result<Draft, Refusal> {
    let [version, id, source, event_type, time, _, own_channel, traceparent, correlation_id, causation_id] =
        attributes.each_ref().map(Option::as_deref);
    if version.is_none_or(|version| version != VERSION) {
        return Err(invalid("specversion", "must be \"1.0\""));
    }
    let needed = |name: &str, value: Option<&'_ str>| match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(invalid(name, "is required and must not be empty")),
    };
    let (source, id) = (needed("source", source)?, needed("id", id)?);
    let event_type = needed("type", event_type)?;
    let Some(channel) = own_channel.or(channel) else {
        let detail = "channel is required: as an extension attribute, or as a parameter of the address";
        return Err(Refusal::because(ErrorCode::InvalidEvent, detail));
    };
    let parts = Parts {
        channel: Some(channel),
        event_type: Some(&event_type),
        timestamp: time,
        event_id: Some(&event_id(&source, &id)),
        payload,
        source: Some(&source),
        traceparent,
        correlation_id,
        causation_id,
    };
    Draft::from_parts(&parts, limits)
}

/// The text behind a `data_base64`.
fn decoded(raw: &str) -> Result<String, Refusal> {
    let bytes = json::string(raw).and_then(|text| STANDARD.decode(text.as_bytes()).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(|text| text.trim().to_owned())
        .ok_or_else(|| invalid("data_base64", "must be Base64 of JSON in UTF-8"))
}

fn not_json() -> Refusal {
    invalid("data", "must be a JSON object, and datacontenttype must say so")
}

fn invalid(name: &str, rule: &str) -> Refusal {
    Refusal::because(ErrorCode::InvalidEvent, format!("{name} {rule}"))
}

/// The header is no value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an attribute's value: percent-encoded UTF-8")]
pub struct HeaderRefused;

/// The value that a header stands for: quotes are taken off first, and then one round of percent-encoding.
///
/// # Errors
/// [`HeaderRefused`] where the bytes are no UTF-8 after that, or a quoted string has no end.
pub fn attribute_value(header: &[u8]) -> Result<Cow<'_, str>, HeaderRefused> {
    let unquoted = match header {
        [b'"', quoted @ ..] => Cow::Owned(unquoted(quoted)?),
        plain => Cow::Borrowed(plain),
    };
    if !unquoted.contains(&b'%') {
        return match unquoted {
            Cow::Borrowed(plain) => str::from_utf8(plain).map(Cow::Borrowed).map_err(|_| HeaderRefused),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| HeaderRefused),
        };
    }
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = &*unquoted;
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|hex| first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        match hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            // A percent sign that begins nothing stands for itself: older senders do not encode it.
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| HeaderRefused)
}

/// What stands between quotes, of which the first is gone already.
fn unquoted(quoted: &[u8]) -> Result<Vec<u8>, HeaderRefused> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    loop {
        match bytes.next().ok_or(HeaderRefused)? {
            b'"' if bytes.len() == 0 => return Ok(out),
            b'"' => return Err(HeaderRefused),
            b'\\' => out.push(bytes.next().ok_or(HeaderRefused)?),
            plain => out.push(plain),
        }
    }
}
