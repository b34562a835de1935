//! A WebSocket client that reads permessage-deflate with one continuous inflater, as a strict client has it: all that comes
//! must be whole.

use std::net::SocketAddr;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;

use crate::raw::{CLOSE, Frame, Raw, TEXT};

const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The reserved bits of a compressed message.
pub const COMPRESSED: u8 = 4;

/// A connection, and what its compressed messages may refer to.
pub struct Client {
    raw: Raw,
    window: Decompress,
    /// Messages that came compressed so far.
    pub compressed: usize,
}

/// The head of the answer to an upgrade that offers `offer`, in lower case, and the connection.
///
/// # Panics
/// If there is no upgrade.
pub async fn upgrade(addr: SocketAddr, path: &str, offer: &str) -> (String, Raw) {
    upgrade_with(addr, path, offer, &[]).await
}

async fn upgrade_with(
    addr: SocketAddr,
    path: &str,
    offer: &str,
    headers: &[(&str, String)],
) -> (String, Raw) {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: {offer}\r\n{more}\r\n"
    );
    let (head, raw) = Raw::request(addr, &request).await;
    assert!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
    (head.to_ascii_lowercase(), raw)
}

/// The body of a compressed message, with a window of its own.
pub fn deflate(text: &str) -> Vec<u8> {
    let (mut compress, mut body) =
        (Compress::new(Compression::default(), false), Vec::with_capacity(1 << 17));
    compress.compress_vec(text.as_bytes(), &mut body, FlushCompress::Sync).unwrap();
    body.strip_suffix(&TAIL).unwrap().to_vec()
}

impl Client {
    /// A connection on which compression was agreed on.
    pub async fn open(addr: SocketAddr, path: &str) -> Self {
        Self::open_with(addr, path, &[]).await
    }

    /// As [`Self::open`], with headers beside the usual.
    ///
    /// # Panics
    /// If it was not agreed on.
    pub async fn open_with(addr: SocketAddr, path: &str, headers: &[(&str, String)]) -> Self {
        let offer = "permessage-deflate; client_max_window_bits";
        let (head, raw) = upgrade_with(addr, path, offer, headers).await;
        let answer = "sec-websocket-extensions: permessage-deflate; client_no_context_takeover";
        assert!(head.lines().any(|line| line == answer), "{head}");
        Self { raw, window: Decompress::new(false), compressed: 0 }
    }

    /// Sends a frame as it is.
    pub async fn send_frame(&mut self, frame: &Frame) {
        self.raw.send(frame).await;
    }

    /// Sends a command, compressed.
    pub async fn send(&mut self, command: &Value) {
        self.send_frame(&Frame::text(deflate(&command.to_string())).rsv(COMPRESSED)).await;
    }

    /// How the connection ends.
    pub async fn ending(&mut self) -> crate::Ending {
        self.raw.ending().await
    }

    /// The next message.
    ///
    /// # Panics
    /// If it is not whole, or the connection ends.
    pub async fn next(&mut self) -> Value {
        loop {
            let frame = self.raw.next().await.expect("the connection is open");
            match (frame.opcode, frame.rsv) {
                (TEXT, 0) => return serde_json::from_slice(&frame.payload).unwrap(),
                (TEXT, COMPRESSED) => {
                    let (body, mut text) =
                        ([&frame.payload[..], &TAIL].concat(), Vec::with_capacity(1 << 17));
                    self.window.decompress_vec(&body, &mut text, FlushDecompress::Sync).unwrap();
                    self.compressed += 1;
                    return serde_json::from_slice(&text).unwrap();
                }
                (CLOSE, _) => panic!("closed with {}", frame.close_code()),
                _ => {}
            }
        }
    }

    /// Reads on up to the event of this offset, and gives the offsets of all. Their payloads have it as `n`.
    ///
    /// # Panics
    /// If one has another.
    pub async fn read_to(&mut self, last: u64) -> Vec<u64> {
        let mut offsets = Vec::new();
        while offsets.last() != Some(&last) {
            let message = self.next().await;
            if message["event_id"].is_string() {
                let offset = message["offset"].as_u64().unwrap();
                assert_eq!(message["payload"]["n"], offset);
                offsets.push(offset);
            }
        }
        offsets
    }
}
