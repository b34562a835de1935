use super::*;
use crate::codes::{Epoch, ErrorCode};
use crate::limits::Limits;
use crate::time::UnixMicros;

fn epoch() -> Epoch {
    "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52".parse().unwrap()
}

fn stored(draft: &crate::Draft) -> String {
    let id = draft.event_id.clone().unwrap();
    String::from_utf8(draft.encode(&id, UnixMicros(0)).with_offset(7)).unwrap()
}

#[test]
fn ids_fit_and_stay_apart() {
    assert_eq!(event_id("/s", "1"), "/s#1");
    assert_eq!(event_id(&"s".repeat(125), "id"), format!("{}#id", "s".repeat(125)));
    let long = event_id(&"s".repeat(126), "id");
    assert!(crate::names::is_event_id(&long) && long.starts_with("blake3:"));
    assert_ne!(long, event_id(&"s".repeat(126), "ie"));
    assert_eq!(long, event_id(&"s".repeat(126), "id"), "the same pair, the same id");
    assert!(
        crate::names::is_event_id(&event_id("é", "1")) && crate::names::is_event_id(&event_id("s", "\n"))
    );
    let long = "x".repeat(126);
    for (one, other) in [
        (("/a#b", "c"), ("/a", "b#c")),
        (("/a#b", "c#d"), ("/a#b#c", "d")),
        (("#", "1"), ("##", "1")),
        (("é#b", "c"), ("é", "b#c")),
        (("/a#b", &*long), ("4#/a", &*format!("b#{long}"))),
    ] {
        assert_ne!(event_id(one.0, one.1), event_id(other.0, other.1), "{one:?} {other:?}");
        assert!(crate::names::is_event_id(&event_id(one.0, one.1)));
    }
    assert_eq!(event_id("/a", "b#c"), "/a#b#c");
}

#[test]
fn what_goes_in_comes_out() {
    let text = r#"{"specversion":"1.0","type":"a.b","source":"/s ä","id":"1","time":"2026-11-22T15:24:00.10Z",
        "channel":"tasks","traceparent":"t","data":{"n": 1.10, "m":1e400}}"#;
    let draft = parse(text, None, &Limits::default()).unwrap();
    let event = stored(&draft);
    let mut out = Vec::new();
    Outgoing::of(&event, epoch()).unwrap().write(&mut out);
    let out = String::from_utf8(out).unwrap();
    assert!(out.ends_with(r#""data":{"n": 1.10, "m":1e400}}"#), "{out}");
    assert!(out.contains(r#""source":"/s%20%C3%A4""#) && out.contains(r#""offset":"7""#), "{out}");
    let plain = text.replace("/s ä", "/s");
    let event = stored(&parse(&plain, None, &Limits::default()).unwrap());
    let mut out = Vec::new();
    Outgoing::of(&event, epoch()).unwrap().write(&mut out);
    let again = parse(str::from_utf8(&out).unwrap(), None, &Limits::default()).unwrap();
    assert_eq!(stored(&again), event, "a CloudEvent that was read from the feed is the same event to it");
}

#[test]
fn headers_are_decoded_as_they_are_encoded() {
    let value = |header: &str| attribute_value(header.as_bytes()).map(Cow::into_owned);
    assert_eq!(value("Euro%20%E2%82%AC%20%F0%9F%98%80").unwrap(), "Euro € 😀");
    assert_eq!(value(r#""a \"quoted\" %41""#).unwrap(), r#"a "quoted" A"#);
    assert_eq!(value("100%").unwrap(), "100%");
    assert_eq!(value("%zz%e2%82%ac").unwrap(), "%zz€");
    for bad in ["%C0%A0", "%ff", "\"open", "\"a\"b"] {
        assert_eq!(value(bad), Err(HeaderRefused), "{bad}");
    }
    let event = r#"{"event_type":"a","channel":"c","payload":{},"event_id":"Euro € \"😀\" %","offset":1}"#;
    let outgoing = Outgoing::of(event, epoch()).unwrap();
    let id = outgoing.headers().find(|(name, _)| *name == "id").unwrap().1.into_owned();
    assert_eq!(id, "Euro%20%E2%82%AC%20%22%F0%9F%98%80%22%20%25");
    assert_eq!(value(&id).unwrap(), "Euro € \"😀\" %");
}

#[test]
fn attributes_beside_their_data() {
    let limits = Limits::default();
    let attributes = || {
        [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "a"), ("whatever", "x")]
            .map(|(name, value)| (name, Cow::Borrowed(value)))
    };
    let draft = from_attributes(
        attributes(),
        Some("text/json; charset=utf-8"),
        " {\"n\":1.0}\n",
        Some("tasks"),
        &limits,
    );
    let draft = draft.unwrap();
    assert_eq!((&*draft.payload, &*draft.channel), ("{\"n\":1.0}", "tasks"));
    assert_eq!(&*from_attributes(attributes(), None, "", Some("c"), &limits).unwrap().payload, "{}");
    for (content_type, data) in [(Some("text/plain"), "{}"), (None, "{}"), (Some("application/json"), "[]")] {
        let refusal = from_attributes(attributes(), content_type, data, Some("c"), &limits).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidEvent, "{content_type:?} {data}");
    }
    let twice = attributes().into_iter().chain(attributes());
    assert!(from_attributes(twice, None, "", Some("c"), &limits).is_err());
}
