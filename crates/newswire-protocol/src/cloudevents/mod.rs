//! CloudEvents 1.0: another shape for the same events, in (JSON format and HTTP headers) and out.
//!
//! | CloudEvent | event |
//! | --- | --- |
//! | `type`, `time` | `event_type`, `timestamp` |
//! | `source` and `id` | `source`; together the `event_id`, see [`event_id`] |
//! | `data` | `payload`, byte for byte; so it has to be a JSON object |
//! | extensions `channel`, `traceparent`, `correlationid`, `causationid` | the fields of those names |
//!
//! An event has no place for anything else, so other attributes are not kept.

mod incoming;
mod outgoing;

use std::borrow::Cow;

pub use incoming::{HeaderRefused, attribute_value, from_attributes, parse};
pub use outgoing::Outgoing;

/// The media type of one event in the JSON format.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of a JSON array of events.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// What the header of an attribute is called: this and the attribute's name.
pub const HEADER_PREFIX: &str = "ce-";

/// The one version there is.
const VERSION: &str = "1.0";

/// The id under which an event of this `source` and `id` is stored: both with a `#` between them, or where no event id
/// could be that (over 128 characters, or not printable ASCII) a hash of it. The same pair gives the same id for ever, and
/// two pairs never the same one.
pub fn event_id(source: &str, id: &str) -> String {
    // Where the source has a `#` of its own, nobody could tell where it ends; no source without one begins like this.
    let has_own = source.contains('#');
    let whole = if has_own { format!("#{}#{source}#{id}", source.len()) } else { format!("{source}#{id}") };
    if !has_own && crate::names::is_event_id(&whole) {
        return whole;
    }
    format!("{HASHED}{}", blake3::hash(whole.as_bytes()).to_hex())
}

/// What stands before the hash in an event id, so that nobody takes it for somebody's own.
const HASHED: &str = "blake3:";

/// Whether a `datacontenttype` says that the data is JSON; one that says nothing does.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media.split_once('/').map(|(_, subtype)| subtype.to_ascii_lowercase());
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// The text with these bytes of its UTF-8 written as `%XX`.
fn percent_encoded(text: &str, must_be: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if !text.bytes().any(&must_be) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if must_be(byte) {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            out.push(char::from(byte));
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
