//! RFC 6455 frames for the server's side, without sockets: bytes in, messages out.
//!
//! The decoder keeps nothing on the heap between messages, refuses what breaks the protocol as soon as a header
//! shows it, and checks text as it arrives. What the server sends is framed by [`text_header`] and
//! [`encode_control`].

use std::str;

use crate::codes::CloseCode;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text message, put together from its fragments.
    Text(String),
    /// A binary message, which nobody here reads: only its length is kept.
    Binary {
        /// Bytes of the message.
        bytes: usize,
    },
    /// To be answered by a pong with the same bytes.
    Ping(Vec<u8>),
    /// A sign of life.
    Pong(Vec<u8>),
    /// The client closes, with a code and reason or none. What it sends afterwards is dropped.
    Close(Option<(u16, String)>),
}

/// The client broke the protocol: the connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// 1002, 1007 or 1009.
    pub close: CloseCode,
    /// For the close frame and the log.
    pub reason: &'static str,
}

/// Turns the bytes of one client into messages.
#[derive(Debug)]
pub struct FrameDecoder {
    max_message: usize,
    state: State,
    header: [u8; MAX_CLIENT_HEADER],
    header_len: u8,
    /// The data message in progress.
    message: Option<Message>,
    data: Vec<u8>,
    /// Bytes of `data` that are known to be whole characters.
    checked: usize,
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Payload(Frame),
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    last: bool,
    /// The mask, turned so that its first byte is due next.
    mask: [u8; 4],
    left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    text: bool,
    bytes: usize,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Another fragment of the message begun.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Binary, or its first fragment.
    Binary = 2,
    /// Close.
    Close = 8,
    /// Ping.
    Ping = 9,
    /// Pong.
    Pong = 10,
}

/// Two bytes, eight of length, four of mask.
const MAX_CLIENT_HEADER: usize = 14;
/// A control frame carries no more.
pub const MAX_CONTROL_BYTES: usize = 125;
/// The longest header of a frame that the server sends.
pub const MAX_SERVER_HEADER: usize = 10;

impl FrameDecoder {
    /// A decoder at the start of a connection; a message over `max_message` bytes is a violation.
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            state: State::Header,
            header: [0; MAX_CLIENT_HEADER],
            header_len: 0,
            message: None,
            data: Vec::new(),
            checked: 0,
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` until an item is complete.
    ///
    /// `Ok(None)` means that all input is used up. Behind a violation or a close everything is dropped.
    ///
    /// # Errors
    /// A [`Violation`], once; it stands for every message not yet complete.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Item>, Violation> {
        let outcome = self.advance(input);
        if outcome.is_err() || matches!(outcome, Ok(Some(Item::Close(_)))) {
            *self = Self::new(self.max_message);
            self.state = State::Ended;
        }
        outcome
    }

    /// Whether a frame or a fragmented message has begun and not ended.
    pub fn is_mid_message(&self) -> bool {
        self.header_len > 0 || self.message.is_some() || matches!(self.state, State::Payload(_))
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Item>, Violation> {
        loop {
            match self.state {
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
                State::Header => {
                    let Some(frame) = self.read_header(input)? else {
                        return Ok(None);
                    };
                    self.state = State::Payload(frame);
                }
                State::Payload(mut frame) => {
                    self.read_payload(&mut frame, input)?;
                    if frame.left > 0 {
                        self.state = State::Payload(frame);
                        return Ok(None);
                    }
                    self.state = State::Header;
                    if let Some(item) = self.finish(frame)? {
                        return Ok(Some(item));
                    }
                }
            }
        }
    }

    /// Collects a header; each part is judged as soon as it is there.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        if !self.fill_header(input, 2) {
            return Ok(None);
        }
        let [first, second] = [self.header[0], self.header[1]];
        let opcode = self.opcode(first, second)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.fill_header(input, 2 + extended) {
            return Ok(None);
        }
        let length = self.length(second & 0x7f, extended)?;
        let before = match self.message {
            Some(message) if opcode == Opcode::Continuation => message.bytes,
            _ => 0,
        };
        if length.saturating_add(before as u64) > self.max_message as u64 && !opcode.is_control() {
            return Err(Violation { close: CloseCode::TooBig, reason: "message too large" });
        }
        if !self.fill_header(input, 2 + extended + 4) {
            return Ok(None);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[2 + extended..][..4]);
        self.header_len = 0;
        // Not larger than the largest message or control frame, so it fits.
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        match (&mut self.message, opcode) {
            (Some(message), Opcode::Continuation) => message.bytes += left,
            (_, Opcode::Text | Opcode::Binary) => {
                self.message = Some(Message { text: opcode == Opcode::Text, bytes: left });
            }
            _ => {}
        }
        Ok(Some(Frame { opcode, last: first & 0x80 != 0, mask, left }))
    }

    fn fill_header(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let have = usize::from(self.header_len);
        let taken = wanted.saturating_sub(have).min(input.len());
        self.header[have..have + taken].copy_from_slice(&input[..taken]);
        *input = &input[taken..];
        self.header_len += taken as u8;
        have + taken >= wanted
    }

    fn opcode(&self, first: u8, second: u8) -> Result<Opcode, Violation> {
        if first & 0x70 != 0 {
            return Err(broken("reserved bits are set"));
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(broken("unknown opcode")),
        };
        if second & 0x80 == 0 {
            return Err(broken("a client's frames must be masked"));
        }
        if opcode.is_control() {
            if first & 0x80 == 0 {
                return Err(broken("a control frame must not be fragmented"));
            }
            if usize::from(second & 0x7f) > MAX_CONTROL_BYTES {
                return Err(broken("a control frame has at most 125 bytes"));
            }
        } else if (opcode == Opcode::Continuation) != self.message.is_some() {
            return Err(broken(match opcode {
                Opcode::Continuation => "nothing to continue",
                _ => "a message within a fragmented message",
            }));
        }
        Ok(opcode)
    }

    fn length(&self, short: u8, extended: usize) -> Result<u64, Violation> {
        if extended == 0 {
            return Ok(u64::from(short));
        }
        let bytes = &self.header[2..2 + extended];
        let length = bytes.iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        let least = if extended == 2 { 126 } else { 0x1_0000 };
        if length < least || length > u64::MAX >> 1 {
            return Err(broken("the length is not in its shortest form"));
        }
        Ok(length)
    }

    fn read_payload(&mut self, frame: &mut Frame, input: &mut &[u8]) -> Result<(), Violation> {
        let (chunk, rest) = input.split_at(frame.left.min(input.len()));
        *input = rest;
        frame.left -= chunk.len();
        if frame.opcode.is_control() {
            append_unmasked(&mut self.control, chunk, &mut frame.mask);
        } else if self.message.is_some_and(|message| message.text) {
            append_unmasked(&mut self.data, chunk, &mut frame.mask);
            // A whole message in one piece is checked when it becomes a string.
            if frame.left > 0 || !frame.last {
                self.check_text()?;
            }
        }
        Ok(())
    }

    /// Checks what has come since the last check; up to three bytes of an unfinished character wait.
    fn check_text(&mut self) -> Result<(), Violation> {
        match str::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }

    fn finish(&mut self, frame: Frame) -> Result<Option<Item>, Violation> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(Item::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => Ok(Some(Item::Pong(std::mem::take(&mut self.control)))),
            Opcode::Close => {
                close_body(&std::mem::take(&mut self.control)).map(|body| Some(Item::Close(body)))
            }
            _ if !frame.last => Ok(None),
            _ => {
                let bytes = std::mem::take(&mut self.data);
                self.checked = 0;
                match self.message.take() {
                    Some(Message { text: true, .. }) => {
                        String::from_utf8(bytes).map(|text| Some(Item::Text(text))).map_err(|_| NOT_UTF8)
                    }
                    Some(Message { bytes, .. }) => Ok(Some(Item::Binary { bytes })),
                    None => Ok(None),
                }
            }
        }
    }
}

impl Opcode {
    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

const NOT_UTF8: Violation = Violation { close: CloseCode::NotUtf8, reason: "not UTF-8" };

fn broken(reason: &'static str) -> Violation {
    Violation { close: CloseCode::Protocol, reason }
}

fn close_body(body: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    let Some((code, reason)) = body.split_first_chunk() else {
        return if body.is_empty() { Ok(None) } else { Err(broken("a close of one byte")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(broken("a close code that may not be sent"));
    }
    match str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.to_owned()))),
        Err(_) => Err(NOT_UTF8),
    }
}

/// Appends the chunk with its mask taken off, and turns the mask to where the next chunk begins.
fn append_unmasked(out: &mut Vec<u8>, chunk: &[u8], mask: &mut [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(chunk);
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = out[start..].as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(chunk.len() % 4);
}

/// The header of an unfragmented text frame of this many bytes: the bytes and how many of them count.
pub fn text_header(len: usize) -> ([u8; MAX_SERVER_HEADER], usize) {
    let mut header = [0; MAX_SERVER_HEADER];
    header[0] = 0x80 | Opcode::Text as u8;
    match len {
        0..=125 => {
            header[1] = len as u8;
            (header, 2)
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(len as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// Appends a whole text frame.
pub fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    let (header, len) = text_header(text.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(text);
}

/// Appends a control frame; a body over 125 bytes is cut off there.
pub fn encode_control(out: &mut Vec<u8>, opcode: Opcode, body: &[u8]) {
    let body = &body[..body.len().min(MAX_CONTROL_BYTES)];
    out.extend_from_slice(&[0x80 | opcode as u8, body.len() as u8]);
    out.extend_from_slice(body);
}

/// Appends a close frame; a reason over 123 bytes is cut off at a character.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut end = reason.len().min(MAX_CONTROL_BYTES - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    out.extend_from_slice(&[0x80 | Opcode::Close as u8, 2 + reason.len() as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
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
        let mut decoder = FrameDecoder::new(max);
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
            let mut decoder = FrameDecoder::new(1000);
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
        assert_eq!(
            closes(&[frame(0x01, b"a"), frame(0x02, b"b")].concat()),
            Some(1002),
            "binary within text"
        );
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
        for bad in
            [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xce", b"\xf0\x9f\x98"]
        {
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
        let mut decoder = FrameDecoder::new(1000);
        assert!(decoder.decode(&mut &frame(0x83, b"")[..]).is_err());
        assert_eq!(decoder.decode(&mut &frame(0x81, b"a")[..]), Ok(None));
    }

    #[test]
    fn nothing_stays_on_the_heap_between_messages() {
        let mut decoder = FrameDecoder::new(1 << 20);
        let big = [b'a'; 100_000];
        for input in [frame(0x81, &big), frame(0x01, &big), frame(0x80, &big), frame(0x89, b"ping")] {
            for mut piece in input.chunks(1000) {
                while decoder.decode(&mut piece).unwrap().is_some() {}
            }
        }
        assert_eq!((decoder.data.capacity(), decoder.control.capacity()), (0, 0));
        assert!(size_of::<FrameDecoder>() <= 160, "{}", size_of::<FrameDecoder>());
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut decoder = FrameDecoder::new(1 << 20);
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
}
