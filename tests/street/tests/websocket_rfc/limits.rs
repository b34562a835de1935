//! Large messages, many messages, and messages in awkward pieces.

use newswire_street_tests::data::sized;
use newswire_street_tests::raw::{BINARY, CONTINUATION, PING, TEXT};
use newswire_street_tests::{Frame, Server};

use super::{Case, Say, echo, run};

const MEBIBYTE: usize = 1 << 20;

fn in_fragments(name: String, payload: &[u8], size: usize) -> Case {
    let last = payload.len().div_ceil(size) - 1;
    payload.chunks(size).enumerate().fold(Case::new(name), |case, (index, chunk)| {
        let frame = Frame::new(if index == 0 { TEXT } else { CONTINUATION }, chunk);
        case.frame(&if index == last { frame } else { frame.more() })
    })
}

#[tokio::test]
async fn section_9_limits() {
    let too_large = || Say::Error("Message too large");
    let mut cases = vec![
        Case::new("9.1 a frame of 1 MiB").frame(&Frame::text(vec![b' '; MEBIBYTE])).says(too_large()),
        Case::new("9.2 a byte more").frame(&Frame::text(vec![b' '; MEBIBYTE + 1])).closes(&[1009]),
        Case::new("9.3 a binary of a byte more")
            .frame(&Frame::new(BINARY, vec![0; MEBIBYTE + 1]))
            .closes(&[1009]),
    ];
    for claim in [MEBIBYTE as u64 + 1, 1 << 32, (1 << 63) - 1] {
        let header = Frame::text("").header(claim);
        cases.push(Case::new(format!("9.4 a header that claims {claim}")).bytes(header).closes(&[1009]));
    }
    for claim in [1 << 63, u64::MAX] {
        let header = Frame::text("").header(claim);
        cases
            .push(Case::new(format!("9.5 a header that claims {claim}")).bytes(header).closes(&[1002, 1009]));
    }
    for size in [4096, 65_536] {
        let spaces = vec![b' '; MEBIBYTE];
        cases
            .push(in_fragments(format!("9.6 1 MiB in fragments of {size}"), &spaces, size).says(too_large()));
    }
    let begun = in_fragments("9.7 fragments that add up to more".into(), &vec![b' '; MEBIBYTE], 65_536);
    let mut begun = Case { pieces: begun.pieces, ..Case::new(begun.name) };
    begun.pieces.pop();
    let over = begun.frame(&Frame::new(CONTINUATION, vec![b' '; 65_536]).more());
    cases.push(over.frame(&Frame::new(CONTINUATION, " ")).closes(&[1009]));
    run(cases).await;
}

#[tokio::test]
async fn section_9_many_messages() {
    let server = Server::start();
    let mut raw = server.raw().await;
    let mut all = Vec::new();
    for index in 0..2000 {
        all.extend(Frame::text(echo(&format!("m{index}"))).encode());
        if index % 7 == 0 {
            all.extend(Frame::new(PING, format!("p{index}")).encode());
        }
    }
    for piece in all.chunks(1460) {
        raw.write(piece).await;
    }
    let mut answered = 0;
    while answered < 2000 {
        let frame = raw.next().await.expect("the connection is open");
        if frame.opcode == TEXT {
            assert!(frame.as_text().contains(&format!("\"m{answered}\"")), "{answered}: {frame:?}");
            answered += 1;
        }
    }
}

#[tokio::test]
async fn section_10_a_large_publish_in_any_pieces() {
    let server = Server::start();
    for size in [64, 1300, 65_535, 65_536] {
        let mut raw = server.raw().await;
        let command = sized("tasks", 65_536 - r#""action":"publish","#.len()).replacen(
            '{',
            r#"{"action":"publish","#,
            1,
        );
        assert_eq!(command.len(), 65_536);
        for piece in in_fragments(String::new(), command.as_bytes(), size).pieces {
            raw.write(&piece).await;
        }
        let answer = raw.next_text().await;
        assert!(answer.contains("\"published\""), "in fragments of {size}: {answer}");
    }
}
