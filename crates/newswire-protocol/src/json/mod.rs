//! A JSON scanner without recursion and without values: it checks syntax and hands out slices of the text.
//!
//! The feed passes payloads on byte for byte and reads only a handful of keys, so nothing is ever built from a
//! document. Nesting costs one bit a level, so a megabyte of `[` is an ordinary input. Numbers are never read as
//! floating point; a surrogate without its partner is syntax (RFC 8259 allows it) that [`RawString`] reports.

mod mask;
mod scanner;
mod text;

use std::borrow::Cow;

pub use mask::write_masked;
pub use scanner::{Ignore, Scanner, Visitor};
pub use text::{RawString, write_string};

/// The text is no JSON, from this byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {at}")]
pub struct SyntaxError {
    /// Byte offset of the first byte that no JSON document could have there.
    pub at: usize,
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
    if !scanner.take(b'{') {
        scanner.value(&mut Ignore)?;
        scanner.end()?;
        return Ok(false);
    }
    if !scanner.take(b'}') {
        loop {
            let key = scanner.key()?;
            each(key, &mut scanner)?;
            if scanner.after_item(b'}')? {
                break;
            }
        }
    }
    scanner.end()?;
    Ok(true)
}

/// The raw value of the first member of this name in the object that the text begins with. What follows that
/// member is not looked at.
pub fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut scanner = Scanner::new(text);
    let mut more = scanner.take(b'{');
    while more {
        let key = scanner.key().ok()?;
        let value = scanner.value(&mut Ignore).ok()?;
        if key.is(name) {
            return Some(value);
        }
        more = scanner.take(b',');
    }
    None
}

/// The raw elements of the array that the whole text is; `Ok(None)` if it is JSON but no array.
pub fn elements(text: &str) -> Result<Option<Vec<&str>>, SyntaxError> {
    let mut found = Vec::new();
    Ok(each_element(text, |element| found.push(element))?.then_some(found))
}

/// Calls `each` with the raw elements of the array that the whole text is, in order; `Ok(false)` if it is JSON but no
/// array. A syntax error may show only behind elements that were called for.
pub fn each_element<'a>(text: &'a str, mut each: impl FnMut(&'a str)) -> Result<bool, SyntaxError> {
    let mut scanner = Scanner::new(text);
    if !scanner.take(b'[') {
        scanner.value(&mut Ignore)?;
        scanner.end()?;
        return Ok(false);
    }
    if !scanner.take(b']') {
        loop {
            each(scanner.value(&mut Ignore)?);
            if scanner.after_item(b']')? {
                break;
            }
        }
    }
    scanner.end()?;
    Ok(true)
}

#[cfg(test)]
mod tests;
