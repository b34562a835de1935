//! Compressed messages of a client (RFC 7692).

use flate2::{Compress, Compression, FlushCompress};

use super::*;

const TEXT: u8 = 0x81 | COMPRESSED;
/// "Hello" in the examples of the RFC: one block, then one whose last bit is set, then two blocks.
const HELLO: [&[u8]; 3] = [
    &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
    &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
];
/// The same as a block without compression.
const STORED_HELLO: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    match body.len() {
        short @ 0..126 => frame[1] = 0x80 | short as u8,
        long => frame.extend(u16::try_from(long).unwrap().to_be_bytes()),
    }
    frame.extend([7, 77, 177, 222]);
    frame.extend(body.iter().zip([7, 77, 177, 222].iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let (mut compress, mut body) = (Compress::new(Compression::best(), false), Vec::with_capacity(1 << 20));
    compress.compress_vec(text, &mut body, FlushCompress::Sync).unwrap();
    assert_eq!(body.split_off(body.len() - 4), [0x00, 0x00, 0xff, 0xff]);
    body
}

fn decode(input: &[u8], piece: usize) -> (Vec<Item>, Option<u16>) {
    let mut decoder = FrameDecoder::new(100_000, 1_000).with_deflate(true);
    let mut items = Vec::new();
    for mut piece in input.chunks(piece) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation.close.number())),
            }
        }
        assert!(decoder.data.capacity() < 10_000, "{} bytes are held", decoder.data.capacity());
    }
    assert!(decoder.inflater.is_some() == decoder.message.is_some());
    (items, None)
}

#[test]
fn messages_as_the_rfc_shows_them() {
    for body in HELLO.into_iter().chain([STORED_HELLO]) {
        let whole = frame(TEXT, body);
        let parts =
            [frame(0x41, &body[..3]), frame(0x89, b"!"), frame(0x00, b""), frame(0x80, &body[3..])].concat();
        for piece in 1..40 {
            assert_eq!(decode(&whole, piece), (vec![Item::Text("Hello".into())], None), "{body:x?}");
            let expected = vec![Item::Ping(b"!".to_vec()), Item::Text("Hello".into())];
            assert_eq!(decode(&parts, piece), (expected, None), "{body:x?}");
        }
    }
    assert_eq!(decode(&frame(TEXT, &[0x00]), 100), (vec![Item::Text(String::new())], None));
}

#[test]
fn compressed_and_plain_messages_take_turns() {
    let input = [
        frame(TEXT, HELLO[0]),
        frame(0x81, b"plain"),
        frame(TEXT, HELLO[0]),
        frame(0xc2, b"never looked at"),
        frame(0x81, b"end"),
    ];
    let text = |text: &str| Item::Text(text.to_owned());
    let expected = [text("Hello"), text("plain"), text("Hello"), Item::Binary { bytes: 15 }, text("end")];
    assert_eq!(decode(&input.concat(), 5), (expected.to_vec(), None));
}

#[test]
fn no_message_refers_to_the_one_before_it() {
    // The second message of the RFC's example with a context: it repeats the first by reference.
    let input = [frame(TEXT, HELLO[0]), frame(TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    assert_eq!(decode(&input, 100), (vec![Item::Text("Hello".into())], Some(1007)));
}

#[test]
fn what_is_not_a_whole_deflate_stream_is_refused() {
    let long = compressed("{\"action\":\"subscribe\",\"channels\":[\"tasks\"]}".as_bytes());
    for cut in 0..long.len() - 1 {
        assert_eq!(decode(&frame(TEXT, &long[..cut]), 3).1, Some(1007), "cut off at {cut}");
    }
    for body in [&b""[..], b"\xff\xff\xff", b"\x06", b"plain text", &[0x00, 0x05, 0x00, 0xfa, 0xfe, 1, 2]] {
        assert_eq!(decode(&frame(TEXT, body), 3).1, Some(1007), "{body:x?}");
    }
}

#[test]
fn the_bit_stands_only_where_it_may() {
    assert_eq!(
        FrameDecoder::new(9, 9).decode(&mut &frame(TEXT, HELLO[0])[..]).unwrap_err().close.number(),
        1002
    );
    let parts = [frame(0x41, &HELLO[0][..3]), frame(0xc0, &HELLO[0][3..])].concat();
    assert_eq!(decode(&parts, 100).1, Some(1002), "on a later fragment");
    assert_eq!(decode(&frame(0xc9, b""), 100).1, Some(1002), "on a ping");
    for other in [0x20, 0x10, 0x60, 0x50] {
        assert_eq!(decode(&frame(0x81 | other, HELLO[0]), 100).1, Some(1002));
    }
}

#[test]
fn a_message_has_the_same_bounds_when_it_is_compressed() {
    for (bytes, expected) in [
        (1_000, Ok(Item::Text("a".repeat(1_000)))),
        (1_001, Ok(Item::TooLong { bytes: 1_001 })),
        (100_000, Ok(Item::TooLong { bytes: 100_000 })),
        (100_001, Err(1009)),
        (900_000, Err(1009)),
    ] {
        let body = compressed(&vec![b'a'; bytes]);
        for piece in [1, 7, 10_000] {
            let (items, close) = decode(&frame(TEXT, &body), piece);
            assert_eq!(items.first().cloned().ok_or_else(|| close.unwrap_or_default()), expected, "{bytes}");
        }
    }
}

#[test]
fn inflated_text_is_checked() {
    for bad in [&b"\xff"[..], b"a\xce", b"\xed\xa0\x80", &[&[b'a'; 3_000][..], b"\xc3"].concat()] {
        assert_eq!(decode(&frame(TEXT, &compressed(bad)), 2).1, Some(1007), "{bad:?}");
    }
    let long = "\u{20ac}".repeat(5_000);
    let expected = Item::TooLong { bytes: 15_000 };
    assert_eq!(decode(&frame(TEXT, &compressed(long.as_bytes())), 9), (vec![expected], None));
}
