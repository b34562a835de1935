//! What an event comes to, in a few words: who, and what became of it.

use anstyle::Style;
use serde_json::{Map, Value};

use crate::terminal::{GREEN, RED, YELLOW, clean, grouped};

/// What an event comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) who: String,
    pub(super) what: String,
    pub(super) tone: Tone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Watch,
    Bad,
}

impl Tone {
    pub(super) const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => GREEN,
            Self::Watch => YELLOW,
            Self::Bad => RED,
        }
    }
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

pub(super) fn summary(event_type: &str, payload: &str) -> Summary {
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
