//! UTF-8: what is valid passes, whole or cut anywhere; what is not ends the connection as soon as it shows.

use newswire_street_tests::Frame;
use newswire_street_tests::raw::{CONTINUATION, PING, TEXT};

use super::{Case, Say, echo, run};

/// Texts at every boundary of the encoding.
const VALID: &[&str] = &[
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fdd0}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1fffe}",
    "\u{10fffe}",
    "\u{10ffff}",
    "\u{feff}bom",
    "日本語 — 😀👩‍👩‍👧",
];

/// Byte sequences that no text may hold, whatever stands before and behind them.
const INVALID: &[&[u8]] = &[
    &[0x80],
    &[0xbf],
    &[0x80, 0xbf, 0x80],
    &[0xc0, 0xaf],
    &[0xc1, 0xbf],
    &[0xc2, 0x20],
    &[0xe0, 0x80, 0xaf],
    &[0xe0, 0x9f, 0xbf],
    &[0xe2, 0x82, 0x20],
    &[0xed, 0xa0, 0x80],
    &[0xed, 0xaf, 0xbf],
    &[0xed, 0xb0, 0x80],
    &[0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80],
    &[0xed, 0xbf, 0xbf],
    &[0xf0, 0x80, 0x80, 0xaf],
    &[0xf0, 0x8f, 0xbf, 0xbf],
    &[0xf0, 0x9f, 0x98, 0x20],
    &[0xf4, 0x90, 0x80, 0x80],
    &[0xf5, 0x80, 0x80, 0x80],
    &[0xf8, 0x88, 0x80, 0x80, 0x80],
    &[0xfc, 0x84, 0x80, 0x80, 0x80, 0x80],
    &[0xfe],
    &[0xff],
    &[0xfe, 0xfe, 0xff, 0xff],
    &[0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xce, 0xbc, 0xce, 0xb5, 0xed, 0xa0, 0x80, 0x65],
];

/// A command around bytes that may be no text.
fn command_around(bytes: &[u8]) -> Vec<u8> {
    [br#"{"action":"ping","id":"a"#, bytes, br#"z"}"#].concat()
}

#[tokio::test]
async fn section_6_valid_text() {
    let mut cases = Vec::new();
    for (number, text) in VALID.iter().enumerate() {
        let command = echo(text);
        let case = Case::new(format!("6.1.{number} whole")).frame(&Frame::text(command.clone()));
        cases.push(case.says(Say::Echo((*text).into())));
        let case = Case::new(format!("6.2.{number} byte by byte")).frame(&Frame::text(command.clone()));
        cases.push(case.chopped(1).says(Say::Echo((*text).into())));
        let mut case = Case::new(format!("6.3.{number} a fragment a byte"));
        for (index, byte) in command.bytes().enumerate() {
            let frame = Frame::new(if index == 0 { TEXT } else { CONTINUATION }, [byte]);
            case = case.frame(&if index + 1 == command.len() { frame } else { frame.more() });
        }
        cases.push(case.says(Say::Echo((*text).into())));
    }
    run(cases).await;
}

#[tokio::test]
async fn section_6_invalid_text() {
    let mut cases = Vec::new();
    for (number, bytes) in INVALID.iter().enumerate() {
        let command = command_around(bytes);
        let whole = Case::new(format!("6.4.{number} whole")).frame(&Frame::text(command.clone()));
        cases.push(whole.closes(&[1007]));
        let slow = Case::new(format!("6.5.{number} byte by byte")).frame(&Frame::text(command.clone()));
        cases.push(slow.chopped(1).closes(&[1007]));
        let after = Case::new(format!("6.6.{number} after a good text")).frame(&Frame::text(echo("good")));
        let after = after.frame(&Frame::text(command)).frame(&Frame::new(PING, "late"));
        cases.push(after.says(Say::Echo("good".into())).closes(&[1007]));
    }
    for (number, cut) in [&[0xce][..], &[0xe1, 0xbd], &[0xf0, 0x9f, 0x98], &[0xf4, 0x8f]].iter().enumerate() {
        let case =
            Case::new(format!("6.7.{number} a character cut off by the end")).frame(&Frame::text(*cut));
        cases.push(case.closes(&[1007]));
    }
    run(cases).await;
}

#[tokio::test]
async fn section_6_invalid_text_is_seen_before_the_message_ends() {
    let mut cases = Vec::new();
    for (number, bytes) in INVALID.iter().enumerate() {
        let begun = Frame::new(TEXT, command_around(bytes)).more();
        cases.push(Case::new(format!("6.8.{number} in the first fragment")).frame(&begun).closes(&[1007]));
        let case = Case::new(format!("6.9.{number} in the second fragment"));
        let case = case.frame(&Frame::new(TEXT, br#"{"action":"ping","id":"#).more());
        cases.push(
            case.frame(&Frame::new(CONTINUATION, *bytes).more())
                .frame(&Frame::new(CONTINUATION, "zz").more())
                .closes(&[1007]),
        );
        let mut cut = Frame::text(command_around(bytes)).encode();
        cut.pop();
        cases.push(Case::new(format!("6.10.{number} before the frame ends")).bytes(cut).closes(&[1007]));
    }
    let split = Case::new("6.11 a character over two fragments, the second wrong");
    let split = split.frame(&Frame::new(TEXT, [b'"', 0xe2, 0x82]).more());
    cases.push(split.frame(&Frame::new(CONTINUATION, [0xc3]).more()).closes(&[1007]));
    run(cases).await;
}
