//! JSON strings: as they stand in a text, as what they mean, and written.

use std::borrow::Cow;

/// A string as it stands in the text, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawString<'a> {
    raw: &'a str,
    escaped: bool,
    lone_surrogate: bool,
}

impl<'a> RawString<'a> {
    pub(super) fn new(raw: &'a str, escaped: bool, lone_surrogate: bool) -> Self {
        Self { raw, escaped, lone_surrogate }
    }

    /// As it stands in the text.
    pub(super) fn raw(&self) -> &'a str {
        self.raw
    }

    /// Whether it holds half a surrogate pair, which no Unicode string can hold.
    pub fn has_lone_surrogate(&self) -> bool {
        self.lone_surrogate
    }

    /// The string it stands for; `None` where a lone surrogate makes it none.
    pub fn unescape(&self) -> Option<Cow<'a, str>> {
        match (self.lone_surrogate, self.escaped) {
            (true, _) => None,
            (false, false) => Some(Cow::Borrowed(self.raw)),
            (false, true) => Some(Cow::Owned(unescape(self.raw))),
        }
    }

    /// Whether it stands for this string.
    pub fn is(&self, text: &str) -> bool {
        if self.escaped { self.unescape().as_deref() == Some(text) } else { self.raw == text }
    }
}

/// Appends the string as JSON, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// The string behind a checked raw string without lone surrogates.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let mut used = 2;
        out.push(match rest.as_bytes()[at + 1] {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (character, length) = unicode_escape(&rest[at..]);
                used = length;
                character
            }
            plain => char::from(plain),
        });
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    out
}

/// The character of `\uXXXX` or of a surrogate pair, and the bytes it takes.
fn unicode_escape(escape: &str) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let first = unit(2).unwrap_or(0xfffd);
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let second = unit(8).unwrap_or(0xdc00);
    let code = 0x1_0000 + ((first - 0xd800) << 10) + second.wrapping_sub(0xdc00);
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}
