//! What the benchmarks are given.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use newswire_bench::in_process::{NOW, Unread, commit};
use newswire_core::{
    Batch, DirectSink, EventHead, Hub, HubConfig, LogView as _, Output, Principal, Session, SessionConfig,
    Wakes,
};
use newswire_log::{EmbeddedLog, EmbeddedOptions, EventLog, NewEvents, OsDisk};
use newswire_protocol::{Draft, Limits, UnixMicros};
use parking_lot::Mutex;

/// An event as it is published.
pub(crate) fn text() -> String {
    newswire_bench::wire::event(r#""n":1,"#, 400)
}

pub(crate) fn draft() -> Draft {
    Draft::parse(&text(), &Limits::default()).expect("a good event")
}

fn event(offset: u64) -> Arc<Batch> {
    commit(offset, &text(), "0197a6b0-3f5e-7c3a-9d4e-000000000001")
}

/// A socket without the system call.
#[derive(Debug)]
struct TakesAll;

impl DirectSink for TakesAll {
    fn try_write(&self, slices: &[&[u8]]) -> usize {
        slices.iter().map(|slice| slice.len()).sum()
    }
}

/// A hub, the sessions of its subscribers, and an event to publish.
pub(crate) struct Feed {
    pub(crate) hub: Mutex<Hub>,
    pub(crate) sessions: Vec<Session>,
    batch: Arc<Batch>,
}

impl Feed {
    /// Everybody wants everything.
    pub(crate) fn of_everything(subscribers: usize) -> Self {
        Self::open(subscribers, |_| String::new())
    }

    /// Everybody wants what concerns one agent: `matching` of them that of the event, each of the others another.
    pub(crate) fn of_agents(subscribers: usize, matching: usize) -> Self {
        Self::open(subscribers, |nth| {
            let agent = if nth < matching { "agent-7".to_owned() } else { format!("other-{nth}") };
            format!(r#","filters":{{"agent":"{agent}"}}"#)
        })
    }

    /// The event waits for each of them.
    pub(crate) fn with_one_waiting(subscribers: usize) -> Self {
        let mut feed = Self::of_everything(subscribers);
        feed.publish();
        feed
    }

    /// The event waits for each of them, to be written to their sockets without their tasks.
    pub(crate) fn with_one_to_flush(subscribers: usize) -> (Self, Wakes) {
        let mut feed = Self::of_everything(subscribers);
        let sink: Arc<dyn DirectSink> = Arc::new(TakesAll);
        for session in &mut feed.sessions {
            let rest = session.resume(Waker::noop());
            assert!(rest.is_none(), "nothing was begun");
            session.arm(|| Some(Arc::clone(&sink)));
        }
        let wakes = feed.hub.lock().publish(Arc::clone(&feed.batch));
        (feed, wakes)
    }

    fn open(subscribers: usize, filters: impl Fn(usize) -> String) -> Self {
        let hub = Mutex::new(Hub::new(HubConfig::default(), Unread.epoch(), 0));
        let config = Arc::new(SessionConfig::default());
        let mut sessions: Vec<Session> = (0..subscribers)
            .map(|_| Session::open(&hub, Arc::clone(&config), Principal::anonymous(), 1.0, NOW))
            .collect();
        for (nth, session) in sessions.iter_mut().enumerate() {
            let command = format!(r#"{{"action":"subscribe","channels":["tasks"]{}}}"#, filters(nth));
            session.handle(&command, NOW, &hub, &Unread);
        }
        let mut feed = Self { hub, sessions, batch: event(1) };
        // The first event makes every buffer as large as it has to be.
        feed.publish();
        feed.drain();
        feed.batch = event(2);
        feed
    }

    pub(crate) fn publish(&mut self) {
        drop(self.hub.lock().publish(Arc::clone(&self.batch)));
    }

    fn drain(&mut self) {
        let mut out: Vec<Bytes> = Vec::new();
        for session in &mut self.sessions {
            while let Output::Write = session.next_output(NOW, &self.hub, &mut out, 64 << 10) {
                out.clear();
            }
        }
    }
}

/// An open log, and what is to be appended to it.
pub(crate) struct Log {
    log: EmbeddedLog,
    events: NewEvents,
    _dir: tempfile::TempDir,
}

impl Log {
    pub(crate) fn with_events_to_append(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default(), Arc::new(OsDisk)).expect("a log");
        let event = |nth: usize| {
            let (draft, event_id) = (draft(), format!("0197a6b0-3f5e-7c3a-9d4e-{nth:012x}"));
            let encoded = draft.encode(&event_id, UnixMicros(1));
            NewEvents::one(&EventHead::of(&draft, &encoded), &encoded, None)
        };
        Self { log, events: (0..count).map(event).collect(), _dir: dir }
    }

    pub(crate) fn append(&mut self) {
        let appending = self.log.append(std::mem::take(&mut self.events));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(appending).expect("space");
    }
}
