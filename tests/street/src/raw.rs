//! A WebSocket client whose every byte the test chooses, for frames that no library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// Opcodes of RFC 6455.
pub const CONTINUATION: u8 = 0x0;
/// A text frame.
pub const TEXT: u8 = 0x1;
/// A binary frame.
pub const BINARY: u8 = 0x2;
/// A close frame.
pub const CLOSE: u8 = 0x8;
/// A ping.
pub const PING: u8 = 0x9;
/// A pong.
pub const PONG: u8 = 0xA;

/// One frame, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether the message ends here.
    pub fin: bool,
    /// The three reserved bits, as a number 0–7.
    pub rsv: u8,
    /// The opcode, 0–15.
    pub opcode: u8,
    /// Whether the payload is masked.
    pub masked: bool,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole, masked message.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, masked: true, payload: payload.into() }
    }

    /// A text message.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(TEXT, payload)
    }

    /// A close frame with code and reason.
    pub fn close(code: u16, reason: &[u8]) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason].concat())
    }

    /// The same frame, but the message goes on after it.
    #[must_use]
    pub fn more(self) -> Self {
        Self { fin: false, ..self }
    }

    /// The same frame with these reserved bits.
    #[must_use]
    pub fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    /// The same frame, unmasked.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self { masked: false, ..self }
    }

    /// The frame's bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header(self.payload.len() as u64);
        if self.masked {
            let mask = [0x37, 0xfa, 0x21, 0x3d];
            bytes.extend(mask);
            bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// The first bytes of a frame that claims to be `length` long, without mask and payload.
    pub fn header(&self, length: u64) -> Vec<u8> {
        let mask_bit = u8::from(self.masked) << 7;
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        match length {
            0..=125 => bytes.push(mask_bit | length as u8),
            126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes
    }

    /// The payload as text.
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the server writes UTF-8")
    }

    /// The code of a close frame; 1005 where it carries none.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, CLOSE, "not a close frame: {self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a close frame of this code.
    Close(u16),
    /// Without one.
    Dropped,
}

/// A connection after its upgrade.
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Upgrades at a path.
    pub async fn open(addr: SocketAddr, path: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let (head, raw) = Self::request(addr, &request).await;
        assert!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
        let accept = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
        assert!(head.to_ascii_lowercase().contains(accept), "wrong accept: {head}");
        raw
    }

    /// Sends a request byte by byte as given, and gives the head of the answer with the connection behind it.
    pub async fn request(addr: SocketAddr, request: &str) -> (String, Self) {
        let mut stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut raw = Self { stream, unread: Vec::new() };
        loop {
            if let Some(end) = raw.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&raw.unread[..end]).into_owned();
                raw.unread.drain(..end + 4);
                return (head, raw);
            }
            assert!(raw.read_more(PATIENCE).await, "no answer to: {request}");
        }
    }

    /// Writes bytes as they are. A server that has already closed may refuse them, which is no error here.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server reads");
    }

    /// Writes one frame.
    pub async fn send(&mut self, frame: &Frame) {
        self.write(&frame.encode()).await;
    }

    /// Writes a text message.
    pub async fn send_text(&mut self, text: &str) {
        self.send(&Frame::text(text)).await;
    }

    /// Half-closes the connection: the server reads an end of file.
    pub async fn shutdown(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next frame; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE).await
    }

    async fn next_within(&mut self, limit: Duration) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = decode(&self.unread) {
                self.unread.drain(..used);
                return Some(frame);
            }
            if !self.read_more(limit).await {
                return None;
            }
        }
    }

    /// The next text message but pings: panics on anything else.
    pub async fn next_text(&mut self) -> String {
        loop {
            let frame = self.next().await.expect("the connection is open");
            match frame.opcode {
                TEXT => return frame.as_text().to_owned(),
                PING => {}
                _ => panic!("no text: {frame:?}"),
            }
        }
    }

    /// Everything that comes until `text` has come, which is part of it.
    pub async fn read_until(&mut self, text: &str) -> String {
        while !self.unread.windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(self.read_more(PATIENCE).await, "it ends before {text:?}: {:?}", self.unread);
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }

    /// Everything that comes until the connection ends, however it does.
    pub async fn read_to_end(&mut self) -> String {
        String::from_utf8_lossy(&self.read_bytes_to_end().await).into_owned()
    }

    /// As [`Self::read_to_end`], whatever the bytes are.
    pub async fn read_bytes_to_end(&mut self) -> Vec<u8> {
        while self.read_more(PATIENCE).await {}
        std::mem::take(&mut self.unread)
    }

    /// Reads on to the end and gives it; texts, pings and pongs before it are passed over.
    pub async fn ending(&mut self) -> Ending {
        let mut ending = Ending::Dropped;
        while let Some(frame) = self.next().await {
            if frame.opcode == CLOSE {
                ending = Ending::Close(frame.close_code());
                self.shutdown().await;
            }
        }
        ending
    }

    /// Reads some bytes; false at the end of the connection, however it ended.
    async fn read_more(&mut self, limit: Duration) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read = tokio::time::timeout(limit, self.stream.read(&mut chunk)).await;
        match read.expect("the server says or ends something in time") {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend(&chunk[..count]);
                true
            }
        }
    }
}

/// The first whole frame of `bytes` and its length on the wire. A server's frames are never masked.
fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server must not mask");
    let (start, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let end = start + length as usize;
    let payload = bytes.get(start..end)?.to_vec();
    let frame =
        Frame { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 0xf, masked: false, payload };
    Some((frame, end))
}
