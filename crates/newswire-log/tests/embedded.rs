//! What the embedded log does where disks are full, failing or damaged, and across restarts.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use newswire_core::{Direction, LogView};
use newswire_log::testing::events::{
    append, event, eventually, numbered, read_all, request, selector, store, wait,
};
use newswire_log::testing::{CrashMode, FaultDisk};
use newswire_log::{
    AppendError, Appended, EmbeddedLog, EmbeddedOptions, EventLog, LogHealth, ManualClock, OpenError, OsDisk,
    Place, ReadError, RetentionOptions, RetentionPolicy, SyncMode, Trim, check,
};
use newswire_protocol::UnixMicros;

const DIR: &str = "/log";

/// No marks and no zeros ahead, so that a test knows every byte.
fn plain() -> EmbeddedOptions {
    let mut retention = RetentionOptions::unbounded();
    retention.interval = Duration::from_secs(3600);
    EmbeddedOptions {
        zero_ahead_bytes: 0,
        mark_after: Duration::from_secs(3600),
        retention,
        ..EmbeddedOptions::default()
    }
}

fn open(disk: &FaultDisk, options: &EmbeddedOptions) -> Result<EmbeddedLog, OpenError> {
    EmbeddedLog::open(Path::new(DIR), options.clone(), Arc::new(disk.clone()))
}

fn all(log: &EmbeddedLog) -> Vec<u64> {
    read_all(log, request(&selector(&["*"], &[]), Direction::Forward))
}

fn segment_paths(disk: &FaultDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "seg")).collect()
}

/// A disk as a killed process leaves it, with five events in five batches; and where the last batch begins and ends.
fn five_batches() -> (FaultDisk, PathBuf, usize, usize) {
    let disk = FaultDisk::new();
    let log = open(&disk, &plain()).unwrap();
    for n in 0..5 {
        store(&log, vec![numbered("tasks", n)]);
    }
    let left = disk.duplicate();
    let report = check::check_on(&left, Path::new(DIR)).unwrap();
    let segment = &report.segments[0];
    (left, segment.file.clone(), segment.proven as usize, segment.bytes as usize)
}

#[test]
fn an_unfinished_end_is_cut_off_wherever_it_ends() {
    let (disk, path, last, end) = five_batches();
    let bytes = disk.content(&path).unwrap();
    assert_eq!(bytes.len(), end);
    for len in last..=end {
        let disk = disk.duplicate();
        disk.set_content(&path, bytes[..len].to_vec());
        let log = open(&disk, &plain()).unwrap();
        let expected = if len == end { 5 } else { 4 };
        assert_eq!(all(&log), (1..=expected).collect::<Vec<_>>(), "cut at {len}");
        assert_eq!(store(&log, vec![numbered("tasks", 9)]), [expected + 1]);
    }
}

#[test]
fn a_flipped_bit_in_the_unproven_end_cuts_it_off() {
    let (disk, path, last, end) = five_batches();
    let bytes = disk.content(&path).unwrap();
    for position in last..end {
        let disk = disk.duplicate();
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        disk.set_content(&path, flipped);
        assert!(check::check_on(&disk, Path::new(DIR)).unwrap().is_sound());
        assert_eq!(all(&open(&disk, &plain()).unwrap()), [1, 2, 3, 4], "flipped at {position}");
    }
}

#[test]
fn damage_to_what_is_proven_durable_refuses_by_name_and_byte() {
    let (disk, path, last, _) = five_batches();
    let bytes = disk.content(&path).unwrap();
    for position in 0..last {
        let disk = disk.duplicate();
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        disk.set_content(&path, flipped.clone());
        let Err(error) = open(&disk, &plain()) else { panic!("opened with a flip at {position}") };
        let text = error.to_string();
        let byte = match error {
            OpenError::Damaged { file, byte, .. } => {
                assert_eq!(file, path);
                byte
            }
            other => panic!("{other}"),
        };
        assert!(byte <= position as u64, "said {byte}, flipped {position}");
        assert!(text.contains("newswire check /log") && text.contains(&format!("byte {byte}")), "{text}");
        assert_eq!(disk.content(&path).unwrap(), flipped, "a refusal changes nothing");
        let report = check::check_on(&disk, Path::new(DIR)).unwrap();
        assert_eq!(report.damage.map(|damage| (damage.file, damage.byte)), Some((path.clone(), byte)));
    }
}

#[test]
fn after_a_clean_close_every_byte_is_proven() {
    let disk = FaultDisk::new();
    let log = open(&disk, &plain()).unwrap();
    store(&log, vec![numbered("tasks", 1), numbered("tasks", 2)]);
    log.close();
    drop(log);
    let path = segment_paths(&disk).remove(0);
    let bytes = disk.content(&path).unwrap();
    for len in 0..bytes.len() {
        let disk = disk.duplicate();
        disk.set_content(&path, bytes[..len].to_vec());
        assert!(matches!(open(&disk, &plain()), Err(OpenError::Damaged { .. })), "cut at {len}");
    }
    assert_eq!(all(&open(&disk, &plain()).unwrap()), [1, 2]);
}

#[test]
fn an_idle_log_proves_its_last_batch() {
    let options = EmbeddedOptions { mark_after: Duration::from_millis(1), ..plain() };
    let disk = FaultDisk::new();
    let log = open(&disk, &options).unwrap();
    store(&log, vec![numbered("tasks", 1)]);
    let proven = || {
        let report = check::check_on(&disk.duplicate(), Path::new(DIR)).unwrap();
        (report.segments[0].proven as usize, report.segments[0].bytes as usize)
    };
    eventually("a mark", || proven().0 > 200);
    let left = disk.duplicate();
    let path = segment_paths(&left).remove(0);
    let mut bytes = left.content(&path).unwrap();
    bytes[200] ^= 1;
    left.set_content(&path, bytes);
    assert!(matches!(open(&left, &options), Err(OpenError::Damaged { .. })));
    let writes = disk.syncs();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(disk.syncs(), writes, "one mark is enough");
}

/// A log of several segments, closed.
fn segmented() -> (FaultDisk, EmbeddedOptions) {
    let options = EmbeddedOptions { segment_bytes: 2000, ..plain() };
    let disk = FaultDisk::new();
    let log = open(&disk, &options).unwrap();
    for n in 0..40 {
        let channel = if n % 8 == 0 { "budget" } else { "tasks" };
        store(&log, vec![numbered(channel, n)]);
    }
    log.close();
    assert!(segment_paths(&disk).len() > 4);
    (disk, options)
}

#[test]
fn a_missing_or_short_segment_refuses() {
    let (disk, options) = segmented();
    for path in segment_paths(&disk) {
        let short = disk.duplicate();
        let mut bytes = short.content(&path).unwrap();
        bytes.pop();
        short.set_content(&path, bytes);
        assert!(matches!(open(&short, &options), Err(OpenError::Damaged { .. })), "{}", path.display());
        let gone = disk.duplicate();
        newswire_log::embedded::disk::Disk::remove(&gone, &path).unwrap();
        let Err(error) = open(&gone, &options) else { panic!("opened without {}", path.display()) };
        assert!(error.to_string().contains("missing"), "{error}");
        assert!(!check::check_on(&gone, Path::new(DIR)).unwrap().is_sound());
    }
    let manifest = Path::new(DIR).join("manifest");
    newswire_log::embedded::disk::Disk::remove(&disk, &manifest).unwrap();
    let Err(error) = open(&disk, &options) else { panic!("opened without a manifest") };
    assert!(error.to_string().contains("/log/manifest"), "{error}");
}

#[test]
fn a_damaged_index_is_made_again() {
    let (disk, options) = segmented();
    let budget = selector(&["budget"], &[]);
    let expected = [1, 9, 17, 25, 33];
    let indexes: Vec<_> =
        disk.paths().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "idx")).collect();
    assert!(indexes.len() > 3);
    let path = &indexes[1];
    let bytes = disk.content(path).unwrap();
    for position in (0..bytes.len()).step_by(37) {
        let disk = disk.duplicate();
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x10;
        disk.set_content(path, flipped);
        let log = open(&disk, &options).unwrap();
        assert_eq!(read_all(&log, request(&budget, Direction::Forward)), expected, "flipped at {position}");
        assert_eq!(all(&log).len(), 40);
    }
    newswire_log::embedded::disk::Disk::remove(&disk, path).unwrap();
    let log = open(&disk, &options).unwrap();
    assert_eq!(read_all(&log, request(&budget, Direction::Forward)), expected);
    assert!(disk.paths().contains(path), "the index is there again");
}

#[test]
fn damage_in_a_full_segment_refuses_to_open_or_is_named_when_it_is_read() {
    let (disk, options) = segmented();
    let path = segment_paths(&disk).remove(1);
    let mut bytes = disk.content(&path).unwrap();
    bytes[300] ^= 1;
    disk.set_content(&path, bytes);
    let Err(OpenError::Damaged { file, byte, .. }) = open(&disk, &options) else {
        panic!("damage to what was durable was served")
    };
    assert_eq!((&file, byte <= 300), (&path, true));
    let log = open(&disk, &EmbeddedOptions { verify_on_open: false, ..options }).unwrap();
    let Err(ReadError::Damaged { file, .. }) = log.read(&request(&selector(&["*"], &[]), Direction::Forward))
    else {
        panic!("damage was read over")
    };
    assert_eq!(Path::new(&file), path);
    drop(log);
    let report = check::check_on(&disk, Path::new(DIR)).unwrap();
    assert_eq!(report.damage.unwrap().file, path);
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let disk = FaultDisk::new();
    let log = open(&disk, &EmbeddedOptions { zero_ahead_bytes: 4096, ..plain() }).unwrap();
    store(&log, vec![numbered("tasks", 0)]);
    disk.set_capacity(Some(disk.used()));
    let large = |n| {
        event(&format!(r#"{{"channel":"tasks","event_type":"a","payload":{{"n":{n},"f":"{:9000}"}}}}"#, 0))
    };
    for n in 0..3 {
        assert_eq!(append(&log, vec![large(n)]), Err(AppendError::StorageFull));
    }
    assert_eq!((log.health(), log.tail(), all(&log)), (LogHealth::Full, 2, vec![1]));
    disk.set_capacity(None);
    assert_eq!(store(&log, vec![numbered("tasks", 1)]), [2]);
    assert_eq!(log.health(), LogHealth::Ok);
    disk.crash(CrashMode::Random, &mut fastrand::Rng::with_seed(1));
    drop(log);
    assert_eq!(all(&open(&disk, &plain()).unwrap()), [1, 2]);
}

#[test]
fn a_failed_sync_stops_publishing_for_good_but_not_reading() {
    let disk = FaultDisk::new();
    let log = open(&disk, &plain()).unwrap();
    store(&log, vec![numbered("tasks", 0)]);
    disk.fail_sync_after(0);
    let Err(AppendError::Stopped { reason }) = append(&log, vec![numbered("tasks", 1)]) else {
        panic!("a failed sync was passed over")
    };
    assert!(
        reason.contains("00000000000000000001.seg") && reason.contains("simulated sync failure"),
        "{reason}"
    );
    let syncs = disk.syncs();
    // The disk is well again, but nobody tries.
    assert_eq!(
        append(&log, vec![numbered("tasks", 2)]),
        Err(AppendError::Stopped { reason: reason.clone() })
    );
    assert_eq!((log.health(), disk.syncs()), (LogHealth::Stopped { reason }, syncs));
    assert_eq!((all(&log), log.tail()), (vec![1], 2));
    drop(log);
    let log = open(&disk, &plain()).unwrap();
    assert_eq!(store(&log, vec![numbered("tasks", 3)]).len(), 1);
}

/// The index knows a batch while it is synced: no read may come upon it there if that fails.
#[test]
fn what_was_written_and_not_synced_is_seen_by_no_read() {
    const NONE: [u64; 0] = [];
    let (disk, clock) = (FaultDisk::new(), Arc::new(ManualClock::at(UnixMicros(1_000_000))));
    let options = EmbeddedOptions { clock: clock.clone(), ..plain() };
    let log = open(&disk, &options).unwrap();
    let of = |channel: &str, agent: &str, fill: usize| {
        event(&format!(
            r#"{{"channel":"{channel}","event_type":"a","payload":{{"agent":"{agent}","f":"{:fill$}"}}}}"#,
            0
        ))
    };
    // Large enough that reads go to single records by the index.
    for _ in 0..20 {
        store(&log, vec![of("tasks", "often", 20_000)]);
    }
    store(&log, vec![of("tasks", "seldom", 10)]);
    clock.set(UnixMicros(2_000_000));
    disk.fail_sync_after(0);
    let refused =
        append(&log, vec![of("tasks", "seldom", 10), of("tasks", "new", 10), of("budget", "new", 10)]);
    assert!(matches!(refused, Err(AppendError::Stopped { .. })));

    for direction in [Direction::Forward, Direction::Backward] {
        let read = |channel, filter: &[(&str, &[&str])]| {
            read_all(&log, request(&selector(&[channel], filter), direction))
        };
        assert_eq!(read("tasks", &[("agent", &["seldom"])]), [21]);
        assert_eq!(read("*", &[("agent", &["new"])]), NONE);
        assert_eq!(read("budget", &[]), NONE);
        assert_eq!(read("*", &[]).len(), 21);
    }
    let mut later = request(&selector(&["*"], &[]), Direction::Forward);
    later.since = Some(UnixMicros(1_500_000));
    assert_eq!(read_all(&log, later), NONE);
    assert_eq!(log.channels(), [Arc::from("tasks")]);
    assert_eq!((log.stats().events, log.stats().tail), (21, 22));
    log.trim(&Trim { up_to: 21, channel: None }).unwrap();
    assert_eq!((all(&log), log.head()), (NONE.to_vec(), 22));
}

#[test]
fn a_write_error_that_is_not_a_full_disk_stops_too() {
    let disk = FaultDisk::new();
    let log = open(&disk, &plain()).unwrap();
    disk.fail_writes(true);
    assert!(matches!(append(&log, vec![numbered("tasks", 1)]), Err(AppendError::Stopped { .. })));
}

#[test]
fn a_second_opener_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let open = || EmbeddedLog::open(dir.path(), plain(), Arc::new(OsDisk));
    let first = open().unwrap();
    let Err(error) = open() else { panic!("two logs on one directory") };
    assert!(matches!(error, OpenError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains(&dir.path().display().to_string()) && text.contains("in use"), "{text}");
    assert!(check(dir.path()).unwrap().in_use);
    first.close();
    // Closed, though not dropped.
    let second = open().unwrap();
    drop((first, second));
    assert!(!check(dir.path()).unwrap().in_use);
}

#[test]
fn weaker_sync_begins_a_new_epoch_after_an_unclean_stop() {
    for sync in [SyncMode::Os, SyncMode::Interval(Duration::from_secs(3600))] {
        let disk = FaultDisk::new();
        let options = EmbeddedOptions { sync, ..plain() };
        let log = open(&disk, &options).unwrap();
        let epoch = log.epoch();
        store(&log, vec![numbered("tasks", 0), numbered("tasks", 1)]);
        log.close();
        drop(log);
        let log = open(&disk, &options).unwrap();
        assert_eq!((log.epoch(), all(&log)), (epoch, vec![1, 2]), "a clean stop keeps the epoch");
        store(&log, vec![numbered("tasks", 2)]);
        disk.crash(CrashMode::DropAll, &mut fastrand::Rng::with_seed(1));
        drop(log);
        // Also where the next run is the strict one.
        let log = open(&disk, &plain()).unwrap();
        assert_ne!(log.epoch(), epoch);
        assert_eq!(all(&log), [1, 2], "what was not synced is gone, what was is readable");
        assert_eq!(store(&log, vec![numbered("tasks", 3)]), [3]);
        let epoch = log.epoch();
        disk.crash(CrashMode::DropAll, &mut fastrand::Rng::with_seed(1));
        drop(log);
        let log = open(&disk, &plain()).unwrap();
        assert_eq!((log.epoch(), all(&log)), (epoch, vec![1, 2, 3]));
    }
}

#[test]
fn a_process_killed_under_weaker_sync_loses_nothing_but_the_epoch() {
    let disk = FaultDisk::new();
    let options = EmbeddedOptions { sync: SyncMode::Os, ..plain() };
    let log = open(&disk, &options).unwrap();
    let epoch = log.epoch();
    store(&log, vec![numbered("tasks", 0)]);
    disk.crash(CrashMode::KeepAll, &mut fastrand::Rng::with_seed(1));
    drop(log);
    let log = open(&disk, &options).unwrap();
    assert_eq!(all(&log), [1]);
    assert_ne!(log.epoch(), epoch);
}

#[test]
fn an_interval_syncs_by_itself() {
    let disk = FaultDisk::new();
    let options = EmbeddedOptions { sync: SyncMode::Interval(Duration::from_millis(5)), ..plain() };
    let log = open(&disk, &options).unwrap();
    store(&log, vec![numbered("tasks", 0)]);
    let report = || check::check_on(&disk.duplicate(), Path::new(DIR)).unwrap();
    eventually("a sync", || report().segments[0].proven > 200);
    disk.crash(CrashMode::DropAll, &mut fastrand::Rng::with_seed(1));
    drop(log);
    assert_eq!(all(&open(&disk, &options).unwrap()), [1]);
}

#[test]
fn a_restored_backup_may_begin_a_new_epoch() {
    let (disk, options) = segmented();
    let epoch = open(&disk, &options).unwrap().epoch();
    let log = open(&disk, &EmbeddedOptions { new_epoch: true, ..options }).unwrap();
    assert_ne!(log.epoch(), epoch);
    assert_eq!(all(&log).len(), 40);
    assert_eq!(store(&log, vec![numbered("tasks", 0)]), [41]);
}

fn named(id: &str) -> newswire_log::NewEvents {
    event(&format!(r#"{{"channel":"tasks","event_type":"a","event_id":"{id}"}}"#))
}

#[test]
fn repeats_are_recognised_across_restarts_and_trims_for_as_long_as_the_window() {
    let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
    let options = EmbeddedOptions { segment_bytes: 1200, clock: clock.clone(), ..plain() };
    let disk = FaultDisk::new();
    let mut log = open(&disk, &options).unwrap();
    store(&log, vec![named("old")]);
    clock.advance(Duration::from_secs(400));
    for n in 0..20 {
        store(&log, vec![named(&format!("id-{n}"))]);
    }
    log.trim(&Trim { channel: None, up_to: u64::MAX }).unwrap();
    assert!(disk.paths().iter().any(|path| path.extension().is_some_and(|kind| kind == "ids")));
    for restart in 0..3 {
        assert_eq!(
            append(&log, vec![named("old")]).unwrap(),
            [Appended::Duplicate { offset: 1 }],
            "{restart}"
        );
        assert_eq!(
            append(&log, vec![named("id-7")]).unwrap(),
            [Appended::Duplicate { offset: 9 }],
            "{restart}"
        );
        if restart == 1 {
            disk.crash(CrashMode::DropAll, &mut fastrand::Rng::with_seed(1));
        }
        drop(log);
        log = open(&disk, &options).unwrap();
    }
    clock.advance(Duration::from_secs(200));
    assert_eq!(append(&log, vec![named("id-7")]).unwrap(), [Appended::Duplicate { offset: 9 }]);
    assert_eq!(append(&log, vec![named("old")]).unwrap(), [Appended::Stored { offset: 22 }]);
    clock.advance(Duration::from_secs(401));
    log.retain().unwrap();
    assert!(
        !disk.paths().iter().any(|path| path.extension().is_some_and(|kind| kind == "ids")),
        "expired ids go"
    );
}

#[test]
fn retention_by_bytes_gives_space_back_and_offsets_go_on() {
    let mut options = EmbeddedOptions { segment_bytes: 64 << 10, ..plain() };
    options.retention.all = RetentionPolicy { max_bytes: Some(400 << 10), ..RetentionPolicy::default() };
    let disk = FaultDisk::new();
    let log = open(&disk, &options).unwrap();
    let mut last = 0;
    for n in 0..60 {
        last = *store(&log, (0..100).map(|m| numbered("tasks", n * 100 + m)).collect()).last().unwrap();
    }
    store(&log, vec![numbered("quiet", 0)]);
    eventually("indexes", || {
        disk.paths().iter().all(|path| path.extension().is_none_or(|kind| kind != "tmp"))
    });
    let gone = log.retain().unwrap();
    assert!(gone > 0);
    assert!(log.stats().bytes <= 400 << 10, "{gone} gone, {:?}", log.stats());
    assert!(disk.used() <= 480 << 10, "{}", disk.used());
    let found = all(&log);
    assert_eq!((found.first(), found.last()), (Some(&log.head()), Some(&(last + 1))));
    assert_eq!(found.len() as u64, log.stats().events);
    let lost = log.lost(&selector(&["*"], &[]), 0);
    assert_eq!(lost.len(), 1);
    assert_eq!((&*lost[0].channel, lost[0].to), ("tasks", log.head() - 1));
    drop(log);
    let log = open(&disk, &options).unwrap();
    assert_eq!((all(&log), log.lost(&selector(&["*"], &[]), 0)), (found, lost));
    log.trim(&Trim { channel: None, up_to: u64::MAX }).unwrap();
    drop(log);
    let log = open(&disk, &options).unwrap();
    assert_eq!((log.head(), log.tail()), (last + 2, last + 2));
}

#[test]
fn retention_makes_room_on_a_full_disk() {
    let (disk, options) = segmented();
    let log = open(&disk, &options).unwrap();
    disk.set_capacity(Some(disk.used()));
    assert_eq!(log.trim(&Trim { channel: None, up_to: 35 }).unwrap(), 35);
    assert_eq!((log.head(), all(&log)), (36, (36..=40).collect()));
    assert_eq!(store(&log, vec![numbered("tasks", 0)]), [41]);
}

#[test]
fn a_channel_that_is_kept_longer_keeps_only_what_is_its_own() {
    let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
    let mut options = EmbeddedOptions { segment_bytes: 2000, clock: clock.clone(), ..plain() };
    options.retention.all.max_age = Some(Duration::from_secs(60));
    let long = RetentionPolicy { max_age: Some(Duration::from_secs(6000)), ..RetentionPolicy::default() };
    options.retention.channels = [("audit".to_owned(), long)].into();
    let disk = FaultDisk::new();
    let log = open(&disk, &options).unwrap();
    store(&log, vec![numbered("audit", 0)]);
    for n in 0..60 {
        store(&log, vec![numbered("tasks", n)]);
    }
    let before = segment_paths(&disk).len();
    clock.advance(Duration::from_secs(100));
    log.retain().unwrap();
    assert_eq!(all(&log), [1]);
    // The first holds the audit event, the last is being written to; those between are gone.
    assert!(before > 5 && segment_paths(&disk).len() == 2);
    disk.crash(CrashMode::DropAll, &mut fastrand::Rng::with_seed(1));
    drop(log);
    let log = open(&disk, &options).unwrap();
    assert_eq!((all(&log), log.head(), log.tail()), (vec![1], 1, 62));
    assert_eq!(store(&log, vec![numbered("tasks", 0)]), [62]);
}

#[test]
fn the_active_segment_goes_too_once_it_is_trimmed() {
    let clock = Arc::new(ManualClock::at(UnixMicros(1_700_000_000_000_000)));
    let mut options = EmbeddedOptions { clock: clock.clone(), ..plain() };
    options.retention.all.max_age = Some(Duration::from_secs(60));
    options.retention.interval = Duration::from_millis(10);
    let disk = FaultDisk::new();
    let log = open(&disk, &options).unwrap();
    store(&log, vec![numbered("tasks", 0)]);
    clock.advance(Duration::from_secs(100));
    eventually("the old segment is gone", || {
        segment_paths(&disk) == [Path::new("/log/00000000000000000002.seg")]
    });
    assert_eq!((log.head(), log.tail()), (2, 2));
}

#[test]
fn given_places_stay_across_a_restart() {
    let disk = FaultDisk::new();
    let log = open(&disk, &EmbeddedOptions { segment_bytes: 1000, ..plain() }).unwrap();
    let offsets: Vec<u64> = (0..10).map(|n| 5 + n * 7).collect();
    for offset in &offsets {
        let place = Place { offset: *offset, stored_at: UnixMicros(*offset) };
        wait(log.append_at(vec![place], numbered("tasks", *offset))).unwrap();
    }
    drop(log);
    let log = open(&disk, &plain()).unwrap();
    assert_eq!((all(&log), log.head(), log.tail()), (offsets, 5, 69));
    let mut since = request(&selector(&["tasks"], &[]), Direction::Forward);
    since.since = Some(UnixMicros(40));
    assert_eq!(newswire_log::testing::events::read_all(&log, since), [40, 47, 54, 61, 68]);
}

#[test]
fn an_append_over_the_limit_is_refused() {
    let mut options = plain();
    options.batch.max_append_bytes = 1000;
    let log = open(&FaultDisk::new(), &options).unwrap();
    let many = (0..10).map(|n| numbered("tasks", n)).collect();
    assert!(matches!(append(&log, many), Err(AppendError::TooLarge { limit: 1000, .. })));
    assert_eq!(log.tail(), 1);
}
