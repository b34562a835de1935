//! permessage-deflate (RFC 7692): what is agreed on in the handshake, and compressed messages in both directions.
//!
//! A client's messages are inflated one by one, without a context that would stay in memory between them. The server's
//! are compressed by a [`Deflater`], whose context the receivers share.

mod inflate;
mod offer;

use flate2::{Compress, Compression, FlushCompress};

pub(crate) use inflate::{Corrupt, Inflater};
pub use offer::{Agreed, negotiate};

use crate::frame::compressed_text_header;

/// What ends a message that is flushed so that it can be read at once; RFC 7692 leaves it out on the wire.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A stream of compressed text messages, each of which may refer to those before it.
///
/// Only who was sent all of them since the last [`Deflater::restart`] can read one. Holds about 270 kB.
#[derive(Debug)]
pub struct Deflater {
    compress: Compress,
    body: Vec<u8>,
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// A stream that refers to nothing yet.
    pub fn new() -> Self {
        Self { compress: Compress::new(Compression::fast(), false), body: Vec::new() }
    }

    /// Forgets what went before: who reads from here on needs nothing of it.
    pub fn restart(&mut self) {
        self.compress.reset();
    }

    /// Appends the text as one whole compressed text frame.
    pub fn push_text(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        self.body.clear();
        let begun = self.compress.total_in();
        loop {
            // A flush is complete when it leaves room.
            self.body.reserve(text.len() / 4 + 64);
            let used = (self.compress.total_in() - begun) as usize;
            self.compress
                .compress_vec(&text[used..], &mut self.body, FlushCompress::Sync)
                .expect("a deflate stream without a preset dictionary takes any input");
            let all = (self.compress.total_in() - begun) as usize == text.len();
            if all && self.body.len() < self.body.capacity() {
                break;
            }
        }
        // For no text the compressor has nothing to flush; an empty block stands for it.
        let body = self.body.strip_suffix(&TAIL).unwrap_or(&[0x00]);
        let (header, header_len) = compressed_text_header(body.len());
        out.extend_from_slice(&header[..header_len]);
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inflates frames as a strict client does: one window for the whole connection.
    fn read(frames: &[u8]) -> Vec<String> {
        let mut inflate = flate2::Decompress::new(false);
        let (mut rest, mut texts) = (frames, Vec::new());
        while let [first, length, more @ ..] = rest {
            assert_eq!(*first, 0xc1);
            let (length, body) = match length {
                126 => (usize::from(u16::from_be_bytes([more[0], more[1]])), &more[2..]),
                short => (usize::from(*short), more),
            };
            let message = [&body[..length], &TAIL].concat();
            let mut text = Vec::with_capacity(1 << 20);
            inflate.decompress_vec(&message, &mut text, flate2::FlushDecompress::Sync).unwrap();
            texts.push(String::from_utf8(text).unwrap());
            rest = &body[length..];
        }
        texts
    }

    #[test]
    fn each_message_can_be_read_when_it_comes() {
        let texts: Vec<String> =
            (0..200).map(|n| format!("{{\"channel\":\"tasks\",\"n\":{n}}}").repeat(n % 50)).collect();
        let (mut deflater, mut frames) = (Deflater::new(), Vec::new());
        texts.iter().for_each(|text| deflater.push_text(&mut frames, text.as_bytes()));
        assert_eq!(read(&frames), texts);
        assert!(frames.len() * 8 < texts.iter().map(String::len).sum::<usize>(), "{} bytes", frames.len());
    }

    #[test]
    fn behind_a_restart_nothing_before_it_is_needed() {
        let (mut deflater, mut frames) = (Deflater::new(), Vec::new());
        deflater.push_text(&mut frames, b"the same words again and again");
        let cut = frames.len();
        deflater.restart();
        deflater.push_text(&mut frames, b"the same words again and again");
        assert_eq!(read(&frames[cut..]), ["the same words again and again"]);
        // And who was there before reads on as well.
        assert_eq!(read(&frames).len(), 2);
    }
}
