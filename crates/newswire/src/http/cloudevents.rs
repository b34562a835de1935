//! CloudEvents over HTTP: by `Content-Type` and headers in, by `Accept` out.

use std::borrow::Cow;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use newswire_protocol::cloudevents::{self, Outgoing, attribute_value};
use newswire_protocol::{Draft, Epoch, ErrorCode, Limits, Refusal};

use super::problem::Problem;
use super::query_pairs;
use crate::Event;
use crate::history::HistoryPage;

/// The parameter that gives a channel to CloudEvents that name none.
const CHANNEL: &str = "channel";
/// The parameter of one event's address that asks for the binary mode, for which there is no media type.
const MODE: &str = "cloudevents";

/// The channel that the address gives, if it does.
pub(super) fn channel(uri: &Uri) -> Result<Option<String>, Problem> {
    let mut given = query_pairs(uri)?.into_iter().filter(|(name, _)| name == CHANNEL).map(|(_, value)| value);
    match (given.next(), given.next()) {
        (channel, None) => Ok(channel),
        _ => Err(Problem::bad_request("channel may be given only once")),
    }
}

/// Whether the request carries one CloudEvent in its headers.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// The event whose attributes are headers and whose data is the body.
pub(super) fn read_binary(
    headers: &HeaderMap,
    data: &str,
    channel: Option<&str>,
    limits: &Limits,
) -> Result<Draft, Refusal> {
    let mut attributes = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(cloudevents::HEADER_PREFIX) else { continue };
        let value = attribute_value(value.as_bytes())
            .map_err(|error| Refusal::because(ErrorCode::InvalidEvent, format!("{header}: {error}")))?;
        attributes.push((name, value));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    cloudevents::from_attributes(attributes, content_type, data, channel, limits)
}

/// How events are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As the feed does.
    Own,
    /// A CloudEvent, or a batch of them, as JSON.
    Structured,
    /// One CloudEvent, with its attributes in headers.
    Binary,
}

impl Mode {
    /// For one event.
    pub(super) fn of_one(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        match query_pairs(uri)?.iter().find(|(name, _)| name == MODE).map(|(_, value)| value.as_str()) {
            Some("binary") => Ok(Self::Binary),
            Some("structured") => Ok(Self::Structured),
            Some(_) => Err(Problem::bad_request("cloudevents must be structured or binary")),
            None if prefers(headers, cloudevents::STRUCTURED) => Ok(Self::Structured),
            None => Ok(Self::Own),
        }
    }

    /// For a page of events.
    pub(super) fn of_page(headers: &HeaderMap) -> Self {
        if prefers(headers, cloudevents::BATCH) { Self::Structured } else { Self::Own }
    }

    /// What tells the forms of one event apart in its entity tag.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Structured => ":ce",
            Self::Binary => ":ce-binary",
        }
    }
}

/// Whether the request names this media type, and likes plain JSON no better.
fn prefers(headers: &HeaderMap, wanted: &str) -> bool {
    let (mut liked, mut plain) = (0, 0);
    for value in headers.get_all(header::ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let mut parts = item.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            match media.as_str() {
                media if media == wanted => liked = quality,
                "application/json" => plain = quality,
                _ => {}
            }
        }
    }
    liked > 0 && liked >= plain
}

fn thousandths(quality: &str) -> u32 {
    quality.parse::<f32>().map_or(0, |quality| (quality.clamp(0.0, 1.0) * 1000.0) as u32)
}

fn outgoing(event: &Event, epoch: Epoch) -> Result<Outgoing<'_>, Problem> {
    let outgoing = str::from_utf8(event.json()).ok().and_then(|event| Outgoing::of(event, epoch));
    outgoing.ok_or_else(|| Problem::unavailable("the stored event cannot be read"))
}

/// One event.
pub(super) fn one(event: &Event, epoch: Epoch, mode: Mode) -> Result<Response, Problem> {
    let outgoing = outgoing(event, epoch)?;
    if mode == Mode::Structured {
        let mut body = Vec::with_capacity(event.json().len() + 256);
        outgoing.write(&mut body);
        return Ok(with_type(body, cloudevents::STRUCTURED));
    }
    let mut response = with_type(outgoing.data().as_bytes().to_vec(), "application/json");
    for (name, value) in outgoing.headers() {
        let name = HeaderName::try_from(format!("{}{name}", cloudevents::HEADER_PREFIX));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A page of events as a batch; where the next one begins stands in `Link`.
pub(super) fn batch(page: &HistoryPage, uri: &Uri, cursor: &str) -> Result<Response, Problem> {
    let bytes: usize = page.events.iter().map(|event| event.json().len() + 128).sum();
    let mut body = Vec::with_capacity(bytes + 64);
    body.push(b'[');
    for event in &page.events {
        if body.len() > 1 {
            body.push(b',');
        }
        outgoing(event, page.epoch)?.write(&mut body);
    }
    body.push(b']');
    let mut response = with_type(body, cloudevents::BATCH);
    if let Some(next) = page.next {
        let link = format!("<?{}>; rel=\"next\"", next_query(uri, cursor, next));
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// The query of the next page: this one's, with another cursor.
fn next_query(uri: &Uri, cursor: &str, reached: u64) -> String {
    let own = format!("{cursor}=");
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with(&own));
    kept.map(Cow::Borrowed).chain([Cow::Owned(format!("{own}{reached}"))]).collect::<Vec<_>>().join("&")
}

fn with_type(body: Vec<u8>, media: &'static str) -> Response {
    let mut response = super::json_response(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_preferred_where_it_is_named() {
        let prefers = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            super::prefers(&headers, cloudevents::BATCH)
        };
        assert!(prefers("application/cloudevents-batch+json"));
        assert!(prefers("text/html, Application/CloudEvents-Batch+JSON;q=0.5, */*;q=0.1"));
        assert!(prefers("application/json, application/cloudevents-batch+json"));
        assert!(!prefers("application/json, application/cloudevents-batch+json; q=0.9"));
        for other in ["*/*", "", "application/cloudevents-batch+json;q=0", "application/cloudevents+json"] {
            assert!(!prefers(other), "{other}");
        }
        assert!(!super::prefers(&HeaderMap::new(), cloudevents::BATCH));
    }

    #[test]
    fn the_next_page_is_asked_for_as_this_one() {
        let uri: Uri = "/api/v1/events?channels=a%2Cb&after=5&limit=2".parse().unwrap();
        assert_eq!(next_query(&uri, "after", 9), "channels=a%2Cb&limit=2&after=9");
        assert_eq!(next_query(&"/api/v1/events".parse().unwrap(), "before", 9), "before=9");
    }
}
