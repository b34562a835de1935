//! The payloads of the well-known event types: the keys that filters look at and that dashboards show.
//!
//! The server checks none of this, and everything beyond it is passed on as well: it is what publishers of such events
//! have in common. `agent_id`, `agent`, `from`, `to` and `assigned_to` are what the filter key `agent` matches,
//! `project` and `project_id` what `project` matches. `null` is absent.

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A well-known event type.
#[derive(Clone, Copy, Debug)]
pub struct WellKnown {
    /// Its name.
    pub event_type: &'static str,
    /// The channel it usually stands on.
    pub channel: &'static str,
    refer: fn(&mut SchemaGenerator) -> Schema,
}

impl WellKnown {
    pub(super) fn refer(&self) -> fn(&mut SchemaGenerator) -> Schema {
        self.refer
    }
}

const fn known<T: JsonSchema>(event_type: &'static str, channel: &'static str) -> WellKnown {
    WellKnown { event_type, channel, refer: |generator| generator.subschema_for::<T>() }
}

/// All of them, in the order of the protocol page.
pub const WELL_KNOWN: &[WellKnown] = &[
    known::<TaskPayload>("task.created", "tasks"),
    known::<TaskPayload>("task.assigned", "tasks"),
    known::<TaskStatusPayload>("task.status_changed", "tasks"),
    known::<TaskPayload>("task.updated", "tasks"),
    known::<AgentPayload>("agent.hired", "agents"),
    known::<AgentPayload>("agent.fired", "agents"),
    known::<AgentStatusPayload>("agent.status_changed", "agents"),
    known::<BudgetRecordPayload>("budget.record_added", "budget"),
    known::<BudgetAlertPayload>("budget.alert", "budget"),
    known::<MessagePayload>("message.sent", "messages"),
    known::<SystemPayload>("system.startup", "system"),
    known::<SystemErrorPayload>("system.error", "system"),
    known::<SystemPayload>("system.shutdown", "system"),
    known::<ApprovalPayload>("approval.submitted", "budget"),
    known::<ApprovalPayload>("approval.approved", "budget"),
    known::<ApprovalPayload>("approval.rejected", "budget"),
    known::<ApprovalPayload>("approval.expired", "budget"),
    known::<MeetingPayload>("meeting.started", "messages"),
    known::<MeetingPayload>("meeting.completed", "messages"),
    known::<MeetingPayload>("meeting.failed", "messages"),
    known::<CoordinationPayload>("coordination.started", "tasks"),
    known::<CoordinationPayload>("coordination.phase_completed", "tasks"),
    known::<CoordinationPayload>("coordination.completed", "tasks"),
    known::<CoordinationPayload>("coordination.failed", "tasks"),
];

/// A task, as it stands after the event.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct TaskPayload {
    /// The task's.
    id: String,
    /// What is to be done, in a line.
    title: Option<String>,
    /// What is to be done, in full.
    description: Option<String>,
    /// Where the task stands now, such as `created`, `assigned`, `in_progress`, `in_review`, `completed`, `failed`.
    status: Option<String>,
    /// Who works on it, or whose doing the event is.
    agent_id: Option<String>,
    /// Who is to work on it.
    assigned_to: Option<String>,
    /// Who made it.
    created_by: Option<String>,
    /// What it belongs to.
    project: Option<String>,
}

/// A task goes from one state to another.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct TaskStatusPayload {
    /// The task's.
    id: String,
    /// Where it stands now, such as `in_progress`, `in_review`, `completed`, `failed`.
    status: String,
    /// Where it stood before.
    from_status: Option<String>,
    /// What is to be done, in a line.
    title: Option<String>,
    /// Who works on it.
    agent_id: Option<String>,
    /// What it belongs to.
    project: Option<String>,
    /// Why, where that is not plain.
    reason: Option<String>,
}

/// An agent comes or goes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct AgentPayload {
    /// Who.
    agent_id: String,
    /// The same again, for readers that look for `id`.
    id: Option<String>,
    /// For people.
    name: Option<String>,
    /// What for.
    role: Option<String>,
    /// What it does now.
    status: Option<String>,
    /// Why.
    reason: Option<String>,
    /// Where it works.
    project: Option<String>,
}

/// An agent does something else now.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct AgentStatusPayload {
    /// Who.
    agent_id: String,
    /// What it does now, such as `idle`, `busy`, `working`.
    status: String,
    /// The same as `agent_id`, for readers that look for `id`.
    id: Option<String>,
    /// For people.
    name: Option<String>,
    /// The task it is busy with.
    task_id: Option<String>,
    /// Where it works.
    project: Option<String>,
}

/// Something was spent.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct BudgetRecordPayload {
    /// By whom.
    agent_id: String,
    /// In US dollars.
    #[schemars(range(min = 0))]
    cost_usd: f64,
    /// Whose model.
    provider: Option<String>,
    /// Which model.
    model: Option<String>,
    /// Tokens that were read.
    #[schemars(range(min = 0))]
    input_tokens: Option<u64>,
    /// Tokens that were written.
    #[schemars(range(min = 0))]
    output_tokens: Option<u64>,
    /// For which task.
    task_id: Option<String>,
    /// For which project.
    project: Option<String>,
}

/// A part of a budget is used up.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct BudgetAlertPayload {
    /// How serious it is, such as `notice`, `warning`, `critical`.
    level: String,
    /// In US dollars.
    spent_usd: f64,
    /// The mark that was passed.
    threshold_usd: Option<f64>,
    /// All that there was.
    budget_usd: Option<f64>,
    /// Spent of it, in percent.
    percent: Option<f64>,
    /// Who answers for it.
    agent_id: Option<String>,
    /// Whose budget.
    project: Option<String>,
}

/// Somebody says something to somebody.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct MessagePayload {
    /// The message's.
    id: String,
    /// Who says it.
    from: String,
    /// To whom: an agent, a team, a room.
    to: String,
    /// What.
    content: String,
    /// What kind of message, such as `chat`, `task_update`, `review`.
    #[schemars(rename = "type")]
    kind: Option<String>,
    /// How urgent.
    priority: Option<String>,
    /// The room it is said in.
    channel: Option<String>,
    /// Who says it, for the filter key `agent`.
    agent_id: Option<String>,
    /// The task it is about.
    task_id: Option<String>,
    /// The project it is about.
    project: Option<String>,
}

/// The system begins or ends to work.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct SystemPayload {
    /// Which run.
    run: Option<String>,
    /// What for.
    goal: Option<String>,
    /// What came of it.
    report: Option<String>,
    /// Why.
    reason: Option<String>,
    /// Of which project.
    project: Option<String>,
}

/// Something broke.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct SystemErrorPayload {
    /// What.
    error: String,
    /// At whose work.
    agent_id: Option<String>,
    /// At which task.
    task_id: Option<String>,
    /// Of which project.
    project: Option<String>,
}

/// Somebody asks for something that another has to allow, or is answered.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct ApprovalPayload {
    /// The request's.
    id: String,
    /// Who asks, or who answers.
    from: Option<String>,
    /// Who is asked, or is answered.
    to: Option<String>,
    /// Whose doing the event is.
    agent_id: Option<String>,
    /// What for.
    reason: Option<String>,
    /// How much, where it is about money.
    amount_usd: Option<f64>,
    /// For which task.
    task_id: Option<String>,
    /// For which project.
    project: Option<String>,
}

/// A meeting begins or ends.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct MeetingPayload {
    /// The meeting's.
    id: String,
    /// What about.
    subject: Option<String>,
    /// Who called it.
    agent_id: Option<String>,
    /// Who is there.
    participants: Option<Vec<String>>,
    /// What came of it.
    outcome: Option<String>,
    /// For which project.
    project: Option<String>,
}

/// Many work on one thing: it begins, a phase of it is done, it ends.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct CoordinationPayload {
    /// The thing's.
    id: Option<String>,
    /// What it is called.
    name: Option<String>,
    /// What for.
    goal: Option<String>,
    /// Which phase.
    phase: Option<String>,
    /// Who leads it.
    agent_id: Option<String>,
    /// In US dollars.
    spent_usd: Option<f64>,
    /// Why it failed.
    reason: Option<String>,
    /// For which project.
    project: Option<String>,
}
