//! The log in this process, beside a bare segment writer of the same shape in the same run.
//!
//! Pairs are interleaved (bare, log, bare, log …), so that a disk whose mood changes is unfair to neither, and the median
//! of the ratios counts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use newswire_core::{
    ChannelPattern, Direction, EventHead, Filter, Principal, ReadRequest, Selector, SelectorEntry,
};
use newswire_log::{Appended, EmbeddedLog, EmbeddedOptions, EventLog, NewEvents, OsDisk};
use newswire_protocol::{Draft, FilterSpec, Limits, UnixMicros};

use crate::bare::{self, Bare};
use crate::report::{Report, median};
use crate::wire;

/// Events of one measured run; about 50 MB.
const EVENTS: usize = 102_400;
/// Replays a round; the log's are larger than its cache, so each reads and checks everything again.
const REPLAYS: usize = 5;

/// Measures and reports.
///
/// # Errors
/// When the disk or the log fails.
pub async fn measure(
    report: &mut Report,
    publishers: usize,
    rounds: usize,
    event_bytes: usize,
) -> anyhow::Result<()> {
    for batch in [64, 512] {
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        let (mut replays, mut replay_ratios) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (bare_dir, log_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
            let bare = append_bare(bare_dir.path(), batch, event_bytes)?;
            let log = open(log_dir.path())?;
            let appended = append_log(&*log, batch, event_bytes).await?;
            rates.push(appended);
            ratios.push(appended / bare);
            // A replay takes some milliseconds, so a single one measures the scheduler: the best of several counts.
            let (mut bare_replay, mut replayed) = (0f64, 0f64);
            for _ in 0..REPLAYS {
                bare_replay = bare_replay.max(replay_bare(bare_dir.path())?);
                replayed = replayed.max(replay_log(Arc::clone(&log)).await?);
            }
            replays.push(replayed);
            replay_ratios.push(replayed / bare_replay);
        }
        let what = format!("log, batches of {batch}");
        report.add(format!("{what}: append"), median(rates), "events/s", format!("median of {rounds}"));
        report.add(format!("{what}: append, of a bare writer"), median(ratios), "×", "write + fdatasync");
        report.add(format!("{what}: replay in process"), median(replays), "events/s", "");
        report.add(
            format!("{what}: replay, of a bare reader"),
            median(replay_ratios),
            "×",
            "checksums verified",
        );
    }
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let dir = tempfile::tempdir()?;
        rates.push(append_concurrently(open(dir.path())?, publishers, event_bytes).await?);
    }
    let what = format!("log, {publishers} publishers of one event each");
    report.add(what, median(rates), "events/s", "group commit, in process");
    Ok(())
}

fn open(dir: &Path) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(Arc::new(EmbeddedLog::open(dir, EmbeddedOptions::default(), Arc::new(OsDisk))?))
}

/// An event as ingest hands it to the log: parsed and encoded already.
fn new_event(n: usize, event_bytes: usize) -> NewEvents {
    let text = wire::event(&format!(r#""n":{n},"#), event_bytes);
    let draft = Draft::parse(&text, &Limits::default()).expect("the benchmark publishes good events");
    let event_id = format!("0197a6b0-3f5e-7c3a-9d4e-{n:012x}");
    let encoded = draft.encode(&event_id, UnixMicros(1_800_000_000_000_000 + n as u64));
    NewEvents::one(&EventHead::of(&draft, &encoded), &encoded, None)
}

/// The same events as a bare writer stores them: the frames that are sent, packed as the log's are, and their lengths.
fn frames(numbers: std::ops::Range<usize>, event_bytes: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
    for n in numbers {
        let event = new_event(n, event_bytes);
        let event = event.iter().next().expect("one event");
        let start = bytes.len();
        newswire_core::encode_frame(&mut bytes, n as u64 + 1, event.before, event.behind);
        lengths.push(bytes.len() - start);
    }
    (bytes, lengths)
}

fn append_bare(dir: &Path, batch: usize, event_bytes: usize) -> anyhow::Result<f64> {
    let mut batches = Vec::new();
    for first in (0..EVENTS).step_by(batch) {
        batches.push(frames(first..(first + batch).min(EVENTS), event_bytes));
    }
    let mut bare = Bare::create(dir)?;
    let started = Instant::now();
    // Each batch is consumed, as the log consumes its events.
    for (bytes, lengths) in batches {
        let mut rest = &bytes[..];
        bare.append(lengths.iter().map(|length| {
            let (frame, behind) = rest.split_at(*length);
            rest = behind;
            frame
        }))?;
    }
    Ok(EVENTS as f64 / started.elapsed().as_secs_f64())
}

async fn append_log(log: &dyn EventLog, batch: usize, event_bytes: usize) -> anyhow::Result<f64> {
    let mut batches: Vec<NewEvents> = Vec::new();
    for first in (0..EVENTS).step_by(batch) {
        batches.push((first..(first + batch).min(EVENTS)).map(|n| new_event(n, event_bytes)).collect());
    }
    let started = Instant::now();
    let mut last = 0;
    for batch in batches {
        let appended = log.append(batch).await?;
        let Some(Appended::Stored { offset }) = appended.last() else {
            anyhow::bail!("an event was not stored")
        };
        last = *offset;
    }
    ensure!(last == EVENTS as u64, "offsets have holes");
    Ok(EVENTS as f64 / started.elapsed().as_secs_f64())
}

async fn append_concurrently(
    log: Arc<dyn EventLog>,
    publishers: usize,
    event_bytes: usize,
) -> anyhow::Result<f64> {
    let each = EVENTS / publishers;
    let mut publishing = tokio::task::JoinSet::new();
    let prepared: Vec<Vec<NewEvents>> =
        (0..publishers).map(|p| (0..each).map(|n| new_event(p * each + n, event_bytes)).collect()).collect();
    let started = Instant::now();
    for events in prepared {
        let log = Arc::clone(&log);
        publishing.spawn(async move {
            for event in events {
                log.append(event).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = publishing.join_next().await {
        done??;
    }
    Ok((each * publishers) as f64 / started.elapsed().as_secs_f64())
}

fn replay_bare(dir: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let (records, _) = bare::replay(dir)?;
    ensure!(records == EVENTS as u64, "{records} records came back");
    Ok(EVENTS as f64 / started.elapsed().as_secs_f64())
}

/// Reads everything as a subscriber of all channels would, page after page.
async fn replay_log(log: Arc<dyn EventLog>) -> anyhow::Result<f64> {
    tokio::task::spawn_blocking(move || {
        let pattern = ChannelPattern::parse("*").context("a pattern")?;
        let entry = SelectorEntry::new(pattern, Filter::compile(&FilterSpec::default()));
        let mut request = ReadRequest {
            selector: Arc::new(Selector::one(entry, Principal::anonymous())),
            direction: Direction::Forward,
            from: 0,
            since: None,
            until: u64::MAX,
            max_bytes: 1 << 20,
            max_events: usize::MAX,
            max_scan_bytes: usize::MAX,
        };
        let started = Instant::now();
        let mut events = 0;
        loop {
            let page = log.read(&request)?;
            events += page.runs.iter().map(newswire_core::Run::len).sum::<usize>();
            if page.end {
                break;
            }
            request.from = page.reached;
        }
        ensure!(events == EVENTS, "{events} events came back");
        Ok(EVENTS as f64 / started.elapsed().as_secs_f64())
    })
    .await?
}
