//! Filtered fan-out in this process: what a publish costs with few and with many subscriptions, as many of them
//! matching.
//!
//! Every subscription is a session of its own, with a filter on one agent. An event names an agent that
//! `MATCHING` subscriptions want. It costs what matches if the number of the others does not show.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use newswire_core::{Batch, Hub, HubConfig, LogView as _, Output, Principal, Session, SessionConfig};
use parking_lot::Mutex;

use crate::in_process::{NOW, Unread, commit};
use crate::report::{Report, add_pairs};

/// Subscriptions that want an event.
const MATCHING: usize = 10;

/// Publishes of one measurement.
const PUBLISHES: usize = 2_000;

const FEW: usize = 1_000;
const MANY: usize = 100_000;

/// Measures and reports.
///
/// # Errors
/// When an event reaches others than those who want it.
pub fn measure(report: &mut Report, rounds: usize, event_bytes: usize) -> anyhow::Result<()> {
    let before = allocated();
    let mut few = Registry::with(FEW);
    let between = allocated();
    let mut many = Registry::with(MANY);
    let bytes = (allocated() - between).saturating_sub(between - before) as f64 / (MANY - FEW) as f64;
    report.add("a filtered subscription, its session included", bytes, "B", "resident, without a socket");
    for (what, agents) in [("any agent", usize::MAX), ("one agent", 1)] {
        let mut pairs = Vec::new();
        for round in 0..=rounds {
            let pair = (few.publish(agents, event_bytes)?, many.publish(agents, event_bytes)?);
            // The first round warms up.
            if round > 0 {
                pairs.push(pair);
            }
        }
        let name = format!("filtered, {MATCHING} of so many match, events for {what}");
        add_pairs(report, &name, [&FEW.to_string(), &MANY.to_string()], "µs a publish", &pairs);
    }
    Ok(())
}

struct Registry {
    hub: Mutex<Hub>,
    sessions: Vec<Session>,
    offset: u64,
    random: u64,
}

impl Registry {
    fn with(subscriptions: usize) -> Self {
        let hub = Mutex::new(Hub::new(HubConfig::default(), Unread.epoch(), 0));
        let config = Arc::new(SessionConfig::default());
        let open = |place: usize| {
            let mut session = Session::open(&hub, Arc::clone(&config), Principal::anonymous(), 1.0, NOW);
            let agent = place / MATCHING;
            let subscribe = format!(
                r#"{{"action":"subscribe","channels":["tasks"],"filters":{{"agent":"agent_{agent}"}}}}"#
            );
            session.handle(&subscribe, NOW, &hub, &Unread);
            drain(&mut session, &hub);
            session
        };
        let sessions = (0..subscriptions).map(open).collect();
        Self { hub, sessions, offset: 0, random: 1 }
    }

    /// Microseconds that a publish takes, for events that name one of the first `agents`.
    fn publish(&mut self, agents: usize, event_bytes: usize) -> anyhow::Result<f64> {
        let agents = (self.sessions.len() / MATCHING).min(agents);
        let mut took = Duration::ZERO;
        for _ in 0..PUBLISHES {
            // A linear congruential generator: any order will do that does not come back to what is warm.
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let agent = (self.random >> 33) as usize % agents;
            self.offset += 1;
            let batch = event(self.offset, agent, event_bytes);
            let begun = Instant::now();
            let wakes = self.hub.lock().publish(batch);
            drop(wakes);
            took += begun.elapsed();
            for session in &mut self.sessions[agent * MATCHING..][..MATCHING] {
                anyhow::ensure!(drain(session, &self.hub) > 0, "a subscriber did not get its event");
            }
        }
        Ok(took.as_secs_f64() * 1e6 / PUBLISHES as f64)
    }
}

/// Takes what waits, as a connection's task does. Gives the bytes.
pub(crate) fn drain(session: &mut Session, hub: &Mutex<Hub>) -> usize {
    let (mut out, mut bytes) = (Vec::new(), 0);
    let _ = session.resume(Waker::noop());
    while let Output::Write = session.next_output(NOW, hub, &mut out, 64 << 10) {
        bytes += out.drain(..).map(|slice| slice.len()).sum::<usize>();
    }
    bytes
}

pub(crate) fn event_text(agent: usize, event_bytes: usize) -> String {
    format!(
        r#"{{"channel":"tasks","event_type":"task.status_changed","payload":{{"agent_id":"agent_{agent}","text":"{}"}}}}"#,
        "x".repeat(event_bytes.saturating_sub(200))
    )
}

pub(crate) fn event(offset: u64, agent: usize, event_bytes: usize) -> Arc<Batch> {
    commit(offset, &event_text(agent, event_bytes), "id-1")
}

fn allocated() -> usize {
    newswire_load::machine::rss_bytes(&[std::process::id()]) as usize
}
