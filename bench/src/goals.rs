//! What Newswire is to reach, and whether it did.
//!
//! A ratio is ours by theirs, round by round. A peer that is not installed, or failed, leaves its goal unmet.

use newswire_load::report::{Outcome, Report};
use newswire_load::stats::Estimate;

use crate::contest::{LIMIT, OURS};
use crate::{bare_door, peers, segment};

/// Whom a figure is compared with.
#[derive(Clone, Copy)]
enum Against {
    /// Nobody: the figure itself counts.
    Itself,
    /// One system.
    One(&'static str),
    /// Systems whose name begins so.
    Family(&'static str),
    /// Every peer that can take part and is in no family named in the same scenario and figure.
    EveryOther,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// The lower end of the interval.
    SurelyAbove(f64),
}

struct Goal {
    scenario: &'static str,
    figure: &'static str,
    against: Against,
    bound: Bound,
}

const fn goal(scenario: &'static str, figure: &'static str, against: Against, bound: Bound) -> Goal {
    Goal { scenario, figure, against, bound }
}

use Against::{EveryOther, Family, Itself, One};
use Bound::{AtLeast, AtMost, SurelyAbove};

const GOALS: &[Goal] = &[
    goal("paced", "deliveries a CPU second", One(LIMIT), AtLeast(0.8)),
    goal("flood", "deliveries a CPU second", One(LIMIT), AtLeast(0.7)),
    goal("flood", "deliveries", One(LIMIT), AtLeast(0.7)),
    goal("flood", "deliveries", Family("Litestar"), AtLeast(10.0)),
    goal("flood", "deliveries", Family("Socket.IO"), AtLeast(3.0)),
    goal("flood", "deliveries", EveryOther, AtLeast(2.0)),
    goal("latency", "p50", EveryOther, AtMost(1.0)),
    goal("latency", "p99", EveryOther, AtMost(1.0)),
    goal("latency", "p99", One(LIMIT), AtMost(1.3)),
    goal("filtered", "many to few, time a publish", Itself, AtMost(2.0)),
    goal("memory", "user memory a connection", Itself, AtMost(4.5)),
    goal("memory", "user memory a connection", EveryOther, AtMost(0.5)),
    goal("durable", "acknowledged", One(segment::NAME), AtLeast(0.8)),
    goal("durable", "acknowledged", EveryOther, AtLeast(2.0)),
    goal("reconnect", "all caught up", EveryOther, AtMost(1.0 / 3.0)),
    goal("reconnect", "live p99, meanwhile to calm", Itself, AtMost(3.0)),
    goal("stall", "stalled to calm, deliveries", Itself, SurelyAbove(0.9)),
];

/// Peers whose absence leaves a goal unmet, by the words their names begin with.
const AWAITED: &[&str] =
    &["Litestar", "Centrifugo", "sockudo", "NATS", "Redis", "Socket.IO", "socketioxide", "nchan"];

/// Judges what was measured; scenarios that were not run are left out.
pub fn judge(report: &Report) -> Vec<Outcome> {
    let scenarios = report.scenarios();
    let run = GOALS.iter().filter(|goal| scenarios.contains(&goal.scenario));
    let mut outcomes: Vec<Outcome> = run.flat_map(|goal| goal.outcomes(report)).collect();
    let installed = |name: &&&str| {
        report.systems.iter().any(|system| begins(&system.name, name) && system.version.is_ok())
    };
    for name in AWAITED.iter().filter(|name| !installed(name)) {
        let note = "not installed: its goals are unmet".to_owned();
        outcomes.push(Outcome { goal: format!("beside {name}"), measured: None, met: false, note });
    }
    outcomes
}

impl Goal {
    fn outcomes(&self, report: &Report) -> Vec<Outcome> {
        let Some(ours) = report.find(self.scenario, OURS) else { return Vec::new() };
        if matches!(self.against, Itself) {
            return vec![self.outcome(None, ours.estimate(self.figure))];
        }
        let others = report
            .series
            .iter()
            .filter(|series| series.scenario == self.scenario && self.concerns(&series.system));
        others.map(|other| self.outcome(Some(&other.system), ours.ratio(other, self.figure))).collect()
    }

    fn concerns(&self, system: &str) -> bool {
        match self.against {
            Itself => false,
            One(name) => system == name,
            Family(name) => begins(system, name),
            EveryOther => {
                let limits = [LIMIT, segment::NAME, bare_door::NAME];
                let ours = system.starts_with(OURS) || limits.contains(&system);
                let other_promise = system.ends_with(peers::LESS_DURABLE);
                let same = |goal: &&Goal| goal.scenario == self.scenario && goal.figure == self.figure;
                let named = GOALS.iter().filter(same).any(|goal| match goal.against {
                    Family(name) => begins(system, name),
                    _ => false,
                });
                !ours && !other_promise && !named
            }
        }
    }

    fn outcome(&self, other: Option<&str>, measured: Option<Estimate>) -> Outcome {
        let beside = other.map_or(String::new(), |other| format!(" by that of {other}"));
        let bound = match self.bound {
            AtLeast(bound) => format!("≥ {bound:.2}"),
            AtMost(bound) => format!("≤ {bound:.2}"),
            SurelyAbove(bound) => format!("surely > {bound:.2}"),
        };
        let met = measured.is_some_and(|measured| match self.bound {
            AtLeast(bound) => measured.median >= bound,
            AtMost(bound) => measured.median <= bound,
            SurelyAbove(bound) => measured.low > bound,
        });
        let note = match &measured {
            None => "nothing to compare with".to_owned(),
            Some(measured) if !measured.is_sure() => format!("range of {} rounds only", measured.count),
            Some(_) => String::new(),
        };
        Outcome { goal: format!("{}: {}{beside} {bound}", self.scenario, self.figure), measured, met, note }
    }
}

fn begins(system: &str, name: &str) -> bool {
    system.to_lowercase().starts_with(&name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use newswire_load::compare::Series;
    use newswire_load::report::System;
    use newswire_load::scenario::{Better, Figure, Sample};

    use super::*;

    fn series(system: &str, value: f64) -> Series {
        let figure = Figure { name: "deliveries", unit: "/s", better: Better::Higher, value };
        let samples = vec![Sample { figures: vec![figure], ..Sample::default() }; 6];
        Series { scenario: "flood".into(), system: system.into(), samples, failure: None }
    }

    fn outcomes(rivals: &[(&str, f64)]) -> Vec<(String, bool)> {
        let mut report = Report::begin("bench");
        report.series.push(series(OURS, 100.0));
        for (name, value) in rivals {
            report.series.push(series(name, *value));
            let (name, configuration) = ((*name).to_owned(), String::new());
            report.systems.push(System { name, version: Ok("1".into()), configuration });
        }
        judge(&report).into_iter().map(|outcome| (outcome.goal, outcome.met)).collect()
    }

    #[test]
    fn each_rival_is_judged_by_its_own_bound() {
        let judged = outcomes(&[(LIMIT, 150.0), ("Litestar channels", 11.0), ("nchan", 49.0)]);
        let met = |words: &str| judged.iter().find(|(goal, _)| goal.contains(words)).map(|(_, met)| *met);
        assert_eq!(met("deliveries by that of bare writer ≥ 0.70"), Some(false));
        assert_eq!(met("by that of Litestar channels ≥ 10.00"), Some(false));
        assert_eq!(met("by that of nchan ≥ 2.00"), Some(true));
        assert_eq!(judged.iter().filter(|(goal, _)| goal.contains("that of Litestar")).count(), 1);
    }

    #[test]
    fn who_syncs_less_often_is_no_rival() {
        let judged = outcomes(&[("Redis", 49.0), ("Redis, default sync", 99.0)]);
        assert_eq!(judged.iter().filter(|(goal, _)| goal.contains("by that of Redis")).count(), 1);
    }

    #[test]
    fn who_is_not_installed_leaves_goals_unmet() {
        let judged = outcomes(&[]);
        let centrifugo = judged.iter().find(|(goal, _)| goal == "beside Centrifugo");
        assert_eq!(centrifugo.map(|(_, met)| *met), Some(false));
    }
}
