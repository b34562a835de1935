//! Events as lines for people: time, project, channel, type, who, and what it comes to.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use newswire_protocol::Event;

use super::projects::Projects;
use super::summary::summary;
use crate::terminal::{BOLD, DIM, RED, fit, paint, width_of};

/// Channel and type begin with the widths of the usual names, and grow with what comes, up to the second figure; a longer
/// name pushes its own line on.
const CHANNEL_COLUMNS: (usize, usize) = (8, 20);
const TYPE_COLUMNS: (usize, usize) = (20, 30);
/// `59 min ago`.
const AGO_COLUMNS: usize = 10;
/// So that what short names did stands in one line; longer names push it on.
const WHO_COLUMNS: usize = 10;

/// Colours that are told apart, and are none of those that mean something.
pub(super) const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::Green,
    AnsiColor::BrightMagenta,
];

/// How events are drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// The width of the terminal; None: not a terminal, so nothing is cut and times are complete.
    pub(crate) columns: Option<usize>,
    /// Times as a distance from now.
    pub(crate) relative: bool,
    /// Projects have a column, and are announced.
    pub(crate) projects: bool,
}

/// Draws events for one output.
#[derive(Debug)]
pub(crate) struct Renderer {
    look: Look,
    day: String,
    channels: Column,
    types: Column,
    projects: Option<Projects>,
}

impl Renderer {
    pub(crate) fn new(look: Look) -> Self {
        Self {
            look,
            day: String::new(),
            channels: Column::new(CHANNEL_COLUMNS),
            types: Column::new(TYPE_COLUMNS),
            projects: look.projects.then(Projects::default),
        }
    }

    /// The day (UTC) of this event, where it is another than the last one's: on a terminal, lines show only the time.
    pub(crate) fn new_day(&mut self, event: &Event) -> Option<String> {
        let day = event.timestamp.get(..10)?;
        if self.look.columns.is_none() || self.look.relative || self.day == day {
            return None;
        }
        self.day = day.to_owned();
        Some(paint(DIM, &format!("— {day} (UTC) —")))
    }

    /// What is to be said before this event: its project has not been seen before.
    pub(crate) fn new_project(&mut self, event: &Event) -> Option<String> {
        self.projects.as_mut()?.announce(event)
    }

    /// One line, without its end. `now` is what relative times are relative to.
    pub(crate) fn line(&mut self, event: &Event, now: Timestamp) -> String {
        let time = match self.look.columns {
            _ if self.look.relative => Cow::Owned(format!("{:>AGO_COLUMNS$}", ago(&event.timestamp, now))),
            Some(_) => Cow::Borrowed(event.timestamp.get(11..19).unwrap_or(&event.timestamp)),
            None => Cow::Borrowed(event.timestamp.as_str()),
        };
        let (channel, kind) = (self.channels.padded(&event.channel), self.types.padded(&event.event_type));
        let mut head = width_of(&time) + width_of(&channel) + width_of(&kind) + 3;
        let mut before = paint(DIM, &time);
        if let Some(projects) = &mut self.projects {
            let (name, style) = projects.cell(event);
            head += width_of(&name) + 1;
            before.extend([" ", &paint(style, &name)]);
        }
        before.extend([" ", &paint(channel_style(&event.channel), &channel)]);
        let summary = summary(&event.event_type, event.payload.get());
        // A name alone in a narrow terminal still says more than half of it.
        let room = self.look.columns.map_or(usize::MAX, |columns| columns.saturating_sub(head).max(12));
        let who = fit(&summary.who, room);
        let gap = match (who.is_empty(), summary.what.is_empty()) {
            (false, false) => 2 + WHO_COLUMNS.saturating_sub(width_of(&who)),
            _ => 0,
        };
        let left = room.saturating_sub(width_of(&who) + gap);
        let what = if left > 1 { fit(&summary.what, left) } else { "".into() };
        if who.is_empty() && what.is_empty() {
            return format!("{before} {}", event.event_type);
        }
        let (who, what) = (paint(BOLD, &who), paint(summary.tone.style(), &what));
        format!("{before} {kind} {who}{:gap$}{what}", "")
    }
}

/// A column that is as wide as the widest of what it has shown, within bounds: lines stay below each other.
#[derive(Debug)]
pub(super) struct Column {
    width: usize,
    max: usize,
}

impl Column {
    pub(super) const fn new((width, max): (usize, usize)) -> Self {
        Self { width, max }
    }

    pub(super) fn padded(&mut self, text: &str) -> String {
        let width = width_of(text);
        if width <= self.max {
            self.width = self.width.max(width);
        }
        format!("{text}{:1$}", "", self.width.saturating_sub(width))
    }
}

/// How long ago that is, in at most ten characters: `now`, `12 s ago`, `3 min ago`, `in 5 s`; a time that cannot be read stays.
fn ago(timestamp: &str, now: Timestamp) -> String {
    let Ok(then) = timestamp.parse::<Timestamp>() else { return timestamp.to_owned() };
    let seconds = now.duration_since(then).as_secs();
    let (amount, unit) = match seconds.unsigned_abs() {
        0 => return "now".to_owned(),
        seconds @ 1..60 => (seconds, "s"),
        seconds @ 60..3_600 => (seconds / 60, "min"),
        seconds @ 3_600..86_400 => (seconds / 3_600, "h"),
        seconds => (seconds / 86_400, "d"),
    };
    if seconds < 0 { format!("in {amount} {unit}") } else { format!("{amount} {unit} ago") }
}

/// The usual channels have their colour, others one that their name draws.
fn channel_style(channel: &str) -> Style {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, channel: &str, payload: &str) -> Event {
        let text = format!(
            r#"{{"event_type":"{event_type}","channel":"{channel}","timestamp":"2026-11-22T15:24:00.123456Z","payload":{payload},"event_id":"e","offset":1,"version":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Ten seconds after the event.
    fn drawn(renderer: &mut Renderer, event: &Event) -> String {
        let now = "2026-11-22T15:24:10.2Z".parse().unwrap();
        anstream::adapter::strip_str(&renderer.line(event, now)).to_string()
    }

    fn plain(columns: Option<usize>, event: &Event) -> String {
        let look = Look { columns, ..Look::default() };
        drawn(&mut Renderer::new(look), event)
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
        let mut terminal = Renderer::new(Look { columns: Some(80), ..Look::default() });
        assert!(terminal.new_day(&event).unwrap().contains("2026-11-22"));
        assert!(terminal.new_day(&event).is_none());
        assert!(Renderer::new(Look::default()).new_day(&event).is_none());
    }

    #[test]
    fn a_payload_cannot_draw_on_the_terminal() {
        let event =
            event("message.sent", "messages", r#"{"from":"\u001b[2J","content":"a\u0007b\u001b]0;x\u0007"}"#);
        let line =
            Renderer::new(Look { columns: Some(120), ..Look::default() }).line(&event, Timestamp::now());
        assert!(
            !line.contains('\u{7}') && !line.contains("\u{1b}[2J") && !line.contains("\u{1b}]"),
            "{line:?}"
        );
    }

    #[test]
    fn times_are_a_distance_where_that_is_asked_for() {
        let now: Timestamp = "2026-11-22T15:24:00Z".parse().unwrap();
        for (then, told) in [
            ("2026-11-22T15:24:00.9Z", "now"),
            ("2026-11-22T15:23:48Z", "12 s ago"),
            ("2026-11-22T14:24:01Z", "59 min ago"),
            ("2026-11-22T16:23:48+01:00", "12 s ago"),
            ("2026-11-21T16:00:00Z", "23 h ago"),
            ("2026-10-22T15:24:00Z", "31 d ago"),
            ("2026-11-22T15:24:05Z", "in 5 s"),
            ("long ago", "long ago"),
        ] {
            assert_eq!(ago(then, now), told, "{then}");
        }
        let mut renderer = Renderer::new(Look { columns: Some(80), relative: true, projects: false });
        let event = event("task.created", "tasks", r#"{"id":"t"}"#);
        assert!(renderer.new_day(&event).is_none(), "a distance needs no day");
        assert_eq!(drawn(&mut renderer, &event), "  10 s ago tasks    task.created         t");
    }

    #[test]
    fn a_column_grows_with_what_it_shows_and_no_further() {
        let mut renderer = Renderer::new(Look { columns: Some(120), ..Look::default() });
        let lines = [
            event("a.b", "tasks", r#"{"n":1}"#),
            event("coordination.phase_completed", "a-long-channel", r#"{"name":"x"}"#),
            event("a.b", "tasks", r#"{"n":1}"#),
            event("a.b", &"x".repeat(60), r#"{"n":1}"#),
            event("a.b", "tasks", r#"{"n":1}"#),
        ]
        .map(|event| drawn(&mut renderer, &event));
        let second = lines[1].find("coordination").unwrap();
        assert_eq!(lines[0].find("a.b").unwrap(), 18);
        assert_eq!(lines[2].find("a.b").unwrap(), second);
        assert_eq!(lines[4], lines[2], "one long name pushes its own line alone");
        assert_eq!(lines[2].find('{').unwrap(), lines[1].find(" x").unwrap() + 1);
    }
}
