//! Everything that the server says but events: each builder appends one JSON object to a buffer.
//!
//! Lists of channels come out sorted and without repetition, whatever order they come in. `id` and `sub` stand
//! last, where the command had them.

use std::io::Write;

use crate::codes::{Epoch, GapReason, Refusal, RejectReason};
use crate::command::CommandId;
use crate::json::write_string;

/// What an answer repeats of its command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo<'a> {
    /// The command's id.
    pub id: Option<&'a CommandId>,
    /// The set it spoke of.
    pub sub: Option<&'a str>,
}

/// The answer to a `subscribe`.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed<'a, C> {
    /// All channels and patterns now subscribed in this set.
    pub channels: &'a [C],
    /// The last offset of the log at that moment.
    pub offset: u64,
    /// The log's epoch.
    pub epoch: Epoch,
    /// For `after` and `since`: whether nothing that was asked for is lost.
    pub recovered: Option<bool>,
    /// Refused names.
    pub rejected: &'a [(C, RejectReason)],
}

/// `{"action":"subscribed",…}`
pub fn subscribed<C: AsRef<str>>(out: &mut Vec<u8>, echo: Echo<'_>, answer: &Subscribed<'_, C>) {
    begin(out, "subscribed");
    channels(out, answer.channels);
    number(out, "offset", answer.offset);
    epoch(out, answer.epoch);
    if let Some(recovered) = answer.recovered {
        out.extend_from_slice(if recovered { b",\"recovered\":true" } else { b",\"recovered\":false" });
    }
    if !answer.rejected.is_empty() {
        out.extend_from_slice(b",\"rejected\":[");
        for (i, (channel, reason)) in answer.rejected.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"{\"channel\":" } else { b",{\"channel\":" });
            write_string(out, channel.as_ref());
            string(out, "reason", reason.text());
            out.push(b'}');
        }
        out.push(b']');
    }
    end(out, echo);
}

/// `{"action":"unsubscribed",…}` with the channels that remain in this set.
pub fn unsubscribed<C: AsRef<str>>(out: &mut Vec<u8>, echo: Echo<'_>, remaining: &[C]) {
    begin(out, "unsubscribed");
    channels(out, remaining);
    end(out, echo);
}

/// `{"action":"published",…}`: the event is durable at this offset.
pub fn published(out: &mut Vec<u8>, id: Option<&CommandId>, offset: u64, event_id: &str, duplicate: bool) {
    begin(out, "published");
    number(out, "offset", offset);
    string(out, "event_id", event_id);
    if duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    end(out, Echo { id, sub: None });
}

/// `{"action":"pong"}`
pub fn pong(out: &mut Vec<u8>, id: Option<&CommandId>) {
    begin(out, "pong");
    end(out, Echo { id, sub: None });
}

/// `{"action":"auth_ok"}`
pub fn auth_ok(out: &mut Vec<u8>, id: Option<&CommandId>) {
    begin(out, "auth_ok");
    end(out, Echo { id, sub: None });
}

/// `{"action":"error",…}`: a command failed.
pub fn error(out: &mut Vec<u8>, id: Option<&CommandId>, refusal: &Refusal) {
    begin(out, "error");
    string(out, "error", refusal.code.text());
    string(out, "code", refusal.code.code());
    if let Some(detail) = &refusal.detail {
        string(out, "detail", detail);
    }
    if let Some(wait) = refusal.retry_after_ms() {
        number(out, "retry_after_ms", wait);
    }
    end(out, Echo { id, sub: None });
}

/// `{"action":"caught_up",…}`: the replay of this command went up to this offset and is over.
pub fn caught_up<C: AsRef<str>>(out: &mut Vec<u8>, echo: Echo<'_>, names: &[C], offset: u64) {
    begin(out, "caught_up");
    channels(out, names);
    number(out, "offset", offset);
    end(out, echo);
}

/// `{"action":"checkpoint",…}`: everything up to this offset has been sent.
pub fn checkpoint(out: &mut Vec<u8>, offset: u64) {
    begin(out, "checkpoint");
    number(out, "offset", offset);
    end(out, Echo::default());
}

/// What may be missing: matching events with `from` ≤ offset ≤ `to`.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a, C> {
    /// Of these channels.
    pub channels: &'a [C],
    /// First offset that may be missing.
    pub from: u64,
    /// Last offset that may be missing.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
    /// The log's epoch.
    pub epoch: Option<Epoch>,
}

/// `{"action":"gap",…}`
pub fn gap<C: AsRef<str>>(out: &mut Vec<u8>, echo: Echo<'_>, gap: &Gap<'_, C>) {
    begin(out, "gap");
    channels(out, gap.channels);
    number(out, "from", gap.from);
    number(out, "to", gap.to);
    string(out, "reason", gap.reason.text());
    if let Some(id) = gap.epoch {
        epoch(out, id);
    }
    end(out, echo);
}

fn begin(out: &mut Vec<u8>, action: &str) {
    out.extend_from_slice(b"{\"action\":\"");
    out.extend_from_slice(action.as_bytes());
    out.push(b'"');
}

fn end(out: &mut Vec<u8>, echo: Echo<'_>) {
    if let Some(id) = echo.id {
        name(out, "id");
        out.extend_from_slice(id.as_json().as_bytes());
    }
    if let Some(sub) = echo.sub {
        string(out, "sub", sub);
    }
    out.push(b'}');
}

fn channels<C: AsRef<str>>(out: &mut Vec<u8>, names: &[C]) {
    name(out, "channels");
    let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    sorted.dedup();
    out.push(b'[');
    for (i, channel) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, channel);
    }
    out.push(b']');
}

fn epoch(out: &mut Vec<u8>, epoch: Epoch) {
    name(out, "epoch");
    write!(out, "\"{epoch}\"").expect("writing into memory cannot fail");
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    write!(out, "{value}").expect("writing into memory cannot fail");
}

fn string(out: &mut Vec<u8>, key: &str, value: &str) {
    name(out, key);
    write_string(out, value);
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::ErrorCode;

    fn text(build: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        build(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_are_as_on_the_protocol_page() {
        let epoch = Epoch::from_bytes([0; 16]);
        let id = CommandId::from_raw_json("\"a\\n1\"").unwrap();
        let echo = Echo { id: Some(&id), sub: Some("s\"1") };
        let answer = Subscribed {
            channels: &["tasks", "budget", "tasks"],
            offset: 1234,
            epoch,
            recovered: Some(true),
            rejected: &[("x", RejectReason::UnknownChannel)],
        };
        assert_eq!(
            text(|out| subscribed(out, echo, &answer)),
            r#"{"action":"subscribed","channels":["budget","tasks"],"offset":1234,"epoch":"00000000-0000-0000-0000-000000000000","recovered":true,"rejected":[{"channel":"x","reason":"unknown_channel"}],"id":"a\n1","sub":"s\"1"}"#
        );
        let plain = Subscribed { channels: &["a"], offset: 0, epoch, recovered: None, rejected: &[] };
        assert_eq!(
            text(|out| subscribed(out, Echo::default(), &plain)),
            r#"{"action":"subscribed","channels":["a"],"offset":0,"epoch":"00000000-0000-0000-0000-000000000000"}"#
        );
        assert_eq!(
            text(|out| unsubscribed::<&str>(out, echo, &[])),
            r#"{"action":"unsubscribed","channels":[],"id":"a\n1","sub":"s\"1"}"#
        );
        assert_eq!(
            text(|out| published(out, None, 9, "e\\", true)),
            r#"{"action":"published","offset":9,"event_id":"e\\","duplicate":true}"#
        );
        assert_eq!(text(|out| pong(out, None)), r#"{"action":"pong"}"#);
        assert_eq!(text(|out| auth_ok(out, Some(&id))), r#"{"action":"auth_ok","id":"a\n1"}"#);
    }

    #[test]
    fn what_comes_unasked_is_as_on_the_protocol_page() {
        assert_eq!(
            text(|out| caught_up(out, Echo::default(), &["b", "a"], 7)),
            r#"{"action":"caught_up","channels":["a","b"],"offset":7}"#
        );
        assert_eq!(text(|out| checkpoint(out, 7)), r#"{"action":"checkpoint","offset":7}"#);
        let told = Gap { channels: &["a"], from: 1, to: 2, reason: GapReason::Retention, epoch: None };
        assert_eq!(
            text(|out| gap(out, Echo { id: None, sub: Some("s") }, &told)),
            r#"{"action":"gap","channels":["a"],"from":1,"to":2,"reason":"retention","sub":"s"}"#
        );
        assert_eq!(
            text(|out| error(out, None, &ErrorCode::InvalidJson.into())),
            r#"{"action":"error","error":"Invalid JSON","code":"invalid_json"}"#
        );
        let refusal = Refusal::because(ErrorCode::InvalidEvent, "channel is \"required\"");
        assert_eq!(
            text(|out| error(out, None, &refusal)),
            r#"{"action":"error","error":"Invalid event","code":"invalid_event","detail":"channel is \"required\""}"#
        );
    }
}
