//! What a few repeated measurements say: the median, and how sure it is.

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The middle value; of an even number of values the mean of the two.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of how many values.
    pub count: usize,
}

impl Estimate {
    /// Of these values; `None` where there are none.
    ///
    /// The interval goes from one order statistic to its mirror image, and assumes nothing about how the values are
    /// distributed: the number of values below the true median is binomial. Under six values no such interval reaches
    /// 95 %; then it is all of them.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (low, high) = (*sorted.get(count.checked_sub(1)? / 2)?, sorted[count / 2]);
        let median = f64::midpoint(low, high);
        let left_out = left_out(count);
        Some(Self { median, low: sorted[left_out], high: sorted[count - 1 - left_out], count })
    }

    /// Whether the interval reaches 95 %.
    pub fn is_sure(&self) -> bool {
        self.count >= 6
    }
}

/// How many values may be left out at each end: the most for which both tails together stay under 5 %.
fn left_out(count: usize) -> usize {
    let (mut tail, mut term, mut out) = (0.0, 0.5f64.powi(count as i32), 0);
    for below in 0..count / 2 {
        tail += term;
        if tail > 0.025 {
            break;
        }
        out = below;
        term *= (count - below) as f64 / (below + 1) as f64;
    }
    out
}

/// Each of ours by each of theirs, taken in the same round.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // Order statistics of the 95 % interval of a median, from 1.
        for (count, lower) in [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (30, 10)] {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let estimate = Estimate::of(&values).expect("values");
            let (low, high) = (f64::from(lower), f64::from(count + 1 - lower));
            assert_eq!((estimate.low, estimate.high), (low, high), "of {count}");
            assert!(estimate.is_sure());
        }
    }

    #[test]
    fn few_values_are_all_the_interval() {
        let estimate = Estimate::of(&[3.0, 1.0, 2.0, 9.0]).expect("values");
        assert_eq!((estimate.median, estimate.low, estimate.high), (2.5, 1.0, 9.0));
        assert!(!estimate.is_sure());
        assert_eq!(Estimate::of(&[7.0]).expect("a value").median, 7.0);
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn ratios_are_of_pairs() {
        assert_eq!(ratios(&[2.0, 9.0, 5.0], &[1.0, 3.0]), [2.0, 3.0]);
    }
}
