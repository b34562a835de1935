//! Everything measured in one run: as a table for people, as JSON for comparison.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::compare::{Series, TOO_BUSY, TOO_MUCH_BY_OTHERS};
use crate::machine;
use crate::scenario::{self, Better, Figure};
use crate::stats::Estimate;

/// A system that took part, or could not.
#[derive(Clone, Debug)]
pub struct System {
    /// Its name.
    pub name: String,
    /// Its version, or what is missing.
    pub version: Result<String, String>,
    /// Its configuration in one line.
    pub configuration: String,
}

/// A figure that stands for itself, measured in this process without a system around it.
#[derive(Clone, Debug)]
pub struct Plain {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What must be known with it.
    pub note: String,
}

/// A figure of one system by a figure of another, round by round.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// What by what.
    pub name: String,
    /// How much; `None` where one of them is missing.
    pub measured: Option<Estimate>,
}

/// Whether something that was aimed at was reached.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was aimed at.
    pub goal: String,
    /// What was measured: a ratio or a value; `None` where there is nothing to compare with.
    pub measured: Option<Estimate>,
    /// Whether it was reached.
    pub met: bool,
    /// Why not, where that is not the figure's fault.
    pub note: String,
}

/// One run.
pub struct Report {
    /// When it began.
    pub date: String,
    /// On what.
    pub machine: String,
    /// What else the machine had to do when it began.
    pub load_before: String,
    /// How to repeat it.
    pub command: String,
    /// Who took part.
    pub systems: Vec<System>,
    /// What was measured.
    pub series: Vec<Series>,
    /// What was measured in this process.
    pub plain: Vec<Plain>,
    /// Figures of two systems beside each other.
    pub ratios: Vec<Ratio>,
    /// What was aimed at.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// An empty report of a run that begins now.
    pub fn begin(command: impl Into<String>) -> Self {
        Self {
            date: Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: machine::describe(),
            load_before: machine::load(),
            command: command.into(),
            systems: Vec::new(),
            series: Vec::new(),
            plain: Vec::new(),
            ratios: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Adds a figure that stands for itself.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, note: impl Into<String>) {
        self.plain.push(Plain { name: name.into(), value, unit, note: note.into() });
    }

    /// The series of one system in one scenario.
    pub fn find(&self, scenario: &str, system: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.scenario == scenario && series.system == system)
    }

    /// Everything as Markdown.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("{}, load average {} before; {}\n\n", self.machine, self.load_before, self.date);
        let _ = writeln!(text, "`{}`\n", self.command);
        text += &self.system_table();
        for name in self.scenarios() {
            text += &self.scenario_table(name);
        }
        text += &self.plain_table();
        text += &self.ratio_table();
        text += &self.goal_table();
        text.trim_end().to_owned() + "\n"
    }

    /// Everything as JSON, with the value of every round.
    pub fn json(&self) -> Value {
        let systems: Vec<Value> = self.systems.iter().map(system_json).collect();
        let series: Vec<Value> = self.series.iter().map(series_json).collect();
        let plain: Vec<Value> = self
            .plain
            .iter()
            .map(|plain| json!({"name": plain.name, "value": plain.value, "unit": plain.unit, "note": plain.note}))
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|ratio| json!({"name": ratio.name, "measured": ratio.measured.as_ref().map(estimate_json)}))
            .collect();
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "goal": outcome.goal,
                    "measured": outcome.measured.as_ref().map(estimate_json),
                    "met": outcome.met,
                    "note": outcome.note,
                })
            })
            .collect();
        json!({
            "date": self.date,
            "machine": self.machine,
            "load_before": self.load_before,
            "command": self.command,
            "systems": systems,
            "series": series,
            "figures": plain,
            "ratios": ratios,
            "goals": outcomes,
        })
    }

    /// Names of the scenarios, in the order they were run.
    pub fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.series.iter().map(|series| series.scenario.as_str()).collect();
        names.dedup();
        names
    }

    fn system_table(&self) -> String {
        let mut text = String::from("| system | version | configuration |\n| --- | --- | --- |\n");
        for system in &self.systems {
            let version = match &system.version {
                Ok(version) => version.clone(),
                Err(why) => format!("**not installed**: {why}"),
            };
            let _ = writeln!(text, "| {} | {version} | {} |", system.name, system.configuration);
        }
        text + "\n"
    }

    /// One scenario as a table: a row a system, a column a figure.
    pub fn scenario_table(&self, name: &str) -> String {
        let about = scenario::ALL
            .iter()
            .chain(scenario::OF_NODES)
            .find(|one| one.name == name)
            .map_or("", |one| one.about);
        let all: Vec<&Series> = self.series.iter().filter(|series| series.scenario == name).collect();
        let figures = figures(&all);
        let mut text = format!("### {name}\n\n{about}\n\n| system |");
        for figure in &figures {
            let _ = write!(text, " {} |", titled(figure));
        }
        text += " generator |\n| --- |";
        text += &" ---: |".repeat(figures.len() + 1);
        text.push('\n');
        let mut remarks = Vec::new();
        for series in &all {
            let _ = write!(text, "| {} |", series.system);
            for figure in &figures {
                let cell = series
                    .estimate(figure.name)
                    .map_or_else(|| "–".to_owned(), |value| shown_estimate(&value));
                let _ = write!(text, " {cell} |");
            }
            let busy = series.busy().unwrap_or_default();
            let mark = if busy > TOO_BUSY { " !" } else { "" };
            let _ = writeln!(text, " {:.0} %{mark} |", busy * 100.0);
            remarks.extend(remarks_of(series));
        }
        for remark in remarks {
            let _ = writeln!(text, "\n{remark}");
        }
        text + "\n"
    }

    /// What was measured in this process, as a table.
    pub fn plain_table(&self) -> String {
        if self.plain.is_empty() {
            return String::new();
        }
        let mut text =
            String::from("### in this process\n\n| figure | value | | |\n| --- | ---: | --- | --- |\n");
        for Plain { name, value, unit, note } in &self.plain {
            let _ = writeln!(text, "| {name} | {} | {unit} | {note} |", shown(*value));
        }
        text + "\n"
    }

    /// Figures of two systems beside each other, as a table.
    pub fn ratio_table(&self) -> String {
        if self.ratios.is_empty() {
            return String::new();
        }
        let mut text = String::from("### side by side\n\n| ratio | measured |\n| --- | ---: |\n");
        for Ratio { name, measured } in &self.ratios {
            let measured = measured.as_ref().map_or_else(|| "–".to_owned(), shown_estimate);
            let _ = writeln!(text, "| {name} | {measured} |");
        }
        text + "\n"
    }

    fn goal_table(&self) -> String {
        if self.outcomes.is_empty() {
            return String::new();
        }
        let mut text = String::from("### goals\n\n| goal | measured | |\n| --- | ---: | --- |\n");
        for outcome in &self.outcomes {
            let measured = outcome.measured.as_ref().map_or_else(|| "–".to_owned(), shown_estimate);
            let met = if outcome.met { "met" } else { "**unmet**" };
            let _ = writeln!(text, "| {} | {measured} | {met} {} |", outcome.goal, outcome.note);
        }
        text
    }
}

/// The figures that any of these series has, in order.
fn figures(all: &[&Series]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for figure in all.iter().filter_map(|series| series.samples.first()).flat_map(|sample| &sample.figures) {
        if !figures.iter().any(|known| known.name == figure.name) {
            figures.push(figure.clone());
        }
    }
    figures
}

fn titled(figure: &Figure) -> String {
    if figure.unit.is_empty() { figure.name.to_owned() } else { format!("{} ({})", figure.name, figure.unit) }
}

fn remarks_of(series: &Series) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(failure) = &series.failure {
        remarks.push(format!("{}: failed in round {}: {failure}", series.system, series.samples.len() + 1));
    }
    if series.busy().is_some_and(|busy| busy > TOO_BUSY) {
        remarks
            .push(format!("{} !: the generator was the bottleneck, the system may do more", series.system));
    }
    if let Some(others) = series.others().filter(|others| *others > TOO_MUCH_BY_OTHERS) {
        let share = others * 100.0;
        remarks
            .push(format!("{}: others used {share:.0} % of its core, take it again in peace", series.system));
    }
    if series.faults() > 0 {
        remarks.push(format!("{}: {} events lost, repeated or out of order", series.system, series.faults()));
    }
    remarks
}

fn system_json(system: &System) -> Value {
    json!({
        "name": system.name,
        "version": system.version.as_ref().ok(),
        "missing": system.version.as_ref().err(),
        "configuration": system.configuration,
    })
}

fn series_json(series: &Series) -> Value {
    let figures: Vec<Value> = figures(&[series])
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "better": if figure.better == Better::Higher { "higher" } else { "lower" },
                "estimate": series.estimate(figure.name).as_ref().map(estimate_json),
                "values": series.values(figure.name),
            })
        })
        .collect();
    json!({
        "scenario": series.scenario,
        "system": series.system,
        "figures": figures,
        "generator_busy": series.busy(),
        "generator_was_bottleneck": series.busy().is_some_and(|busy| busy > TOO_BUSY),
        "others_on_its_cores": series.others(),
        "faults": series.faults(),
        "failure": series.failure,
    })
}

fn estimate_json(estimate: &Estimate) -> Value {
    json!({
        "median": estimate.median,
        "low": estimate.low,
        "high": estimate.high,
        "rounds": estimate.count,
        "interval_is_95_percent": estimate.is_sure(),
    })
}

fn shown_estimate(estimate: &Estimate) -> String {
    if estimate.count == 1 {
        return shown(estimate.median);
    }
    format!("{} [{} – {}]", shown(estimate.median), shown(estimate.low), shown(estimate.high))
}

/// Three significant digits at least, without a false precision.
pub fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => grouped(value.round() as i64),
    }
}

fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Sample;

    #[test]
    fn figures_are_shown_without_false_precision() {
        assert_eq!(
            [shown(0.0), shown(1.234), shown(12.34), shown(1_234_567.8)],
            ["0", "1.23", "12.3", "1,234,568"]
        );
    }

    #[test]
    fn a_report_names_what_is_missing_and_what_the_generator_could_not_do() {
        let figure = |value| Figure { name: "deliveries", unit: "/s", better: Better::Higher, value };
        let sample = |value| Sample { figures: vec![figure(value)], busy: 0.95, others: 0.4, faults: 1 };
        let mut report = Report::begin("bench");
        report.systems.push(System {
            name: "ghost".into(),
            version: Err("no binary on the path".into()),
            configuration: String::new(),
        });
        let samples = vec![sample(1000.0), sample(3000.0), sample(2000.0)];
        let series = Series { scenario: "flood".into(), system: "Newswire".into(), samples, failure: None };
        report.series.push(series);
        let text = report.markdown();
        for words in [
            "**not installed**: no binary",
            "2,000 [1,000 – 3,000]",
            "95 % !",
            "3 events lost",
            "others used 40 %",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        assert_eq!(report.json()["series"][0]["generator_was_bottleneck"], true);
    }
}
