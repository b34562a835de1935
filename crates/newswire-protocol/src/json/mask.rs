//! A document written again with some of its members masked.

use super::{Ignore, Scanner, SyntaxError};

/// Levels that are gone into; a value deeper than payloads may be is masked as a whole.
const MAX_DEPTH: usize = crate::limits::MAX_PAYLOAD_DEPTH + 1;

/// Appends the object that the whole text is, without its white space. At every level, the value of a member whose name
/// is hidden is written as `null`. Everything else is copied byte for byte.
///
/// # Errors
/// The text is no JSON object; what was appended until then has to be taken back.
pub fn write_masked(out: &mut Vec<u8>, text: &str, hides: impl Fn(&str) -> bool) -> Result<(), SyntaxError> {
    let mut scanner = Scanner::new(text);
    if !text.trim_start().starts_with('{') {
        return Err(SyntaxError { at: 0 });
    }
    value(&mut scanner, out, &hides, MAX_DEPTH)?;
    scanner.end()
}

fn value(
    scanner: &mut Scanner<'_>,
    out: &mut Vec<u8>,
    hides: &impl Fn(&str) -> bool,
    depth: usize,
) -> Result<(), SyntaxError> {
    if depth == 0 {
        return masked(scanner, out);
    }
    if scanner.take(b'{') {
        out.push(b'{');
        let mut ended = scanner.take(b'}');
        while !ended {
            let key = scanner.key()?;
            out.push(b'"');
            out.extend_from_slice(key.raw().as_bytes());
            out.extend_from_slice(b"\":");
            // A name that is no text could be any.
            if key.unescape().is_none_or(|name| hides(&name)) {
                masked(scanner, out)?;
            } else {
                value(scanner, out, hides, depth - 1)?;
            }
            ended = scanner.after_item(b'}')?;
            out.push(if ended { b'}' } else { b',' });
        }
        if out.ends_with(b"{") {
            out.push(b'}');
        }
        return Ok(());
    }
    if scanner.take(b'[') {
        out.push(b'[');
        let mut ended = scanner.take(b']');
        while !ended {
            value(scanner, out, hides, depth - 1)?;
            ended = scanner.after_item(b']')?;
            out.push(if ended { b']' } else { b',' });
        }
        if out.ends_with(b"[") {
            out.push(b']');
        }
        return Ok(());
    }
    out.extend_from_slice(scanner.value(&mut Ignore)?.as_bytes());
    Ok(())
}

fn masked(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<(), SyntaxError> {
    scanner.value(&mut Ignore)?;
    out.extend_from_slice(b"null");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> Option<String> {
        let mut out = Vec::new();
        write_masked(&mut out, text, |name| name == "secret" || name.is_empty()).ok()?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn members_are_masked_at_every_level_and_the_rest_is_copied() {
        for (text, masked) in [
            ("{}", "{}"),
            (" { } ", "{}"),
            (r#"{"a":1.50,"b":"x\u0041"}"#, r#"{"a":1.50,"b":"x\u0041"}"#),
            (r#"{"secret":1,"a":2}"#, r#"{"secret":null,"a":2}"#),
            (r#"{"a" : {"secret":[1,{"secret":2}]} , "b":[]}"#, r#"{"a":{"secret":null},"b":[]}"#),
            (r#"{"a":[{"secret":"}"},[[{}]],"secret"]}"#, r#"{"a":[{"secret":null},[[{}]],"secret"]}"#),
            (r#"{"s\u0065cret":{"deep":[{}]},"z":null}"#, r#"{"s\u0065cret":null,"z":null}"#),
            (r#"{"":1,"Secret":2,"a":"{","c":"["}"#, r#"{"":null,"Secret":2,"a":"{","c":"["}"#),
        ] {
            assert_eq!(mask(text).as_deref(), Some(masked), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "1", "[]", "{", r#"{"a":}"#, "{} x", r#"{"a":1"#, r#"{"secret":}"#] {
            assert_eq!(mask(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_too_deep_is_masked() {
        let text = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        let masked = mask(&text).unwrap();
        assert!(masked.contains("null") && !masked.contains('1'));
    }
}
