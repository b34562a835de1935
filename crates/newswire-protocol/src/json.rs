//! A JSON scanner without recursion and without values: it checks syntax and hands out slices of the text.
//!
//! The feed passes payloads on byte for byte and reads only a handful of keys, so nothing is ever built from a
//! document. Nesting costs one bit a level, so a megabyte of `[` is an ordinary input. Numbers are never read as
//! floating point; a surrogate without its partner is syntax (RFC 8259 allows it) that [`RawString`] reports.

use std::borrow::Cow;

/// The text is no JSON, from this byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {at}")]
pub struct SyntaxError {
    /// Byte offset of the first byte that no JSON document could have there.
    pub at: usize,
}

/// A string as it stands in the text, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawString<'a> {
    raw: &'a str,
    escaped: bool,
    lone_surrogate: bool,
}

impl<'a> RawString<'a> {
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

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true`, `false`
    Bool,
    /// `null`
    Null,
}

/// The kind of a value that the scanner returned.
pub fn kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// The string that this raw value is; `None` if it is no string or holds a lone surrogate.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    raw_string(raw)?.unescape()
}

/// The raw string value as a [`RawString`]; `None` if it is no string.
pub fn raw_string(raw: &str) -> Option<RawString<'_>> {
    if !raw.starts_with('"') {
        return None;
    }
    Scanner::new(raw).string().ok()
}

/// The value that the whole text is, without the white space around it.
pub fn document(text: &str) -> Result<&str, SyntaxError> {
    document_with(text, &mut Ignore)
}

/// As [`document`], with a visitor.
pub fn document_with<'a, V: Visitor<'a>>(text: &'a str, visitor: &mut V) -> Result<&'a str, SyntaxError> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value(visitor)?;
    scanner.end()?;
    Ok(value)
}

/// Calls `each` with every member of the object that the whole text is.
///
/// `Ok(false)` if the text is JSON but no object; then `each` was never called. On a syntax error `each` may have
/// seen the members before it.
pub fn members<'a>(text: &'a str, mut each: impl FnMut(RawString<'a>, &'a str)) -> Result<bool, SyntaxError> {
    members_with(text, |key, scanner| {
        let value = scanner.value(&mut Ignore)?;
        each(key, value);
        Ok(())
    })
}

/// As [`members`], but `each` scans the value itself: it must call [`Scanner::value`] exactly once.
pub fn members_with<'a>(
    text: &'a str,
    mut each: impl FnMut(RawString<'a>, &mut Scanner<'a>) -> Result<(), SyntaxError>,
) -> Result<bool, SyntaxError> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        scanner.value(&mut Ignore)?;
        scanner.end()?;
        return Ok(false);
    }
    scanner.at += 1;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.key()?;
            each(key, &mut scanner)?;
            if scanner.after_item(b'}')? {
                break;
            }
            scanner.space();
        }
    }
    scanner.end()?;
    Ok(true)
}

/// The raw value of the first member of this name in the object that the text begins with. What follows that
/// member is not looked at.
pub fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return None;
    }
    loop {
        scanner.at += 1;
        scanner.space();
        let key = scanner.key().ok()?;
        let value = scanner.value(&mut Ignore).ok()?;
        if key.is(name) {
            return Some(value);
        }
        scanner.space();
        if scanner.peek() != Some(b',') {
            return None;
        }
    }
}

/// The raw elements of the array that the whole text is; `Ok(None)` if it is JSON but no array.
pub fn elements(text: &str) -> Result<Option<Vec<&str>>, SyntaxError> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    if scanner.peek() != Some(b'[') {
        scanner.value(&mut Ignore)?;
        scanner.end()?;
        return Ok(None);
    }
    scanner.at += 1;
    scanner.space();
    let mut found = Vec::new();
    if scanner.peek() == Some(b']') {
        scanner.at += 1;
    } else {
        loop {
            found.push(scanner.value(&mut Ignore)?);
            if scanner.after_item(b']')? {
                break;
            }
        }
    }
    scanner.end()?;
    Ok(Some(found))
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

/// What [`Scanner::value`] meets on its way through a value, in the order of the text.
pub trait Visitor<'a> {
    /// An object or array begins.
    fn open(&mut self, _kind: Kind) {}
    /// The key of a member of the innermost object.
    fn key(&mut self, _key: RawString<'a>) {}
    /// A string that is a value.
    fn string(&mut self, _string: RawString<'a>) {}
    /// The innermost object or array ends.
    fn close(&mut self) {}
    /// A value ends that lies directly in the outermost container.
    fn member(&mut self, _raw: &'a str) {}
}

/// Wants nothing but the syntax.
pub struct Ignore;

impl Visitor<'_> for Ignore {}

/// A position in a text.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the start of the text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Scans one value, white space before it included, and returns it as it stands in the text.
    pub fn value<V: Visitor<'a>>(&mut self, visitor: &mut V) -> Result<&'a str, SyntaxError> {
        self.space();
        let start = self.at;
        let mut open = Nesting::default();
        let mut member = start;
        loop {
            self.space();
            if open.depth == 1 {
                member = self.at;
            }
            match self.peek() {
                Some(b'{') => {
                    visitor.open(Kind::Object);
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b'}') {
                        open.push(true);
                        visitor.key(self.key()?);
                        continue;
                    }
                    self.at += 1;
                    visitor.close();
                }
                Some(b'[') => {
                    visitor.open(Kind::Array);
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b']') {
                        open.push(false);
                        continue;
                    }
                    self.at += 1;
                    visitor.close();
                }
                Some(b'"') => visitor.string(self.string()?),
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.error()),
            }
            // A value has ended: so do all containers whose last value it was.
            loop {
                let Some(in_object) = open.last() else {
                    return Ok(&self.text[start..self.at]);
                };
                if open.depth == 1 {
                    visitor.member(&self.text[member..self.at]);
                }
                if !self.after_item(if in_object { b'}' } else { b']' })? {
                    if in_object {
                        self.space();
                        visitor.key(self.key()?);
                    }
                    break;
                }
                open.pop();
                visitor.close();
            }
        }
    }

    /// Nothing but white space follows.
    fn end(&mut self) -> Result<(), SyntaxError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error()) }
    }

    /// Behind an item of a container: `true` at its end, `false` at a comma.
    fn after_item(&mut self, end: u8) -> Result<bool, SyntaxError> {
        self.space();
        let ended = match self.peek() {
            Some(b',') => false,
            Some(byte) if byte == end => true,
            _ => return Err(self.error()),
        };
        self.at += 1;
        Ok(ended)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<RawString<'a>, SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error());
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.error());
        }
        self.at += 1;
        Ok(key)
    }

    /// A string; the scanner stands at its opening quote.
    fn string(&mut self) -> Result<RawString<'a>, SyntaxError> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        let mut lone_surrogate = false;
        // A high half waits for its low half, which must follow at once.
        let mut high_until = None;
        loop {
            while bytes.get(at).is_some_and(|&b| PLAIN[usize::from(b)]) {
                at += 1;
            }
            self.at = at;
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => escaped = true,
                _ => return Err(self.error()),
            }
            match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let unit = self.hex4(at + 2)?;
                    let paired = high_until.take_if(|end| *end == at).is_some();
                    match unit {
                        0xdc00..=0xdfff if paired => {}
                        0xdc00..=0xdfff => lone_surrogate = true,
                        _ => {
                            lone_surrogate |= paired;
                            if (0xd800..=0xdbff).contains(&unit) {
                                lone_surrogate |= high_until.is_some();
                                high_until = Some(at + 6);
                            }
                        }
                    }
                    at += 6;
                }
                _ => {
                    self.at = at + 1;
                    return Err(self.error());
                }
            }
        }
        lone_surrogate |= high_until.is_some();
        self.at = at + 1;
        Ok(RawString { raw: &self.text[start..at], escaped, lone_surrogate })
    }

    fn hex4(&mut self, at: usize) -> Result<u32, SyntaxError> {
        let mut unit = 0;
        for offset in 0..4 {
            let digit = self.text.as_bytes().get(at + offset).and_then(|&b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                self.at = at + offset;
                return Err(self.error());
            };
            unit = unit * 16 + digit;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.error()) }
    }

    fn word(&mut self, word: &str) -> Result<(), SyntaxError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error());
        }
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self) -> SyntaxError {
        SyntaxError { at: self.at }
    }
}

/// Bytes of a string that stand for themselves.
static PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// The kinds of the open containers, a bit each (set: an object), the first 64 without an allocation.
#[derive(Default)]
struct Nesting {
    depth: usize,
    word: u64,
    below: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(self.word);
        }
        self.word = self.word << 1 | u64::from(object);
        self.depth += 1;
    }

    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.word & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.word >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.word = self.below.pop().unwrap_or_default();
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_json_and_nothing_else() {
        let good = [
            "null",
            " true ",
            "\t\r\n[]",
            "{}",
            "[ ]",
            "{ }",
            "-0",
            "0",
            "10",
            "-1.50E+07",
            "1e5",
            "123456789012345678901234567890e999999999999",
            r#""""#,
            r#""\"\\\/\b\f\n\r\tA\ud834\udd1e\ud800""#,
            "\"\u{7f}é\u{2028}\"",
            r#"{"a":[1,{"b":null}],"a":{}}"#,
            "[[[]],[],{}]",
        ];
        for text in good {
            assert_eq!(document(text).map(str::len), Ok(text.trim().len()), "{text}");
        }
        let bad = [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1]",
            "[1}",
            "01",
            "-",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "-01",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12\"",
            "\"\u{1}\"",
            "\"a\nb\"",
            "1 1",
            "{} x",
            "'a'",
            "\u{feff}{}",
            "[1,2",
            "{\"a\":1 \"b\":2}",
            "\u{a0}1",
            "/*c*/1",
        ];
        for text in bad {
            assert!(document(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn errors_point_at_the_byte() {
        for (text, at) in [("", 0), ("[1,]", 3), ("{\"a\":tru}", 5), ("[1", 2), ("1 x", 2), (r#""\q""#, 2)] {
            assert_eq!(document(text), Err(SyntaxError { at }), "{text}");
        }
    }

    #[test]
    fn a_megabyte_of_brackets_is_an_ordinary_input() {
        let depth = 1 << 19;
        assert_eq!(document(&"[".repeat(1 << 20)), Err(SyntaxError { at: 1 << 20 }));
        let deep = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(document(&deep).map(str::len), Ok(1 << 20));
        let mixed = "{\"a\":[".repeat(1000) + &"]}".repeat(1000);
        assert!(document(&mixed).is_ok());
        let crossed = "{\"a\":[".repeat(1000) + &"]}".repeat(500) + "}]";
        assert!(document(&crossed).is_err());
    }

    #[test]
    fn members_and_elements_are_slices_of_the_text() {
        let mut seen = Vec::new();
        let text = r#" { "a" : [1, 2] ,"\u0062":"x"} "#;
        let object = members(text, |key, value| seen.push((key.unescape().unwrap(), value)));
        assert_eq!(object, Ok(true));
        assert_eq!(seen, [("a".into(), "[1, 2]"), ("b".into(), "\"x\"")]);
        assert_eq!(members("[{}]", |_, _| panic!("no member")), Ok(false));
        assert!(members("{} {}", |_, _| ()).is_err());
        assert_eq!(elements(" [ 1 , {\"a\":[]} ,null] "), Ok(Some(vec!["1", "{\"a\":[]}", "null"])));
        assert_eq!(elements("[]"), Ok(Some(vec![])));
        assert_eq!(elements("{}"), Ok(None));
        assert!(elements("[1] 2").is_err() && elements("[1,]").is_err());
    }

    #[test]
    fn one_member_is_found_by_its_name() {
        let text = r#" {"a":1 , "b":{"c":2},"\u0063":[3],"d":4}"#;
        let found = ["a", "b", "c", "d", "e"].map(|name| member(text, name));
        assert_eq!(found, [Some("1"), Some("{\"c\":2}"), Some("[3]"), Some("4"), None]);
        for none in ["{}", "[]", "", "{\"a\"", "{\"b\":1,}", "\"a\""] {
            assert_eq!(member(none, "a"), None, "{none}");
        }
    }

    #[test]
    fn lone_surrogates_are_seen_wherever_they_stand() {
        let lone = [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x\udc00""#,
            r#""\ud800\n\udc00""#,
            r#""\udc00\ud800""#,
            r#""\ud800\ud800\udc00""#,
            r#""\ud834\udd1e\udd1e""#,
            r#""\ud800A""#,
        ];
        for text in lone {
            assert!(raw_string(text).unwrap().has_lone_surrogate(), "{text}");
            assert_eq!(string(text), None);
        }
        assert_eq!(string(r#""\ud834\udd1e\uD834\uDD1E""#).as_deref(), Some("𝄞𝄞"));
        assert_eq!(string(r#""\ufffd\u0000""#).as_deref(), Some("\u{fffd}\0"));
    }

    #[test]
    fn keys_compare_unescaped() {
        let key = raw_string(r#""p\u0061th""#).unwrap();
        assert!(key.is("path") && !key.is("p\\u0061th"));
    }
}
