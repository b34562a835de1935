//! The frame decoder against a naive encoder, for every way of cutting the bytes.

use flate2::{Compress, Compression, FlushCompress};
use newswire_protocol::FrameDecoder;
use newswire_protocol::frame::{Item, Violation};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX: usize = 1 << 17;

#[derive(Clone, Debug)]
enum Sent {
    /// A message in fragments.
    Text(Vec<String>),
    /// The same, compressed.
    Deflated(Vec<String>),
    Binary(Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let long = (0..70_000usize).prop_map(|len| "long é".repeat(len / 7));
    prop_oneof![
        6 => vec(any::<String>(), 1..4).prop_map(Sent::Text),
        4 => vec(any::<String>(), 1..4).prop_map(Sent::Deflated),
        1 => vec(long.clone(), 1..2).prop_map(Sent::Text),
        1 => vec(long, 1..2).prop_map(Sent::Deflated),
        2 => vec(vec(any::<u8>(), 0..300), 1..4).prop_map(Sent::Binary),
        2 => vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
        1 => vec(any::<u8>(), 0..=125).prop_map(Sent::Pong),
    ]
}

fn deflate(text: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(MAX);
    let mut compress = Compress::new(Compression::default(), false);
    compress.compress_vec(text.as_bytes(), &mut body, FlushCompress::Sync).expect("it compresses");
    match body.strip_suffix(&[0x00, 0x00, 0xff, 0xff]) {
        Some(body) => body.to_vec(),
        None => vec![0x00],
    }
}

/// A client's frame, naively.
fn frame(out: &mut Vec<u8>, first: u8, body: &[u8], mask: [u8; 4]) {
    out.push(first);
    match body.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0xfe);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0xff);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(body.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
}

fn encode(sent: &Sent, mask: [u8; 4], out: &mut Vec<u8>) -> Item {
    let deflated = match sent {
        Sent::Deflated(parts) => deflate(&parts.concat()),
        _ => Vec::new(),
    };
    let fragments: Vec<&[u8]> = match sent {
        Sent::Text(parts) => parts.iter().map(String::as_bytes).collect(),
        // As many fragments as the text has parts, wherever they end.
        Sent::Deflated(parts) => deflated.chunks(deflated.len().div_ceil(parts.len())).collect(),
        Sent::Binary(parts) => parts.iter().map(Vec::as_slice).collect(),
        Sent::Ping(body) | Sent::Pong(body) => vec![body],
    };
    let opcode = match sent {
        Sent::Text(_) => 1,
        Sent::Deflated(_) => 0x41,
        Sent::Binary(_) => 2,
        Sent::Ping(_) => 9,
        Sent::Pong(_) => 10,
    };
    for (i, part) in fragments.iter().enumerate() {
        let last = if i + 1 == fragments.len() { 0x80 } else { 0 };
        frame(out, last | if i == 0 { opcode } else { 0 }, part, mask);
    }
    match sent {
        Sent::Text(parts) | Sent::Deflated(parts) => Item::Text(parts.concat()),
        Sent::Binary(parts) => Item::Binary { bytes: parts.concat().len() },
        Sent::Ping(body) => Item::Ping(body.clone()),
        Sent::Pong(body) => Item::Pong(body.clone()),
    }
}

fn decode(pieces: &[&[u8]]) -> (Vec<Item>, Option<Violation>) {
    let mut decoder = FrameDecoder::new(MAX, MAX).with_deflate(true);
    let mut items = Vec::new();
    for mut piece in pieces.iter().copied() {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation)),
            }
        }
        assert!(piece.is_empty(), "all input is used");
    }
    (items, None)
}

/// Cuts the bytes at these places, in steps that start over when they are used up.
fn cut<'a>(mut bytes: &'a [u8], steps: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for step in steps.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*step).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_sent_arrives_however_it_is_cut(
        sent in vec((sent(), any::<[u8; 4]>()), 0..6),
        steps in vec(prop_oneof![1..8usize, 1..5000usize], 1..6),
    ) {
        let mut bytes = Vec::new();
        let expected: Vec<Item> = sent.iter().map(|(sent, mask)| encode(sent, *mask, &mut bytes)).collect();
        let (items, violation) = decode(&cut(&bytes, &steps));
        prop_assert_eq!(violation, None);
        prop_assert_eq!(items, expected);
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        mut bytes in vec(any::<u8>(), 0..400),
        starts_well in any::<bool>(),
        steps in vec(1..9usize, 1..6),
    ) {
        if starts_well {
            let mut good = Vec::new();
            frame(&mut good, 0x01, "caf\u{e9}".as_bytes(), [1, 2, 3, 4]);
            good.append(&mut bytes);
            bytes = good;
        }
        let (whole, whole_violation) = decode(&[&bytes]);
        let (pieces, violation) = decode(&cut(&bytes, &steps));
        prop_assert_eq!(&pieces, &whole);
        // Text is judged as early as the cut allows, so only the code has to agree where several things are wrong.
        prop_assert_eq!(violation.map(|v| v.close), whole_violation.map(|v| v.close));
    }

    #[test]
    fn text_that_is_not_utf8_never_arrives(body in vec(any::<u8>(), 0..60), steps in vec(1..9usize, 1..6)) {
        let mut bytes = Vec::new();
        frame(&mut bytes, 0x81, &body, [9, 8, 7, 6]);
        let (items, violation) = decode(&cut(&bytes, &steps));
        match std::str::from_utf8(&body) {
            Ok(text) => prop_assert_eq!(items, [Item::Text(text.to_owned())]),
            Err(_) => prop_assert_eq!(violation.map(|v| v.close.number()), Some(1007)),
        }
    }
}
