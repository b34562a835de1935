//! What happens to tasks and projects.

use serde_json::{Value, json};

use super::company::{Company, Project, Status, Task};
use super::script::{ASSIGNING, FAILURES, MISHAPS, MODELS, PITCHES, PRAISE, REWORK, STAGES, Skill, working};

/// A planned project may cost so much for each feature, in millionths of a dollar.
const BUDGET_PER_FEATURE: u64 = 90_000;

impl Company {
    pub(super) fn kick_off(&mut self) {
        let pitch = &PITCHES[self.counters.projects % PITCHES.len()];
        let release = self.counters.projects / PITCHES.len() + 1;
        self.counters.projects += 1;
        let id =
            if release == 1 { format!("proj-{}", pitch.id) } else { format!("proj-{}-{release}", pitch.id) };
        let project = Project {
            id: id.clone(),
            pitch,
            planned: 0,
            budget_micros: BUDGET_PER_FEATURE * pitch.features.len() as u64,
            spent_micros: 0,
            alerted: 0,
            thrifty: false,
        };
        let payload = json!({
            "id": id, "project": id, "agent_id": "ceo", "name": pitch.name, "goal": pitch.goal,
            "features": pitch.features.len(), "budget_usd": usd(project.budget_micros),
        });
        self.projects.push(project);
        self.tell("tasks", "coordination.started", Some(id.clone()), payload);
        let content = format!("We begin {}. {}.", pitch.name, pitch.goal);
        self.say("ceo", "cto", "announcement", &content, None, Some(&id));
    }

    /// A feature becomes a row of tasks, each waiting for the one before it.
    pub(super) fn plan(&mut self, project: usize) {
        let project = &mut self.projects[project];
        let feature = project.pitch.features[project.planned];
        project.planned += 1;
        let project = project.id.clone();
        let mut after = None;
        for (skill, verb, rounds) in STAGES {
            self.counters.tasks += 1;
            let id = self.counters.tasks;
            let title = format!("{verb} {feature}");
            let payload = json!({
                "id": task_id(id), "task_id": task_id(id), "title": title, "project": project,
                "agent_id": "cto", "created_by": "cto", "status": "created",
                "after": after.map(task_id),
            });
            self.tell("tasks", "task.created", Some(project.clone()), payload);
            let task = Task {
                id,
                project: project.clone(),
                feature,
                title,
                skill: *skill,
                status: Status::Created,
                assignee: None,
                rounds_left: *rounds,
                after,
                was_reviewed: false,
            };
            self.tasks.insert(id, task);
            after = Some(id);
        }
    }

    pub(super) fn close(&mut self, project: usize) {
        let project = self.projects.remove(project);
        let tasks = self.tasks.values().filter(|task| task.project == project.id).count();
        self.tasks.retain(|_, task| task.project != project.id);
        let payload = json!({
            "id": project.id, "project": project.id, "agent_id": "ceo", "name": project.pitch.name,
            "tasks": tasks, "spent_usd": usd(project.spent_micros),
        });
        self.tell("tasks", "coordination.completed", Some(project.id.clone()), payload);
        let content = format!("{} is out: {tasks} tasks. Cake at four.", project.pitch.name);
        self.say("ceo", "writer", "announcement", &content, None, Some(&project.id));
    }

    pub(super) fn assign(&mut self, id: u64, employee: usize) {
        let person = self.employees[employee].person;
        self.employees[employee].task = Some(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.status = Status::Assigned;
        task.assignee = Some(person.id);
        let (title, project) = (task.title.clone(), task.project.clone());
        let payload = json!({
            "id": task_id(id), "task_id": task_id(id), "title": title, "project": project,
            "agent_id": person.id, "assigned_to": person.id, "assigned_by": "cto", "status": "assigned",
        });
        self.tell("tasks", "task.assigned", Some(task_id(id)), payload);
        if self.random.u32(..3) == 0 {
            let content = self.pick(ASSIGNING).replace("{task}", &title);
            self.say("cto", person.id, "task_update", &content, Some(id), Some(&project));
        }
    }

    pub(super) fn begin(&mut self, id: u64) {
        let assignee = self.change(id, Status::InProgress, None);
        self.show_status(assignee, "busy", Some(id));
    }

    /// A round of work: it costs something, and sometimes there is something to say.
    pub(super) fn work(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.rounds_left -= 1;
        let (assignee, project, feature) =
            (task.assignee.unwrap_or("cto"), task.project.clone(), task.feature);
        let said = working(task.skill);
        self.spend(assignee, id, &project);
        if self.random.u32(..5) < 2 {
            let content = about(self.pick(said), feature);
            self.say(assignee, "cto", "progress", &content, Some(id), Some(&project));
        }
    }

    /// What is built goes to review; everything else is done when its author says so.
    pub(super) fn finish(&mut self, id: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        let goes_to_review = task.skill == Skill::Build;
        let to = if goes_to_review { Status::InReview } else { Status::Completed };
        let assignee = self.change(id, to, None);
        self.free(assignee);
        if !goes_to_review {
            self.phase_done(id);
        }
    }

    pub(super) fn judge(&mut self, id: u64, reviewer: usize) {
        let reviewer = self.employees[reviewer].person.id;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let (feature, project, author) = (task.feature, task.project.clone(), task.assignee.unwrap_or("cto"));
        let sent_back = !task.was_reviewed && self.random.u32(..3) == 0;
        task.was_reviewed = true;
        task.rounds_left = u32::from(sent_back);
        self.spend(reviewer, id, &project);
        let remarks = if sent_back { REWORK } else { PRAISE };
        let content = about(self.pick(remarks), feature);
        self.say(reviewer, author, "review", &content, Some(id), Some(&project));
        if sent_back {
            if let Some(one) = self.employees.iter_mut().find(|one| one.person.id == author) {
                one.task = Some(id);
            }
            self.change(id, Status::InProgress, Some(json!({"reviewed_by": reviewer})));
            self.show_status(author, "busy", Some(id));
        } else {
            self.change(id, Status::Completed, Some(json!({"reviewed_by": reviewer})));
        }
    }

    /// Something breaks; mostly the step is repeated, now and then the task fails and is given out again.
    pub(super) fn mishap(&mut self, id: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        let (project, assignee) = (task.project.clone(), task.assignee.unwrap_or("cto"));
        self.something_broke = true;
        let error = self.pick(MISHAPS);
        let payload =
            json!({"error": error, "agent_id": assignee, "task_id": task_id(id), "project": project});
        self.tell("system", "system.error", Some(task_id(id)), payload);
        if self.random.u32(..3) == 0 {
            let reason = self.pick(FAILURES);
            self.change(id, Status::Failed, Some(json!({"reason": reason})));
            self.free(assignee);
        }
    }

    /// Moves a task on and says so. Gives its assignee.
    fn change(&mut self, id: u64, to: Status, more: Option<Value>) -> &'static str {
        let Some(task) = self.tasks.get_mut(&id) else { return "cto" };
        let assignee = task.assignee.unwrap_or("cto");
        let from = std::mem::replace(&mut task.status, to);
        let mut payload = json!({
            "id": task_id(id), "task_id": task_id(id), "title": task.title, "project": task.project,
            "agent_id": assignee, "from_status": from.text(), "status": to.text(),
        });
        if let (Some(fields), Some(Value::Object(more))) = (payload.as_object_mut(), more) {
            fields.extend(more);
        }
        self.tell("tasks", "task.status_changed", Some(task_id(id)), payload);
        assignee
    }

    fn free(&mut self, assignee: &'static str) {
        if let Some(one) = self.employees.iter_mut().find(|one| one.person.id == assignee) {
            one.task = None;
        }
        self.show_status(assignee, "idle", None);
    }

    /// The last task of a feature is the writer's.
    fn phase_done(&mut self, id: u64) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.skill == Skill::Write) else { return };
        let (project, feature) = (task.project.clone(), task.feature);
        let payload =
            json!({"project": project, "phase": feature, "agent_id": "cto", "last_task": task_id(id)});
        self.tell("tasks", "coordination.phase_completed", Some(project), payload);
    }

    fn spend(&mut self, who: &str, task: u64, project: &str) {
        let thrifty = self.projects.iter().any(|one| one.id == project && one.thrifty);
        let (model, price_in, price_out) = if thrifty { MODELS[1] } else { self.pick(MODELS) };
        let (tokens_in, tokens_out) = (self.random.u64(600..6_000), self.random.u64(150..1_800));
        let cost = (tokens_in * price_in + tokens_out * price_out) / 1_000;
        let payload = json!({
            "agent_id": who, "task_id": task_id(task), "project": project, "provider": "atlas", "model": model,
            "input_tokens": tokens_in, "output_tokens": tokens_out, "cost_usd": usd(cost),
        });
        self.tell("budget", "budget.record_added", Some(task_id(task)), payload);
        self.charge(project, cost);
    }
}

pub(super) fn task_id(id: u64) -> String {
    format!("task-{id}")
}

fn about(sentence: &str, feature: &str) -> String {
    let said = sentence.replace("{feature}", feature);
    let mut letters = said.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Millionths of a dollar as dollars, exactly as people write them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn usd(micros: u64) -> f64 {
    micros as f64 / 1e6
}
