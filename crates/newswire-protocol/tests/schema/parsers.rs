//! Schemas and parsers say the same: over random JSON, what a schema takes the parser takes, and the other way round.

use newswire_protocol::time::Rfc3339;
use newswire_protocol::{Draft, Limits, parse_command};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::{faults, random, validator};

/// Sizes are beyond a schema, so they do not come into it.
const LIMITS: Limits = Limits { event_bytes: usize::MAX, command_bytes: usize::MAX };

/// Whether a time of this object is one that only a calendar can refuse: JSON Schema has none.
fn only_the_calendar_refuses(value: &Value) -> bool {
    let fields = ["timestamp", "since"].into_iter().filter_map(|name| value.get(name)?.as_str());
    fields.into_iter().any(|text| text.len() >= 20 && Rfc3339::parse(text).is_none())
}

/// Both ways, and often enough in each: a test of which all cases were refused would show nothing.
fn agree(path: &str, near: &BoxedStrategy<Value>, parse: impl Fn(&str) -> Result<(), String>) {
    let validator = validator(path);
    let (mut accepted, mut refused, mut beyond) = (0, 0, 0);
    let mut runner = TestRunner::new(Config { cases: 6_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(near, |value| {
        let text = value.to_string();
        let (taken, parsed) = (validator.is_valid(&value), parse(&text));
        match &parsed {
            Ok(()) => {
                prop_assert!(
                    taken,
                    "the parser takes {text}, the schema does not: {}",
                    faults(&validator, &value)
                );
            }
            Err(refusal) if taken => {
                prop_assert!(
                    only_the_calendar_refuses(&value),
                    "the schema takes {text}, the parser not: {refusal}"
                );
            }
            Err(_) => {}
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{path}: {failure}");
    }
    // Counted apart from the search, which repeats cases while it shrinks one.
    let mut runner = TestRunner::deterministic();
    for _ in 0..2_000 {
        let value = near.new_tree(&mut runner).unwrap().current();
        match (validator.is_valid(&value), parse(&value.to_string()).is_ok()) {
            (true, true) => accepted += 1,
            (false, false) => refused += 1,
            _ => beyond += 1,
        }
    }
    assert!(accepted > 300 && refused > 300 && beyond < 300, "{path}: {accepted} {refused} {beyond}");
}

#[test]
fn a_command_is_one_to_the_schema_and_to_the_parser() {
    agree("command", &random::commands(), |text| {
        parse_command(text, &LIMITS).map(drop).map_err(|(_, refusal)| refusal.to_string())
    });
}

#[test]
fn an_event_is_one_to_the_schema_and_to_the_parser() {
    agree("event-draft", &random::drafts(), |text| {
        Draft::parse(text, &LIMITS).map(drop).map_err(|refusal| refusal.to_string())
    });
}
