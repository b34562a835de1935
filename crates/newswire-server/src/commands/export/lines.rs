//! JSON Lines, plain or gzip.

use std::io::{BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Row, Sink};

const BUFFER_BYTES: usize = 256 << 10;

pub(super) enum Lines<W: Write> {
    Plain(BufWriter<W>),
    Zipped(Box<GzEncoder<BufWriter<W>>>),
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W, zipped: bool) -> Self {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        if zipped {
            Self::Zipped(Box::new(GzEncoder::new(out, Compression::default())))
        } else {
            Self::Plain(out)
        }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn write(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let out: &mut dyn Write = match self {
            Self::Plain(out) => out,
            Self::Zipped(out) => out,
        };
        for row in rows {
            out.write_all(row.text.as_bytes())?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        match *self {
            Self::Plain(mut out) => out.flush()?,
            Self::Zipped(out) => out.finish()?.flush()?,
        }
        Ok(())
    }
}
