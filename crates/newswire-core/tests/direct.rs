//! Writing beside the session: who may, when, and that nothing is lost where the two meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use newswire_core::{
    Batch, BatchBuilder, DirectSink, EventHead, Flushed, Hub, HubConfig, LogView, Now, Output, Principal,
    Session, SessionConfig,
};
use newswire_protocol::{Draft, Limits, UnixMicros};
use parking_lot::Mutex;

mod common;
use common::{Unread, now};

fn commit(offsets: std::ops::RangeInclusive<u64>) -> Arc<Batch> {
    let draft =
        Draft::parse(r#"{"channel":"tasks","event_type":"t"}"#, &Limits::default()).expect("a good event");
    let encoded = draft.encode("id", UnixMicros(1));
    let mut builder = BatchBuilder::new();
    for offset in offsets {
        builder.push_encoded(offset, UnixMicros(1), &EventHead::of(&draft, &encoded), &encoded);
    }
    Arc::new(builder.finish())
}

/// A socket with a plan of how much it takes of each write.
#[derive(Debug, Default)]
struct Socket {
    wire: Mutex<Vec<u8>>,
    blocked: AtomicBool,
    plan: Option<fn(usize) -> usize>,
}

impl Socket {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut wire = self.wire.lock();
        let planned = self.plan.map_or(bytes.len(), |plan| plan(bytes.len()).min(bytes.len()));
        let taken = if self.blocked.load(Ordering::Acquire) { 0 } else { planned };
        wire.extend(&bytes[..taken]);
        taken
    }

    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.wire.lock())
    }
}

impl DirectSink for Socket {
    fn try_write(&self, slices: &[&[u8]]) -> usize {
        self.write(&slices.concat())
    }
}

#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A subscriber of everything, and the task that serves it.
struct Task {
    hub: Arc<Mutex<Hub>>,
    session: Session,
    socket: Arc<Socket>,
    bell: Arc<Bell>,
    outgoing: Vec<u8>,
    time: Now,
}

impl Task {
    fn subscribed(socket: Socket) -> Self {
        let hub = Arc::new(Mutex::new(Hub::new(HubConfig::default(), Unread.epoch(), 0)));
        let config = Arc::new(SessionConfig::default());
        let mut session = Session::open(&hub, config, Principal::anonymous(), 1.0, now());
        session.handle(r#"{"action":"subscribe","channels":["*"]}"#, now(), &hub, &Unread);
        let (bell, socket) = (Arc::default(), Arc::new(socket));
        let mut task = Self { hub, session, socket, bell, outgoing: Vec::new(), time: now() };
        while !task.poll() {}
        task
    }

    /// Once as the shell does it. True if everything is written and the outbox was armed.
    fn poll(&mut self) -> bool {
        self.bell.0.store(false, Ordering::Release);
        let rest = self.session.resume(&Waker::from(Arc::clone(&self.bell)));
        assert!(rest.is_none() || self.outgoing.is_empty());
        self.outgoing.extend(rest.into_iter().flatten());
        let mut out: Vec<Bytes> = Vec::new();
        for _ in 0..8 {
            if !self.outgoing.is_empty() {
                let taken = self.socket.write(&self.outgoing);
                self.outgoing.drain(..taken);
            } else {
                match self.session.next_output(self.time, &self.hub, &mut out, 4 << 10) {
                    Output::Write => self.outgoing.extend(out.iter().flatten()),
                    Output::Idle(_) => {
                        self.session.arm(|| Some(Arc::clone(&self.socket) as Arc<dyn DirectSink>));
                        return true;
                    }
                    other => panic!("{other:?} from a subscriber on the live path"),
                }
            }
        }
        false
    }

    fn was_woken(&self) -> bool {
        self.bell.0.load(Ordering::Acquire)
    }

    fn publish(&self, batch: &Arc<Batch>) -> Flushed {
        let mut wakes = self.hub.lock().publish(Arc::clone(batch));
        wakes.flush(usize::MAX)
    }
}

#[test]
fn one_who_has_everything_is_written_to_and_not_woken() {
    let mut task = Task::subscribed(Socket::default());
    task.socket.taken();
    for offset in 1..=3 {
        let batch = commit(offset..=offset);
        let bytes = batch.frames().len() as u64;
        assert_eq!(task.publish(&batch), Flushed { writes: 1, bytes });
        assert_eq!(task.socket.taken(), batch.frames()[..]);
        let info = task.hub.lock().connection(task.session.id()).expect("connected");
        assert_eq!((info.last_sent, info.queued_bytes), (offset, 0));
    }
    assert!(!task.was_woken());
    assert!(task.poll(), "it has nothing to do");
    assert!(task.socket.taken().is_empty(), "nothing comes twice");
}

#[test]
fn pings_and_checkpoints_come_at_their_time_and_know_what_was_written() {
    let mut task = Task::subscribed(Socket::default());
    task.publish(&commit(1..=9));
    task.socket.taken();
    task.time.mono += Duration::from_secs(11);
    task.poll();
    assert!(task.socket.taken().is_empty(), "the client knows of 9 by the event itself");
    task.publish(&commit(10..=10));
    task.socket.taken();
    task.time.mono += Duration::from_secs(15);
    task.poll();
    assert_eq!(task.socket.taken(), [0x89, 0], "a ping");
}

#[test]
fn what_the_socket_does_not_take_is_for_the_task_which_goes_on_at_the_next_byte() {
    let mut task =
        Task::subscribed(Socket { plan: Some(|offered| offered.div_ceil(3)), ..Socket::default() });
    task.socket.taken();
    let batch = commit(1..=5);
    assert_eq!(task.publish(&batch).writes, 1);
    assert!(task.was_woken());
    assert_eq!(task.publish(&commit(6..=6)), Flushed::default(), "the task writes now");
    while !task.poll() {}
    assert_eq!(task.socket.taken(), [&batch.frames()[..], commit(6..=6).frames()].concat());
}

#[test]
fn what_is_blocked_or_not_flushed_is_left_to_the_task() {
    let mut task = Task::subscribed(Socket::default());
    task.socket.taken();
    task.socket.blocked.store(true, Ordering::Release);
    assert_eq!(task.publish(&commit(1..=1)), Flushed::default());
    assert!(task.was_woken());
    assert!(!task.poll(), "it waits for the socket");
    task.socket.blocked.store(false, Ordering::Release);
    assert!(task.poll());
    drop(task.hub.lock().publish(commit(2..=2)));
    assert!(task.was_woken());
    assert!(task.poll());
    assert_eq!(task.socket.taken(), [commit(1..=1).frames(), &commit(2..=2).frames()[..]].concat());
}

#[test]
fn nobody_writes_to_a_connection_that_changes_or_goes() {
    let mut task = Task::subscribed(Socket::default());
    task.socket.taken();
    let mut wakes = task.hub.lock().publish(commit(1..=1));
    assert_eq!(task.session.resume(Waker::noop()), None);
    assert_eq!(wakes.flush(1), Flushed::default(), "its task is polled");
    while !task.poll() {}
    assert_eq!(task.socket.taken(), commit(1..=1).frames()[..]);

    let mut wakes = task.hub.lock().publish(commit(2..=2));
    drop(task.hub.lock().epoch_changed(newswire_protocol::Epoch::from_bytes([7; 16]), 1, 1));
    assert!(task.was_woken());
    assert_eq!(wakes.flush(1), Flushed::default(), "a new epoch is to be told");
    while !task.poll() {}
    let told = String::from_utf8_lossy(&task.socket.taken()).into_owned();
    assert!(told.find("\"offset\":2") < told.find("\"reason\":\"epoch\""), "{told}");

    let mut wakes = task.hub.lock().publish(commit(1..=1));
    let socket = Arc::downgrade(&task.socket);
    task.session.close(&task.hub);
    assert_eq!(wakes.flush(1), Flushed::default(), "it is gone");
    assert!(task.socket.taken().is_empty());
    drop(task);
    assert!(socket.upgrade().is_none(), "and nobody keeps its socket open");
}

/// One thread publishes and writes, another one is polled whenever it is woken, and sometimes for no reason.
#[test]
fn two_threads_make_one_stream() {
    const LAST: u64 = 20_000;
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let moody = |offered| match CALLS.fetch_add(1, Ordering::Relaxed) % 11 {
        3 => offered / 2,
        7 => 0,
        _ => offered,
    };
    let mut task = Task::subscribed(Socket { plan: Some(moody), ..Socket::default() });
    task.socket.taken();
    let (hub, direct) = (Arc::clone(&task.hub), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&direct);
    let publisher = std::thread::spawn(move || {
        let mut expected = Vec::new();
        for offset in (1..=LAST).step_by(2) {
            let batch = commit(offset..=offset + 1);
            expected.extend_from_slice(batch.frames());
            let mut wakes = hub.lock().publish(batch);
            let flushed = wakes.flush(usize::MAX);
            count.fetch_add(usize::try_from(flushed.writes).expect("few"), Ordering::Relaxed);
        }
        expected
    });
    let (mut stream, mut looks, mut idle) = (Vec::new(), 0_u32, true);
    while !publisher.is_finished() || task.was_woken() || !idle {
        looks += 1;
        if task.was_woken() || !idle || looks.is_multiple_of(64) {
            idle = task.poll();
        }
        stream.append(&mut task.socket.taken());
        std::hint::spin_loop();
    }
    stream.append(&mut task.socket.taken());
    let expected = publisher.join().expect("it published");
    assert!(direct.load(Ordering::Relaxed) > 0, "nothing was written directly");
    assert!(stream == expected, "{} bytes of {}, or others", stream.len(), expected.len());
}
