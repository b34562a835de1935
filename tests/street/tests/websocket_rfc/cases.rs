//! Framing, pings and pongs, reserved bits, opcodes, fragmentation.

use newswire_street_tests::Frame;
use newswire_street_tests::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};

use super::{Case, Say, echo, echo_of_length, run};

#[tokio::test]
async fn section_1_framing() {
    let mut cases = vec![
        Case::new("1.1 an empty text is no JSON").frame(&Frame::text("")).says(Say::Error("Invalid JSON")),
        Case::new("1.2 an unmasked text").frame(&Frame::text(echo("x")).unmasked()).closes(&[1002]),
        Case::new("1.3 an unmasked ping").frame(&Frame::new(PING, "x").unmasked()).closes(&[1002]),
    ];
    for length in [100, 125, 126, 127, 128, 255, 256, 4095, 4096] {
        let text = echo_of_length("len", length);
        let case = Case::new(format!("1.4 text of {length}")).frame(&Frame::text(text.clone()));
        cases.push(case.says(Say::Echo("len".into())));
        for size in [1, 997] {
            let case = Case::new(format!("1.5 text of {length}, {size} bytes a write"))
                .frame(&Frame::text(text.clone()));
            cases.push(case.chopped(size).says(Say::Echo("len".into())));
        }
    }
    for length in [65_535, 65_536, 1 << 20] {
        let case =
            Case::new(format!("1.6 text of {length}")).frame(&Frame::text(echo_of_length("len", length)));
        cases.push(case.chopped(65_536).says(Say::Error("Message too large")));
    }
    for length in [0, 125, 126, 65_536] {
        let case =
            Case::new(format!("1.7 binary of {length}")).frame(&Frame::new(BINARY, vec![0xfe; length]));
        cases.push(case.says(Say::Error("Invalid JSON")));
    }
    let two = [Frame::text(echo("one")).encode(), Frame::text(echo("two")).encode()].concat();
    let both = Case::new("1.8 two frames in one write").bytes(two);
    cases.push(both.says(Say::Echo("one".into())).says(Say::Echo("two".into())));
    run(cases).await;
}

#[tokio::test]
async fn section_2_pings_and_pongs() {
    let pong = |payload: &[u8]| Say::Pong(payload.to_vec());
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    let long = [0xfe; 125];
    let ping = |payload: &[u8]| Frame::new(PING, payload);
    let mut cases = vec![
        Case::new("2.1 an empty ping").frame(&ping(b"")).says(pong(b"")),
        Case::new("2.2 a ping with text").frame(&ping(b"Hello")).says(pong(b"Hello")),
        Case::new("2.3 a ping with bytes").frame(&ping(&binary)).says(pong(&binary)),
        Case::new("2.4 a ping of 125").frame(&ping(&long)).says(pong(&long)),
        Case::new("2.5 a ping of 126").frame(&ping(&[0xfe; 126])).closes(&[1002]),
        Case::new("2.6 a ping byte by byte").frame(&ping(&long)).chopped(1).says(pong(&long)),
        Case::new("2.7 an unasked pong").frame(&Frame::new(PONG, "")),
        Case::new("2.8 an unasked pong with bytes").frame(&Frame::new(PONG, binary)),
        Case::new("2.9 a pong between pings")
            .frame(&Frame::new(PONG, "mine"))
            .frame(&ping(b"yours"))
            .says(pong(b"yours")),
        Case::new("2.10 a pong of 126").frame(&Frame::new(PONG, [0; 126])).closes(&[1002]),
    ];
    for (number, size) in [(11, usize::MAX), (12, 1)] {
        let mut case = Case::new(format!("2.{number} ten pings"));
        for index in 0..10 {
            case = case.frame(&ping(format!("payload-{index}").as_bytes()));
        }
        case = case.chopped(size);
        for index in 0..10 {
            case = case.says(pong(format!("payload-{index}").as_bytes()));
        }
        cases.push(case);
    }
    run(cases).await;
}

#[tokio::test]
async fn section_3_reserved_bits() {
    let mut cases = Vec::new();
    for rsv in 1..=7 {
        for (what, opcode, payload) in [
            ("text", TEXT, echo("x")),
            ("binary", BINARY, "b".into()),
            ("ping", PING, "p".into()),
            ("pong", PONG, "p".into()),
        ] {
            let case = Case::new(format!("3.{rsv} {what}")).frame(&Frame::new(opcode, payload).rsv(rsv));
            cases.push(case.closes(&[1002]));
        }
        let close = Frame::close(1000, b"").rsv(rsv);
        cases.push(Case::new(format!("3.{rsv} close")).frame(&close).closes(&[1002]));
        let after = Case::new(format!("3.{rsv} after a good text")).frame(&Frame::text(echo("good")));
        let after = after.frame(&Frame::text(echo("bad")).rsv(rsv)).frame(&Frame::new(PING, "late"));
        cases.push(after.chopped(usize::MAX).says(Say::Echo("good".into())).closes(&[1002]));
    }
    run(cases).await;
}

#[tokio::test]
async fn section_4_opcodes() {
    let mut cases = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let case = Case::new(format!("4.{opcode} empty")).frame(&Frame::new(opcode, ""));
        cases.push(case.closes(&[1002]));
        let case = Case::new(format!("4.{opcode} with payload")).frame(&Frame::new(opcode, "payload"));
        cases.push(case.closes(&[1002]));
        let case = Case::new(format!("4.{opcode} after a good text")).frame(&Frame::text(echo("good")));
        let case = case.frame(&Frame::new(opcode, "payload")).frame(&Frame::new(PING, "late"));
        cases.push(case.says(Say::Echo("good".into())).closes(&[1002]));
    }
    run(cases).await;
}

/// A message cut at these places, as frames.
fn fragments(text: &str, cuts: &[usize]) -> Vec<Frame> {
    let mut edges = vec![0];
    edges.extend(cuts);
    edges.push(text.len());
    let mut frames = Vec::new();
    for pair in edges.windows(2) {
        let opcode = if frames.is_empty() { TEXT } else { CONTINUATION };
        frames.push(Frame::new(opcode, &text.as_bytes()[pair[0]..pair[1]]).more());
    }
    frames.last_mut().unwrap().fin = true;
    frames
}

fn with_frames(name: &str, frames: &[Frame]) -> Case {
    frames.iter().fold(Case::new(name), Case::frame)
}

#[tokio::test]
async fn section_5_fragmentation() {
    let text = echo("fragmented");
    let whole = || Say::Echo("fragmented".into());
    let mut cases = vec![
        Case::new("5.1 a fragmented ping").frame(&Frame::new(PING, "a").more()).closes(&[1002]),
        Case::new("5.2 a fragmented pong").frame(&Frame::new(PONG, "a").more()).closes(&[1002]),
        Case::new("5.3 a fragmented close").frame(&Frame::new(CLOSE, "").more()).closes(&[1002]),
        with_frames("5.4 two fragments", &fragments(&text, &[9])).says(whole()),
        with_frames("5.5 two fragments, byte by byte", &fragments(&text, &[9])).chopped(1).says(whole()),
        with_frames("5.6 empty fragments", &fragments(&text, &[0, 0, 9, 9, text.len()])).says(whole()),
        Case::new("5.7 nothing to continue").frame(&Frame::new(CONTINUATION, text.clone())).closes(&[1002]),
        Case::new("5.8 nothing to continue, unfinished")
            .frame(&Frame::new(CONTINUATION, text.clone()).more())
            .closes(&[1002]),
        with_frames("5.9 a second text inside", &fragments(&text, &[9])[..1])
            .frame(&Frame::text(text.clone()))
            .closes(&[1002]),
        with_frames("5.10 a binary inside", &fragments(&text, &[9])[..1])
            .frame(&Frame::new(BINARY, "b"))
            .closes(&[1002]),
        with_frames("5.11 a continuation too many", &fragments(&text, &[9]))
            .frame(&Frame::new(CONTINUATION, "more"))
            .says(whole())
            .closes(&[1002]),
        Case::new("5.12 a fragmented binary")
            .frame(&Frame::new(BINARY, "a").more())
            .frame(&Frame::new(CONTINUATION, "b"))
            .says(Say::Error("Invalid JSON")),
    ];
    let every: Vec<usize> = (1..text.len()).collect();
    cases.push(with_frames("5.13 a fragment a byte", &fragments(&text, &every)).says(whole()));
    for size in [1, usize::MAX] {
        let mut case = Case::new(format!("5.14 pings inside, {size} bytes a write"));
        for (index, frame) in fragments(&text, &[3, 9, 20]).iter().enumerate() {
            case = case.frame(&Frame::new(PING, format!("p{index}"))).frame(frame);
            case = case.says(Say::Pong(format!("p{index}").into_bytes()));
        }
        cases.push(case.chopped(size).says(whole()));
    }
    run(cases).await;
}
