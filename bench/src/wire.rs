//! The lightest clients that still speak the protocol: what they cost is taken from the server's share of the machine.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An upgrade request for this path.
pub fn upgrade_request(addr: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A client's text frame. The mask is zero, which is a valid mask and leaves the text readable.
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// The end of an HTTP head in these bytes.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A WebSocket that is read in large pieces.
pub struct Reader {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Reader {
    /// Connects and upgrades at a path.
    ///
    /// # Errors
    /// When the server does not agree.
    pub async fn open(addr: SocketAddr, path: &str, buffer_bytes: usize) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        stream.write_all(upgrade_request(addr, path).as_bytes()).await?;
        let mut buffer = BytesMut::with_capacity(buffer_bytes);
        loop {
            if let Some(end) = head_end(&buffer) {
                ensure!(buffer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&buffer[..end]));
                buffer.advance(end);
                return Ok(Self { stream, buffer });
            }
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the server closed during the upgrade");
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&text_frame(text)).await?)
    }

    /// Reads once from the socket, then hands every complete text to `take`.
    ///
    /// # Errors
    /// When the connection ends, or `take` says so.
    pub async fn read(&mut self, mut take: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut pings = Vec::new();
        self.buffer.reserve(16 * 1024);
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        while let Some((opcode, start, end)) = frame(&self.buffer) {
            match opcode {
                0x1 => take(&self.buffer[start..end])?,
                0x8 => bail!("closed: {:?}", &self.buffer[start..end]),
                0x9 => pings.push(self.buffer[start..end].to_vec()),
                _ => {}
            }
            self.buffer.advance(end);
        }
        for ping in pings {
            let pong = [&[0x8a, 0x80 | ping.len() as u8, 0, 0, 0, 0], &ping[..]].concat();
            self.stream.write_all(&pong).await?;
        }
        Ok(())
    }

    /// Reads until a text that holds `word`.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn read_until(&mut self, word: &str) -> anyhow::Result<()> {
        let mut found = false;
        while !found {
            self.read(|text| {
                found |= text.windows(word.len()).any(|window| window == word.as_bytes());
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Opcode, start and end of the payload of the first complete frame.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (start, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let end = start + length as usize;
    (bytes.len() >= end).then_some((first & 0x0f, start, end))
}

/// The number behind the last `"offset":` of an event or answer.
pub fn offset_of(text: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"offset\":";
    let at = text.windows(KEY.len()).rposition(|window| window == KEY)? + KEY.len();
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// An HTTP connection that is kept alive and carries one request at a time.
pub struct KeepAlive {
    stream: TcpStream,
    buffer: BytesMut,
    head: String,
}

impl KeepAlive {
    /// Connects; every request will be a JSON publish.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let head =
            format!("POST /api/v1/events HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n");
        Ok(Self { stream, buffer: BytesMut::with_capacity(8 * 1024), head })
    }

    /// Publishes and waits for the answer; true if nothing of it was refused.
    ///
    /// # Errors
    /// When the connection is gone or the answer is not 200.
    pub async fn publish(&mut self, body: &str) -> anyhow::Result<bool> {
        let request = format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = head_end(&self.buffer) {
                let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
                ensure!(head.starts_with("http/1.1 200"), "{head}");
                let length = head.split("content-length:").nth(1).context("an answer has a length")?;
                let length: usize = length.lines().next().unwrap_or("").trim().parse()?;
                if self.buffer.len() >= end + length {
                    let body = &self.buffer[end..end + length];
                    let accepted = !body.windows(8).any(|window| window == b"\"error\":");
                    self.buffer.advance(end + length);
                    return Ok(accepted);
                }
            }
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
    }
}

/// An event of `bytes` bytes as it is published; `field` (with its comma) stands first in the payload.
pub fn event(field: &str, bytes: usize) -> String {
    let text = |pad: &str| {
        format!(
            r#"{{"channel":"tasks","event_type":"task.status_changed","payload":{{{field}"agent_id":"agent-7","project":"proj-456","pad":"{pad}"}}}}"#
        )
    };
    let pad = bytes.saturating_sub(text("").len());
    text(&"x".repeat(pad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_size_asked_for() {
        assert_eq!(event(r#""t":1,"#, 400).len(), 400);
    }

    #[test]
    fn the_last_offset_counts() {
        assert_eq!(offset_of(br#"{"payload":{"offset":7},"offset":1234,"version":1}"#), Some(1234));
        assert_eq!(offset_of(b"{}"), None);
    }
}
