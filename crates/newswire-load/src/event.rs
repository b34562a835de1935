//! The events that are published: the same text for every system, with a due time and a number in it.

use newswire_protocol::{Draft, Limits, Parts};

/// What stands in front of the due time of an event, where its payload begins.
pub const MARKER: &[u8] = b"{\"t\":";

/// Added to due times and numbers, so that they always have as many digits.
const TIME_BASE: u64 = 1_000_000_000_000_000;
const NUMBER_BASE: u64 = 1_000_000_000;
const AGENT_DIGITS: usize = 6;

/// What an event says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When its publish was due, in microseconds since the generator's start.
    pub due_us: u64,
    /// Its number, from 0.
    pub number: u64,
}

impl Mark {
    /// From the two numbers as they stand in the text; `None` for numbers that no event has.
    pub(crate) fn from_text(time: u64, number: u64) -> Option<Self> {
        Some(Self { due_us: time.checked_sub(TIME_BASE)?, number: number.checked_sub(NUMBER_BASE)? })
    }
}

/// Writes events of one size.
#[derive(Clone)]
pub struct EventText {
    text: Vec<u8>,
    time_at: usize,
    number_at: usize,
    agent_at: usize,
}

impl EventText {
    /// Events of `bytes` bytes as they are published; more where that is too few for the fields.
    pub fn new(bytes: usize) -> Self {
        let empty = draft("").len();
        let text = draft(&"x".repeat(bytes.saturating_sub(empty)));
        let place = |needle: &[u8]| memchr::memmem::find(&text, needle).unwrap_or_default() + needle.len();
        let (time_at, number_at) = (place(MARKER), place(b",\"n\":"));
        let agent_at = place(b"\"agent-");
        Self { time_at, number_at, agent_at, text }
    }

    /// The event with this mark, of agent 0.
    pub fn write(&mut self, mark: Mark) -> &[u8] {
        self.write_of(mark, 0)
    }

    /// The event with this mark, of this agent (below 1,000,000).
    pub fn write_of(&mut self, mark: Mark, agent: usize) -> &[u8] {
        digits(&mut self.text[self.time_at..][..16], TIME_BASE + mark.due_us);
        digits(&mut self.text[self.number_at..][..10], NUMBER_BASE + mark.number);
        digits(&mut self.text[self.agent_at..][..AGENT_DIGITS], agent as u64);
        &self.text
    }
}

/// The `agent_id` of events of this agent.
pub fn agent_id(agent: usize) -> String {
    format!("agent-{agent:0AGENT_DIGITS$}")
}

/// Channel that every event is published on.
pub const CHANNEL: &str = "tasks";

fn draft(pad: &str) -> Vec<u8> {
    let agent = agent_id(0);
    let payload = format!(
        r#"{{"t":{TIME_BASE},"n":{NUMBER_BASE},"agent_id":"{agent}","project":"proj-456","pad":"{pad}"}}"#
    );
    let parts = Parts {
        channel: Some(CHANNEL),
        event_type: Some("task.status_changed"),
        payload: Some(&payload),
        ..Parts::default()
    };
    let draft = Draft::from_parts(&parts, &Limits::default()).expect("a good event");
    let mut text = Vec::new();
    draft.write(&mut text);
    text
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
