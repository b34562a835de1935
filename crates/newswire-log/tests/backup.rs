//! Copies of a log: taken beside its writer, restored, broken off, refused.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use newswire_core::LogView;
use newswire_log::backup::restore_on;
use newswire_log::testing::events::{append, numbered, store};
use newswire_log::testing::{CrashMode, FaultDisk};
use newswire_log::{
    CopyError, EmbeddedLog, EmbeddedOptions, EventLog, OsDisk, Snapshot, Trim, backup, check, restore,
};

fn small_segments() -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes: 64 << 10, ..EmbeddedOptions::default() }
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small_segments(), Arc::new(OsDisk)).unwrap()
}

/// Offset and JSON of every event, read without opening the log.
fn events(dir: &Path, after: u64) -> Vec<(u64, String)> {
    let snapshot = Snapshot::open(&OsDisk, dir).unwrap().unwrap();
    let mut found = Vec::new();
    snapshot
        .visit(after, &mut |batch| {
            found.extend(
                batch.iter().map(|event| (event.offset, String::from_utf8(event.json.to_vec()).unwrap())),
            );
            true
        })
        .unwrap();
    found
}

fn silent(_: u64, _: u64) {}

#[test]
fn a_backup_beside_the_writer_is_a_prefix_with_all_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let (data, stop, acknowledged) = (home.path().join("data"), AtomicBool::new(false), AtomicU64::new(0));
    let log = open(&data);
    let copies: Vec<_> = (0..4).map(|n| home.path().join(format!("copy-{n}"))).collect();
    let mut least = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let last = store(
                    &log,
                    (0..7)
                        .map(|_| {
                            n += 1;
                            numbered("tasks", n)
                        })
                        .collect(),
                );
                acknowledged.store(*last.last().unwrap(), Ordering::Release);
                if n % 700 == 0 {
                    log.trim(&Trim { channel: None, up_to: last[0].saturating_sub(1_500) }).unwrap();
                }
            }
        });
        for copy in &copies {
            let before = acknowledged.load(Ordering::Acquire);
            while acknowledged.load(Ordering::Acquire) < before + 500 {
                std::thread::yield_now();
            }
            least.push(acknowledged.load(Ordering::Acquire));
            let mut seen = (0, 0);
            let copied = backup(&data, copy, &mut |done, all| seen = (done, all)).unwrap();
            assert!(copied.last_offset >= *least.last().unwrap());
            assert_eq!(seen, (copied.bytes, copied.bytes), "progress ends at the whole");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (epoch, tail) = (log.epoch(), log.tail());
    drop(log);
    let all = events(&data, 0);
    assert_eq!(all.last().unwrap().0, tail - 1);
    for (copy, least) in copies.iter().zip(least) {
        let report = check(copy).unwrap();
        assert!(report.is_sound() && report.closed_cleanly, "{report}");
        let copied = events(copy, 0);
        assert!(copied.last().unwrap().0 >= least);
        let first = all[0].0;
        let shared: Vec<_> = copied.iter().filter(|(offset, _)| *offset >= first).cloned().collect();
        assert_eq!(shared[..], all[..shared.len()], "a prefix of what the log has");
        let numbers: Vec<u64> = copied.iter().map(|(offset, _)| *offset).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "without holes");

        let restored = copy.with_extension("restored");
        let told = restore(copy, &restored, &mut silent).unwrap();
        let log = open(&restored);
        assert!(log.epoch() == told.epoch && log.epoch() != epoch && log.epoch() != report.epoch.unwrap());
        assert_eq!(log.tail(), copied.last().unwrap().0 + 1);
        assert_eq!(
            store(&log, vec![numbered("tasks", 1)]),
            [copied.last().unwrap().0 + 1],
            "it goes on behind"
        );
        drop(log);
        assert_eq!(events(&restored, 0)[..copied.len()], copied[..]);
    }
}

#[test]
fn an_id_inside_the_window_is_recognised_by_the_copy() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let with_id = || {
        newswire_log::testing::events::event(
            r#"{"channel":"tasks","event_type":"t","event_id":"one","payload":{}}"#,
        )
    };
    let log = open(&data);
    let first = append(&log, vec![with_id()]).unwrap();
    for n in 0..100 {
        store(&log, (0..20).map(|m| numbered("tasks", n * 20 + m)).collect());
    }
    // Its segment goes, its id stays.
    log.trim(&Trim { channel: None, up_to: 1_500 }).unwrap();
    let copy = home.path().join("copy");
    backup(&data, &copy, &mut silent).unwrap();
    let log = open(&copy);
    let again = append(&log, vec![with_id()]).unwrap();
    assert_ne!(first, again);
    assert!(format!("{again:?}").contains("Duplicate"), "{again:?}");
    assert_eq!(log.head(), 1_501);
}

/// A disk with a log of several segments.
fn disk_with_400_events(at: &Path) -> FaultDisk {
    let disk = FaultDisk::new();
    let log = EmbeddedLog::open(at, small_segments(), Arc::new(disk.clone())).unwrap();
    for n in 0..400 {
        store(&log, vec![numbered("tasks", n)]);
    }
    disk
}

#[test]
fn a_restore_that_breaks_off_is_no_log() {
    let (from, to) = (Path::new("/from"), Path::new("/to"));
    let source = disk_with_400_events(from);
    let (mut broken, mut whole) = (0, 0);
    for changes in 0.. {
        let disk = source.duplicate();
        disk.power_off_after(changes);
        let done = restore_on(&disk, from, to, &mut silent);
        disk.crash(CrashMode::Random, &mut fastrand::Rng::with_seed(changes));
        match Snapshot::open(&disk, to) {
            Ok(Some(found)) => {
                assert_eq!(found.tail(), 401, "what looks whole is whole");
                assert!(newswire_log::check::check_on(&disk, to).unwrap().is_sound());
                whole += 1;
            }
            _ => {
                assert!(done.is_err(), "what was called done is there");
                broken += 1;
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(broken > 3 && whole > 0, "{broken} {whole}");
}

#[test]
fn an_unsound_restore_is_no_log_and_says_whose_disk_it_was() {
    let (from, to) = (Path::new("/from"), Path::new("/to"));
    let source = disk_with_400_events(from);
    let flip = |disk: &FaultDisk, path: &Path| {
        let mut bytes = disk.content(path).unwrap();
        bytes[900] ^= 1;
        disk.set_content(path, bytes);
    };
    let first_segment = |disk: &FaultDisk, dir: &Path| {
        let is_segment = |path: &&std::path::PathBuf| {
            path.starts_with(dir) && path.extension().is_some_and(|end| end == "seg")
        };
        disk.paths().iter().find(is_segment).unwrap().clone()
    };
    for whose in [from, to] {
        let disk = source.duplicate();
        if whose == from {
            flip(&disk, &first_segment(&disk, from));
        }
        let done = restore_on(&disk, from, to, &mut |done, all| {
            if whose == to && done == all {
                flip(&disk, &first_segment(&disk, to));
            }
        });
        let error = done.unwrap_err();
        assert!(error.to_string().contains(whose.to_str().unwrap()), "{error}");
        assert_eq!(matches!(error, CopyError::Unsound(_)), whose == to, "{error}");
        let options = EmbeddedOptions { verify_on_open: false, ..small_segments() };
        assert!(EmbeddedLog::open(to, options, Arc::new(disk)).is_err(), "no server starts on it");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_damaged_is_copied() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    assert!(matches!(
        backup(&at("nothing"), &at("copy"), &mut silent),
        Err(CopyError::Source(_) | CopyError::NoLog(_))
    ));
    let log = open(&at("data"));
    store(&log, (0..50).map(|n| numbered("tasks", n)).collect());
    backup(&at("data"), &at("copy"), &mut silent).unwrap();
    let again = backup(&at("data"), &at("copy"), &mut silent);
    assert!(matches!(again, Err(CopyError::NotEmpty(_))), "{again:?}");
    std::fs::create_dir(at("other.incomplete")).unwrap();
    let beside = backup(&at("data"), &at("other"), &mut silent);
    assert!(matches!(beside, Err(CopyError::NotEmpty(_))), "somebody else is at it: {beside:?}");
    assert!(matches!(restore(&at("copy"), &at("data"), &mut silent), Err(CopyError::NotEmpty(_))));
    assert!(matches!(restore(&at("other.incomplete"), &at("new"), &mut silent), Err(CopyError::NoLog(_))));

    // Half a copy: everything but the manifest.
    std::fs::remove_file(at("copy").join("manifest")).unwrap();
    let half = restore(&at("copy"), &at("new"), &mut silent);
    assert!(matches!(half, Err(CopyError::Source(_))), "{half:?}");

    drop(log);
    let segment = std::fs::read_dir(at("data")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|end| end == "seg")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = backup(&at("data"), &at("bad"), &mut silent);
    assert!(matches!(damaged, Err(CopyError::Source(_) | CopyError::Unsound(_))), "{damaged:?}");
    assert!(!at("bad").exists() && !at("bad.incomplete").exists(), "half a copy stays");
}
