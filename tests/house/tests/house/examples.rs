//! The examples of `docs/protocol.md` are read by `newswire-protocol` itself, and its tables name what the code has.

use std::collections::BTreeSet;

use newswire_protocol::{
    Draft, ErrorCode, Event, Limits, ServerMessage, cloudevents, parse_command, parse_server_message,
};
use serde_json::Value;

use crate::markdown::{Block, Document};
use crate::{assert_found, assert_none, tree};

const PAGE: &str = "docs/protocol.md";

/// Every command with the fields that the page may show in it.
const COMMANDS: &[(&str, &[&str])] = &[
    ("auth", &["id", "ticket", "token"]),
    ("subscribe", &["id", "channels", "filters", "after", "epoch", "since", "history", "sub"]),
    ("unsubscribe", &["id", "channels", "sub"]),
    ("publish", &["id", "channel", "event_type", "payload", "event_id", "timestamp"]),
    ("ping", &["id"]),
];

/// Every message of the server with the fields it may have.
const REPLIES: &[(&str, &[&str])] = &[
    ("subscribed", &["id", "sub", "channels", "offset", "epoch", "recovered", "rejected"]),
    ("unsubscribed", &["id", "sub", "channels"]),
    ("published", &["id", "offset", "event_id", "duplicate"]),
    ("pong", &["id"]),
    ("auth_ok", &["id"]),
    ("error", &["id", "error", "code", "detail", "retry_after_ms"]),
    ("caught_up", &["id", "sub", "channels", "offset"]),
    ("checkpoint", &["offset"]),
    ("gap", &["sub", "channels", "from", "to", "reason", "epoch"]),
];

fn page() -> Document {
    Document::parse(PAGE, &tree::read(PAGE))
}

/// The action of an example whose fields are all in `table`; otherwise what is wrong with it.
fn action(block: &Block, table: &[(&'static str, &[&str])]) -> Result<&'static str, String> {
    let value: Value = serde_json::from_str(&block.text).map_err(|error| error.to_string())?;
    let fields = value.as_object().ok_or("not an object")?;
    let name = fields.get("action").and_then(Value::as_str).ok_or("no action")?;
    let (name, known) =
        table.iter().find(|(known, _)| *known == name).ok_or(format!("unknown action {name}"))?;
    match fields.keys().find(|field| *field != "action" && !known.contains(&field.as_str())) {
        Some(field) => Err(format!("{name} has no field {field}")),
        None => Ok(name),
    }
}

fn read(block: &Block) -> Result<(), String> {
    let limits = Limits::default();
    let text = block.text.as_str();
    match block.info.as_str() {
        "json command" => {
            action(block, COMMANDS)?;
            parse_command(text, &limits).map(drop).map_err(|(_, refusal)| refusal.to_string())
        }
        "json reply" => {
            action(block, REPLIES)?;
            match parse_server_message(text) {
                Ok(ServerMessage::Unknown | ServerMessage::Event(_)) => {
                    Err("no message of the server".to_owned())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        }
        "json cloudevent" => {
            cloudevents::parse(text, None, &limits).map(drop).map_err(|refusal| refusal.to_string())
        }
        "json draft" => Draft::parse(text, &limits).map(drop).map_err(|refusal| refusal.to_string()),
        "json event" => serde_json::from_str::<Event>(text).map(drop).map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

fn unreadable(document: &Document) -> Vec<String> {
    let blocks = document.blocks.iter();
    blocks
        .filter_map(|block| Some(format!("{}:{}: {}", document.path, block.line, read(block).err()?)))
        .collect()
}

/// Actions of the table that the page never shows.
fn not_shown(document: &Document, info: &str, table: &[(&'static str, &[&str])]) -> Vec<String> {
    let shown: BTreeSet<&str> =
        document.blocks_of(info).filter_map(|block| action(block, table).ok()).collect();
    let missing = table.iter().filter(|(name, _)| !shown.contains(name));
    missing.map(|(name, _)| format!("{} has no example of {name}", document.path)).collect()
}

#[test]
fn every_example_is_read_as_what_it_is_said_to_be() {
    assert_none(&unreadable(&page()));
    for (planted, expected) in [
        ("```json command\n{\"action\":\"subscribe\",\"channels\":\"tasks\"}\n```\n", "channels"),
        ("```json command\n{\"action\":\"subscribe\",\"chanels\":[]}\n```\n", "no field chanels"),
        ("```json reply\n{\"action\":\"caught_upp\",\"offset\":1}\n```\n", "unknown action"),
        ("```json event\n{\"event_type\":\"a\"}\n```\n", "x.md:1"),
        ("```json cloudevent\n{\"specversion\":\"1.0\"}\n```\n", "source"),
        ("```json draft\n{\"event_type\":\"a\"}\n```\n", "x.md:1"),
    ] {
        assert_found(&unreadable(&Document::parse("x.md", planted)), expected);
    }
}

#[test]
fn every_command_and_every_message_has_an_example() {
    let page = page();
    assert_none(&not_shown(&page, "json command", COMMANDS));
    assert_none(&not_shown(&page, "json reply", REPLIES));
    assert_found(&not_shown(&Document::parse("x.md", ""), "json reply", REPLIES), "checkpoint");
}

#[test]
fn the_table_of_errors_is_the_code_s() {
    let page = tree::read(PAGE);
    for code in ErrorCode::ALL {
        let row = format!("| `{}` | `{}` |", code.text(), code.code());
        assert!(page.contains(&row), "{PAGE} has no row {row}");
    }
    let rows = page.lines().skip_while(|line| !line.starts_with("| `error` |")).skip(2);
    assert_eq!(
        rows.take_while(|line| line.starts_with('|')).count(),
        ErrorCode::ALL.len(),
        "rows beyond the codes"
    );
}
