//! Random work on a disk that loses, reorders and tears what was not synced, that fills up and fails, compared with a
//! naive model. And the proof that the comparison can fail: without syncs it does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use newswire_core::{Direction, LogView};
use newswire_log::testing::events::{append, event, offsets, read_all, request, selector, wait};
use newswire_log::testing::{CrashMode, FaultDisk};
use newswire_log::{
    AppendError, Appended, CommitReceiver, EmbeddedLog, EmbeddedOptions, EventLog, LogHealth, ManualClock,
    NewEvents, RetentionOptions, Trim, check,
};
use newswire_protocol::{Epoch, UnixMicros};

const DIR: &str = "/log";
const CHANNELS: [&str; 4] = ["tasks", "budget", "agents", "system"];
const TYPES: [&str; 3] = ["task.created", "task.updated", "other"];
const AGENTS: [&str; 4] = ["ann", "bob", "cid", "dee"];

/// An event as the model remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    n: u64,
    channel: &'static str,
    kind: &'static str,
    agent: &'static str,
    id: bool,
}

impl Known {
    fn new_event(&self) -> NewEvents {
        let Self { n, channel, kind, agent, id } = self;
        let id = if *id { format!(r#","event_id":"id-{n}""#) } else { String::new() };
        let filler = "x".repeat((n % 90) as usize);
        event(&format!(
            r#"{{"channel":"{channel}","event_type":"{kind}"{id},"payload":{{"n":{n},"agent":"{agent}","f":"{filler}"}}}}"#
        ))
    }
}

struct World {
    random: fastrand::Rng,
    disk: FaultDisk,
    log: Option<EmbeddedLog>,
    follower: Option<CommitReceiver>,
    options: EmbeddedOptions,
    epoch: Option<Epoch>,
    /// By offset: acknowledged, or found after a crash.
    known: BTreeMap<u64, Known>,
    /// Neither acknowledged nor refused for certain.
    in_doubt: Vec<Vec<Known>>,
    floors: BTreeMap<&'static str, u64>,
    /// Floors that a failed trim may have raised.
    floors_in_doubt: BTreeMap<&'static str, u64>,
    next_n: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut retention = RetentionOptions::unbounded();
        retention.interval = Duration::from_secs(3600);
        let options = EmbeddedOptions {
            segment_bytes: random.u64(900..6000),
            zero_ahead_bytes: *random.choice(&[0, 700, 3000]).unwrap(),
            zero_ahead_batch_bytes: *random.choice(&[0, 500, 64 << 10]).unwrap(),
            reserve_ahead_bytes: *random.choice(&[0, 1500]).unwrap(),
            mark_after: Duration::from_millis(1),
            clock: Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000))),
            retention,
            ..EmbeddedOptions::default()
        };
        Self {
            random,
            disk: FaultDisk::new(),
            log: None,
            follower: None,
            options,
            epoch: None,
            known: BTreeMap::new(),
            in_doubt: Vec::new(),
            floors: BTreeMap::new(),
            floors_in_doubt: BTreeMap::new(),
            next_n: 0,
        }
    }

    fn log(&self) -> &EmbeddedLog {
        self.log.as_ref().unwrap()
    }

    fn run(&mut self, steps: usize) {
        self.open();
        for _ in 0..steps {
            match self.random.u32(0..100) {
                0..50 => self.append(),
                50..60 => self.read(),
                60..66 => self.trim(),
                66..72 => std::thread::sleep(Duration::from_millis(2)),
                72..77 => self.repeat(),
                77..81 => self.disk.power_off_after(self.random.u64(0..12)),
                81..83 => self.disk.fail_sync_after(self.random.u64(0..4)),
                83..87 => self.fill_the_disk(),
                87..91 => self.restart(),
                _ => self.crash(),
            }
        }
        self.crash();
        self.read();
    }

    fn open(&mut self) {
        let log = EmbeddedLog::open(Path::new(DIR), self.options.clone(), Arc::new(self.disk.clone()));
        let log = log.unwrap_or_else(|error| panic!("does not open: {error}"));
        let epoch = *self.epoch.get_or_insert(log.epoch());
        assert_eq!(log.epoch(), epoch, "with every batch synced the epoch stays");
        self.follower = Some(log.follow());
        self.log = Some(log);
        self.settle_floors();
        self.compare_after_opening();
    }

    fn settle_floors(&mut self) {
        for (channel, maybe) in std::mem::take(&mut self.floors_in_doubt) {
            let lost = self.log().lost(&selector(&[channel], &[]), 0);
            let to = lost.first().map_or(0, |lost| lost.to);
            let old = self.floors.get(channel).copied().unwrap_or(0);
            assert!(to == old || to == maybe, "floor of {channel}: {to}, neither {old} nor {maybe}");
            self.floors.insert(channel, to);
        }
    }

    fn is_retained(&self, offset: u64, known: &Known) -> bool {
        offset > self.floors.get(known.channel).copied().unwrap_or(0)
    }

    /// Everything acknowledged is there, and nothing but whole appends that were never refused.
    fn compare_after_opening(&mut self) {
        let found = self.read_known();
        let last = self.known.keys().last().copied().unwrap_or(0);
        let retained: BTreeMap<u64, Known> = self
            .known
            .iter()
            .filter(|(offset, known)| self.is_retained(**offset, known))
            .map(|(offset, known)| (*offset, known.clone()))
            .collect();
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            found.into_iter().partition(|(offset, _)| *offset <= last);
        assert_eq!(old, retained, "acknowledged events");
        assert!(new.keys().copied().eq(last + 1..=last + new.len() as u64), "a hole after {last}: {new:?}");
        assert_eq!(self.log().tail(), last + new.len() as u64 + 1);
        let mut rest: Vec<Known> = new.values().cloned().collect();
        for append in std::mem::take(&mut self.in_doubt) {
            if rest.starts_with(&append) {
                rest.drain(..append.len());
            }
        }
        assert!(rest.is_empty(), "came to life: {rest:?}");
        self.known.extend(new);
        self.check_stats();
    }

    fn check_stats(&self) {
        let retained: Vec<_> =
            self.known.iter().filter(|(offset, known)| self.is_retained(**offset, known)).collect();
        let head = retained.first().map_or(self.log().tail(), |(offset, _)| **offset);
        assert_eq!(self.log().head(), head);
        assert_eq!(self.log().stats().events, retained.len() as u64);
        for stats in self.log().channel_stats() {
            let mine: Vec<u64> = retained
                .iter()
                .filter(|(_, known)| *known.channel == *stats.name)
                .map(|(offset, _)| **offset)
                .collect();
            assert_eq!(Some(&stats.first), mine.first());
            assert_eq!((Some(&stats.last), stats.events), (mine.last(), mine.len() as u64));
        }
    }

    fn read_known(&self) -> BTreeMap<u64, Known> {
        let page = self.log().read(&request(&selector(&["*"], &[]), Direction::Forward)).unwrap();
        assert!(page.end);
        let mut found = BTreeMap::new();
        for event in page.runs.iter().flat_map(|run| run.iter().collect::<Vec<_>>()) {
            let json: serde_json::Value = serde_json::from_slice(event.json).unwrap();
            assert_eq!(json["offset"], event.offset);
            let one_of = |all: &[&'static str], text: &str| *all.iter().find(|one| **one == text).unwrap();
            let known = Known {
                n: json["payload"]["n"].as_u64().unwrap(),
                channel: one_of(&CHANNELS, event.channel),
                kind: one_of(&TYPES, event.event_type),
                agent: one_of(&AGENTS, json["payload"]["agent"].as_str().unwrap()),
                id: json["event_id"] != "none",
            };
            found.insert(event.offset, known);
        }
        found
    }

    fn append(&mut self) {
        let count = self.random.usize(1..6);
        let mut events = Vec::new();
        for _ in 0..count {
            self.next_n += 1;
            events.push(Known {
                n: self.next_n,
                channel: CHANNELS[(self.random.usize(0..16)).min(self.random.usize(0..4))],
                kind: TYPES[self.random.usize(0..3)],
                agent: AGENTS[self.random.usize(0..4)],
                id: self.random.bool(),
            });
        }
        let tail = self.log().tail();
        match append(self.log(), events.iter().map(Known::new_event).collect()) {
            Ok(results) => {
                let expected: Vec<_> =
                    (tail..tail + count as u64).map(|offset| Appended::Stored { offset }).collect();
                assert_eq!(results, expected);
                let mut shown = Vec::new();
                while let Some(batch) = self.follower.as_mut().and_then(CommitReceiver::try_recv) {
                    shown.extend(batch.iter().map(|event| event.offset));
                }
                assert!(
                    shown.into_iter().eq(tail..tail + count as u64),
                    "a follower has what was acknowledged"
                );
                self.known.extend((tail..).zip(events));
            }
            Err(AppendError::StorageFull) => assert_eq!(self.log().tail(), tail),
            Err(AppendError::Stopped { .. }) => {
                assert!(matches!(self.log().health(), LogHealth::Stopped { .. }));
                self.in_doubt.push(events);
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// An id that was stored is known, also after restarts and trims.
    fn repeat(&mut self) {
        let with_id: Vec<_> = self.known.iter().filter(|(_, known)| known.id).collect();
        let Some((offset, known)) = self.random.choice(&with_id) else { return };
        match append(self.log(), vec![known.new_event()]) {
            Ok(result) => assert_eq!(result, [Appended::Duplicate { offset: **offset }]),
            Err(error) => assert!(matches!(error, AppendError::Stopped { .. }), "{error}"),
        }
    }

    fn read(&mut self) {
        let count = self.random.usize(1..3);
        let channels: Vec<&str> =
            (0..count).map(|_| *self.random.choice(&["*", "t*", "tasks", "system"]).unwrap()).collect();
        let agent = *self.random.choice(&AGENTS).unwrap();
        let kind = *self.random.choice(&["task.*", "other", "*", "nothing"]).unwrap();
        let (by_agent, by_kind) = (self.random.bool(), self.random.bool());
        let (agents, kinds) = ([agent], [kind]);
        let mut filter: Vec<(&str, &[&str])> = Vec::new();
        if by_agent {
            filter.push(("agent", &agents));
        }
        if by_kind {
            filter.push(("event_type", &kinds));
        }
        let glob = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => pattern == text,
        };
        let expected: Vec<u64> = self
            .known
            .iter()
            .filter(|(offset, known)| self.is_retained(**offset, known))
            .filter(|(_, known)| channels.iter().any(|pattern| glob(pattern, known.channel)))
            .filter(|(_, known)| (!by_agent || known.agent == agent) && (!by_kind || glob(kind, known.kind)))
            .map(|(offset, _)| *offset)
            .collect();
        let selector = selector(&channels, &filter);
        let mut forward = request(&selector, Direction::Forward);
        forward.from = self.random.u64(0..self.log().tail());
        forward.max_events = self.random.usize(1..20);
        forward.max_bytes = self.random.usize(1..3000);
        forward.max_scan_bytes = self.random.usize(1..3000);
        let mut backward = forward.clone();
        backward.direction = Direction::Backward;
        backward.until = 0;
        let from = forward.from;
        let beyond: Vec<u64> = expected.iter().copied().filter(|offset| *offset > from).collect();
        assert_eq!(read_all(self.log(), forward), beyond, "forward from {from}, {channels:?} {filter:?}");
        let below: Vec<u64> = expected.iter().copied().filter(|offset| *offset < from).rev().collect();
        assert_eq!(read_all(self.log(), backward), below, "backward from {from}, {channels:?} {filter:?}");
        let lost = self.log().lost(&selector, from);
        for lost in &lost {
            assert_eq!(Some(&lost.to), self.floors.get(&*lost.channel));
            assert!(lost.to > from);
        }
        let told = self
            .floors
            .iter()
            .filter(|(channel, to)| **to > from && channels.iter().any(|pattern| glob(pattern, channel)));
        assert_eq!(lost.len(), told.count());
        let mut one = request(&selector, Direction::Backward);
        one.max_events = 1;
        assert_eq!(offsets(&self.log().read(&one).unwrap()).first(), expected.last());
    }

    fn trim(&mut self) {
        let tail = self.log().tail();
        let up_to = self.random.u64(0..tail + 1);
        let only = if self.random.bool() { None } else { Some(*self.random.choice(&CHANNELS).unwrap()) };
        let mut raised = BTreeMap::new();
        for (offset, known) in self.known.range(..=up_to) {
            if only.is_none_or(|only| only == known.channel) && self.is_retained(*offset, known) {
                raised.insert(known.channel, *offset);
            }
        }
        match self.log().trim(&Trim { channel: only.map(Into::into), up_to }) {
            Ok(_) => self.floors.extend(raised),
            // The log goes on with the old floors; the next opening may find the new ones.
            Err(_) => {
                self.floors_in_doubt.extend(raised);
                self.crash();
            }
        }
        if matches!(self.log().health(), LogHealth::Ok) {
            self.check_stats();
        }
    }

    fn fill_the_disk(&mut self) {
        self.disk.set_capacity(Some(self.disk.used() + self.random.u64(0..400)));
        for _ in 0..4 {
            self.append();
        }
        self.disk.set_capacity(None);
        let stopped = matches!(self.log().health(), LogHealth::Stopped { .. });
        let before = self.known.len();
        self.append();
        let powered = self.log().health() == LogHealth::Ok;
        assert!(
            stopped || !powered || self.known.len() > before,
            "space came back, but the log did not heal"
        );
    }

    /// A clean stop, or what is left of one where the disk has failed.
    fn restart(&mut self) {
        let failed = self.log.take().is_some_and(|log| {
            log.close();
            matches!(log.health(), LogHealth::Stopped { .. })
        });
        if failed {
            return self.crash();
        }
        let report = check::check_on(&self.disk, Path::new(DIR)).unwrap();
        assert!(report.is_sound() && report.closed_cleanly, "{report}");
        self.disk.power_off_after(u64::MAX);
        self.open();
    }

    fn crash(&mut self) {
        let mode = *self.random.choice(&[CrashMode::DropAll, CrashMode::KeepAll, CrashMode::Random]).unwrap();
        self.disk.crash(mode, &mut self.random);
        // Handles are dead; what the old log still does cannot reach the disk.
        drop(self.log.take());
        let report = check::check_on(&self.disk, Path::new(DIR)).unwrap();
        assert!(report.is_sound(), "{report}");
        self.open();
    }
}

/// `NEWSWIRE_CRASH_ROUNDS` runs more of them, `NEWSWIRE_CRASH_SEED` a single one.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("NEWSWIRE_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("NEWSWIRE_CRASH_ROUNDS").unwrap_or(150),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_refused_comes_to_life() {
    for seed in seeds() {
        let run = AssertUnwindSafe(|| World::new(seed).run(60));
        assert!(catch_unwind(run).is_ok(), "seed {seed}");
    }
}

#[test]
fn the_same_check_fails_without_syncs() {
    let caught = (0..20).any(|seed| {
        let mut world = World::new(seed);
        world.disk.ignore_later_syncs(true);
        // The panic is the point.
        let panic = catch_unwind(AssertUnwindSafe(|| world.run(60))).err();
        panic.is_some_and(|text| {
            text.downcast::<String>().is_ok_and(|text| text.contains("acknowledged events"))
        })
    });
    assert!(caught, "a log that never syncs its batches went unnoticed");
}

#[test]
fn a_follower_of_a_closed_log_ends() {
    let log =
        EmbeddedLog::open(Path::new(DIR), EmbeddedOptions::default(), Arc::new(FaultDisk::new())).unwrap();
    let mut follower = log.follow();
    log.close();
    assert!(wait(follower.recv()).is_none());
}
