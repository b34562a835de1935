//! The closing handshake.

use newswire_street_tests::Frame;
use newswire_street_tests::raw::{CLOSE, CONTINUATION, PING, TEXT};

use super::{Case, Say, echo, run};

#[tokio::test]
async fn section_7_close_frames() {
    let text = || Frame::text(echo("late"));
    let normal = || Frame::close(1000, b"");
    let cases = vec![
        Case::new("7.1 after a text")
            .frame(&Frame::text(echo("a")))
            .frame(&normal())
            .says(Say::Echo("a".into()))
            .closes(&[1000]),
        Case::new("7.2 twice").frame(&normal()).frame(&normal()).chopped(usize::MAX).closes(&[1000]),
        Case::new("7.3 a ping behind it")
            .frame(&normal())
            .frame(&Frame::new(PING, "x"))
            .chopped(usize::MAX)
            .closes(&[1000]),
        Case::new("7.4 a text behind it").frame(&normal()).frame(&text()).chopped(usize::MAX).closes(&[1000]),
        Case::new("7.5 inside a fragmented text")
            .frame(&Frame::new(TEXT, "{").more())
            .frame(&normal())
            .frame(&Frame::new(CONTINUATION, "}"))
            .chopped(usize::MAX)
            .closes(&[1000]),
        Case::new("7.6 without a code").frame(&Frame::new(CLOSE, "")).closes(&[1000, 1005]),
        Case::new("7.7 of one byte").frame(&Frame::new(CLOSE, "x")).closes(&[1002]),
        Case::new("7.8 with a reason").frame(&Frame::close(1000, b"Hello")).closes(&[1000]),
        Case::new("7.9 with the longest reason").frame(&Frame::close(1000, &[b'r'; 123])).closes(&[1000]),
        Case::new("7.10 with a reason too long").frame(&Frame::close(1000, &[b'r'; 124])).closes(&[1002]),
        Case::new("7.11 with a reason that is no text")
            .frame(&Frame::close(1000, &[0xce, 0xba, 0xed, 0xa0, 0x80]))
            .closes(&[1007, 1002]),
        Case::new("7.12 byte by byte").frame(&Frame::close(1000, b"slow")).chopped(1).closes(&[1000]),
    ];
    run(cases).await;
}

#[tokio::test]
async fn section_7_close_codes() {
    let mut cases = Vec::new();
    // Each valid code needs its own expectation, and they must live as long as the program.
    macro_rules! valid {
        ($($code:literal)*) => {$(
            cases.push(Case::new(concat!("7.20 ", $code)).frame(&Frame::close($code, b"")).closes(&[$code, 1000]));
        )*};
    }
    valid!(1000 1001 1002 1003 1007 1008 1009 1010 1011 3000 3999 4000 4999);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        for (what, reason) in [("bare", &b""[..]), ("with a reason", b"why")] {
            let case = Case::new(format!("7.21 {code} {what}")).frame(&Frame::close(code, reason));
            cases.push(case.closes(&[1002]));
        }
    }
    run(cases).await;
}
