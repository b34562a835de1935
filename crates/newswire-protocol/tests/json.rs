//! The scanner against serde_json and against naive models.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::borrow::Cow;
use std::collections::BTreeSet;

use newswire_protocol::json;
use newswire_protocol::{Draft, ErrorCode, Limits, Scalar, payload_scalar};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;

/// A document that keeps what serde_json's values lose: repeated keys, escapes, numbers as written.
#[derive(Clone, Debug)]
enum Tree {
    Word(&'static str),
    Number(String),
    /// The string's text with its escapes, without quotes.
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,30})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,6})?"
}

/// Strings that often hold escapes, surrogates whole and half, and signs that JSON cares about.
fn escaped() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-c ]{1,3}",
        1 => Just("{".to_owned()),
        1 => Just("\\\"".to_owned()),
        1 => Just("\\\\".to_owned()),
        1 => Just("\\n".to_owned()),
        1 => Just("\\u0061".to_owned()),
        1 => Just("\\ud834\\udd1e".to_owned()),
        1 => Just("é𝄞".to_owned()),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn sometimes_half_a_pair() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => escaped(),
        1 => (escaped(), prop_oneof![Just("\\ud800"), Just("\\udfff")], escaped())
            .prop_map(|(before, half, after)| format!("{before}{half}{after}")),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(Tree::Word),
        number().prop_map(Tree::Number),
        sometimes_half_a_pair().prop_map(Tree::String),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Tree::Array),
            vec((sometimes_half_a_pair(), inner), 0..6).prop_map(Tree::Object),
        ]
    })
}

fn object() -> impl Strategy<Value = Vec<(String, Tree)>> {
    vec((sometimes_half_a_pair(), tree()), 0..24)
}

impl Tree {
    fn write(&self, out: &mut String, space: &str) {
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Number(number) => out.push_str(number),
            Self::String(text) => out.extend(["\"", text, "\""]),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    out.push_str(space);
                    item.write(out, space);
                }
                out.extend([space, "]"]);
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    out.extend([space, "\"", key, "\"", space, ":", space]);
                    value.write(out, space);
                }
                out.extend([space, "}"]);
            }
        }
    }

    fn text(&self, space: &str) -> String {
        let mut out = String::new();
        self.write(&mut out, space);
        out
    }

    /// The payload rules, naively.
    fn keeps_the_rules(&self) -> bool {
        let whole = |text: &str| serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
        match self {
            Self::Word(_) | Self::Number(_) => true,
            Self::String(text) => whole(text).is_some(),
            Self::Array(items) => items.iter().all(Self::keeps_the_rules),
            Self::Object(members) => {
                let keys: Option<BTreeSet<String>> = members.iter().map(|(key, _)| whole(key)).collect();
                keys.is_some_and(|keys| keys.len() == members.len())
                    && members.iter().all(|(_, value)| value.keeps_the_rules())
            }
        }
    }
}

/// Valid JSON by serde_json, which skips values without judging numbers or surrogates.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn event(payload: &str) -> String {
    format!(r#"{{"channel":"a","event_type":"b","payload":{payload}}}"#)
}

proptest! {
    #[test]
    fn generated_documents_are_json(tree in tree(), space in "[ \n\t\r]{0,2}") {
        let text = tree.text(&space);
        prop_assert!(is_json(&text));
        prop_assert_eq!(json::document(&text), Ok(text.as_str()));
    }

    #[test]
    fn mutated_documents_are_judged_alike(
        tree in tree(),
        changes in vec((any::<prop::sample::Index>(), 0..3, "[\\[\\]{}\":,.0-9eE+\\\\truefalsn /\u{1}\u{7f}é-]"), 1..4),
    ) {
        let mut chars: Vec<char> = tree.text("").chars().collect();
        for (at, what, sign) in changes {
            let sign = sign.chars().next().unwrap();
            let at = at.index(chars.len() + 1);
            match what {
                0 => chars.insert(at, sign),
                1 if at < chars.len() => drop(chars.remove(at)),
                _ if at < chars.len() => chars[at] = sign,
                _ => {}
            }
        }
        let text: String = chars.into_iter().collect();
        prop_assert_eq!(json::document(&text).is_ok(), is_json(&text), "{}", text);
    }

    #[test]
    fn strings_are_unescaped_alike(text in sometimes_half_a_pair()) {
        let quoted = format!("\"{text}\"");
        let expected = serde_json::from_str::<String>(&quoted).ok();
        prop_assert_eq!(json::string(&quoted).map(Cow::into_owned), expected);
    }

    #[test]
    fn written_strings_are_read_back(text in any::<String>()) {
        let mut out = Vec::new();
        json::write_string(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn members_come_whole_and_in_order(members in object(), space in "[ \n]{0,2}") {
        let text = Tree::Object(members.clone()).text(&space);
        let mut seen = Vec::new();
        prop_assert_eq!(json::members(&text, |key, value| seen.push((key, value))), Ok(true));
        prop_assert_eq!(seen.len(), members.len());
        for ((key, value), (expected_key, expected)) in seen.into_iter().zip(&members) {
            let expected_key = serde_json::from_str::<String>(&format!("\"{expected_key}\"")).ok();
            prop_assert_eq!(key.unescape().map(Cow::into_owned), expected_key);
            prop_assert_eq!(value, expected.text(&space));
        }
    }

    #[test]
    fn payload_rules_hold_as_the_naive_model_says(members in object(), space in "[ \n]{0,2}") {
        let tree = Tree::Object(members);
        let payload = tree.text(&space);
        match Draft::parse(&event(&payload), &Limits { event_bytes: 1 << 20, command_bytes: 0 }) {
            Ok(draft) => {
                prop_assert!(tree.keeps_the_rules());
                prop_assert_eq!(&*draft.payload, payload);
            }
            Err(refusal) => {
                prop_assert!(!tree.keeps_the_rules(), "{}", refusal);
                prop_assert_eq!(refusal.code, ErrorCode::InvalidEvent);
            }
        }
    }

    #[test]
    fn lookups_find_what_serde_json_finds(
        keys in prop::collection::btree_set("[a-e]{1,2}", 0..8),
        values in vec(tree(), 8),
        wanted in "[a-e]{1,2}",
    ) {
        let members: Vec<_> = keys.into_iter().zip(values).collect();
        let payload = Tree::Object(members.clone()).text("");
        let expected = members.iter().find(|(key, _)| *key == wanted).and_then(|(_, value)| match value {
            Tree::Word("true") => Some(Scalar::bool(true)),
            Tree::Word("false") => Some(Scalar::bool(false)),
            Tree::Number(raw) => Scalar::number(raw),
            Tree::String(text) => serde_json::from_str(&format!("\"{text}\"")).ok().map(|text: String| Scalar::string(&text)),
            _ => None,
        });
        prop_assert_eq!(payload_scalar(&payload, &wanted), expected);
    }
}

#[test]
fn nesting_is_refused_beyond_64_levels_and_syntax_comes_first() {
    let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let parse =
        |payload: &str| Draft::parse(&event(payload), &Limits { event_bytes: 1 << 21, command_bytes: 0 });
    assert!(parse(&nested(64)).is_ok());
    assert_eq!(parse(&nested(65)).unwrap_err().code, ErrorCode::InvalidEvent);
    assert_eq!(parse(&nested(500_000)).unwrap_err().code, ErrorCode::InvalidEvent);
    assert_eq!(parse(&nested(65)[..100]).unwrap_err().code, ErrorCode::InvalidJson);
    let siblings = format!("{{\"a\":[{}{{}}]}}", "[[]],{\"b\":[]},".repeat(1000));
    assert!(parse(&siblings).is_ok());
}

#[test]
fn keys_are_compared_in_every_object_small_or_large() {
    let parse =
        |payload: &str| Draft::parse(&event(payload), &Limits { event_bytes: 1 << 21, command_bytes: 0 });
    let keys = |count: usize| (0..count).map(|i| format!("\"k{i}\":{{\"k{i}\":1}}")).collect::<Vec<_>>();
    for count in [1, 2, 15, 16, 17, 18, 40, 60_000] {
        let distinct = keys(count);
        assert!(parse(&format!("{{{}}}", distinct.join(","))).is_ok(), "{count}");
        for twice in [0, count / 2, count - 1] {
            let mut repeated = distinct.clone();
            // Equal once unescaped.
            repeated.push(format!("\"\\u006b{twice}\":2"));
            let nested = format!("{{\"deep\":[{{{}}}]}}", repeated.join(","));
            assert_eq!(parse(&nested).unwrap_err().code, ErrorCode::InvalidEvent, "{count} {twice}");
        }
    }
}
