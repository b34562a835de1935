use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame; `first` is the first byte as it goes out.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match body.len() {
        0..=125 => out.push(0x80 | body.len() as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((body.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn decode_all(max: usize, mut input: &[u8]) -> (Vec<Item>, Option<Violation>) {
    let mut decoder = FrameDecoder::new(max, max);
    let mut items = Vec::new();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => {
                assert!(input.is_empty());
                return (items, None);
            }
            Err(violation) => return (items, Some(violation)),
        }
    }
}

fn closes(input: &[u8]) -> Option<u16> {
    decode_all(1000, input).1.map(|violation| violation.close.number())
}

#[test]
fn texts_of_every_length_form() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        let text = "a".repeat(len);
        let (items, violation) = decode_all(1 << 20, &frame(0x81, text.as_bytes()));
        assert_eq!((items, violation), (vec![Item::Text(text)], None));
    }
}

#[test]
fn fragments_with_a_ping_between_them() {
    let input = [
        frame(0x01, b"one "),
        frame(0x89, b"hi"),
        frame(0x00, b""),
        frame(0x80, "tw\u{f6}".as_bytes()),
        frame(0x02, b"12"),
        frame(0x80, b"345"),
        frame(0x8a, b""),
    ]
    .concat();
    let expected = [
        Item::Ping(b"hi".to_vec()),
        Item::Text("one tw\u{f6}".into()),
        Item::Binary { bytes: 5 },
        Item::Pong(vec![]),
    ];
    for chunk in 1..input.len() {
        let mut decoder = FrameDecoder::new(1000, 1000);
        let mut items = Vec::new();
        for mut piece in input.chunks(chunk) {
            while let Some(item) = decoder.decode(&mut piece).unwrap() {
                items.push(item);
            }
        }
        assert_eq!(items, expected);
        assert!(!decoder.is_mid_message());
    }
}

#[test]
fn headers_that_break_the_protocol() {
    assert_eq!(closes(&[0x81, 0x01, b'a']), Some(1002), "unmasked");
    for reserved in [0x40, 0x20, 0x10] {
        assert_eq!(closes(&frame(0x81 | reserved, b"a")), Some(1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(closes(&frame(0x80 | opcode, b"")), Some(1002));
    }
    for control in [0x08, 0x09, 0x0a] {
        assert_eq!(closes(&frame(control, b"")), Some(1002), "fragmented control");
        assert_eq!(closes(&frame(0x80 | control, &[0; 126])), Some(1002), "long control");
    }
    assert_eq!(closes(&frame(0x80, b"a")), Some(1002), "nothing to continue");
    assert_eq!(closes(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()), Some(1002), "text within text");
    assert_eq!(closes(&[frame(0x01, b"a"), frame(0x02, b"b")].concat()), Some(1002), "binary within text");
    assert_eq!(closes(&[0x81, 0xfe, 0, 125]), Some(1002), "long form of a short length");
    assert_eq!(closes(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Some(1002));
    assert_eq!(closes(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(1002), "sign bit");
}

#[test]
fn violations_are_told_by_the_header_alone() {
    assert_eq!(closes(&[0xc1, 0x80]), Some(1002));
    assert_eq!(closes(&[0x81, 0xfe, 0x03, 0xe9]), Some(1009), "1001 bytes announced, none sent");
    assert_eq!(closes(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(1009));
}

#[test]
fn the_limit_counts_the_whole_message() {
    let half = [b'a'; 500];
    let whole = [frame(0x01, &half), frame(0x80, &half)].concat();
    assert_eq!(closes(&whole), None);
    let over = [frame(0x01, &half), frame(0x00, &half), frame(0x80, b"a")].concat();
    assert_eq!(closes(&over), Some(1009));
    let binary = [frame(0x02, &half), frame(0x80, &[0; 501])].concat();
    assert_eq!(closes(&binary), Some(1009));
    assert_eq!(decode_all(10, &frame(0x89, &[1; 125])).1, None, "control frames are not messages");
}

#[test]
fn text_is_checked_as_it_arrives() {
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xce", b"\xf0\x9f\x98"] {
        assert_eq!(closes(&frame(0x81, bad)), Some(1007), "{bad:?}");
    }
    // A character split over fragments is whole; one that no byte can complete fails at once.
    let euro = "\u{20ac}".as_bytes();
    assert_eq!(
        closes(&[frame(0x01, &euro[..1]), frame(0x00, &euro[1..2]), frame(0x80, &euro[2..])].concat()),
        None
    );
    assert_eq!(closes(&[frame(0x01, &euro[..2]), frame(0x80, b"")].concat()), Some(1007));
    assert_eq!(closes(&frame(0x01, b"ok\xf4\x90")), Some(1007));
    let begun = frame(0x81, &[&b"\xff"[..], &[b'a'; 900]].concat());
    assert_eq!(closes(&begun[..9]), Some(1007), "before the frame ends");
}

#[test]
fn closes_carry_valid_codes() {
    let body = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    let (items, _) = decode_all(1000, &[frame(0x88, b""), frame(0x81, b"late")].concat());
    assert_eq!(items, [Item::Close(None)]);
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let (items, _) = decode_all(1000, &frame(0x88, &body(code, "b\u{fc}e".as_bytes())));
        assert_eq!(items, [Item::Close(Some((code, "b\u{fc}e".into())))]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(closes(&frame(0x88, &body(code, b""))), Some(1002), "{code}");
    }
    assert_eq!(closes(&frame(0x88, b"\x03")), Some(1002));
    assert_eq!(closes(&frame(0x88, &body(1000, b"\xff"))), Some(1007));
}

#[test]
fn behind_a_violation_everything_is_dropped() {
    let mut decoder = FrameDecoder::new(1000, 1000);
    assert!(decoder.decode(&mut &frame(0x83, b"")[..]).is_err());
    assert_eq!(decoder.decode(&mut &frame(0x81, b"a")[..]), Ok(None));
}

#[test]
fn nothing_stays_on_the_heap_between_messages() {
    let mut decoder = FrameDecoder::new(1 << 20, 1 << 20);
    let big = [b'a'; 100_000];
    for input in [frame(0x81, &big), frame(0x01, &big), frame(0x80, &big), frame(0x89, b"ping")] {
        for mut piece in input.chunks(1000) {
            while decoder.decode(&mut piece).unwrap().is_some() {}
        }
    }
    assert_eq!((decoder.data.capacity(), decoder.control.capacity()), (0, 0));
    assert!(decoder.inflater.is_none());
    assert!(size_of::<FrameDecoder>() <= 168, "{}", size_of::<FrameDecoder>());
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut decoder = FrameDecoder::new(1 << 20, 1 << 20);
    let header = &frame(0x81, &[b'a'; 1 << 20])[..20];
    assert_eq!(decoder.decode(&mut &header[..]), Ok(None));
    assert!(decoder.data.capacity() < 100);
}

#[test]
fn server_frames() {
    for len in [0, 125, 126, 65_535, 65_536] {
        let (header, count) = text_header(len);
        let form: &[u8] = match len {
            0..=125 => &[0x81, len as u8],
            126..=65_535 => &[0x81, 126, (len >> 8) as u8, len as u8],
            _ => &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        };
        assert_eq!(&header[..count], form);
    }
    let mut out = Vec::new();
    encode_control(&mut out, Opcode::Ping, &[7; 200]);
    assert_eq!((out[0], out[1], out.len()), (0x89, 125, 127));
    out.clear();
    encode_close(&mut out, CloseCode::ShuttingDown.number(), &"\u{e9}".repeat(100));
    assert_eq!((out[0], out[1], out.len()), (0x88, 124, 126));
    assert!(str::from_utf8(&out[4..]).is_ok());
    out.clear();
    encode_text(&mut out, b"hi");
    assert_eq!(out, [0x81, 2, b'h', b'i']);
}

#[test]
fn a_text_that_nobody_will_read_is_checked_and_not_kept() {
    let frame = |fin: u8, opcode: u8, body: &[u8]| {
        let mut frame = vec![fin << 7 | opcode, 0x80 | 126];
        frame.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(body);
        frame
    };
    let half = "é".repeat(300);
    let mut decoder = FrameDecoder::new(1 << 20, 1_000);
    let first = frame(0, 1, half.as_bytes());
    let (last, rest) = (frame(1, 0, half.as_bytes()), frame(1, 1, &[b'x'; 130]));
    let bytes = [first, last, rest].concat();
    let mut items = Vec::new();
    for piece in bytes.chunks(7) {
        let mut input = piece;
        while !input.is_empty() {
            items.extend(decoder.decode(&mut input).unwrap());
        }
        assert!(decoder.data.capacity() <= 2_048, "{} bytes are held", decoder.data.capacity());
    }
    assert_eq!(items, [Item::TooLong { bytes: 1_200 }, Item::Text("x".repeat(130))]);
    let mut broken = &frame(1, 1, &[&[b'x'; 1_100][..], &[0xc3]].concat())[..];
    let outcome = FrameDecoder::new(1 << 20, 1_000).decode(&mut broken);
    assert_eq!(outcome.unwrap_err().close, CloseCode::NotUtf8);
}
