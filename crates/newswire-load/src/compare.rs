//! Several systems side by side: one sample of each, then the next round, so that a machine whose mood changes is unfair
//! to nobody.

use crate::scenario::Sample;
use crate::stats::{self, Estimate};

/// Above this share of its core, the generator was what was measured.
pub const TOO_BUSY: f64 = 0.9;

/// Above this share, somebody else on the server's cores spoilt the figures.
pub const TOO_MUCH_BY_OTHERS: f64 = 0.1;

/// Takes one sample.
pub type Take<'a> = Box<dyn Fn() -> anyhow::Result<Sample> + 'a>;

/// Somebody who takes part in a scenario.
pub struct Contestant<'a> {
    /// As tables show it.
    pub system: String,
    /// Takes one sample.
    pub take: Take<'a>,
}

/// All samples of one system in one scenario.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The scenario's name.
    pub scenario: String,
    /// The system's name.
    pub system: String,
    /// One a round, until it failed.
    pub samples: Vec<Sample>,
    /// What went wrong.
    pub failure: Option<String>,
}

impl Series {
    /// All values of a figure, one a round.
    pub fn values(&self, figure: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.value(figure)).collect()
    }

    /// The median of a figure.
    pub fn estimate(&self, figure: &str) -> Option<Estimate> {
        Estimate::of(&self.values(figure))
    }

    /// This system's figure by another's, round by round.
    pub fn ratio(&self, other: &Series, figure: &str) -> Option<Estimate> {
        Estimate::of(&stats::ratios(&self.values(figure), &other.values(figure)))
    }

    /// How much of its core the generator used.
    pub fn busy(&self) -> Option<f64> {
        Estimate::of(&self.samples.iter().map(|sample| sample.busy).collect::<Vec<_>>())
            .map(|busy| busy.median)
    }

    /// How much of the server's own cores somebody else used.
    pub fn others(&self) -> Option<f64> {
        Estimate::of(&self.samples.iter().map(|sample| sample.others).collect::<Vec<_>>())
            .map(|others| others.median)
    }

    /// Events that were lost, repeated or out of order, over all rounds.
    pub fn faults(&self) -> u64 {
        self.samples.iter().map(|sample| sample.faults).sum()
    }
}

/// Runs so many rounds. Whoever fails takes no further part; the others go on.
///
/// `begins` is told of every sample before it is taken, by round and system, and `round_done` of all that there is after
/// each round: a run takes long, and one that is cut off should leave what it has.
pub fn interleave(
    scenario: &str,
    contestants: &[Contestant<'_>],
    rounds: usize,
    mut begins: impl FnMut(usize, &str),
    mut round_done: impl FnMut(&[Series]),
) -> Vec<Series> {
    let series = |contestant: &Contestant<'_>| Series {
        scenario: scenario.to_owned(),
        system: contestant.system.clone(),
        ..Series::default()
    };
    let mut all: Vec<Series> = contestants.iter().map(series).collect();
    for round in 0..rounds {
        for (contestant, series) in contestants.iter().zip(&mut all) {
            if series.failure.is_some() {
                continue;
            }
            begins(round, &contestant.system);
            match (contestant.take)() {
                Ok(sample) => series.samples.push(sample),
                Err(error) => series.failure = Some(format!("{error:#}")),
            }
        }
        round_done(&all);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::scenario::{Better, Figure};

    fn sample(value: f64) -> Sample {
        let figure = Figure { name: "speed", unit: "", better: Better::Higher, value };
        Sample { figures: vec![figure], ..Sample::default() }
    }

    #[test]
    fn rounds_alternate_and_a_failure_stops_only_its_own() {
        let order = RefCell::new(String::new());
        let contestants = [
            Contestant {
                system: "a".into(),
                take: Box::new(|| {
                    order.borrow_mut().push('a');
                    Ok(sample(6.0))
                }),
            },
            Contestant {
                system: "b".into(),
                take: Box::new(|| {
                    order.borrow_mut().push('b');
                    anyhow::ensure!(order.borrow().len() < 3, "it broke");
                    Ok(sample(2.0))
                }),
            },
        ];
        let mut seen = Vec::new();
        let taken = |series: &[Series]| series.iter().map(|series| series.samples.len()).sum::<usize>();
        let series =
            interleave("race", &contestants, 3, |_, _| {}, |so_far: &[Series]| seen.push(taken(so_far)));
        assert_eq!(seen, [2, 3, 4]);
        assert_eq!(*order.borrow(), "ababa");
        assert_eq!((series[0].samples.len(), series[1].samples.len()), (3, 1));
        assert_eq!(series[1].failure.as_deref(), Some("it broke"));
        assert_eq!(series[0].ratio(&series[1], "speed").map(|ratio| ratio.median), Some(3.0));
    }
}
