//! Figures as a table for people and as JSON for comparison.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::machine;

/// One measured figure.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    note: String,
}

/// Everything measured in one run.
pub struct Report {
    figures: Vec<Figure>,
    /// What else the machine had to do when this began.
    load_before: String,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self { figures: Vec::new(), load_before: machine::load() }
    }

    /// Adds a figure and prints it at once, because a later measurement may fail.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, note: impl Into<String>) {
        let figure = Figure { name: name.into(), value, unit, note: note.into() };
        println!("  {:<58} {:>12} {} {}", figure.name, shown(value), unit, figure.note);
        self.figures.push(figure);
    }

    /// All figures, aligned.
    pub fn table(&self) -> String {
        let machine = format!("{}, load average {} before", machine::describe(), self.load_before);
        let mut table = format!("{machine}\n\n| figure | value | | |\n| --- | ---: | --- | --- |\n");
        for figure in &self.figures {
            let Figure { name, value, unit, note } = figure;
            let _ = writeln!(table, "| {name} | {} | {unit} | {note} |", shown(*value));
        }
        table
    }

    /// Writes `latest.json` and `latest.md` into a directory, and gives the former's path.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit, "note": figure.note}))
            .collect();
        let report = json!({
            "machine": machine::describe(),
            "load_before": self.load_before,
            "command": command(),
            "figures": figures,
        });
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("latest.md"), format!("`{}`\n\n{}", command(), self.table()))?;
        let path = dir.join("latest.json");
        std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
        Ok(path)
    }
}

/// How to repeat this run.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p newswire-bench -- {}", arguments.join(" "))
        .trim_end_matches(" -- ")
        .to_owned()
}

/// Three significant digits at least, without a false precision.
fn shown(value: f64) -> String {
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

/// The middle value; of an even number of values the lower of the two.
///
/// # Panics
/// When there are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// Where the median of what was sampled lies with 95 % confidence: order statistics, without assuming a distribution.
///
/// # Panics
/// When there are no values.
pub fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let below = ((count - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
    (values[below], values[values.len() - 1 - below])
}

/// The value that this part (0 to 1) of sorted samples does not exceed.
pub fn quantile(sorted: &[u32], part: f64) -> u32 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_medians_take_a_sample_that_is_there() {
        let samples: Vec<u32> = (1..=100).collect();
        assert_eq!(
            (quantile(&samples, 0.5), quantile(&samples, 0.99), quantile(&samples, 1.0)),
            (50, 99, 100)
        );
        assert_eq!(quantile(&[7], 0.01), 7);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        let (low, high) = interval((1..=15).map(f64::from).collect());
        assert!((low - 4.0).abs() < f64::EPSILON && (high - 12.0).abs() < f64::EPSILON, "{low} {high}");
    }

    #[test]
    fn figures_are_shown_without_false_precision() {
        assert_eq!(
            [shown(0.0), shown(1.234), shown(12.34), shown(1_234_567.8)],
            ["0", "1.23", "12.3", "1,234,568"]
        );
    }
}
