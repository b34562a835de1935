//! What each fuzz target does with its input: it parses, and whatever was accepted must hold to what the parser
//! promises. The targets run these under libFuzzer; the test suite runs them over the corpus.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use newswire_core::{BatchBuilder, Direction, EventHead, Filter, LogView};
use newswire_log::testing::{FaultDisk, events};
use newswire_log::{EmbeddedLog, EmbeddedOptions, EventLog, NewEvents};
use newswire_protocol::frame::{Item, Violation};
use newswire_protocol::{
    Command, CommandFrame, Draft, ErrorCode, FilterSpec, FrameDecoder, Limits, Refusal, Scalar,
    ServerMessage, UnixMicros, cloudevents, json, parse_command, parse_server_message, payload_scalar,
};

const NOW: UnixMicros = UnixMicros(1_795_361_040_123_456);

/// Bytes of a client mean the same however they are cut; the first byte says how, and whether some may be compressed.
pub fn frame(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let deflate = cut & 0x80 != 0;
    let whole = decode(deflate, bytes.chunks(bytes.len().max(1)));
    let pieces = decode(deflate, bytes.chunks(usize::from(cut % 16) + 1));
    assert_eq!(whole.0, pieces.0);
    assert_eq!(whole.1.map(|violation| violation.close), pieces.1.map(|violation| violation.close));
}

fn decode<'a>(deflate: bool, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Item>, Option<Violation>) {
    let mut decoder = FrameDecoder::new(1 << 16, 1 << 16).with_deflate(deflate);
    let mut items = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(Item::Text(text))) => {
                    assert!(text.len() <= 1 << 16);
                    items.push(Item::Text(text));
                }
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation)),
            }
        }
        assert!(piece.is_empty());
    }
    (items, None)
}

/// A CloudEvent that was read keeps its data to the byte, and written from the log it is read as the same event again.
pub fn cloudevent(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let limits = Limits::default();
    let Ok(draft) = cloudevents::parse(text, Some("tasks"), &limits) else {
        return;
    };
    let id = draft.event_id.as_deref().expect("source and id are required");
    let stored = String::from_utf8(draft.encode(id, NOW).with_offset(7)).expect("stored events are UTF-8");
    let epoch = "7d0c1f9e-6a35-4f0b-8a55-0d3f3a1f6b52".parse().expect("an epoch");
    let outgoing = cloudevents::Outgoing::of(&stored, epoch).expect("a stored event");
    assert_eq!(outgoing.data(), &*draft.payload);
    let mut written = Vec::new();
    outgoing.write(&mut written);
    let written = String::from_utf8(written).expect("what is written is UTF-8");
    let again =
        cloudevents::parse(&written, None, &Limits { event_bytes: 1 << 20, ..limits }).expect(&written);
    assert_eq!(
        (&again.payload, &again.channel, &again.event_type),
        (&draft.payload, &draft.channel, &draft.event_type)
    );
    for (_, value) in outgoing.headers() {
        assert!(value.bytes().all(|byte| (0x21..0x7f).contains(&byte)));
        cloudevents::attribute_value(value.as_bytes()).expect("what was encoded can be decoded");
    }
}

/// A command that was read is read again the same from what a client writes for it; a refusal has a valid answer.
pub fn command(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let limits = Limits { event_bytes: 8192, command_bytes: 4096 };
    match parse_command(text, &limits) {
        Ok(frame) => same_again(&frame),
        Err((id, refusal)) => {
            assert!(id.is_none() || json::document(text).is_ok());
            let mut answer = Vec::new();
            newswire_protocol::reply::error(&mut answer, id.as_ref(), &refusal);
            let answer = String::from_utf8(answer).expect("what the server says is UTF-8");
            match parse_server_message(&answer) {
                Ok(ServerMessage::Error { code, .. }) => assert_eq!(code, refusal.code.code()),
                other => panic!("{answer}: {other:?}"),
            }
        }
    }
}

fn same_again(frame: &CommandFrame) {
    let mut text = Vec::new();
    frame.write(&mut text);
    let text = String::from_utf8(text).expect("a written command is UTF-8");
    let wide = Limits { event_bytes: usize::MAX, command_bytes: usize::MAX };
    assert_eq!(parse_command(&text, &wide).as_ref(), Ok(frame), "{text}");
    if let Command::Publish(draft) = &frame.command {
        encodes_faithfully(draft);
    }
}

/// An event that is accepted is stored as JSON that anybody reads, its payload untouched.
pub fn event(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let limits = Limits { event_bytes: 8192, command_bytes: 4096 };
    // One rule for both ways in.
    let outcome = Draft::parse(text, &limits);
    if let Ok(draft) = &outcome {
        encodes_faithfully(draft);
    }
    if let Some(rest) = text.trim_start_matches([' ', '\t', '\r', '\n']).strip_prefix('{') {
        let publish = match rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('}') {
            true => format!("{{\"action\":\"publish\"{rest}"),
            false => format!("{{\"action\":\"publish\",{rest}"),
        };
        agree(&outcome, &publish);
    }
}

fn agree(outcome: &Result<Draft, Refusal>, publish: &str) {
    let wide = Limits { event_bytes: usize::MAX, command_bytes: usize::MAX };
    match (outcome, parse_command(publish, &wide)) {
        (Ok(draft), Ok(CommandFrame { command: Command::Publish(published), .. })) => {
            assert_eq!(draft, &*published);
        }
        // Only a command has an action and an id, and further fields that may not stand there twice.
        (Ok(_), Err((_, refusal))) => {
            let detail = refusal.detail.as_deref().unwrap_or_default();
            let of_commands = detail.ends_with("is given twice") || detail.starts_with("id must");
            assert!(of_commands || refusal.code == ErrorCode::UnknownAction, "{publish}: {refusal}");
        }
        (Err(_), Ok(frame)) => assert!(publish.len() > 8192, "{frame:?}"),
        (Err(_), Err(_)) => {}
        (Ok(_), Ok(frame)) => panic!("{frame:?}"),
    }
}

fn encodes_faithfully(draft: &Draft) {
    let id = draft.event_id.as_deref().unwrap_or("made");
    let encoded = draft.encode(id, NOW);
    assert_eq!(&encoded.json[encoded.payload.clone()], draft.payload.as_bytes());
    let stored = String::from_utf8(encoded.with_offset(7)).expect("an event is UTF-8");
    let read: serde_json::Value = match serde_json::from_str(&stored) {
        Ok(read) => read,
        // Numbers beyond a double are JSON all the same.
        Err(error) => return assert!(error.to_string().contains("number out of range"), "{stored}: {error}"),
    };
    assert_eq!((&read["channel"], &read["event_id"]), (&draft.channel.as_str().into(), &id.into()));
    assert_eq!((&read["offset"], &read["version"]), (&7.into(), &1.into()));
    let wide = Limits { event_bytes: usize::MAX, command_bytes: 0 };
    let again = Draft::parse(&stored, &wide).expect("a stored event is an event");
    assert_eq!(
        (&again.payload, &again.source, again.routing()),
        (&draft.payload, &draft.source, draft.routing())
    );
    if draft.timestamp.is_some() {
        assert_eq!(again.fingerprint(), draft.fingerprint());
    }
}

/// A line with a filter and a line with an event: the compiled filter and a plain reading of the rules agree.
pub fn filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (filters, event) =
        text.split_once('\n').unwrap_or((text, "{\"channel\":\"a\",\"event_type\":\"b\"}"));
    let Ok(spec) = FilterSpec::parse(filters) else {
        return;
    };
    let mut written = Vec::new();
    spec.write(&mut written);
    let written = String::from_utf8(written).expect("a written filter is UTF-8");
    match FilterSpec::parse(&written) {
        Ok(again) => assert_eq!(again, spec),
        // The canonical form of a number of 256 digits is a little longer than it was.
        Err(refusal) => assert!(filters.len() > 250, "{written}: {refusal}"),
    }
    let wide = Limits { event_bytes: usize::MAX, command_bytes: 0 };
    let Ok(draft) = Draft::parse(event, &wide) else {
        return;
    };
    let encoded = draft.encode("made", NOW);
    let mut batch = BatchBuilder::new();
    batch.push_encoded(1, NOW, &EventHead::of(&draft, &encoded), &encoded);
    let batch = batch.finish();
    assert_eq!(Filter::compile(&spec).matches(&batch.get(0)), matches(&spec, &draft));
}

fn matches(spec: &FilterSpec, event: &Draft) -> bool {
    let text = |text: &Option<String>| text.iter().map(|text| Scalar::string(text)).collect();
    spec.clauses.iter().all(|(key, accepted)| {
        let found: Vec<Scalar> = match key.as_str() {
            "event_type" => {
                return accepted.iter().filter_map(Scalar::as_str).any(|wanted| {
                    match wanted.strip_suffix('*') {
                        Some(prefix) => event.event_type.starts_with(prefix),
                        None => event.event_type == wanted,
                    }
                });
            }
            "source" => text(&event.source),
            "correlation_id" => text(&event.correlation_id),
            "causation_id" => text(&event.causation_id),
            "agent" => event.routing().agents,
            "project" => event.routing().projects,
            key => payload_scalar(&event.payload, key).into_iter().collect(),
        };
        found.iter().any(|value| accepted.contains(value))
    })
}

/// Stored heads and frames that were damaged or made up are refused or can be read to the end, without a panic.
///
/// The first two bytes are the length of the head; the rest is the frame.
pub fn log_record(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return;
    };
    let Some((meta, frame)) = rest.split_at_checked(u16::from_le_bytes(*length).into()) else {
        return;
    };
    let mut batch = BatchBuilder::new();
    if batch.push_stored(1, NOW, meta, frame).is_err() {
        assert!(batch.is_empty());
        return;
    }
    let batch = batch.finish();
    let event = batch.get(0);
    assert_eq!(event.frame, frame);
    let texts = [event.source(), event.correlation_id(), event.causation_id(), Some(event.payload())];
    let read = texts.into_iter().flatten().map(str::len).sum::<usize>()
        + event.agents().chain(event.projects()).map(<[u8]>::len).sum::<usize>();
    assert!(read <= meta.len() + frame.len());
    let spec = FilterSpec::parse(r#"{"agent":"a","k":1,"event_type":"a*"}"#).expect("a filter");
    Filter::compile(&spec).matches(&event);
}

/// Files of a log that were damaged, truncated or overwritten: it refuses to open or to read, or it gives the events
/// as they were stored; and it never panics.
///
/// Each six bytes are a change: which file, where (three bytes), what, and with what.
pub fn log_files(data: &[u8]) {
    static MADE: LazyLock<(FaultDisk, Stored)> = LazyLock::new(small_log);
    let (disk, stored) = &*MADE;
    let disk = disk.duplicate();
    for change in data.chunks_exact(6).take(8) {
        damage(&disk, change);
    }
    let Ok(log) = EmbeddedLog::open(Path::new(LOG), options(), Arc::new(disk)) else {
        return;
    };
    for channels in [&["*"][..], &["b"]] {
        for direction in [Direction::Forward, Direction::Backward] {
            let request = events::request(&events::selector(channels, &[]), direction);
            let Ok(page) = log.read(&request) else {
                continue;
            };
            for event in page.runs.iter().flat_map(newswire_core::Run::iter) {
                assert_eq!(
                    stored.get(&event.offset).map(Vec::as_slice),
                    Some(event.json),
                    "{}",
                    event.offset
                );
            }
        }
    }
    let tail = log.tail();
    if let Ok(appended) = events::append(&log, vec![events::numbered("a", 99)]) {
        assert_eq!(appended, [newswire_log::Appended::Stored { offset: tail }]);
    }
    log.close();
}

/// The JSON of every event by its offset.
type Stored = BTreeMap<u64, Vec<u8>>;

const LOG: &str = "log";

fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        segment_bytes: 1000,
        zero_ahead_bytes: 512,
        mark_after: Duration::from_millis(1),
        chunk_cache_bytes: 4096,
        ..EmbeddedOptions::default()
    }
}

/// A few segments with a few events each.
fn small_log() -> (FaultDisk, Stored) {
    let disk = FaultDisk::new();
    let log =
        EmbeddedLog::open(Path::new(LOG), options(), Arc::new(disk.clone())).expect("an empty disk opens");
    let mut stored = Stored::new();
    for n in 0..12 {
        let text = format!(
            r#"{{"channel":"{}","event_type":"t","event_id":"id-{n}","payload":{{"agent":"a{}","n":{n}}}}}"#,
            if n % 3 == 0 { "b" } else { "a" },
            n % 2
        );
        let event: NewEvents = events::event(&text);
        let json: Vec<_> = event.iter().map(|event| (event.before.to_vec(), event.behind.to_vec())).collect();
        for (offset, (before, behind)) in events::store(&log, vec![event]).into_iter().zip(json) {
            stored.insert(offset, [&before, offset.to_string().as_bytes(), &behind].concat());
        }
    }
    log.close();
    drop(log);
    (disk.duplicate(), stored)
}

fn damage(disk: &FaultDisk, change: &[u8]) {
    let &[file, p0, p1, p2, what, value] = change else {
        return;
    };
    let paths = disk.paths();
    let Some(path) = paths.get(usize::from(file) % paths.len().max(1)) else {
        return;
    };
    let mut bytes = disk.content(path).unwrap_or_default();
    if bytes.is_empty() {
        return;
    }
    let at = u32::from_le_bytes([p0, p1, p2, 0]) as usize % bytes.len();
    match what % 4 {
        0 => bytes[at] ^= value.max(1),
        1 => bytes.truncate(at),
        2 => {
            let end = bytes.len().min(at + usize::from(value));
            bytes[at..end].fill(0);
        }
        _ => {
            // A piece of the file once more, elsewhere.
            let from = usize::from(value) * 8 % bytes.len();
            let piece = bytes[from..bytes.len().min(from + 64)].to_vec();
            let end = bytes.len().min(at + piece.len());
            bytes[at..end].copy_from_slice(&piece[..end - at]);
        }
    }
    disk.set_content(path, bytes);
}
