//! The one writer of a log: collects what publishers sent, decides offsets and repeats, has an [`Engine`] make the
//! batch durable, and only then shows it and answers. One batch serves all who wait, so concurrent publishers share
//! one sync.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use newswire_core::Batch;
use newswire_protocol::UnixMicros;
use newswire_protocol::limits::MAX_OFFSET;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::answer::{self, Asked, Wakes};
use crate::buffers::BufferPool;
use crate::dedup::{BatchIds, DedupWindow, Seen, StoredId};
use crate::embedded::batch_buffer::{BatchBuffer, StoredRecord};
use crate::event_log::{AppendError, Appended, Commit, LogHealth, NewEvent, NewEvents, Place};
use crate::shared::Shared;

/// Appends that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 4096;
/// KiB of events that may wait or be under way; further callers wait for room.
const QUEUE_KIB: usize = 64 << 10;

/// Bounds of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The writer stops collecting once a batch has so many bytes of events.
    pub max_bytes: usize,
    /// The writer stops collecting once a batch has so many events.
    pub max_events: usize,
    /// A single append beyond this is refused.
    pub max_append_bytes: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { max_bytes: 4 << 20, max_events: 16_384, max_append_bytes: 24 << 20 }
    }
}

/// A batch ready to be stored.
pub(crate) struct Prepared {
    pub(crate) buffer: BatchBuffer,
    /// When its last event is stored.
    pub(crate) now: UnixMicros,
}

/// A batch that was written.
pub(crate) struct Stored {
    pub(crate) batch: Arc<Batch>,
    /// One for each event.
    pub(crate) records: Vec<StoredRecord>,
    /// When its last event is stored.
    pub(crate) now: UnixMicros,
}

/// How a batch was written.
pub(crate) struct Written {
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

/// Why a batch was not stored.
pub(crate) enum PersistError {
    Full,
    Broken(String),
}

/// Where batches go. Called by the writer alone.
pub(crate) trait Engine: Send + 'static {
    /// Writes a batch, or leaves the log as it was.
    fn write(&mut self, prepared: &mut Prepared) -> Result<Written, PersistError>;
    /// Does, while the device is at work on the batch just written, what of [`Self::publish`] nobody can see.
    fn stage(&mut self, stored: &Stored);
    /// Makes the batch just staged durable; on error nobody ever sees it. Returns how long that took.
    fn sync(&mut self) -> Result<Duration, PersistError>;
    /// Makes the batch just synced visible to readers.
    fn publish(&mut self, stored: &Stored);
    /// How long nothing must come for [`Self::idle`] to be called; `None` if there is nothing to do.
    fn idle_after(&self) -> Option<Duration>;
    /// Nothing has come for that long. Called again and again while nothing comes.
    fn idle(&mut self) -> Result<(), PersistError>;
    /// Last call.
    fn close(&mut self, healthy: bool) -> Result<(), PersistError>;
}

/// What a publisher gets back: the result, and its events, because their memory is freed with less work by the thread
/// that took it, and then by many threads instead of the writer.
struct Done {
    result: Result<Vec<Appended>, AppendError>,
    _spent: NewEvents,
}

struct Append {
    events: NewEvents,
    /// Given by whoever keeps the log that this one is a copy of; offsets ascend.
    places: Option<Vec<Place>>,
    answer: Asked<Done>,
    room: OwnedSemaphorePermit,
}

impl Append {
    fn bytes(&self) -> usize {
        size_of_events(&self.events)
    }
}

/// About what they take until they are answered.
fn size_of_events(events: &NewEvents) -> usize {
    events.bytes() + events.len() * size_of::<NewEvent<'_>>()
}

/// The sending side, and the thread's owner.
pub(crate) struct WriterHandle {
    queue: mpsc::Sender<Append>,
    room: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    options: BatchOptions,
}

impl WriterHandle {
    pub(crate) fn spawn<E: Engine>(
        engine: E,
        shared: Arc<Shared>,
        last_time: UnixMicros,
        options: BatchOptions,
    ) -> std::io::Result<Self> {
        let (queue, appends) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(false);
        // A clock of its own for the idle timer: publishers may live in any runtime, or in several.
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (deferred, buffers, last_appends) = (None, Arc::default(), 0);
        let writer = Writer {
            engine,
            shared,
            last_time,
            options,
            appends,
            closed,
            timer,
            deferred,
            buffers,
            last_appends,
        };
        let thread = thread::Builder::new().name("newswire-log".into()).spawn(move || writer.run())?;
        let room = Arc::new(Semaphore::new(QUEUE_KIB));
        Ok(Self { queue, room, closing, thread: Mutex::new(Some(thread)), options })
    }

    pub(crate) fn append(
        &self,
        events: NewEvents,
        places: Option<Vec<Place>>,
    ) -> BoxFuture<'static, Result<Vec<Appended>, AppendError>> {
        let (queue, room, limit) = (self.queue.clone(), self.room.clone(), self.options.max_append_bytes);
        Box::pin(async move {
            let bytes = size_of_events(&events);
            if bytes > limit {
                return Err(AppendError::TooLarge { bytes, limit });
            }
            let kib = bytes.div_ceil(1024).clamp(1, QUEUE_KIB) as u32;
            let (answer, answered) = answer::channel();
            // Unconstrained, because a task whose budget is used up would not even be put in line, and so be overtaken
            // by futures polled later; appends are ordered by their first poll.
            let queued = tokio::task::unconstrained(async {
                let room = room.acquire_many_owned(kib).await.map_err(|_| AppendError::Closed)?;
                let append = Append { events, places, answer, room };
                queue.send(append).await.map_err(|_| AppendError::Closed)
            });
            queued.await?;
            answered.await.ok_or(AppendError::Closed)?.result
        })
    }

    /// Lets the writer finish what waits, and waits for it.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

struct Writer<E> {
    engine: E,
    shared: Arc<Shared>,
    last_time: UnixMicros,
    options: BatchOptions,
    appends: mpsc::Receiver<Append>,
    closed: watch::Receiver<bool>,
    timer: tokio::runtime::Runtime,
    /// Taken from the queue, but for the next batch.
    deferred: Option<Append>,
    /// For batches.
    buffers: Arc<BufferPool>,
    /// How many appends the last commit served.
    last_appends: usize,
}

enum Next {
    Append(Append),
    Idle,
    Closed,
}

impl<E: Engine> Writer<E> {
    fn run(mut self) {
        loop {
            match self.next() {
                Next::Append(first) => {
                    self.wait_for_company();
                    let group = self.collect(first);
                    self.last_appends = group.len();
                    self.commit(group);
                }
                Next::Idle => {
                    if let Err(error) = self.engine.idle() {
                        self.note(&error);
                    }
                }
                Next::Closed => break,
            }
        }
        self.finish();
    }

    /// Waits for an append, for idling to be due, or for the end.
    fn next(&mut self) -> Next {
        if let Some(deferred) = self.deferred.take() {
            return Next::Append(deferred);
        }
        if let Ok(append) = self.appends.try_recv() {
            return Next::Append(append);
        }
        let wait = self.engine.idle_after();
        let (appends, closed) = (&mut self.appends, &mut self.closed);
        self.timer.block_on(async {
            let idle = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                append = appends.recv() => append.map_or(Next::Closed, Next::Append),
                _ = closed.wait_for(|closed| *closed) => Next::Closed,
                () = idle => Next::Idle,
            }
        })
    }

    /// Lets others run first where the last commit served many and only few wait: they are about to come. This thread is
    /// woken by the first of them, and where it shares a core with the publishers it would sync that one alone. On a core
    /// of its own it goes on at once. Half of them suffice, so that some get theirs ready while others are synced.
    fn wait_for_company(&self) {
        if 1 + self.appends.len() < self.last_appends / 2 {
            thread::yield_now();
        }
    }

    /// Takes what else waits, up to the size of a batch.
    fn collect(&mut self, first: Append) -> Vec<Append> {
        let mut bytes = first.bytes();
        let mut events = first.events.len();
        let mut group = vec![first];
        while bytes < self.options.max_bytes && events < self.options.max_events {
            let Ok(append) = self.appends.try_recv() else { break };
            bytes += append.bytes();
            events += append.events.len();
            if bytes > self.options.max_append_bytes {
                self.deferred = Some(append);
                break;
            }
            group.push(append);
        }
        group
    }

    fn commit(&mut self, group: Vec<Append>) {
        if let LogHealth::Stopped { reason } = &*self.shared.health.lock() {
            let error = AppendError::Stopped { reason: reason.clone() };
            return refuse(group.into_iter().map(|append| (append.answer, append.events)), &error);
        }
        let now = self.shared.clock.now().max(self.last_time);
        let assembled = {
            let window = self.shared.dedup.lock();
            assemble(group, &window, self.shared.tail(), (now, self.last_time), self.buffers.take())
        };
        let Assembled { prepared, ids, answers } = assembled;
        if !prepared.buffer.is_empty() {
            match self.persist(prepared) {
                Ok((stored, written, sync)) => self.show(&stored, ids, &written, sync, &answers),
                Err(error) => return self.fail(&error, answers),
            }
        }
        send(answers);
    }

    /// Makes a batch durable, or leaves the log as it was. Returns how long the sync took, too.
    fn persist(&mut self, mut prepared: Prepared) -> Result<(Stored, Written, Duration), PersistError> {
        let written = self.engine.write(&mut prepared)?;
        let Prepared { buffer, now } = prepared;
        let (batch, records) = buffer.finish(&self.buffers);
        let stored = Stored { batch, records, now };
        self.engine.stage(&stored);
        let sync = self.engine.sync()?;
        Ok((stored, written, sync))
    }

    /// The batch is durable: readers, who asked to be told, followers and metrics learn of it, in this order.
    fn show(
        &mut self,
        stored: &Stored,
        ids: Vec<StoredId>,
        written: &Written,
        sync: Duration,
        answers: &[Answer],
    ) {
        let now = stored.now;
        self.last_time = now;
        {
            let mut window = self.shared.dedup.lock();
            ids.into_iter().for_each(|id| window.insert(id));
        }
        self.engine.publish(stored);
        self.shared.copied_up_to(now);
        self.shared.advance(stored.batch.last() + 1);
        answers.iter().for_each(Answer::tell);
        self.timer.block_on(self.shared.followers.hand_over(&stored.batch));
        *self.shared.health.lock() = LogHealth::Ok;
        let events = stored.batch.len();
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.shared.committed_events.fetch_add(events as u64, Ordering::Relaxed);
        self.shared.committed_bytes.fetch_add(written.bytes as u64, Ordering::Relaxed);
        self.shared.last_commit_at.store(now.0, Ordering::Relaxed);
        if let Some(observer) = &self.shared.observer {
            let Written { bytes, took: write } = *written;
            observer.on_commit(&Commit { events, appends: answers.len(), bytes, write, sync });
        }
    }

    /// Nothing of the batch was stored: answers that rest on it fail, those that only repeat older events stand.
    fn fail(&self, error: &PersistError, answers: Vec<Answer>) {
        let error = self.note(error);
        let (failed, sound): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.rests_on_batch);
        send(sound);
        refuse(failed.into_iter().map(|answer| (answer.to, answer.spent)), &error);
        if let Some(observer) = &self.shared.observer {
            observer.on_refused(&error);
        }
    }

    fn note(&self, error: &PersistError) -> AppendError {
        let mut health = self.shared.health.lock();
        match error {
            PersistError::Full => {
                if *health == LogHealth::Ok {
                    tracing::warn!("storage is full: publishing is refused until there is space");
                    *health = LogHealth::Full;
                }
                AppendError::StorageFull
            }
            PersistError::Broken(reason) => {
                tracing::error!(%reason, "the log takes no more events until it is opened again");
                let reason: Arc<str> = reason.as_str().into();
                *health = LogHealth::Stopped { reason: reason.clone() };
                AppendError::Stopped { reason }
            }
        }
    }

    fn finish(mut self) {
        self.appends.close();
        while let Some(first) = self.deferred.take().or_else(|| self.appends.try_recv().ok()) {
            let group = self.collect(first);
            self.commit(group);
        }
        let healthy = !matches!(*self.shared.health.lock(), LogHealth::Stopped { .. });
        if let Err(error) = self.engine.close(healthy) {
            self.note(&error);
        }
        self.shared.followers.close();
    }
}

fn refuse(answers: impl Iterator<Item = (Asked<Done>, NewEvents)>, error: &AppendError) {
    let mut wakes = Wakes::default();
    for (to, spent) in answers {
        to.answer(Done { result: Err(error.clone()), _spent: spent }, &mut wakes);
    }
}

/// A caller that went away stored its events all the same.
fn send(answers: Vec<Answer>) {
    let mut wakes = Wakes::default();
    for Answer { to, result, spent, .. } in answers {
        to.answer(Done { result, _spent: spent }, &mut wakes);
    }
}

struct Answer {
    to: Asked<Done>,
    result: Result<Vec<Appended>, AppendError>,
    /// Whether the result speaks of events of the batch that is being stored.
    rests_on_batch: bool,
    spent: NewEvents,
    /// Given back with the answer, not with the events: a caller that does not look must keep nobody out.
    _room: OwnedSemaphorePermit,
}

impl Answer {
    /// Tells who asked to be told that events of this append are stored now.
    fn tell(&self) {
        let Some(told) = self.spent.told() else { return };
        let stored = |appended: &Appended| match appended {
            Appended::Stored { offset } => Some(*offset),
            _ => None,
        };
        if let Some(first) = self.result.iter().flatten().find_map(stored) {
            told.stored(first);
        }
    }
}

struct Assembled {
    prepared: Prepared,
    ids: Vec<StoredId>,
    answers: Vec<Answer>,
}

/// Gives places, recognises repeats, and encodes the events, each once, into one buffer. `now` is the time of events that
/// were given none, `last_time` that of the last one stored.
fn assemble(
    group: Vec<Append>,
    window: &DedupWindow,
    tail: u64,
    (now, last_time): (UnixMicros, UnixMicros),
    buffer: Vec<u8>,
) -> Assembled {
    let count = group.iter().map(|append| append.events.len()).sum();
    let (events, ids) = (Vec::with_capacity(count), BatchIds::new(window));
    let mut batch = Assembly { events, ids, tail, next: tail, now, last_time };
    let results: Vec<_> =
        group.iter().map(|append| batch.add_append(&append.events, append.places.as_deref())).collect();
    let Assembly { events, ids, last_time: now, .. } = batch;
    let buffer = BatchBuffer::build(buffer, &events);
    let ids = ids.into_new();
    let mut answers = Vec::with_capacity(group.len());
    for (append, (result, rests_on_batch)) in group.into_iter().zip(results) {
        let Append { events: spent, answer: to, room: _room, .. } = append;
        answers.push(Answer { to, result, rests_on_batch, spent, _room });
    }
    Assembled { prepared: Prepared { buffer, now }, ids, answers }
}

struct Assembly<'a> {
    /// Those that are stored, with their places.
    events: Vec<(Place, NewEvent<'a>)>,
    ids: BatchIds<'a>,
    tail: u64,
    next: u64,
    now: UnixMicros,
    /// When the last event was stored.
    last_time: UnixMicros,
}

impl<'a> Assembly<'a> {
    /// The result of an append, and whether it speaks of events of this batch.
    fn add_append(
        &mut self,
        events: &'a NewEvents,
        places: Option<&[Place]>,
    ) -> (Result<Vec<Appended>, AppendError>, bool) {
        if let Err(error) = self.check_offsets(events.len(), places) {
            return (Err(error), false);
        }
        let mut results = Vec::with_capacity(events.len());
        let mut rests_on_batch = false;
        for (index, event) in events.iter().enumerate() {
            let appended = self.add_event(event, places.map(|given| given[index]));
            let (Appended::Stored { offset }
            | Appended::Duplicate { offset }
            | Appended::Conflict { offset }) = appended;
            rests_on_batch |= offset >= self.tail;
            results.push(appended);
        }
        (Ok(results), rests_on_batch)
    }

    fn check_offsets(&self, events: usize, places: Option<&[Place]>) -> Result<(), AppendError> {
        let Some(places) = places else {
            let last = self.next.saturating_add(events as u64);
            return if last <= MAX_OFFSET + 1 { Ok(()) } else { Err(AppendError::OutOfOffsets) };
        };
        let mut expected = self.next;
        for &Place { offset, .. } in places {
            if offset < expected {
                return Err(AppendError::OffsetTaken { offset, expected });
            }
            if offset > MAX_OFFSET {
                return Err(AppendError::OutOfOffsets);
            }
            expected = offset + 1;
        }
        Ok(())
    }

    fn add_event(&mut self, event: NewEvent<'a>, given: Option<Place>) -> Appended {
        let Place { offset, stored_at } = given.unwrap_or(Place { offset: self.next, stored_at: self.now });
        let stored_at = stored_at.max(self.last_time);
        if let Some(dedup) = event.dedup {
            let seen = match given {
                Some(_) => self.ids.look_up_given(dedup, stored_at),
                None => self.ids.look_up(dedup, stored_at),
            };
            match seen {
                Seen::Same(offset) => return Appended::Duplicate { offset },
                Seen::Other(offset) => return Appended::Conflict { offset },
                Seen::New => self.ids.insert(StoredId { dedup: *dedup, offset, stored_at }),
            }
        }
        self.events.push((Place { offset, stored_at }, event));
        self.next = offset + 1;
        self.last_time = stored_at;
        Appended::Stored { offset }
    }
}
