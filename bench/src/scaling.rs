//! From one core to two, in this process: what one thread does in a while, and what two do.
//!
//! Publishing is an event from its text to the encoded frame. Fan-out is a shard: its hub takes a batch, and every
//! session of it takes what came, without a socket. Two threads have a shard each, as the server has on two cores; the
//! batches are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use newswire_core::{Hub, HubConfig, LogView as _, Principal, Session, SessionConfig};
use newswire_protocol::{Draft, Limits};
use parking_lot::Mutex;

use crate::filtered::{drain, event, event_text};
use crate::in_process::{NOW, Unread};
use crate::report::{Report, add_pairs};

/// How long each side of a pair runs.
const SLICE: Duration = Duration::from_millis(250);

/// Sessions of each shard.
const SESSIONS: usize = 500;

/// Measures and reports.
pub fn measure(report: &mut Report, rounds: usize, event_bytes: usize) {
    let publishers = [(); 2].map(|()| Publisher { text: event_text(1, event_bytes) });
    scaled(report, rounds, "publishes, parsed and encoded", publishers, Publisher::step);
    let shards = [0, 1].map(|shard| Shard::new(shard, event_bytes));
    scaled(report, rounds, "fan-out, deliveries without a socket", shards, Shard::step);
}

fn scaled<W: Send>(
    report: &mut Report,
    rounds: usize,
    what: &str,
    mut workers: [W; 2],
    step: fn(&mut W) -> u64,
) {
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        let one = rate(&mut workers[..1], step);
        pairs.push((one, rate(&mut workers, step)));
    }
    add_pairs(report, what, ["one core", "two cores"], "a second", &pairs);
}

/// What the workers do a second, each on a thread of its own.
fn rate<W: Send>(workers: &mut [W], step: fn(&mut W) -> u64) -> f64 {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let done: u64 = thread::scope(|scope| {
        let running: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                scope.spawn(|| {
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        done += step(worker);
                    }
                    done
                })
            })
            .collect();
        thread::sleep(SLICE);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|worker| worker.join().expect("measuring does not panic")).sum()
    });
    done as f64 / begun.elapsed().as_secs_f64()
}

struct Publisher {
    text: String,
}

impl Publisher {
    fn step(&mut self) -> u64 {
        let draft = Draft::parse(&self.text, &Limits::default()).expect("the event follows the rules");
        std::hint::black_box(draft.encode("id-1", NOW.wall));
        1
    }
}

struct Shard {
    hub: Mutex<Hub>,
    sessions: Vec<Session>,
    event_bytes: usize,
}

impl Shard {
    fn new(shard: usize, event_bytes: usize) -> Self {
        let hub = Mutex::new(Hub::sharded(HubConfig::default(), Unread.epoch(), 0, shard, 2));
        let config = Arc::new(SessionConfig::default());
        let open = |_| {
            let mut session = Session::open(&hub, Arc::clone(&config), Principal::anonymous(), 1.0, NOW);
            session.handle(r#"{"action":"subscribe","channels":["tasks"]}"#, NOW, &hub, &Unread);
            drain(&mut session, &hub);
            session
        };
        let sessions = (0..SESSIONS).map(open).collect();
        Self { hub, sessions, event_bytes }
    }

    fn step(&mut self) -> u64 {
        // Making the event is a five-hundredth of this.
        let next = self.hub.lock().dispatched() + 1;
        drop(self.hub.lock().publish(event(next, 1, self.event_bytes)));
        for session in &mut self.sessions {
            drain(session, &self.hub);
        }
        SESSIONS as u64
    }
}
