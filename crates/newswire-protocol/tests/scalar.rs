//! Numbers are equal exactly if their decimal values are.

use newswire_protocol::Scalar;
use proptest::prelude::*;

/// The number digits × 10^exponent, spelt with the point moved, zeros added and the exponent adjusted.
fn spelling(digits: i64, exponent: i32, zeros: usize, point: usize, upper: bool) -> String {
    let sign = if digits < 0 { "-" } else { "" };
    let padded = format!("{}{}", digits.unsigned_abs(), "0".repeat(zeros));
    let point = point.min(padded.len() - 1);
    let (whole, fraction) = padded.split_at(padded.len() - point);
    // An all-zero or empty fraction is left out or kept; a leading zero may stand only alone.
    let mantissa = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    let exponent = exponent - zeros as i32 + point as i32;
    format!("{sign}{mantissa}{}{exponent}", if upper { "E" } else { "e" })
}

proptest! {
    #[test]
    fn spellings_of_one_value_are_equal(
        digits in any::<i64>(),
        exponent in -400..400i32,
        (zeros_a, point_a) in (0..30usize, 0..30usize),
        (zeros_b, point_b) in (0..30usize, 0..30usize),
    ) {
        let a = spelling(digits, exponent, zeros_a, point_a, true);
        let b = spelling(digits, exponent, zeros_b, point_b, false);
        prop_assert_eq!(Scalar::number(&a).unwrap(), Scalar::number(&b).unwrap(), "{} {}", a, b);
    }

    #[test]
    fn other_values_differ(a in -2000..2000i64, b in -2000..2000i64, ea in -3..3i32, eb in -3..3i32) {
        let value = |digits: i64, exponent: i32| digits * 10i64.pow((exponent + 3) as u32);
        let equal = value(a, ea) == value(b, eb);
        let scalar = |digits, exponent| Scalar::number(&spelling(digits, exponent, 1, 1, true)).unwrap();
        prop_assert_eq!(scalar(a, ea) == scalar(b, eb), equal);
    }

    #[test]
    fn canonical_form_is_json_and_stays_the_same(raw in "-?(0|[1-9][0-9]{0,12})([.][0-9]{1,12})?([eE][+-]?[0-9]{1,50})?") {
        let scalar = Scalar::number(&raw).unwrap();
        let mut canonical = Vec::new();
        scalar.write(&mut canonical);
        let canonical = String::from_utf8(canonical).unwrap();
        prop_assert_eq!(Scalar::number(&canonical), Some(scalar), "{} {}", raw, canonical);
    }

    #[test]
    fn floats_that_differ_are_different_numbers(a in any::<f64>(), b in any::<f64>()) {
        prop_assume!(a.is_finite() && b.is_finite());
        let scalar = |value: f64| Scalar::number(&format!("{value:e}")).unwrap();
        prop_assert_eq!(scalar(a) == scalar(b), a == b);
        prop_assert_eq!(scalar(a), Scalar::number(&format!("{a}")).unwrap());
    }
}
