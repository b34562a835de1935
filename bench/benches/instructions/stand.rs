//! What the benchmarks are given.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use newswire_core::{
    Batch, BatchBuilder, EventHead, Hub, HubConfig, LogView, Lost, Now, Output, Principal, Selector, Session,
    SessionConfig,
};
use newswire_log::{EmbeddedLog, EmbeddedOptions, EventLog, NewEvent, OsDisk};
use newswire_protocol::{Draft, Epoch, Limits, UnixMicros};
use parking_lot::Mutex;

pub(crate) const NOW: Now = Now { mono: Duration::from_secs(1), wall: UnixMicros(1) };

const EPOCH: Epoch = Epoch(uuid::Uuid::nil());

/// An event as it is published.
pub(crate) fn text() -> String {
    newswire_bench::wire::event(r#""n":1,"#, 400)
}

pub(crate) fn draft() -> Draft {
    Draft::parse(&text(), &Limits::default()).expect("a good event")
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

    fn open(subscribers: usize, filters: impl Fn(usize) -> String) -> Self {
        let hub = Mutex::new(Hub::new(HubConfig::default(), EPOCH, 0));
        let config = Arc::new(SessionConfig::default());
        let mut sessions: Vec<Session> = (0..subscribers)
            .map(|_| Session::open(&hub, Arc::clone(&config), Principal::anonymous(), 1.0, NOW))
            .collect();
        for (nth, session) in sessions.iter_mut().enumerate() {
            let command = format!(r#"{{"action":"subscribe","channels":["tasks"]{}}}"#, filters(nth));
            session.handle(&command, NOW, &hub, &Unread);
        }
        let mut feed = Self { hub, sessions, batch: batch(1) };
        // The first event makes every buffer as large as it has to be.
        feed.publish();
        feed.drain();
        feed.batch = batch(2);
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
    events: Vec<NewEvent>,
    _dir: tempfile::TempDir,
}

impl Log {
    pub(crate) fn with_events_to_append(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default(), Arc::new(OsDisk)).expect("a log");
        let event = |nth: usize| {
            let (draft, event_id) = (draft(), format!("0197a6b0-3f5e-7c3a-9d4e-{nth:012x}"));
            let encoded = draft.encode(&event_id, UnixMicros(1));
            NewEvent::new(&EventHead::of(&draft, &encoded), &encoded, None)
        };
        Self { log, events: (0..count).map(event).collect(), _dir: dir }
    }

    pub(crate) fn append(&mut self) {
        let appending = self.log.append(std::mem::take(&mut self.events));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(appending).expect("space");
    }
}

fn batch(offset: u64) -> Arc<Batch> {
    let draft = draft();
    let encoded = draft.encode("0197a6b0-3f5e-7c3a-9d4e-000000000001", UnixMicros(1));
    let mut builder = BatchBuilder::new();
    builder.push_encoded(offset, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
    Arc::new(builder.finish())
}

/// A log that is never read: the subscribers here live on what is pushed.
struct Unread;

impl LogView for Unread {
    fn epoch(&self) -> Epoch {
        EPOCH
    }
    fn head(&self) -> u64 {
        1
    }
    fn tail(&self) -> u64 {
        1
    }
    fn channels(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn lost(&self, _: &Selector, _: u64) -> Vec<Lost> {
        Vec::new()
    }
    fn lost_since(&self, _: &Selector, _: UnixMicros) -> Vec<Lost> {
        Vec::new()
    }
}
