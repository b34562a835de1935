//! What happens to people: hiring, messages, meetings, money.

use serde_json::json;

use super::company::{Approval, Company, Employee, Meeting};
use super::script::{CHATTER, COMPANY, MEETINGS, Person, REMARKS};
use super::work::{task_id, usd};

/// Alerts at these percentages of a project's budget, with their levels.
const ALERTS: &[(u64, &str)] = &[(50, "notice"), (80, "warning"), (100, "critical")];

impl Company {
    pub(super) fn start_up(&mut self) {
        let payload = json!({"company": COMPANY, "goal": "Small, useful things, finished"});
        self.tell("system", "system.startup", None, payload);
    }

    pub(super) fn hire(&mut self, person: &'static Person) {
        self.employees.push(Employee { person, task: None });
        let payload = json!({
            "id": person.id, "agent_id": person.id, "name": person.name, "role": person.role, "status": "idle",
        });
        self.tell("agents", "agent.hired", None, payload);
    }

    pub(super) fn let_go(&mut self, employee: usize) {
        let person = self.employees.remove(employee).person;
        let payload = json!({
            "id": person.id, "agent_id": person.id, "name": person.name, "role": person.role,
            "reason": "the contract is fulfilled",
        });
        self.tell("agents", "agent.fired", None, payload);
    }

    pub(super) fn show_status(&mut self, who: &str, status: &str, task: Option<u64>) {
        let Some(person) = self.employees.iter().map(|one| one.person).find(|person| person.id == who) else {
            return;
        };
        let payload = json!({
            "id": person.id, "agent_id": person.id, "name": person.name, "status": status, "task_id": task.map(task_id),
        });
        self.tell("agents", "agent.status_changed", task.map(task_id), payload);
    }

    pub(super) fn say(
        &mut self,
        from: &str,
        to: &str,
        kind: &str,
        content: &str,
        task: Option<u64>,
        project: Option<&str>,
    ) {
        self.counters.messages += 1;
        let id = format!("msg-{}", self.counters.messages);
        let payload = json!({
            "id": id, "message_id": id, "agent_id": from, "from": from, "to": to, "type": kind, "priority": "normal",
            "content": content, "task_id": task.map(task_id), "project": project,
        });
        self.tell("messages", "message.sent", task.map(task_id), payload);
    }

    pub(super) fn chat(&mut self) {
        let from = self.random.usize(..self.employees.len());
        let to = (from + 1 + self.random.usize(..self.employees.len() - 1)) % self.employees.len();
        let (from, to) = (self.employees[from].person.id, self.employees[to].person.id);
        let content = self.pick(CHATTER);
        self.say(from, to, "chat", content, None, None);
    }

    pub(super) fn meet(&mut self) {
        self.counters.meetings += 1;
        let id = self.counters.meetings;
        let (subject, outcome) = self.pick(MEETINGS);
        let participants: Vec<&str> = self.employees.iter().map(|one| one.person.id).collect();
        let payload = json!({
            "id": meeting_id(id), "subject": subject, "agent_id": "ceo", "participants": participants,
        });
        self.tell("messages", "meeting.started", Some(meeting_id(id)), payload);
        self.meeting = Some(Meeting { id, subject, outcome, remarks_left: self.random.u32(1..4) });
    }

    pub(super) fn meeting_goes_on(&mut self) {
        let Some(mut meeting) = self.meeting.take() else { return };
        if meeting.remarks_left > 0 {
            meeting.remarks_left -= 1;
            let speaker = self.random.usize(1..self.employees.len());
            let speaker = self.employees[speaker].person.id;
            let content = format!("{}: {}", meeting.subject, self.pick(REMARKS));
            self.say(speaker, "ceo", "meeting", &content, None, None);
            self.meeting = Some(meeting);
            return;
        }
        let failed = self.random.u32(..12) == 0;
        let (event_type, outcome) = if failed {
            ("meeting.failed", "Nobody could hear the other room; moved to tomorrow.")
        } else {
            ("meeting.completed", meeting.outcome)
        };
        let payload = json!({
            "id": meeting_id(meeting.id), "subject": meeting.subject, "agent_id": "ceo", "outcome": outcome,
        });
        self.tell("messages", event_type, Some(meeting_id(meeting.id)), payload);
    }

    /// Books a cost; crossing a threshold is told once, and near the end somebody asks for more.
    pub(super) fn charge(&mut self, project: &str, cost_micros: u64) {
        let Some(project) = self.projects.iter_mut().find(|one| one.id == project) else { return };
        project.spent_micros += cost_micros;
        let percent = project.spent_micros * 100 / project.budget_micros;
        let Some((threshold, level)) = ALERTS.iter().rfind(|(at, _)| *at <= percent).copied() else { return };
        if threshold <= project.alerted {
            return;
        }
        project.alerted = threshold;
        let (id, spent, budget) = (project.id.clone(), project.spent_micros, project.budget_micros);
        let payload = json!({
            "level": level, "project": id, "agent_id": "cto", "percent": percent, "spent_usd": usd(spent),
            "threshold_usd": usd(budget * threshold / 100), "budget_usd": usd(budget),
        });
        self.tell("budget", "budget.alert", Some(id.clone()), payload);
        if threshold >= 80 && self.approval.is_none() {
            self.ask_for_more(id, budget / 2);
        }
    }

    fn ask_for_more(&mut self, project: String, amount_micros: u64) {
        self.counters.approvals += 1;
        let id = self.counters.approvals;
        let payload = json!({
            "id": approval_id(id), "agent_id": "cto", "from": "cto", "to": "ceo", "project": project,
            "amount_usd": usd(amount_micros), "reason": "the plan was a feature too small",
        });
        self.tell("budget", "approval.submitted", Some(approval_id(id)), payload);
        self.approval = Some(Approval { id, project, amount_micros });
    }

    pub(super) fn decide_approval(&mut self) {
        let Some(approval) = self.approval.take() else { return };
        let event_type = match self.random.u32(..10) {
            0..7 => "approval.approved",
            7..9 => "approval.rejected",
            _ => "approval.expired",
        };
        if let Some(project) = self.projects.iter_mut().find(|one| one.id == approval.project) {
            if event_type == "approval.approved" {
                project.budget_micros += approval.amount_micros;
                let percent = project.spent_micros * 100 / project.budget_micros;
                project.alerted = ALERTS.iter().rfind(|(at, _)| *at <= percent).map_or(0, |(at, _)| *at);
            } else {
                project.thrifty = true;
            }
        }
        let payload = json!({
            "id": approval_id(approval.id), "agent_id": "ceo", "from": "ceo", "to": "cto", "project": approval.project,
            "amount_usd": usd(approval.amount_micros),
        });
        self.tell("budget", event_type, Some(approval_id(approval.id)), payload);
    }
}

fn meeting_id(id: u64) -> String {
    format!("meeting-{id}")
}

fn approval_id(id: u64) -> String {
    format!("approval-{id}")
}
