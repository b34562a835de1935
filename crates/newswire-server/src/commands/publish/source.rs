//! Where the lines come from: a file or standard input, plain or gzip, read line by line with a bound.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// A longer line cannot be an event that any server takes. It is skipped without being held.
pub(crate) const MAX_LINE_BYTES: usize = 32 << 20;
const BUFFER_BYTES: usize = 256 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
}

impl Input {
    /// `-` is standard input.
    pub(crate) fn named(name: &str) -> Self {
        if name == "-" { Self::Stdin } else { Self::File(name.into()) }
    }

    /// A file that can be read twice; pipes and terminals can not.
    pub(crate) fn rereadable(&self) -> Option<&Path> {
        match self {
            Self::File(path) if path.is_file() => Some(path),
            _ => None,
        }
    }

    pub(crate) fn cannot_read(&self) -> String {
        match self {
            Self::File(path) => format!("cannot read {}", path.display()),
            Self::Stdin => "cannot read standard input".to_owned(),
        }
    }

    /// Opens it; blocks. Compressed input is recognised by its first bytes.
    pub(crate) fn open(&self) -> io::Result<Lines> {
        match self {
            Self::File(path) => Lines::new(File::open(path)?),
            Self::Stdin => Lines::new(io::stdin()),
        }
    }
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    /// Longer than [`MAX_LINE_BYTES`].
    TooLong,
    NotUtf8,
}

/// The lines of an input.
pub(crate) struct Lines {
    input: Box<dyn BufRead + Send>,
    first: bool,
}

impl Lines {
    pub(crate) fn new(mut raw: impl Read + Send + 'static) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        // A pipe may give a single byte at first.
        raw.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(raw));
        let input: Box<dyn BufRead + Send> = if is_gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self { input, first: true })
    }

    /// The next line's bytes into `line`; false at the end. What is beyond the bound is dropped: then `line` is longer
    /// than [`MAX_LINE_BYTES`].
    fn read_bytes(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let bound = MAX_LINE_BYTES as u64 + 1;
        if self.input.by_ref().take(bound).read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        if line.ends_with(b"\n") {
            line.pop();
        } else if line.len() > MAX_LINE_BYTES {
            self.input.skip_until(b'\n')?;
        }
        if std::mem::take(&mut self.first) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(true)
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.read_bytes(&mut line) {
            Ok(false) => None,
            Ok(true) if line.len() > MAX_LINE_BYTES => Some(Ok(Line::TooLong)),
            Ok(true) => Some(Ok(String::from_utf8(line).map_or(Line::NotUtf8, Line::Text))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// What a file is, whatever its name and compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Of all its lines.
    pub(crate) hash: String,
    pub(crate) lines: u64,
}

/// Reads a whole file; blocks.
pub(crate) fn identify(path: &Path) -> io::Result<Identity> {
    let mut lines = Input::File(path.to_owned()).open()?;
    let mut hasher = blake3::Hasher::new();
    let (mut line, mut count) = (Vec::new(), 0);
    while lines.read_bytes(&mut line)? {
        hasher.update(&line);
        hasher.update(b"\n");
        count += 1;
    }
    Ok(Identity { hash: hasher.finalize().to_hex()[..16].to_owned(), lines: count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    /// Gives one byte at a time, like the worst of pipes.
    struct Trickle(Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let end = buffer.len().min(1);
            self.0.read(&mut buffer[..end])
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(bytes: Vec<u8>) -> Vec<Line> {
        Lines::new(Trickle(Cursor::new(bytes))).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn text(line: &str) -> Line {
        Line::Text(line.into())
    }

    #[test]
    fn plain_and_gzip_are_told_apart_by_their_first_bytes() {
        let content = b"{\"a\":1}\n\n{\"b\":2}\nlast".to_vec();
        let expected = [text("{\"a\":1}"), text(""), text("{\"b\":2}"), text("last")];
        assert_eq!(lines(content.clone()), expected);
        assert_eq!(lines(gzip(&content)), expected);
        // Several members after each other are one text, as gzip has it.
        let (one, two) = content.split_at(10);
        assert_eq!(lines([gzip(one), gzip(two)].concat()), expected);
        assert_eq!(lines(Vec::new()), []);
        assert_eq!(lines(vec![0x1f]), [text("\u{1f}")]);
    }

    #[test]
    fn truncated_gzip_is_an_error_after_the_lines_before_it() {
        let content = (0..2_000).map(|n| format!("{n} {}\n", n * 7919 % 1009)).collect::<String>();
        let mut packed = gzip(content.as_bytes());
        packed.truncate(packed.len() / 2);
        let read: Vec<_> = Lines::new(Cursor::new(packed)).unwrap().take(3_000).collect();
        let first_error = read.iter().position(Result::is_err).unwrap();
        assert!(first_error > 100, "only {first_error} lines before the end");
    }

    #[test]
    fn marks_line_ends_and_bytes_that_are_no_text() {
        assert_eq!(lines(b"\xef\xbb\xbf{}\r\n{}".to_vec()), [text("{}\r"), text("{}")]);
        assert_eq!(lines(b"ok\n\xff\xfe\nok".to_vec()), [text("ok"), Line::NotUtf8, text("ok")]);
    }

    #[test]
    fn an_endless_line_is_skipped_not_held() {
        let long = io::repeat(b'x').take(MAX_LINE_BYTES as u64 + 1);
        let read: Vec<_> =
            Lines::new(long.chain(Cursor::new(b"yy\nnext\n"))).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [Line::TooLong, text("next")]);
        let fits = io::repeat(b'x').take(MAX_LINE_BYTES as u64);
        let read: Vec<_> =
            Lines::new(fits.chain(Cursor::new(b"\nnext"))).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(matches!(&read[..], [Line::Text(long), Line::Text(_)] if long.len() == MAX_LINE_BYTES));
    }

    #[test]
    fn a_file_is_the_same_packed_or_not_and_another_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            identify(&path).unwrap()
        };
        let plain = file("a", b"one\ntwo\n");
        assert_eq!(plain.lines, 2);
        assert_eq!(file("b.gz", &gzip(b"one\ntwo\n")), plain);
        assert_ne!(file("c", b"one\ntwo!\n").hash, plain.hash);
        assert_ne!(file("d", b"onet\nwo\n").hash, plain.hash);
    }
}
