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

/// Where the median of what was sampled lies with 95 % confidence.
///
/// # Panics
/// When there are no values.
#[allow(clippy::needless_pass_by_value, reason = "callers hand over what they collected")]
pub fn interval(values: Vec<f64>) -> (f64, f64) {
    let estimate = estimate(&values);
    (estimate.low, estimate.high)
}

fn estimate(values: &[f64]) -> Estimate {
    Estimate::of(values).expect("something was measured")
}
