//! Figures as horizontal bars with their intervals, in one SVG.

use std::fmt::Write as _;

use crate::report::{Report, shown};
use crate::stats::Estimate;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 210.0;
const VALUES: f64 = 190.0;
const BAR: f64 = 16.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 46.0;

struct Panel<'a> {
    title: String,
    bars: Vec<(&'a str, Estimate)>,
}

/// A panel for each of these figures (scenario, figure), a bar for each system.
pub fn svg(report: &Report, figures: &[(&str, &str)]) -> String {
    let panels: Vec<Panel<'_>> =
        figures.iter().filter_map(|(scenario, figure)| panel(report, scenario, figure)).collect();
    let height: f64 = panels.iter().map(|panel| HEAD + ROW * panel.bars.len() as f64).sum::<f64>() + 40.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut top = 0.0;
    for panel in &panels {
        draw(&mut text, panel, top);
        top += HEAD + ROW * panel.bars.len() as f64;
    }
    let footer = escaped(&format!("{} · {}", report.date, report.machine));
    let _ = writeln!(
        text,
        "<text x=\"12\" y=\"{}\" font-size=\"11\" fill=\"#666666\">{footer}</text>",
        top + 26.0
    );
    text + "</svg>\n"
}

fn panel<'a>(report: &'a Report, scenario: &str, figure: &str) -> Option<Panel<'a>> {
    let series = report.series.iter().filter(|series| series.scenario == scenario);
    let bars: Vec<(&str, Estimate)> =
        series.filter_map(|series| Some((series.system.as_str(), series.estimate(figure)?))).collect();
    let sample = report.series.iter().filter(|series| series.scenario == scenario).find_map(|series| {
        series.samples.iter().flat_map(|sample| &sample.figures).find(|one| one.name == figure)
    })?;
    let better = match sample.better {
        crate::scenario::Better::Higher => "more is better",
        crate::scenario::Better::Lower => "less is better",
    };
    let unit = if sample.unit.is_empty() { String::new() } else { format!(" in {}", sample.unit) };
    Some(Panel { title: format!("{scenario}: {figure}{unit} ({better})"), bars })
}

fn draw(text: &mut String, panel: &Panel<'_>, top: f64) {
    let most = panel.bars.iter().map(|(_, value)| value.high).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - VALUES) / most;
    let title = escaped(&panel.title);
    let _ = writeln!(text, "<text x=\"12\" y=\"{}\" font-weight=\"600\">{title}</text>", top + 30.0);
    for (row, (system, value)) in panel.bars.iter().enumerate() {
        let y = top + HEAD + ROW * row as f64;
        let middle = y + BAR / 2.0;
        let colour = if system.starts_with("Newswire") { "#2563eb" } else { "#a3a3a3" };
        let (low, high) = (LABELS + value.low * scale, LABELS + value.high * scale);
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <path d=\"M{low:.1} {middle}H{high:.1}\" stroke=\"#111111\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#333333\">{}</text>",
            LABELS - 10.0,
            middle + 4.0,
            escaped(system),
            value.median * scale,
            high + 8.0,
            middle + 4.0,
            shown(value.median),
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Series;
    use crate::scenario::{Better, Figure, Sample};

    #[test]
    fn every_system_has_a_bar_in_proportion() {
        let mut report = Report::begin("bench");
        for (system, value) in [("Newswire", 200.0), ("a <b>", 100.0)] {
            let figure = Figure { name: "deliveries", unit: "/s", better: Better::Higher, value };
            let sample = Sample { figures: vec![figure], ..Sample::default() };
            let series = Series {
                scenario: "flood".into(),
                system: system.into(),
                samples: vec![sample],
                failure: None,
            };
            report.series.push(series);
        }
        let text = svg(&report, &[("flood", "deliveries"), ("flood", "no such figure")]);
        let full = WIDTH - LABELS - VALUES;
        assert!(text.contains(&format!("width=\"{full:.1}\"")), "{text}");
        assert!(text.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{text}");
        assert!(text.contains("a &lt;b&gt;") && text.contains("more is better"));
    }
}
