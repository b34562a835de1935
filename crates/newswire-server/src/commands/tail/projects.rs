//! The projects that a feed tells of: each has a colour, a place in its column, and is announced once.

use std::collections::HashMap;

use anstyle::Style;
use newswire_protocol::Event;
use serde_json::Value;

use super::render::{COLOURS, Column};
use crate::terminal::{BOLD, DIM, clean, fit, paint, width_of};

/// Projects that are remembered. Those that come later are shown as well, in a colour, and are not announced.
const MAX_PROJECTS: usize = 4_096;
/// Names are as wide as they are, up to the second figure, and cut beyond.
const PROJECT_COLUMNS: (usize, usize) = (8, 20);

/// Which projects there have been, in their order.
#[derive(Debug)]
pub(super) struct Projects {
    seen: HashMap<String, usize>,
    column: Column,
}

impl Default for Projects {
    fn default() -> Self {
        Self { seen: HashMap::new(), column: Column::new(PROJECT_COLUMNS) }
    }
}

impl Projects {
    /// What to say before the first event of a project.
    pub(super) fn announce(&mut self, event: &Event) -> Option<String> {
        let name = project_of(event)?;
        let number = self.seen.len();
        if number >= MAX_PROJECTS || self.seen.contains_key(&name) {
            return None;
        }
        let words = format!("{} {}", paint(BOLD, "new project:"), paint(style(number), &name));
        self.seen.insert(name, number);
        Some(words)
    }

    /// What stands in the column of this event.
    pub(super) fn cell(&mut self, event: &Event) -> (String, Style) {
        let Some(name) = project_of(event) else { return (self.column.padded("·"), DIM) };
        let style = style(self.seen.get(&name).copied().unwrap_or_else(|| width_of(&name)));
        (self.column.padded(&fit(&name, PROJECT_COLUMNS.1)), style)
    }
}

/// Neighbours in time have different colours.
fn style(number: usize) -> Style {
    COLOURS[number % COLOURS.len()].on_default()
}

/// The project as the filter key of that name finds it: `project`, or `project_id`.
fn project_of(event: &Event) -> Option<String> {
    let payload: Value = serde_json::from_str(event.payload.get()).ok()?;
    let named = |key: &str| match payload.get(key)? {
        Value::String(name) => Some(clean(name)).filter(|name| !name.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    named("project").or_else(|| named("project_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: &str) -> Event {
        let text = format!(
            r#"{{"event_type":"t","channel":"tasks","timestamp":"2026-11-22T15:24:00Z","payload":{payload},"event_id":"e","offset":1,"version":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn announced(projects: &mut Projects, payload: &str) -> Option<String> {
        projects.announce(&event(payload)).map(|words| anstream::adapter::strip_str(&words).to_string())
    }

    #[test]
    fn each_project_is_announced_once_under_either_name() {
        let mut projects = Projects::default();
        assert_eq!(announced(&mut projects, "{}"), None);
        assert_eq!(announced(&mut projects, r#"{"project":"atlas"}"#).unwrap(), "new project: atlas");
        assert_eq!(announced(&mut projects, r#"{"project_id":"atlas"}"#), None);
        assert_eq!(announced(&mut projects, r#"{"project_id":7}"#).unwrap(), "new project: 7");
        assert_eq!(announced(&mut projects, r#"{"project":["a"]}"#), None, "a list names no project");
    }

    #[test]
    fn neighbours_have_columns_of_one_width_and_colours_of_their_own() {
        let mut projects = Projects::default();
        for name in ["a", "b"] {
            projects.announce(&event(&format!(r#"{{"project":"{name}"}}"#)));
        }
        let (none, _) = projects.cell(&event("{}"));
        let (a, of_a) = projects.cell(&event(r#"{"project":"a"}"#));
        let (_, of_b) = projects.cell(&event(r#"{"project":"b"}"#));
        assert_eq!((width_of(&none), width_of(&a)), (8, 8));
        assert_ne!(of_a, of_b);
        let (long, _) = projects.cell(&event(&format!(r#"{{"project":"{}"}}"#, "long".repeat(20))));
        assert_eq!((width_of(&long), long.ends_with('…')), (20, true));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut projects = Projects::default();
        for n in 0..MAX_PROJECTS {
            assert!(projects.announce(&event(&format!(r#"{{"project":{n}}}"#))).is_some());
        }
        assert!(projects.announce(&event(r#"{"project":"one more"}"#)).is_none());
        assert_eq!(projects.seen.len(), MAX_PROJECTS);
    }
}
