//! One compressed message of a client.

use flate2::{Decompress, FlushDecompress, Status};

use super::TAIL;

/// Bytes inflated at once, on the stack: what is refused is refused before more of it is made.
const PIECE_BYTES: usize = 4096;

/// Behind the tail an empty last block: a message that was cut off does not come to its end.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// The body is not a whole deflate stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Inflates one message, piece by piece as it comes. About 40 kB, so it lives only as long as the message.
#[derive(Debug)]
pub(crate) struct Inflater {
    decompress: Decompress,
    ended: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { decompress: Decompress::new(false), ended: false }
    }
}

impl Inflater {
    /// Hands on what the next bytes of the body inflate to; the first refusal ends it.
    pub(crate) fn push<E: From<Corrupt>>(
        &mut self,
        mut body: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut room = [0; PIECE_BYTES];
        loop {
            if std::mem::take(&mut self.ended) {
                // A message may hold a last block and go on behind it.
                self.decompress.reset(false);
            }
            let before = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(body, &mut room, FlushDecompress::Sync);
            let used = (self.decompress.total_in() - before.0) as usize;
            let made = (self.decompress.total_out() - before.1) as usize;
            take(&room[..made])?;
            body = &body[used..];
            match status {
                Err(_) => return Err(Corrupt.into()),
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(_) if body.is_empty() && made < room.len() => return Ok(()),
                Ok(_) if used == 0 && made == 0 => return Err(Corrupt.into()),
                Ok(_) => {}
            }
            if self.ended && body.is_empty() {
                return Ok(());
            }
        }
    }

    /// The body is complete: hands on what is left.
    pub(crate) fn finish<E: From<Corrupt>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push(&TAIL, &mut take)?;
        self.push(&LAST_BLOCK, take)?;
        if self.ended { Ok(()) } else { Err(Corrupt.into()) }
    }
}
