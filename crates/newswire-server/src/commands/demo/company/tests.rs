//! The story told twice is the same, and it holds together: read only from its events, as a subscriber would.

use std::collections::{BTreeMap, BTreeSet};

use newswire_protocol::{Draft, Limits};
use serde_json::Value;

use super::*;

fn story(seed: u64, events: usize) -> Vec<Beat> {
    Company::new(seed).take(events).collect()
}

#[test]
fn the_same_seed_tells_the_same_story_to_the_pause() {
    let (one, two, other) = (story(7, 3_000), story(7, 3_000), story(8, 3_000));
    for (a, b) in one.iter().zip(&two) {
        assert_eq!(a.event.to_json(None), b.event.to_json(None));
        assert_eq!(a.pause.to_bits(), b.pause.to_bits());
    }
    let differing = one.iter().zip(&other).filter(|(a, b)| a.event.payload != b.event.payload).count();
    assert!(differing > 1_000, "only {differing} events differ between two seeds");
}

#[test]
fn the_pauses_average_to_one() {
    let beats = story(1, 10_000);
    let mean = beats.iter().map(|beat| beat.pause).sum::<f64>() / 10_000.0;
    assert!((0.95..1.05).contains(&mean), "{mean}");
    assert!(beats.iter().all(|beat| beat.pause > 0.0));
}

#[test]
fn numbers_and_ids_go_up_by_one_and_causes_come_first() {
    for (index, beat) in story(3, 2_000).iter().enumerate() {
        let number = index as u64 + 1;
        assert_eq!(beat.event.number, number);
        assert_eq!(Company::number_of(3, &beat.event.event_id), Some(number));
        let cause = beat.event.causation_id.as_deref().map(|id| Company::number_of(3, id).unwrap());
        assert!(cause.is_none_or(|cause| cause < number));
    }
    assert_eq!(Company::number_of(3, "demo-31-5"), None);
    assert_eq!(Company::number_of(3, "other"), None);
}

/// What the company tells is what the descriptions promise of events of that name.
#[test]
fn payloads_are_as_described() {
    let payloads: BTreeMap<String, jsonschema::Validator> = newswire_protocol::schema::files()
        .into_iter()
        .filter_map(|(path, schema)| {
            let event_type = path.strip_prefix("payloads/")?.to_owned();
            Some((event_type, jsonschema::draft202012::new(&schema).unwrap()))
        })
        .collect();
    let mut met = BTreeSet::new();
    for beat in story(5, 5_000) {
        let described = payloads.get(beat.event.event_type).expect("a well-known type");
        let fault = described.iter_errors(&beat.event.payload).next().map(|fault| fault.to_string());
        assert_eq!(fault, None, "{}", beat.event.to_json(None));
        met.insert(beat.event.event_type);
    }
    assert!(met.len() > 15, "{met:?}");
}

/// What a subscriber can know about the company.
#[derive(Default)]
struct Known {
    hired: BTreeSet<String>,
    busy: BTreeSet<String>,
    status: BTreeMap<String, String>,
    project_of: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
    in_hand: BTreeMap<String, String>,
    /// All there ever were, so that people may still speak of them.
    projects: BTreeSet<String>,
    open_projects: BTreeSet<String>,
    meetings: BTreeSet<String>,
    approvals: BTreeSet<String>,
}

const LEGAL: &[(&str, &str)] = &[
    ("assigned", "in_progress"),
    ("in_progress", "in_review"),
    ("in_progress", "completed"),
    ("in_progress", "failed"),
    ("in_review", "in_progress"),
    ("in_review", "completed"),
];

impl Known {
    fn check(&mut self, event: &DemoEvent) {
        let text = |key: &str| event.payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, agent, project) = (text("id"), text("agent_id"), text("project"));
        if !matches!(event.event_type, "agent.hired" | "system.startup") {
            assert!(self.hired.contains(&agent), "{agent:?} does not work here: {event:?}");
        }
        if !project.is_empty() && event.event_type != "coordination.started" && !id.starts_with("approval") {
            assert!(self.projects.contains(&project), "no such project: {event:?}");
        }
        match event.event_type {
            "agent.hired" => assert!(self.hired.insert(agent), "hired twice"),
            "agent.fired" => {
                assert!(!self.busy.contains(&agent) && !self.in_hand.contains_key(&agent), "{event:?}");
                self.hired.remove(&agent);
            }
            "agent.status_changed" if text("status") == "busy" => {
                assert!(self.busy.insert(agent), "{event:?}");
            }
            "agent.status_changed" => assert!(self.busy.remove(&agent), "{event:?}"),
            "coordination.started" => {
                assert!(
                    self.projects.insert(project.clone()) && self.open_projects.insert(project),
                    "{event:?}"
                );
            }
            "coordination.completed" => {
                assert!(self.open_projects.remove(&project), "{event:?}");
                let undone =
                    |id: &&String| self.project_of[*id] == project && self.status[*id] != "completed";
                assert_eq!(self.status.keys().find(undone), None, "{event:?}");
            }
            "meeting.started" => assert!(self.meetings.insert(id)),
            "meeting.completed" | "meeting.failed" => assert!(self.meetings.remove(&id)),
            "approval.submitted" => assert!(self.approvals.insert(id)),
            "approval.approved" | "approval.rejected" | "approval.expired" => {
                assert!(self.approvals.remove(&id));
            }
            "message.sent" => {
                let (from, to) = (text("from"), text("to"));
                assert!(self.hired.contains(&from) && self.hired.contains(&to) && from != to, "{event:?}");
                assert!(!text("content").contains(['{', '}']), "a blank was not filled in: {event:?}");
            }
            "task.created" => {
                assert!(self.open_projects.contains(&project), "{event:?}");
                self.after.insert(id.clone(), text("after"));
                self.project_of.insert(id.clone(), project);
                assert!(self.status.insert(id, "created".into()).is_none());
            }
            "task.assigned" => {
                let before = self.after[&id].clone();
                assert!(self.status.get(&before).is_none_or(|status| status == "completed"), "{event:?}");
                let from = self.status.insert(id.clone(), "assigned".into());
                assert!(matches!(from.as_deref(), Some("created" | "failed")), "{event:?}");
                assert!(self.in_hand.insert(agent, id).is_none(), "two tasks in hand: {event:?}");
            }
            "task.status_changed" => self.check_move(&id, &agent, &text("from_status"), &text("status")),
            _ => {}
        }
    }

    fn check_move(&mut self, id: &str, agent: &str, from: &str, to: &str) {
        assert!(LEGAL.contains(&(from, to)), "{id}: {from} → {to}");
        assert_eq!(self.status.insert(id.to_owned(), to.to_owned()).as_deref(), Some(from), "{id}");
        if (from, to) == ("in_review", "in_progress") {
            assert!(self.in_hand.insert(agent.to_owned(), id.to_owned()).is_none());
        } else if from == "in_progress" {
            assert_eq!(self.in_hand.remove(agent).as_deref(), Some(id));
        }
    }
}

#[test]
fn ten_thousand_events_hold_together_for_any_seed() {
    for seed in 0..8 {
        let mut known = Known::default();
        for beat in story(seed, 10_000) {
            known.check(&beat.event);
        }
        assert!(known.status.len() > 100, "seed {seed}: only {} tasks", known.status.len());
    }
}

#[test]
fn the_story_has_everything_a_feed_is_shown_with() {
    let beats = story(1, 10_000);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for beat in &beats {
        assert!(["tasks", "agents", "budget", "messages", "system"].contains(&beat.event.channel));
        Draft::parse(&beat.event.to_json(None), &Limits::default()).unwrap();
        *kinds.entry(beat.event.event_type).or_default() += 1;
    }
    let expected = [
        "task.created",
        "task.assigned",
        "task.status_changed",
        "agent.hired",
        "agent.fired",
        "agent.status_changed",
        "budget.record_added",
        "budget.alert",
        "message.sent",
        "system.startup",
        "system.error",
        "approval.submitted",
        "approval.approved",
        "approval.rejected",
        "meeting.started",
        "meeting.completed",
        "meeting.failed",
        "coordination.started",
        "coordination.phase_completed",
        "coordination.completed",
    ];
    for kind in expected {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }
    assert!(kinds["system.error"] < 300, "too much goes wrong: {kinds:?}");
    for seed in 0..20 {
        let broke = story(seed, 150).iter().any(|beat| beat.event.event_type == "system.error");
        assert!(broke, "seed {seed}: no error to be seen early on");
    }
    let programmers =
        |beats: &[Beat]| beats.iter().filter(|beat| beat.event.payload["agent_id"] == "programmer").count();
    assert!(programmers(&beats[..300]) > 10, "the programmer of the README is not to be seen");
}
