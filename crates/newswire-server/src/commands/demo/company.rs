//! The sample company: a state machine that tells its story as events, the same story for the same seed.
//!
//! Pure: no clock, no socket. Each call of `next` gives one event and the pause before it. The company decides on one
//! act at a time (assign a task, do a round of work, hold a meeting); an act is a burst of one or more events.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::event::DemoEvent;
use super::script::{CONTRACTORS, Person, Pitch, STAFF, Skill};

/// One event of the story.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) event: DemoEvent,
    /// How long after the event before it, in mean spacings: 1.0 on average.
    pub(crate) pause: f64,
}

/// Within a burst, events follow each other faster than the mean.
const BURST_PAUSE: f64 = 0.35;

/// The whole company.
#[derive(Debug)]
pub(crate) struct Company {
    seed: u64,
    pub(super) random: fastrand::Rng,
    number: u64,
    /// Events of the act that is being decided; its first is the cause of the others.
    act: Vec<DemoEvent>,
    told: VecDeque<Beat>,
    pub(super) employees: Vec<Employee>,
    pub(super) projects: Vec<Project>,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) meeting: Option<Meeting>,
    pub(super) approval: Option<Approval>,
    pub(super) something_broke: bool,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) projects: usize,
    pub(super) tasks: u64,
    pub(super) messages: u64,
    pub(super) meetings: u64,
    pub(super) approvals: u64,
}

#[derive(Debug)]
pub(super) struct Employee {
    pub(super) person: &'static Person,
    /// The task in hand: assigned or in progress. One at a time.
    pub(super) task: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) pitch: &'static Pitch,
    /// Features of the pitch that have tasks.
    pub(super) planned: usize,
    pub(super) budget_micros: u64,
    pub(super) spent_micros: u64,
    /// Percentage of the last alert.
    pub(super) alerted: u64,
    /// Told to work with cheap models.
    pub(super) thrifty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Assigned,
    InProgress,
    InReview,
    Completed,
    Failed,
}

impl Status {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Assigned => "assigned",
            Self::InProgress => "in_progress",
            Self::InReview => "in_review",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) project: String,
    pub(super) feature: &'static str,
    pub(super) title: String,
    pub(super) skill: Skill,
    pub(super) status: Status,
    pub(super) assignee: Option<&'static str>,
    pub(super) rounds_left: u32,
    /// Waits for this one to be completed.
    pub(super) after: Option<u64>,
    pub(super) was_reviewed: bool,
}

#[derive(Debug)]
pub(super) struct Meeting {
    pub(super) id: u64,
    pub(super) subject: &'static str,
    pub(super) outcome: &'static str,
    pub(super) remarks_left: u32,
}

#[derive(Debug)]
pub(super) struct Approval {
    pub(super) id: u64,
    pub(super) project: String,
    pub(super) amount_micros: u64,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Act {
    KickOff,
    Plan(usize),
    Close(usize),
    Assign(u64, usize),
    Begin(u64),
    Work(u64),
    Finish(u64),
    Judge(u64, usize),
    Decide,
    Hire(usize),
    LetGo(usize),
    Meet,
    MeetingGoesOn,
    Mishap(u64),
    Chat,
}

impl Company {
    /// The company of this seed, before its first day.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            number: 0,
            act: Vec::new(),
            told: VecDeque::new(),
            employees: Vec::new(),
            projects: Vec::new(),
            tasks: BTreeMap::new(),
            meeting: None,
            approval: None,
            something_broke: false,
            counters: Counters::default(),
        }
    }

    /// What all events of the company of this seed have as their `source`.
    pub(crate) fn source(seed: u64) -> String {
        format!("demo-{seed}")
    }

    /// The number in an event id that this company gave.
    pub(crate) fn number_of(seed: u64, event_id: &str) -> Option<u64> {
        event_id.strip_prefix(&Self::source(seed))?.strip_prefix('-')?.parse().ok()
    }

    /// Adds an event to the act.
    pub(super) fn tell(
        &mut self,
        channel: &'static str,
        event_type: &'static str,
        correlation_id: Option<String>,
        payload: Value,
    ) {
        self.number += 1;
        let source = Self::source(self.seed);
        self.act.push(DemoEvent {
            number: self.number,
            event_id: format!("{source}-{}", self.number),
            channel,
            event_type,
            payload,
            source,
            correlation_id,
            causation_id: self.act.first().map(|cause| cause.event_id.clone()),
        });
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(..of.len())]
    }

    fn decide(&mut self) {
        if self.employees.is_empty() {
            return self.open();
        }
        let possible = self.possible();
        let total: u32 = possible.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.u32(..total.max(1));
        let act = possible.into_iter().find(|(weight, _)| match drawn.checked_sub(*weight) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        self.perform(act.map_or(Act::Chat, |(_, act)| act));
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::KickOff => self.kick_off(),
            Act::Plan(project) => self.plan(project),
            Act::Close(project) => self.close(project),
            Act::Assign(task, employee) => self.assign(task, employee),
            Act::Begin(task) => self.begin(task),
            Act::Work(task) => self.work(task),
            Act::Finish(task) => self.finish(task),
            Act::Judge(task, reviewer) => self.judge(task, reviewer),
            Act::Decide => self.decide_approval(),
            Act::Hire(contractor) => self.hire(&CONTRACTORS[contractor]),
            Act::LetGo(employee) => self.let_go(employee),
            Act::Meet => self.meet(),
            Act::MeetingGoesOn => self.meeting_goes_on(),
            Act::Mishap(task) => self.mishap(task),
            Act::Chat => self.chat(),
        }
    }

    /// Everything that may happen next, with its weight.
    fn possible(&self) -> Vec<(u32, Act)> {
        let mut acts = vec![(20, Act::Chat)];
        match self.projects.len() {
            0 => acts.push((400, Act::KickOff)),
            1 => acts.push((8, Act::KickOff)),
            _ => {}
        }
        for (index, project) in self.projects.iter().enumerate() {
            let open = self.open_tasks(project);
            if project.planned < project.pitch.features.len() {
                if open <= 3 {
                    acts.push((60, Act::Plan(index)));
                }
            } else if open == 0 {
                acts.push((60, Act::Close(index)));
            }
        }
        for task in self.tasks.values() {
            self.possible_for(task, &mut acts);
        }
        acts.push(if self.meeting.is_some() { (40, Act::MeetingGoesOn) } else { (4, Act::Meet) });
        if self.approval.is_some() {
            acts.push((25, Act::Decide));
        }
        self.possible_staffing(&mut acts);
        acts
    }

    fn possible_for(&self, task: &Task, acts: &mut Vec<(u32, Act)>) {
        match task.status {
            Status::Created | Status::Failed => {
                if self.is_ready(task)
                    && let Some(employee) = self.free_for(task.skill)
                {
                    acts.push((60, Act::Assign(task.id, employee)));
                }
            }
            Status::Assigned => acts.push((60, Act::Begin(task.id))),
            Status::InProgress if task.rounds_left > 0 => {
                acts.push((70, Act::Work(task.id)));
                acts.push((if self.something_broke { 1 } else { self.impatience() }, Act::Mishap(task.id)));
            }
            Status::InProgress => acts.push((90, Act::Finish(task.id))),
            Status::InReview => {
                // Sent back, it must find its author with free hands.
                let author_is_free = self.employee_of(task).is_some_and(|author| author.task.is_none());
                if let Some(reviewer) = self.reviewer_for(task)
                    && author_is_free
                {
                    acts.push((50, Act::Judge(task.id, reviewer)));
                }
            }
            Status::Completed => {}
        }
    }

    /// Nothing has broken yet: whoever watches a feed for a minute should see how an error looks.
    fn impatience(&self) -> u32 {
        if self.number > 60 { 100 } else { 1 }
    }

    fn possible_staffing(&self, acts: &mut Vec<(u32, Act)>) {
        let waiting = |skills: &[Skill]| {
            self.tasks
                .values()
                .filter(|task| matches!(task.status, Status::Created | Status::Failed) && self.is_ready(task))
                .filter(|task| skills.contains(&task.skill) && self.free_for(task.skill).is_none())
                .count()
        };
        for (index, contractor) in CONTRACTORS.iter().enumerate() {
            let hired = self.employees.iter().position(|employee| employee.person.id == contractor.id);
            match hired {
                None if waiting(contractor.skills) > 0 => acts.push((12, Act::Hire(index))),
                Some(employee) if self.can_go(employee) => acts.push((6, Act::LetGo(employee))),
                _ => {}
            }
        }
    }

    fn can_go(&self, employee: usize) -> bool {
        let employee = &self.employees[employee];
        let has_work = self.tasks.values().any(|task| {
            task.status != Status::Completed
                && (task.assignee == Some(employee.person.id) || employee.person.skills.contains(&task.skill))
        });
        employee.task.is_none() && !has_work
    }

    pub(super) fn open_tasks(&self, project: &Project) -> usize {
        self.tasks
            .values()
            .filter(|task| task.project == project.id && task.status != Status::Completed)
            .count()
    }

    fn is_ready(&self, task: &Task) -> bool {
        let done = |before: &u64| self.tasks.get(before).is_none_or(|task| task.status == Status::Completed);
        task.after.as_ref().is_none_or(done)
    }

    fn free_for(&self, skill: Skill) -> Option<usize> {
        self.employees.iter().position(|one| one.task.is_none() && one.person.skills.contains(&skill))
    }

    fn employee_of(&self, task: &Task) -> Option<&Employee> {
        self.employees.iter().find(|employee| Some(employee.person.id) == task.assignee)
    }

    fn reviewer_for(&self, task: &Task) -> Option<usize> {
        let may = |one: &Employee| {
            one.person.skills.contains(&Skill::Review) && Some(one.person.id) != task.assignee
        };
        self.employees.iter().rposition(may)
    }

    /// The first day.
    fn open(&mut self) {
        self.start_up();
        for person in STAFF {
            self.hire(person);
        }
    }
}

impl Iterator for Company {
    type Item = Beat;

    /// Never ends.
    fn next(&mut self) -> Option<Beat> {
        while self.told.is_empty() {
            self.decide();
            let events = std::mem::take(&mut self.act);
            // A burst takes as long as if its events were evenly spaced; most of it passes before it begins.
            #[expect(clippy::cast_precision_loss, reason = "a burst has a handful of events")]
            let before = events.len() as f64 - BURST_PAUSE * events.len().saturating_sub(1) as f64;
            for (index, event) in events.into_iter().enumerate() {
                let pause = if index == 0 { before } else { BURST_PAUSE };
                let pause = pause * (0.5 + self.random.f64());
                self.told.push_back(Beat { event, pause });
            }
        }
        self.told.pop_front()
    }
}

#[cfg(test)]
mod tests;
