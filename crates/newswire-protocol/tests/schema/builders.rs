//! What the server writes is what the schemas say: over random contents of every message.

use std::time::Duration;

use jsonschema::Validator;
use newswire_protocol::codes::{Epoch, ErrorCode, GapReason, Refusal, RejectReason};
use newswire_protocol::command::CommandId;
use newswire_protocol::reply::{self, Echo};
use newswire_protocol::{Draft, Limits, UnixMicros, parse_server_message};
use proptest::prelude::*;
use serde_json::Value;

use crate::{faults, random, validator};

/// Each message by the schema of its own, by that of all messages, and by the reader of clients.
struct Judge {
    all: Validator,
    by_action: Vec<(&'static str, Validator)>,
}

impl Judge {
    fn new() -> Self {
        let by_action = newswire_protocol::schema::MESSAGES
            .iter()
            .map(|shape| (shape.path.strip_prefix("messages/").unwrap(), validator(shape.path)))
            .collect();
        Self { all: validator("server-message"), by_action }
    }

    fn message(&self, text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap();
        parse_server_message(text).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        let action = value["action"].as_str().unwrap();
        let (_, own) = self.by_action.iter().find(|(name, _)| *name == action).unwrap();
        assert_eq!(faults(own, &value), "", "{text}");
        assert!(self.all.is_valid(&value), "{text}");
        for (name, other) in &self.by_action {
            assert_eq!(other.is_valid(&value), *name == action, "{name}: {text}");
        }
    }
}

#[derive(Debug, Clone)]
struct Content {
    id: Option<String>,
    sub: Option<String>,
    channels: Vec<String>,
    rejected: Vec<(String, bool)>,
    offset: u64,
    recovered: Option<bool>,
    detail: Option<String>,
    epoch: [u8; 16],
}

fn contents() -> impl Strategy<Value = Content> {
    let id = prop_oneof!["\"[a-zé]{0,4}\"", "-?[1-9][0-9]{0,30}"];
    (
        prop::option::of(id),
        prop::option::of("[a-zé𝄞]{1,128}"),
        prop::collection::vec("[A-Za-z0-9_.:#@-]{1,12}|[a-z]{0,127}\\*", 0..4),
        prop::collection::vec((".{0,4}", any::<bool>()), 0..3),
        0_u64..1 << 53,
        any::<Option<bool>>(),
        prop::option::of(".{0,8}"),
        any::<[u8; 16]>(),
    )
        .prop_map(|(id, sub, channels, rejected, offset, recovered, detail, epoch)| Content {
            id,
            sub,
            channels,
            rejected,
            offset,
            recovered,
            detail,
            epoch,
        })
}

fn judge(judge: &Judge, content: &Content) {
    let id = content.id.as_deref().map(|raw| CommandId::from_raw_json(raw).unwrap());
    let (id, sub) = (id.as_ref(), content.sub.as_deref());
    let echo = Echo { id, sub };
    let epoch = Epoch::from_bytes(content.epoch);
    let reason = |forbidden| RejectReason::ALL[usize::from(forbidden)];
    let rejected: Vec<(String, RejectReason)> =
        content.rejected.iter().map(|(name, forbidden)| (name.clone(), reason(*forbidden))).collect();
    let (channels, offset) = (content.channels.as_slice(), content.offset);
    let write = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        build(&mut out);
        judge.message(&out);
    };
    let answer =
        reply::Subscribed { channels, offset, epoch, recovered: content.recovered, rejected: &rejected };
    write(&|out| reply::subscribed(out, echo, &answer));
    write(&|out| reply::unsubscribed(out, echo, channels));
    write(&|out| reply::published(out, id, offset.max(1), "run-12/task 8", content.recovered == Some(true)));
    write(&|out| reply::pong(out, id));
    write(&|out| reply::auth_ok(out, id));
    write(&|out| reply::caught_up(out, echo, channels, offset));
    write(&|out| reply::checkpoint(out, offset));
    for reason in GapReason::ALL {
        let epoch = (reason == GapReason::Epoch).then_some(epoch);
        let gap = reply::Gap { channels, from: offset, to: offset, reason, epoch };
        write(&|out| reply::gap(out, Echo { id: None, sub }, &gap));
    }
    for code in ErrorCode::ALL {
        let retry_after = content.recovered.map(|_| Duration::from_micros(offset));
        let refusal = Refusal { code, detail: content.detail.clone(), retry_after };
        write(&|out| reply::error(out, id, &refusal));
    }
}

proptest! {
    #[test]
    fn what_the_server_writes_is_what_the_schemas_say(content in contents()) {
        thread_local!(static JUDGE: Judge = Judge::new());
        JUDGE.with(|one| judge(one, &content));
    }

    #[test]
    fn an_event_that_was_taken_is_shown_as_the_schema_says(draft in random::drafts(), offset in 1_u64..1 << 53) {
        thread_local!(static EVENT: Validator = validator("event"));
        if let Ok(draft) = Draft::parse(&draft.to_string(), &Limits::default()) {
            let encoded = draft.encode(draft.event_id.as_deref().unwrap_or("made-by-server"), UnixMicros(1));
            let event: Value = serde_json::from_slice(&encoded.with_offset(offset)).unwrap();
            EVENT.with(|validator| assert_eq!(faults(validator, &event), ""));
        }
    }
}
