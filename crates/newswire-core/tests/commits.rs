//! Commits of any size meet subscribers that keep up.

use std::sync::Arc;

use bytes::Bytes;
use newswire_core::{
    Backlog, BacklogPolicy, Batch, BatchBuilder, EventHead, Hub, HubConfig, LogView, Output, Principal,
    Session, SessionConfig,
};
use newswire_protocol::{Draft, Limits, UnixMicros};
use parking_lot::Mutex;

mod common;
use common::{Unread, now};

const EVENTS: u64 = 3_000;

/// About 3 MB in one commit.
fn large_commit(first: u64) -> Arc<Batch> {
    let event = format!(r#"{{"channel":"tasks","event_type":"t","payload":{{"x":"{}"}}}}"#, "y".repeat(900));
    let draft = Draft::parse(&event, &Limits::default()).expect("a good event");
    let encoded = draft.encode("id", UnixMicros(1));
    let mut builder = BatchBuilder::new();
    for offset in first..first + EVENTS {
        builder.push_encoded(offset, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
    }
    Arc::new(builder.finish())
}

/// Bytes that a session which always writes at once puts out, until it has nothing more; `None` if it closes.
fn drain(session: &mut Session, hub: &Mutex<Hub>) -> Option<usize> {
    let mut out: Vec<Bytes> = Vec::new();
    let mut written = 0;
    loop {
        match session.next_output(now(), hub, &mut out, 64 << 10) {
            Output::Write => written += out.iter().map(Bytes::len).sum::<usize>(),
            Output::Idle(_) => return Some(written),
            Output::Close(..) => return None,
            other => panic!("{other:?} from a subscriber on the live path"),
        }
    }
}

#[test]
fn one_who_has_everything_is_not_slow_however_large_a_commit_is() {
    for policy in [
        BacklogPolicy::CatchUp,
        BacklogPolicy::DropNewest,
        BacklogPolicy::DropOldest,
        BacklogPolicy::Disconnect,
    ] {
        let config = HubConfig { backlog: Backlog { policy, max_bytes: 1 << 20 }, ..HubConfig::default() };
        let hub = Mutex::new(Hub::new(config, Unread.epoch(), 0));
        let config = Arc::new(SessionConfig::default());
        let mut session = Session::open(&hub, config, Principal::anonymous(), 1.0, now());
        session.handle(r#"{"action":"subscribe","channels":["tasks"]}"#, now(), &hub, &Unread);
        drain(&mut session, &hub).expect("open");
        for commit in 0..3 {
            let batch = large_commit(commit * EVENTS + 1);
            drop(hub.lock().publish(Arc::clone(&batch)));
            let written = drain(&mut session, &hub);
            assert_eq!(written, Some(batch.frames().len()), "under {policy:?}, commit {commit}");
        }
    }
}

/// A commit of 100 events of about 1 kB, one of which names the agent.
fn sparse_commit(first: u64) -> Arc<Batch> {
    let mut builder = BatchBuilder::new();
    for offset in first..first + 100 {
        let agent = if offset == first + 50 { "ann" } else { "bob" };
        let pad = "y".repeat(900);
        let event =
            format!(r#"{{"channel":"tasks","event_type":"t","payload":{{"agent":"{agent}","x":"{pad}"}}}}"#);
        let draft = Draft::parse(&event, &Limits::default()).expect("a good event");
        let encoded = draft.encode("id", UnixMicros(1));
        builder.push_encoded(offset, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
    }
    Arc::new(builder.finish())
}

#[test]
fn a_few_events_that_wait_keep_no_large_commits_alive() {
    let backlog = Backlog { policy: BacklogPolicy::DropOldest, max_bytes: 1 << 20 };
    // A ring that holds the newest commit only, so that it keeps nothing alive that the outbox does not.
    let hub =
        Mutex::new(Hub::new(HubConfig { backlog, ring_bytes: 1, ..HubConfig::default() }, Unread.epoch(), 0));
    let config = Arc::new(SessionConfig::default());
    let mut session = Session::open(&hub, config, Principal::anonymous(), 1.0, now());
    let ask = r#"{"action":"subscribe","channels":["tasks"],"filters":{"agent":"ann"}}"#;
    session.handle(ask, now(), &hub, &Unread);
    drain(&mut session, &hub).expect("open");
    let mut commits = Vec::new();
    let mut due = 0;
    for commit in 0..200 {
        let batch = sparse_commit(commit * 100 + 1);
        due += batch.frame_len(50);
        commits.push(Arc::downgrade(&batch));
        drop(hub.lock().publish(batch));
    }
    let alive = commits.iter().filter(|commit| commit.strong_count() > 0).count();
    assert!(alive <= 18, "{alive} commits of 100 kB are kept for 1 kB each");
    assert_eq!(drain(&mut session, &hub), Some(due), "what was copied is sent all the same");
}
