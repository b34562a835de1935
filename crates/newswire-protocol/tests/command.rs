//! Commands and events that are written, read back, cut and bent.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use newswire_protocol::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        "\\PC{0,20}".prop_map(|text| Scalar::string(&text)),
        "-?(0|[1-9][0-9]{0,12})([.][0-9]{1,5})?".prop_map(|raw| Scalar::number(&raw).unwrap()),
        any::<bool>().prop_map(Scalar::bool),
    ]
}

fn filter() -> impl Strategy<Value = FilterSpec> {
    prop::collection::btree_map("\\PC{0,20}", vec(scalar(), 0..5), 0..5)
        .prop_map(|clauses| FilterSpec { clauses: clauses.into_iter().collect() })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Live),
        (0..=limits::MAX_OFFSET, option::of(any::<String>()))
            .prop_map(|(offset, epoch)| Start::After { offset, epoch }),
        (0..=limits::MAX_OFFSET).prop_map(Start::History),
        (0..253_402_300_799_999_999u64).prop_map(|micros| Start::Since(SinceSpec::At(UnixMicros(micros)))),
        any::<u32>().prop_map(|ms| Start::Since(SinceSpec::Ago(std::time::Duration::from_millis(ms.into())))),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let text = || option::of(any::<String>());
    let payload = prop_oneof![
        Just("{}"),
        Just("{ \"agent\" :\"x\",\n\"n\":1.50E+400}"),
        Just(r#"{"from":"a","to":"b","project":7,"agent_id":"a"}"#),
    ];
    let time = prop_oneof![Just(None), Just(Some("2026-11-22T16:24:00.120+01:00"))];
    (
        ("[A-Za-z0-9_.:#@-]{1,128}", "[A-Za-z0-9_.:/-]{1,128}", time, option::of("[ -~]{1,128}"), payload),
        (text(), text(), text(), text()),
    )
        .prop_map(|((channel, event_type, timestamp, event_id, payload), (a, b, c, d))| {
            let parts = Parts {
                channel: Some(&channel),
                event_type: Some(&event_type),
                timestamp,
                event_id: event_id.as_deref(),
                payload: Some(payload),
                source: a.as_deref(),
                traceparent: b.as_deref(),
                correlation_id: c.as_deref(),
                causation_id: d.as_deref(),
            };
            Draft::from_parts(&parts, &Limits::default()).unwrap()
        })
}

fn command() -> impl Strategy<Value = Command> {
    let sub = || option::of("\\PC{1,128}");
    prop_oneof![
        Just(Command::Ping),
        any::<String>().prop_map(|ticket| Command::Auth(Credential::Ticket(ticket))),
        any::<String>().prop_map(|token| Command::Auth(Credential::Token(token))),
        draft().prop_map(|draft| Command::Publish(Box::new(draft))),
        (vec(any::<String>(), 0..4), sub())
            .prop_map(|(channels, sub)| Command::Unsubscribe(Unsubscribe { channels, sub })),
        (vec(any::<String>(), 0..4), option::of(filter()), start(), sub()).prop_map(
            |(channels, filters, start, sub)| {
                let filters = filters.map_or(FilterChange::Keep, FilterChange::Replace);
                Command::Subscribe(Subscribe { channels, filters, start, sub })
            }
        ),
    ]
}

fn frame() -> impl Strategy<Value = CommandFrame> {
    let id = option::of(prop_oneof![
        any::<i64>().prop_map(|id| CommandId::from_raw_json(&id.to_string()).unwrap()),
        "[a-z\u{e9}]{0,9}".prop_map(|id| CommandId::from_raw_json(&format!("\"{id}\"")).unwrap()),
    ]);
    (id, command()).prop_map(|(id, command)| CommandFrame { id, command })
}

fn written(frame: &CommandFrame) -> String {
    let mut out = Vec::new();
    frame.write(&mut out);
    String::from_utf8(out).unwrap()
}

const WIDE: Limits = Limits { event_bytes: 1 << 20, command_bytes: 1 << 20 };

proptest! {
    #[test]
    fn written_commands_are_read_back(frame in frame()) {
        prop_assert_eq!(parse_command(&written(&frame), &WIDE), Ok(frame));
    }

    #[test]
    fn cut_commands_are_not_json(frame in frame(), at in any::<prop::sample::Index>()) {
        let text = written(&frame);
        let cut = &text[..text.floor_char_boundary(at.index(text.len()))];
        let (id, refusal) = parse_command(cut, &WIDE).unwrap_err();
        prop_assert_eq!((id, refusal.code), (None, ErrorCode::InvalidJson));
    }

    #[test]
    fn one_byte_over_every_limit_is_refused(frame in frame()) {
        let text = written(&frame);
        let over = Limits { event_bytes: text.len() - 1, command_bytes: text.len() - 1 };
        prop_assert_eq!(parse_command(&text, &over).unwrap_err().1.code, ErrorCode::MessageTooLarge);
        let command_only = Limits { event_bytes: text.len(), command_bytes: text.len() - 1 };
        let event_only = Limits { event_bytes: text.len() - 1, command_bytes: text.len() };
        let codes = [command_only, event_only].map(|limits| parse_command(&text, &limits).err().map(|(_, e)| e.code));
        let expected = match frame.command {
            Command::Publish(_) => [None, Some(ErrorCode::EventTooLarge)],
            _ => [Some(ErrorCode::MessageTooLarge), None],
        };
        prop_assert_eq!(codes, expected);
    }

    #[test]
    fn unknown_fields_change_nothing(frame in frame(), name in "x-[a-z\"\\\\\u{1}]{0,9}") {
        let mut text = written(&frame).into_bytes();
        text.pop();
        text.push(b',');
        json::write_string(&mut text, &name);
        text.extend_from_slice(br#":{"action":[1,"\ud800"]}}"#);
        prop_assert_eq!(parse_command(std::str::from_utf8(&text).unwrap(), &WIDE), Ok(frame));
    }

    #[test]
    fn encoded_events_are_read_back(draft in draft(), offset in 1..=limits::MAX_OFFSET, now in 0..253_402_300_799_999_999u64) {
        let id = draft.event_id.clone().unwrap_or_else(|| "made".to_owned());
        let encoded = draft.encode(&id, UnixMicros(now));
        prop_assert_eq!(&encoded.json[encoded.payload.clone()], draft.payload.as_bytes());
        prop_assert!(encoded.payload.end < encoded.offset_at);
        let text = String::from_utf8(encoded.with_offset(offset)).unwrap();
        let ServerMessage::Event(event) = parse_server_message(&text).unwrap() else { panic!("{text}") };
        let time = draft.timestamp.clone().unwrap_or_else(|| UnixMicros(now).to_string());
        prop_assert_eq!((&event.channel, &event.event_type, &event.timestamp), (&draft.channel, &draft.event_type, &time));
        prop_assert_eq!((event.payload.get(), &event.event_id, event.offset), (&*draft.payload, &id, offset));
        prop_assert_eq!((&event.source, &event.traceparent), (&draft.source, &draft.traceparent));
        prop_assert_eq!((&event.correlation_id, &event.causation_id), (&draft.correlation_id, &draft.causation_id));
        // A stored event published again is the same event.
        let again = Draft::parse(&text, &WIDE).unwrap();
        let again_routing = again.routing();
        prop_assert_eq!((&again.payload, again.timestamp, again.event_id), (&draft.payload, Some(time), Some(id)));
        prop_assert_eq!(again_routing, draft.routing());
    }

    #[test]
    fn http_events_are_read_back(draft in draft()) {
        let mut out = Vec::new();
        draft.write(&mut out);
        let again = Draft::parse(std::str::from_utf8(&out).unwrap(), &WIDE).unwrap();
        prop_assert_eq!(again.fingerprint(), draft.fingerprint());
        prop_assert_eq!(again, draft);
    }

    #[test]
    fn what_the_server_says_is_json_for_any_string(channel in any::<String>(), detail in any::<String>(), sub in any::<String>()) {
        let echo = reply::Echo { id: None, sub: Some(&sub) };
        let mut out = Vec::new();
        reply::unsubscribed(&mut out, echo, std::slice::from_ref(&channel));
        let message = parse_server_message(std::str::from_utf8(&out).unwrap()).unwrap();
        let ServerMessage::Unsubscribed { channels, echo } = message else { panic!() };
        prop_assert_eq!((channels, echo.sub), (vec![channel], Some(sub)));
        out.clear();
        reply::error(&mut out, None, &Refusal::because(ErrorCode::Forbidden, detail.clone()));
        let message = parse_server_message(std::str::from_utf8(&out).unwrap()).unwrap();
        let ServerMessage::Error { detail: told, .. } = message else { panic!() };
        prop_assert_eq!(told, Some(detail));
    }
}

#[test]
fn fingerprints_differ_where_the_event_differs() {
    let print = |text: &str| Draft::parse(text, &WIDE).unwrap().fingerprint();
    let base = print(r#"{"channel":"a","event_type":"b","payload":{"k":1}}"#);
    let same = print(r#"{"source":"other","payload":{"k":1},"event_type":"b","channel":"a","event_id":"x"}"#);
    assert_eq!(base, same);
    let others = [
        r#"{"channel":"ab","event_type":"b","payload":{"k":1}}"#,
        r#"{"channel":"a","event_type":"bc","payload":{"k":1}}"#,
        r#"{"channel":"a","event_type":"b","payload":{"k":1 }}"#,
        r#"{"channel":"a","event_type":"b","payload":{"k":1},"timestamp":"2026-11-22T15:24:00Z"}"#,
        r#"{"channel":"a","event_type":"b"}"#,
    ];
    for text in others {
        assert_ne!(base, print(text), "{text}");
    }
}
