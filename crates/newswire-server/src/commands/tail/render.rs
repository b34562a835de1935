//! Events as lines for people: time, channel, type, who, and what it comes to.

use anstyle::{AnsiColor, Style};
use newswire_protocol::Event;
use serde_json::{Map, Value};

use crate::terminal::{BOLD, DIM, GREEN, RED, YELLOW, clean, fit, grouped, paint, width_of};

const CHANNEL_COLUMNS: usize = 8;
const TYPE_COLUMNS: usize = 20;
/// So that what short names did stands in one line; longer names push it on.
const WHO_COLUMNS: usize = 10;

/// Draws events for one output.
#[derive(Debug)]
pub(crate) struct Renderer {
    /// The width of the terminal; None: not a terminal, so nothing is cut and times are complete.
    columns: Option<usize>,
    day: String,
}

/// What an event comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    who: String,
    what: String,
    tone: Tone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tone {
    #[default]
    Plain,
    Good,
    Watch,
    Bad,
}

impl Renderer {
    pub(crate) const fn new(columns: Option<usize>) -> Self {
        Self { columns, day: String::new() }
    }

    /// The day (UTC) of this event, where it is another than the last one's: on a terminal, lines show only the time.
    pub(crate) fn new_day(&mut self, event: &Event) -> Option<String> {
        let day = event.timestamp.get(..10)?;
        if self.columns.is_none() || self.day == day {
            return None;
        }
        self.day = day.to_owned();
        Some(paint(DIM, &format!("— {day} (UTC) —")))
    }

    /// One line, without its end.
    pub(crate) fn line(&self, event: &Event) -> String {
        let time = match self.columns {
            Some(_) => event.timestamp.get(11..19).unwrap_or(&event.timestamp),
            None => &event.timestamp,
        };
        let (channel, kind) =
            (padded(&event.channel, CHANNEL_COLUMNS), padded(&event.event_type, TYPE_COLUMNS));
        let summary = summary(&event.event_type, event.payload.get());
        let head = time.len() + width_of(&channel) + width_of(&kind) + 3;
        // A name alone in a narrow terminal still says more than half of it.
        let room = self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(head).max(12));
        let who = fit(&summary.who, room);
        let gap = match (who.is_empty(), summary.what.is_empty()) {
            (false, false) => 2 + WHO_COLUMNS.saturating_sub(width_of(&who)),
            _ => 0,
        };
        let left = room.saturating_sub(width_of(&who) + gap);
        let what = if left > 1 { fit(&summary.what, left) } else { "".into() };
        let (time, channel) = (paint(DIM, time), paint(channel_style(&event.channel), &channel));
        if who.is_empty() && what.is_empty() {
            return format!("{time} {channel} {}", event.event_type);
        }
        let (who, what) = (paint(BOLD, &who), paint(summary.tone.style(), &what));
        format!("{time} {channel} {kind} {who}{:gap$}{what}", "")
    }
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => GREEN,
            Self::Watch => YELLOW,
            Self::Bad => RED,
        }
    }
}

fn padded(text: &str, columns: usize) -> String {
    format!("{text:<columns$}")
}

/// The usual channels have their colour, others one that their name draws.
fn channel_style(channel: &str) -> Style {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Magenta,
        AnsiColor::Yellow,
        AnsiColor::Blue,
        AnsiColor::Green,
        AnsiColor::BrightMagenta,
    ];
    let index = match channel {
        "tasks" => 0,
        "agents" => 1,
        "budget" => 2,
        "messages" => 3,
        "system" => return RED,
        other => {
            other.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
        }
    };
    COLOURS[index % COLOURS.len()].on_default()
}

/// Payloads are open: every field is taken where it is there and of the expected kind, and left out where it is not.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::String(text) => Some(clean(text)).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn first(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.text(key))
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    fn dollars(&self, key: &str) -> Option<String> {
        let amount = self.0.get(key)?.as_f64()?;
        let decimals = if amount.abs() < 1.0 { 4 } else { 2 };
        Some(format!("${amount:.decimals$}"))
    }
}

fn summary(event_type: &str, payload: &str) -> Summary {
    let fields = Fields(serde_json::from_str(payload).unwrap_or_default());
    let (family, act) = event_type.split_once('.').unwrap_or((event_type, ""));
    let known = match family {
        "task" => Some(task(act, &fields)),
        "agent" => Some(agent(act, &fields)),
        "budget" | "approval" => Some(money(family, act, &fields)),
        "message" => Some(message(&fields)),
        "system" => Some(system(act, &fields)),
        "meeting" | "coordination" => Some(together(act, &fields)),
        _ => None,
    };
    known.filter(|summary| !summary.what.is_empty()).unwrap_or_else(|| any(payload, &fields))
}

fn task(act: &str, fields: &Fields) -> Summary {
    let name = fields.first(&["title", "name", "description", "id", "task_id"]).unwrap_or_default();
    let status = fields.text("status");
    let moved = match (fields.text("from_status"), &status) {
        (Some(from), Some(to)) => format!("{from} → {to}: {name}"),
        (None, Some(to)) if act == "status_changed" => format!("→ {to}: {name}"),
        _ => name,
    };
    let what = match fields.text("reason") {
        Some(reason) => format!("{moved} ({reason})"),
        None => moved,
    };
    let tone = match status.as_deref() {
        Some("completed" | "done") => Tone::Good,
        Some("failed" | "cancelled") => Tone::Bad,
        _ => Tone::Plain,
    };
    Summary { who: fields.first(&["assigned_to", "agent_id", "agent"]).unwrap_or_default(), what, tone }
}

fn agent(act: &str, fields: &Fields) -> Summary {
    let who = fields.first(&["agent_id", "id", "agent"]).unwrap_or_default();
    let name = fields.text("name").unwrap_or_else(|| who.clone());
    let role =
        fields.text("role").filter(|role| *role != name).map(|role| format!(", {role}")).unwrap_or_default();
    let (what, tone) = match act {
        "hired" => (format!("{name}{role} joins"), Tone::Good),
        "fired" => (format!("{name}{role} leaves"), Tone::Watch),
        _ => {
            let status = fields.text("status").unwrap_or_default();
            let on = fields.text("task_id").map(|task| format!(" with {task}")).unwrap_or_default();
            (format!("{name} is {status}{on}"), Tone::Plain)
        }
    };
    Summary { who, what, tone }
}

fn money(family: &str, act: &str, fields: &Fields) -> Summary {
    let who = fields.first(&["agent_id", "agent"]).unwrap_or_default();
    if family == "approval" {
        let amount = fields.dollars("amount_usd").unwrap_or_default();
        let what = joined([Some(format!("{act} {amount}")), fields.text("project"), fields.text("reason")]);
        let tone = if act == "approved" { Tone::Good } else { Tone::Watch };
        return Summary { who, what, tone };
    }
    if act == "alert" {
        let spent = match (fields.dollars("spent_usd"), fields.dollars("threshold_usd")) {
            (Some(spent), Some(threshold)) => Some(format!("{spent} spent, over {threshold}")),
            (spent, _) => spent,
        };
        let what = joined([fields.text("level"), spent, fields.text("project")]);
        return Summary { who, what, tone: Tone::Watch };
    }
    let tokens = match (fields.number("input_tokens"), fields.number("output_tokens")) {
        (Some(taken), Some(given)) => Some(format!("{} + {} tokens", grouped(taken), grouped(given))),
        _ => None,
    };
    let what = joined([fields.dollars("cost_usd"), tokens, fields.text("model"), fields.text("task_id")]);
    Summary { who, what, tone: Tone::Plain }
}

fn message(fields: &Fields) -> Summary {
    let (from, to) = (fields.first(&["from", "agent_id"]), fields.text("to"));
    let who = match (from, to) {
        (Some(from), Some(to)) => format!("{from} → {to}"),
        (from, to) => from.or(to).unwrap_or_default(),
    };
    let what = fields.first(&["content", "text", "message", "subject"]).unwrap_or_default();
    Summary { who, what, tone: Tone::Plain }
}

fn system(act: &str, fields: &Fields) -> Summary {
    let tone = if act == "error" { Tone::Bad } else { Tone::Plain };
    let what = joined([
        fields.first(&["error", "message", "reason", "company", "report", "run"]),
        fields.text("goal"),
        fields.text("task_id"),
    ]);
    Summary { who: fields.first(&["agent_id", "agent"]).unwrap_or_default(), what, tone }
}

fn together(act: &str, fields: &Fields) -> Summary {
    let what = joined([
        fields.first(&["subject", "name", "phase", "title"]).or_else(|| fields.text("project")),
        fields.first(&["outcome", "goal", "reason"]),
    ]);
    let tone = match act {
        "completed" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Plain,
    };
    Summary { who: fields.first(&["agent_id", "agent"]).unwrap_or_default(), what, tone }
}

/// Nothing known about it: the payload itself.
fn any(payload: &str, fields: &Fields) -> Summary {
    let what = if fields.0.is_empty() { String::new() } else { clean(payload) };
    Summary { who: String::new(), what, tone: Tone::Plain }
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, channel: &str, payload: &str) -> Event {
        let text = format!(
            r#"{{"event_type":"{event_type}","channel":"{channel}","timestamp":"2026-11-22T15:24:00.123456Z","payload":{payload},"event_id":"e","offset":1,"version":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn plain(columns: Option<usize>, event: &Event) -> String {
        anstream::adapter::strip_str(&Renderer::new(columns).line(event)).to_string()
    }

    #[test]
    fn well_known_events_say_what_they_come_to() {
        let cases = [
            (
                "task.status_changed",
                r#"{"id":"task-7","agent_id":"ada","title":"Draw it","from_status":"assigned","status":"in_progress"}"#,
                "ada         assigned → in_progress: Draw it",
            ),
            (
                "task.status_changed",
                r#"{"id":"task-7","status":"failed","reason":"no data"}"#,
                "→ failed: task-7 (no data)",
            ),
            ("task.created", r#"{"id":"task-7"}"#, "task-7"),
            (
                "agent.hired",
                r#"{"agent_id":"ada","name":"Ada","role":"Programmer"}"#,
                "ada         Ada, Programmer joins",
            ),
            (
                "agent.status_changed",
                r#"{"agent_id":"ada","status":"busy","task_id":"task-7"}"#,
                "ada         ada is busy with task-7",
            ),
            (
                "budget.record_added",
                r#"{"agent_id":"ada","cost_usd":0.000767,"input_tokens":1370,"output_tokens":89,"model":"m"}"#,
                "ada         $0.0008 · 1,370 + 89 tokens · m",
            ),
            (
                "budget.alert",
                r#"{"level":"warning","spent_usd":12.5,"threshold_usd":10}"#,
                "warning · $12.50 spent, over $10.00",
            ),
            (
                "message.sent",
                r#"{"from":"ada","to":"bo","content":"Hello\n\n  there"}"#,
                "ada → bo    Hello there",
            ),
            ("system.error", r#"{"error":"disk full","agent_id":"ada"}"#, "ada         disk full"),
            ("approval.approved", r#"{"amount_usd":2,"project":"p"}"#, "approved $2.00 · p"),
            ("meeting.completed", r#"{"subject":"Stand-up","outcome":"All well."}"#, "Stand-up · All well."),
            ("weather.changed", r#"{"sky": "grey"}"#, r#"{"sky": "grey"}"#),
            ("message.sent", r#"{"odd": [1,2]}"#, r#"{"odd": [1,2]}"#),
            ("task.created", "{}", ""),
        ];
        for (event_type, payload, expected) in cases {
            let line = plain(Some(200), &event(event_type, "tasks", payload));
            let head = format!("15:24:00 tasks    {event_type:<20} ");
            assert_eq!(line, format!("{head}{expected}").trim_end(), "{event_type} {payload}");
        }
    }

    #[test]
    fn lines_fit_the_terminal_and_are_whole_elsewhere() {
        let long = "a very long message ".repeat(20);
        let event =
            event("message.sent", "messages", &format!(r#"{{"from":"ada","to":"bo","content":"{long}"}}"#));
        for columns in [60, 80, 143] {
            let line = plain(Some(columns), &event);
            assert_eq!(width_of(&line), columns, "{line}");
            assert!(line.ends_with('…'));
        }
        let whole = plain(None, &event);
        assert!(whole.starts_with("2026-11-22T15:24:00.123456Z messages message.sent "));
        assert!(whole.ends_with(long.trim_end()));
    }

    #[test]
    fn a_new_day_is_told_once_and_only_on_a_terminal() {
        let event = event("t", "tasks", "{}");
        let mut terminal = Renderer::new(Some(80));
        assert!(terminal.new_day(&event).unwrap().contains("2026-11-22"));
        assert!(terminal.new_day(&event).is_none());
        assert!(Renderer::new(None).new_day(&event).is_none());
    }

    #[test]
    fn a_payload_cannot_draw_on_the_terminal() {
        let event =
            event("message.sent", "messages", r#"{"from":"\u001b[2J","content":"a\u0007b\u001b]0;x\u0007"}"#);
        let line = Renderer::new(Some(120)).line(&event);
        assert!(
            !line.contains('\u{7}') && !line.contains("\u{1b}[2J") && !line.contains("\u{1b}]"),
            "{line:?}"
        );
    }
}
