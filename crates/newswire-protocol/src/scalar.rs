//! Strings, numbers and booleans in a form in which equal values have equal bytes.

use std::fmt;

use crate::json::{self, Kind};
use crate::limits::MAX_FILTER_CHARS;

/// A canonical scalar: a tag byte (`s`, `n`, `b`) and the text. Two are equal exactly if their JSON values are:
/// numbers by decimal value of any size and precision, never across types.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar(Box<[u8]>);

/// Canonical text may be a little longer than the shortest way to write a number: sign and exponent.
const MAX_NUMBER_BYTES: usize = MAX_FILTER_CHARS + 8;

impl Scalar {
    /// A string.
    pub fn string(text: &str) -> Self {
        Self::tagged(b's', text.as_bytes())
    }

    /// A number, from its JSON text; `None` if that is no JSON number.
    pub fn number(raw: &str) -> Option<Self> {
        (json::kind(raw) == Kind::Number && json::document(raw) == Ok(raw))
            .then(|| Self::tagged(b'n', canonical_number(raw).as_bytes()))
    }

    /// A boolean.
    pub fn bool(value: bool) -> Self {
        Self::tagged(b'b', if value { b"true" } else { b"false" })
    }

    /// The scalar that this JSON value is; `None` for `null`, objects, arrays, and strings with lone surrogates.
    pub fn from_raw_json(raw: &str) -> Option<Self> {
        match json::kind(raw) {
            Kind::String => json::string(raw).map(|text| Self::string(&text)),
            Kind::Number => Self::number(raw),
            Kind::Bool => Some(Self::bool(raw == "true")),
            Kind::Null | Kind::Object | Kind::Array => None,
        }
    }

    /// What a query parameter may mean: the string, and the number or boolean too if it looks like one.
    pub fn from_query(text: &str) -> Vec<Self> {
        let mut meanings = vec![Self::string(text)];
        match text {
            "true" => meanings.push(Self::bool(true)),
            "false" => meanings.push(Self::bool(false)),
            _ => meanings.extend(Self::number(text)),
        }
        meanings
    }

    /// The canonical bytes that [`Scalar::as_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The canonical bytes: tag and text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.0.strip_prefix(b"s").and_then(|text| std::str::from_utf8(text).ok())
    }

    /// Appends it as JSON; a number in its canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.as_str() {
            Some(text) => json::write_string(out, text),
            None => out.extend_from_slice(self.0.get(1..).unwrap_or_default()),
        }
    }

    /// Whether a filter can name this value: not longer than a filter value may be.
    pub fn fits_filter(&self) -> bool {
        match self.as_str() {
            Some(text) => text.len() <= MAX_FILTER_CHARS || text.chars().count() <= MAX_FILTER_CHARS,
            None => self.0.len() <= MAX_NUMBER_BYTES,
        }
    }

    fn tagged(tag: u8, text: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(1 + text.len());
        bytes.push(tag);
        bytes.extend_from_slice(text);
        Self(bytes.into_boxed_slice())
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::string(&text)
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::bool(value)
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::tagged(b'n', canonical_number(&number.to_string()).as_bytes())
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scalar({})", String::from_utf8_lossy(&self.0))
    }
}

/// `-12.50e3` → `-125e2`: the digits without zeros at either end, and the power of ten. Zero is `0`.
fn canonical_number(raw: &str) -> String {
    let (sign, unsigned) = raw.strip_prefix('-').map_or(("", raw), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = String::with_capacity(raw.len() + 8);
    digits.push_str(sign);
    digits.push_str(whole);
    digits.push_str(fraction);
    let all = &digits[sign.len()..];
    let kept_from = all.len() - all.trim_start_matches('0').len();
    let trailing = all.len() - all.trim_end_matches('0').len();
    if kept_from == all.len() {
        return "0".to_owned();
    }
    digits.truncate(digits.len() - trailing);
    digits.replace_range(sign.len()..sign.len() + kept_from, "");
    digits.push('e');
    digits.push_str(&shifted(exponent, trailing as i128 - fraction.len() as i128));
    digits
}

/// The exponent plus the shift. Exponents may have any number of digits: beyond what an `i128` holds, decimal.
fn shifted(exponent: &str, shift: i128) -> String {
    let (negative, digits) = match exponent.as_bytes().first() {
        Some(b'-') => (true, &exponent[1..]),
        Some(b'+') => (false, &exponent[1..]),
        _ => (false, exponent),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() <= 36 {
        let magnitude: i128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or_default() };
        return (if negative { -magnitude } else { magnitude } + shift).to_string();
    }
    // The shift is no longer than the text, so it cannot turn the sign of so large an exponent.
    let mut carry = if negative { -shift } else { shift };
    let mut sum = digits.as_bytes().to_vec();
    for digit in sum.iter_mut().rev() {
        let value = i128::from(*digit - b'0') + carry;
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or_default();
        carry = value.div_euclid(10);
    }
    let mut text = String::with_capacity(sum.len() + 2);
    if negative {
        text.push('-');
    }
    if carry > 0 {
        text.push_str(&carry.to_string());
    }
    let sum: String = sum.into_iter().map(char::from).collect();
    text.push_str(if carry > 0 { &sum } else { sum.trim_start_matches('0') });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(raw: &str) -> Scalar {
        Scalar::number(raw).unwrap()
    }

    #[test]
    fn numbers_are_equal_by_decimal_value() {
        let same = [
            &["0", "-0", "0.0", "0e5", "-0.00E-7"][..],
            &["1", "1.0", "10e-1", "0.1e1", "1e0", "1E+0", "0.0001e4"],
            &["-120", "-1.2e2", "-12e1", "-120.000"],
            &["9007199254740993", "9007199254740993.0"],
            &["1e400", "10e399", "0.1e401"],
            &["1e99999999999999999999999999999999999999999", "10e99999999999999999999999999999999999999998"],
            &["1e100000000000000000000000000000000000000000", "10e99999999999999999999999999999999999999999"],
            &[
                "1e-99999999999999999999999999999999999999999",
                "10e-100000000000000000000000000000000000000000",
            ],
            &["1e000000000000000000000000000000000000000000000000000000000000000000000000000002", "100"],
        ];
        for (i, group) in same.iter().enumerate() {
            for raw in *group {
                for (j, other) in same.iter().enumerate() {
                    for other in *other {
                        assert_eq!(number(raw) == number(other), i == j, "{raw} {other}");
                    }
                }
            }
        }
        assert_ne!(number("9007199254740993"), number("9007199254740992"));
        assert_ne!(number("0.1"), number("0.1000000000000000055511151231257827"));
    }

    #[test]
    fn canonical_text() {
        for (raw, text) in [("0", "n0"), ("1", "n1e0"), ("-12.50e3", "n-125e2"), ("0.05", "n5e-2")] {
            assert_eq!(number(raw).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn never_equal_across_types() {
        assert_ne!(Scalar::string("1"), number("1"));
        assert_ne!(Scalar::string("true"), Scalar::bool(true));
        assert_ne!(Scalar::bool(true), Scalar::bool(false));
    }

    #[test]
    fn from_json_and_from_queries() {
        assert_eq!(Scalar::from_raw_json(r#""a\u0062""#), Some(Scalar::string("ab")));
        assert_eq!(Scalar::from_raw_json("true"), Some(Scalar::bool(true)));
        for none in ["null", "{}", "[]", r#""\ud800""#] {
            assert_eq!(Scalar::from_raw_json(none), None);
        }
        assert_eq!(Scalar::from_query("1.0"), [Scalar::string("1.0"), number("1")]);
        assert_eq!(Scalar::from_query("false"), [Scalar::string("false"), Scalar::bool(false)]);
        for text in ["01", "+1", "1.", "x", "", " 1", "1 ", "null", "-"] {
            assert_eq!(Scalar::from_query(text), [Scalar::string(text)]);
        }
    }

    #[test]
    fn what_filters_can_name() {
        assert!(Scalar::string(&"é".repeat(256)).fits_filter());
        assert!(!Scalar::string(&"é".repeat(257)).fits_filter());
        assert!(number(&"7".repeat(256)).fits_filter());
        assert!(!number(&"7".repeat(300)).fits_filter());
        assert!(number(&format!("1.{}", "0".repeat(400))).fits_filter());
    }
}
