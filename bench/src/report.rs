//! What a run gave: the report of the load generator, which also takes figures that were measured in this process.

pub use newswire_load::report::Report;
use newswire_load::stats::Estimate;

/// The middle value; of an even number of values the mean of the two.
///
/// # Panics
/// When there are no values.
#[allow(clippy::needless_pass_by_value, reason = "callers hand over what they collected")]
pub fn median(values: Vec<f64>) -> f64 {
    estimate(&values).median
}

/// Adds what pairs of measurements gave: the median of either side, and that of the ratios of the second to the first, with
/// its 95 % interval.
///
/// # Panics
/// When there are no pairs.
pub fn add_pairs(
    report: &mut Report,
    what: &str,
    sides: [&str; 2],
    unit: &'static str,
    pairs: &[(f64, f64)],
) {
    let of_side = |side: fn(&(f64, f64)) -> f64| median(pairs.iter().map(side).collect());
    report.add(format!("{what}: {}", sides[0]), of_side(|pair| pair.0), unit, "");
    report.add(format!("{what}: {}", sides[1]), of_side(|pair| pair.1), unit, "");
    let ratios: Vec<f64> = pairs.iter().map(|(first, second)| second / first).collect();
    let Estimate { median, low, high, .. } = estimate(&ratios);
    report.add(format!("{what}: ratio"), median, "×", format!("95 % {low:.2} to {high:.2}"));
}

fn estimate(values: &[f64]) -> Estimate {
    Estimate::of(values).expect("something was measured")
}
