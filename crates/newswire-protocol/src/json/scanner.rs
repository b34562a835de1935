//! The scanner itself: one value at a time, with whoever wants to watch.

use super::{Kind, RawString, SyntaxError};

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
                    if !self.take(b'}') {
                        open.push(true);
                        visitor.key(self.key()?);
                        continue;
                    }
                    visitor.close();
                }
                Some(b'[') => {
                    visitor.open(Kind::Array);
                    self.at += 1;
                    if !self.take(b']') {
                        open.push(false);
                        continue;
                    }
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
                        visitor.key(self.key()?);
                    }
                    break;
                }
                open.pop();
                visitor.close();
            }
        }
    }

    /// Steps over white space and this byte, if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.space();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<(), SyntaxError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error()) }
    }

    /// Behind an item of a container: `true` at its end, `false` at a comma.
    pub(super) fn after_item(&mut self, end: u8) -> Result<bool, SyntaxError> {
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
    pub(super) fn key(&mut self) -> Result<RawString<'a>, SyntaxError> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.error());
        }
        let key = self.string()?;
        if self.take(b':') { Ok(key) } else { Err(self.error()) }
    }

    /// A string; the scanner stands at its opening quote.
    pub(super) fn string(&mut self) -> Result<RawString<'a>, SyntaxError> {
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
        Ok(RawString::new(&self.text[start..at], escaped, lone_surrogate))
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
