//! RFC 6455 frames for the server's side, without sockets: bytes in, messages out.
//!
//! The decoder keeps nothing on the heap between messages, refuses what breaks the protocol as soon as a header
//! shows it, and checks text as it arrives. What the server sends is framed by [`text_header`] and
//! [`encode_control`]. Compressed messages (RFC 7692) are taken where that was agreed, and inflated as they arrive.

mod encode;

use std::str;

pub use encode::{compressed_text_header, encode_close, encode_control, encode_text, text_header};

use crate::codes::CloseCode;
use crate::deflate::{Corrupt, Inflater};

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text message, put together from its fragments.
    Text(String),
    /// A text message, whole UTF-8, of more bytes than are kept: only its length is known.
    TooLong {
        /// Bytes of the message.
        bytes: usize,
    },
    /// A binary message, which nobody here reads: only its length is kept.
    Binary {
        /// Bytes of the message, as they came.
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
    /// Bytes of a text message beyond which it is checked but not kept.
    max_kept: usize,
    /// Messages may be compressed.
    deflate: bool,
    state: State,
    header: [u8; MAX_CLIENT_HEADER],
    header_len: u8,
    /// The data message in progress.
    message: Option<Message>,
    data: Vec<u8>,
    /// Bytes of `data` that are known to be whole characters.
    checked: usize,
    /// Of the compressed text message in progress.
    inflater: Option<Box<Inflater>>,
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
    compressed: bool,
    /// As announced by the headers so far.
    bytes: usize,
    /// Bytes of text so far, or announced to come.
    text_bytes: usize,
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

/// The first reserved bit, which says of a message's first frame that the message is compressed.
const COMPRESSED: u8 = 0x40;
/// Two bytes, eight of length, four of mask.
const MAX_CLIENT_HEADER: usize = 14;
/// A control frame carries no more.
pub const MAX_CONTROL_BYTES: usize = 125;
/// The longest header of a frame that the server sends.
pub const MAX_SERVER_HEADER: usize = 10;

impl FrameDecoder {
    /// A decoder at the start of a connection; a message over `max_message` bytes is a violation, and of a text over
    /// `max_kept` bytes only the length is told: nobody can make the server hold what it will not read.
    pub fn new(max_message: usize, max_kept: usize) -> Self {
        Self {
            max_message,
            max_kept,
            deflate: false,
            state: State::Header,
            header: [0; MAX_CLIENT_HEADER],
            header_len: 0,
            message: None,
            data: Vec::new(),
            checked: 0,
            inflater: None,
            control: Vec::new(),
        }
    }

    /// Whether compressed messages are taken; they are not from the start. What a message inflates to has the bounds of
    /// one that is not compressed.
    pub fn with_deflate(mut self, agreed: bool) -> Self {
        self.deflate = agreed;
        self
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
            *self = Self::new(self.max_message, self.max_kept).with_deflate(self.deflate);
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
            return Err(TOO_LARGE);
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
            (Some(message), Opcode::Continuation) => message.announce(left),
            (message, Opcode::Text | Opcode::Binary) => {
                let (text, compressed) = (opcode == Opcode::Text, first & COMPRESSED != 0);
                message.insert(Message { text, compressed, bytes: 0, text_bytes: 0 }).announce(left);
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
        // Text and binary, the two that begin a message.
        let may_be_compressed = self.deflate && matches!(first & 0x0f, 1 | 2);
        if first & 0x70 & !(if may_be_compressed { COMPRESSED } else { 0 }) != 0 {
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
        } else if let Some(Message { text: true, compressed: true, .. }) = self.message {
            let mut body = Vec::new();
            append_unmasked(&mut body, chunk, &mut frame.mask);
            return self.inflate(|inflater, take| inflater.push(&body, take));
        } else if let Some(Message { text: true, text_bytes, .. }) = self.message {
            append_unmasked(&mut self.data, chunk, &mut frame.mask);
            // A whole message in one piece is checked when it becomes a string.
            if frame.left > 0 || !frame.last || text_bytes > self.max_kept {
                self.check_text()?;
                self.drop_unkept(text_bytes);
            }
        }
        Ok(())
    }

    /// Moves the message's inflater on.
    fn inflate(
        &mut self,
        work: impl FnOnce(&mut Inflater, &mut dyn FnMut(&[u8]) -> Result<(), Violation>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut inflater = self.inflater.take().unwrap_or_default();
        let outcome = work(&mut inflater, &mut |piece| self.take_inflated(piece));
        self.inflater = Some(inflater);
        outcome
    }

    fn take_inflated(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let Some(message) = &mut self.message else { return Ok(()) };
        message.text_bytes += piece.len();
        let text_bytes = message.text_bytes;
        if text_bytes > self.max_message {
            return Err(TOO_LARGE);
        }
        self.data.extend_from_slice(piece);
        self.check_text()?;
        self.drop_unkept(text_bytes);
        Ok(())
    }

    /// Lets go of what was checked, if the message is too long to be kept.
    fn drop_unkept(&mut self, text_bytes: usize) {
        if text_bytes > self.max_kept {
            self.data.drain(..self.checked);
            self.checked = 0;
        }
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
            _ => self.finish_message(),
        }
    }

    fn finish_message(&mut self) -> Result<Option<Item>, Violation> {
        if let Some(Message { text: true, compressed: true, .. }) = self.message {
            self.inflate(|inflater, take| inflater.finish(take))?;
            self.inflater = None;
        }
        let bytes = std::mem::take(&mut self.data);
        self.checked = 0;
        match self.message.take() {
            Some(Message { text: true, text_bytes, .. }) if text_bytes > self.max_kept => {
                if bytes.is_empty() { Ok(Some(Item::TooLong { bytes: text_bytes })) } else { Err(NOT_UTF8) }
            }
            Some(Message { text: true, .. }) => {
                String::from_utf8(bytes).map(|text| Some(Item::Text(text))).map_err(|_| NOT_UTF8)
            }
            Some(Message { bytes, .. }) => Ok(Some(Item::Binary { bytes })),
            None => Ok(None),
        }
    }
}

impl Message {
    /// A frame's header says that so many bytes come.
    fn announce(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.text && !self.compressed {
            self.text_bytes += bytes;
        }
    }
}

impl From<Corrupt> for Violation {
    fn from(_: Corrupt) -> Self {
        Self { close: CloseCode::NotUtf8, reason: "not a compressed message" }
    }
}

impl Opcode {
    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

const TOO_LARGE: Violation = Violation { close: CloseCode::TooBig, reason: "message too large" };

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

#[cfg(test)]
mod compressed_tests;
#[cfg(test)]
mod tests;
