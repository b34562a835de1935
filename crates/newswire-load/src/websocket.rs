//! The client's side of RFC 6455, as little as a load generator needs: no copy, no check of what the server masks.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation = 0x0,
    /// Text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The end.
    Close = 0x8,
    /// To be answered.
    Ping = 0x9,
    /// An answer.
    Pong = 0xa,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }
}

/// An upgrade request.
pub fn upgrade_request(host: &str, path: &str, headers: &[String]) -> Vec<u8> {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    );
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// A client's frame. Its mask is zero, which is a valid mask and spares the work.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, body: &[u8]) {
    out.push(0x80 | opcode as u8);
    match body.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(body);
}

/// A run of bytes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Of the frame.
    pub opcode: Opcode,
    /// Whether the frame begins here.
    pub first: bool,
    /// Whether it ends here.
    pub last: bool,
    /// Whether it is the last frame of its message.
    pub end_of_message: bool,
    /// As they arrived; the server does not mask.
    pub bytes: &'a [u8],
}

/// Takes the frames out of a stream that arrives in any pieces.
#[derive(Debug, Default)]
pub struct Deframer {
    header: [u8; 10],
    header_len: u8,
    in_frame: bool,
    /// Whether a piece of the frame under way was given already.
    begun: bool,
    first_byte: u8,
    left: u64,
}

impl Deframer {
    /// The next piece of these bytes, which are advanced behind it; `None` when more must arrive.
    ///
    /// # Errors
    /// For an opcode that does not exist.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> anyhow::Result<Option<Piece<'a>>> {
        if !self.in_frame {
            let Some((first_byte, left)) = self.read_header(input) else { return Ok(None) };
            (self.in_frame, self.begun, self.first_byte, self.left) = (true, false, first_byte, left);
        }
        if input.is_empty() && self.left > 0 {
            return Ok(None);
        }
        let opcode = Opcode::of(self.first_byte)
            .ok_or_else(|| anyhow::anyhow!("the server sent a bad frame ({:#x})", self.first_byte))?;
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (bytes, rest) = input.split_at(taken);
        *input = rest;
        let first = !self.begun;
        self.begun = true;
        self.left -= taken as u64;
        self.in_frame = self.left > 0;
        let end_of_message = self.first_byte & 0x80 != 0;
        Ok(Some(Piece { opcode, first, last: !self.in_frame, end_of_message, bytes }))
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Option<(u8, u64)> {
        if self.header_len == 0
            && let Some((first_byte, length, size)) = parse_header(input)
        {
            *input = &input[size..];
            return Some((first_byte, length));
        }
        while let Some((&byte, rest)) = input.split_first() {
            self.header[usize::from(self.header_len)] = byte;
            self.header_len += 1;
            *input = rest;
            if let Some((first_byte, length, _)) = parse_header(&self.header[..usize::from(self.header_len)])
            {
                self.header_len = 0;
                return Some((first_byte, length));
            }
        }
        None
    }
}

/// First byte, length of the body and length of the header itself.
pub(crate) fn parse_header(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    Some(match second & 0x7f {
        126 => (first, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (first, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
        short => (first, u64::from(short), 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pieces of a stream say, put together: opcode, body, whether it ended its message.
    fn frames(stream: &[u8], step: usize) -> Vec<(Opcode, Vec<u8>, bool)> {
        let mut deframer = Deframer::default();
        let mut found: Vec<(Opcode, Vec<u8>, bool)> = Vec::new();
        for mut chunk in stream.chunks(step) {
            while let Some(piece) = deframer.next(&mut chunk).expect("good frames") {
                if piece.first {
                    found.push((piece.opcode, Vec::new(), piece.end_of_message));
                }
                let (opcode, body, _) = found.last_mut().expect("a first piece");
                assert_eq!(*opcode, piece.opcode);
                body.extend_from_slice(piece.bytes);
            }
        }
        found
    }

    #[test]
    fn frames_are_the_same_however_they_arrive() {
        let mut stream = vec![0x81, 2, b'h', b'i', 0x89, 0];
        stream.extend([0x02, 126, 0, 200]);
        stream.extend([7; 200]);
        stream.extend([0x80, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend([8; 65_536]);
        let whole = frames(&stream, stream.len());
        let expected = [
            (Opcode::Text, b"hi".to_vec(), true),
            (Opcode::Ping, Vec::new(), true),
            (Opcode::Binary, vec![7; 200], false),
            (Opcode::Continuation, vec![8; 65_536], true),
        ];
        assert_eq!(whole, expected);
        for step in [1, 2, 3, 5, 11, 1000] {
            assert_eq!(frames(&stream, step), whole, "in steps of {step}");
        }
    }

    #[test]
    fn an_unknown_opcode_is_an_error() {
        assert!(Deframer::default().next(&mut &[0x83, 0][..]).is_err());
    }

    #[test]
    fn a_server_reads_what_is_written() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut frame = Vec::new();
            write_frame(&mut frame, Opcode::Text, &vec![b'a'; length]);
            let mut decoder = newswire_protocol::FrameDecoder::new(1 << 20, 1 << 20);
            let item = decoder.decode(&mut &frame[..]).expect("a good frame");
            assert_eq!(item, Some(newswire_protocol::frame::Item::Text("a".repeat(length))));
        }
    }
}
