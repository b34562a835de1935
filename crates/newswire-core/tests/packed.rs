//! Compressed events of several connections, each read by one continuous inflater as a strict client has it.
#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::sync::Arc;

use flate2::{Decompress, FlushDecompress};
use newswire_core::{
    Backlog, BacklogPolicy, BatchBuilder, ChannelPolicy, EventHead, Hub, HubConfig, MAX_STREAMS, Output,
    Principal, Session, SessionConfig,
};
use newswire_protocol::{Draft, Epoch, Limits};
use parking_lot::Mutex;
use serde_json::Value;

mod common;
use common::{Unread, now};

/// A hub and the events that go through it.
struct Feed {
    hub: Mutex<Hub>,
    config: Arc<SessionConfig>,
    last: u64,
}

/// A connection and what it was sent.
struct Reader {
    session: Session,
    window: Option<Decompress>,
    /// Offsets of events, and whether they came compressed.
    events: Vec<(u64, bool)>,
    others: Vec<Value>,
    bytes: usize,
}

impl Feed {
    fn new(segment_bytes: usize, backlog_bytes: usize) -> Self {
        let backlog = Backlog { policy: BacklogPolicy::DropOldest, max_bytes: backlog_bytes };
        let config = HubConfig { backlog, segment_bytes, ..HubConfig::default() };
        let channels = ChannelPolicy { arbitrary_allowed: true, ..ChannelPolicy::default() };
        let session = SessionConfig { channels, ..SessionConfig::default() };
        let hub = Mutex::new(Hub::new(config, Epoch::from_bytes([1; 16]), 0));
        Self { hub, config: Arc::new(session), last: 0 }
    }

    /// One commit of events, each on a channel by an agent.
    fn publish(&mut self, events: &[(&str, &str)]) {
        let mut batch = BatchBuilder::new();
        for (channel, agent) in events {
            self.last += 1;
            let text = format!(
                r#"{{"channel":"{channel}","event_type":"task.updated","payload":{{"agent_id":"{agent}","status":"in_progress","n":{}}}}}"#,
                self.last
            );
            let draft = Draft::parse(&text, &Limits::default()).unwrap();
            let encoded = draft.encode(&format!("id-{}", self.last), now().wall);
            batch.push_encoded(self.last, now().wall, &EventHead::of(&draft, &encoded), &encoded);
        }
        drop(self.hub.lock().publish(Arc::new(batch.finish())));
    }

    fn reader(&self, compressed: bool, commands: &[&str]) -> Reader {
        let config = Arc::clone(&self.config);
        let mut session = Session::open(&self.hub, config, Principal::anonymous(), 1.0, now());
        let window = compressed.then(|| {
            session.accept_compressed(&self.hub);
            Decompress::new(false)
        });
        let mut reader = Reader { session, window, events: Vec::new(), others: Vec::new(), bytes: 0 };
        for command in commands {
            reader.session.handle(command, now(), &self.hub, &Unread);
        }
        reader.read(self);
        reader
    }
}

impl Reader {
    /// Reads all there is.
    fn read(&mut self, feed: &Feed) {
        while self.read_some(feed, 64 << 10) {}
    }

    fn read_some(&mut self, feed: &Feed, budget: usize) -> bool {
        let mut out = Vec::new();
        match self.session.next_output(now(), &feed.hub, &mut out, budget) {
            Output::Write => {
                let bytes: Vec<u8> = out.iter().flat_map(|slice| slice.iter().copied()).collect();
                self.take(&bytes);
                true
            }
            Output::Idle(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while let [first, length, rest @ ..] = bytes {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                short => (usize::from(*short), rest),
            };
            let body = &rest[..length];
            let text = match first {
                0x81 => body.to_vec(),
                0xc1 => {
                    let (body, mut text) = ([body, &[0, 0, 0xff, 0xff]].concat(), Vec::with_capacity(9_000));
                    let window = self.window.as_mut().expect("nobody asked for compression");
                    window.decompress_vec(&body, &mut text, FlushDecompress::Sync).unwrap();
                    text
                }
                other => panic!("a frame that begins with {other:x}"),
            };
            let message: Value = serde_json::from_slice(&text).unwrap();
            match message["event_id"].as_str() {
                Some(id) => {
                    let offset = message["offset"].as_u64().unwrap();
                    assert_eq!((id, &message["payload"]["n"]), (&*format!("id-{offset}"), &offset.into()));
                    self.events.push((offset, *first == 0xc1));
                }
                None => self.others.push(message),
            }
            bytes = &rest[length..];
        }
    }

    fn offsets(&self) -> Vec<u64> {
        self.events.iter().map(|(offset, _)| *offset).collect()
    }

    fn compressed(&self) -> Vec<u64> {
        self.events.iter().filter(|(_, compressed)| *compressed).map(|(offset, _)| *offset).collect()
    }
}

const TASKS: &str = r#"{"action":"subscribe","channels":["tasks"]}"#;

#[test]
fn readers_share_one_stream_and_one_who_did_not_agree_gets_none_of_it() {
    let mut feed = Feed::new(1 << 20, 1 << 20);
    let mut readers =
        [feed.reader(true, &[TASKS]), feed.reader(true, &[TASKS]), feed.reader(false, &[TASKS])];
    for _ in 0..100 {
        feed.publish(&[("tasks", "ann"), ("budget", "ann"), ("tasks", "bob")]);
        readers.iter_mut().for_each(|reader| reader.read(&feed));
    }
    let [first, second, plain] = &readers;
    assert_eq!((first.events.len(), first.offsets()), (200, plain.offsets()));
    assert_eq!((&first.events, first.compressed()), (&second.events, first.offsets()));
    assert!(plain.compressed().is_empty());
    assert!(first.bytes * 4 < plain.bytes, "{} of {} bytes", first.bytes, plain.bytes);
}

#[test]
fn who_comes_later_is_sent_plain_frames_until_the_next_segment() {
    let mut feed = Feed::new(2_000, 1 << 20);
    let mut early = feed.reader(true, &[TASKS]);
    for _ in 0..5 {
        feed.publish(&[("tasks", "ann")]);
        early.read(&feed);
    }
    let mut late = feed.reader(true, &[TASKS]);
    for _ in 0..45 {
        feed.publish(&[("tasks", "ann")]);
        early.read(&feed);
        late.read(&feed);
    }
    assert_eq!(early.compressed(), (1..=50).collect::<Vec<u64>>());
    assert_eq!(late.offsets(), (6..=50).collect::<Vec<u64>>());
    let first = late.compressed()[0];
    assert!((7..30).contains(&first), "the second segment begins at {first}");
    assert_eq!(late.compressed(), (first..=50).collect::<Vec<u64>>());
}

#[test]
fn who_missed_something_is_sent_plain_frames_until_the_next_segment() {
    let mut feed = Feed::new(3_000, 1_000);
    let (mut steady, mut slow) = (feed.reader(true, &[TASKS]), feed.reader(true, &[TASKS]));
    for round in 0..60 {
        feed.publish(&[("tasks", "ann"), ("tasks", "bob")]);
        steady.read(&feed);
        // A while without reading: the oldest are dropped.
        if !(10..20).contains(&round) {
            slow.read(&feed);
        }
    }
    assert_eq!(steady.compressed(), (1..=120).collect::<Vec<u64>>());
    assert!(slow.others.iter().any(|message| message["action"] == "gap"));
    assert!(slow.offsets().len() < 120);
    let plain = slow.events.iter().filter(|(_, compressed)| !compressed).count();
    assert!(
        plain > 0 && slow.compressed().contains(&20) && slow.compressed().contains(&120),
        "{:?}",
        slow.events
    );
}

#[test]
fn what_is_split_over_turns_and_mixed_with_answers_is_read() {
    let mut feed = Feed::new(2_500, 1 << 20);
    let mut reader = feed.reader(true, &[TASKS]);
    for _ in 0..20 {
        feed.publish(&[("tasks", "ann"); 7]);
        reader.session.handle(r#"{"action":"ping"}"#, now(), &feed.hub, &Unread);
        while reader.read_some(&feed, 150) {}
    }
    assert_eq!(reader.compressed(), (1..=140).collect::<Vec<u64>>());
    assert_eq!(reader.others.iter().filter(|message| message["action"] == "pong").count(), 20);
}

#[test]
fn other_subscriptions_are_other_streams() {
    let mut feed = Feed::new(1 << 20, 1 << 20);
    let filtered = r#"{"action":"subscribe","channels":["tasks","budget"],"filters":{"agent":"ann"}}"#;
    let set = r#"{"action":"subscribe","channels":["b*"],"sub":"s"}"#;
    let mut readers = [
        feed.reader(true, &[TASKS]),
        feed.reader(true, &[filtered]),
        feed.reader(true, &[filtered]),
        feed.reader(true, &[TASKS, set]),
    ];
    let events = [("tasks", "ann"), ("budget", "bob"), ("budget", "ann"), ("tasks", "bob"), ("x", "ann")];
    for round in 0..20 {
        feed.publish(&events[round % 3..]);
        readers.iter_mut().for_each(|reader| reader.read(&feed));
        if round == 9 {
            // Another stream from here on, from its start.
            readers[2].session.handle(TASKS, now(), &feed.hub, &Unread);
        }
    }
    for reader in &readers {
        assert!(!reader.events.is_empty());
        assert_eq!(reader.compressed(), reader.offsets());
    }
    assert_eq!(readers[1].events[..5], readers[2].events[..5]);
}

#[test]
fn there_are_only_so_many_streams() {
    let mut feed = Feed::new(1 << 20, 1 << 20);
    let subscribe = |agent: usize| {
        format!(r#"{{"action":"subscribe","channels":["tasks"],"filters":{{"agent":"a{agent}"}}}}"#)
    };
    let mut readers: Vec<Reader> =
        (0..=MAX_STREAMS).map(|agent| feed.reader(true, &[&subscribe(agent)])).collect();
    let agents: Vec<String> = (0..=MAX_STREAMS).map(|agent| format!("a{agent}")).collect();
    let all: Vec<(&str, &str)> = agents.iter().map(|agent| ("tasks", agent.as_str())).collect();
    feed.publish(&all);
    readers.iter_mut().for_each(|reader| reader.read(&feed));
    let compressed =
        |readers: &[Reader]| readers.iter().filter(|reader| !reader.compressed().is_empty()).count();
    assert_eq!(compressed(&readers), MAX_STREAMS);
    // Who leaves makes room.
    for mut reader in readers.drain(..) {
        assert_eq!(reader.events.len(), 1);
        reader.session.close(&feed.hub);
    }
    let mut next = feed.reader(true, &[TASKS]);
    feed.publish(&all[..1]);
    next.read(&feed);
    assert_eq!(next.compressed().len(), 1);
}
