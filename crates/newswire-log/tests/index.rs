//! Filtered history and the last events of a quiet channel do not read the log.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use newswire_core::{
    Action, ChannelPattern, Direction, Filter, Grants, LogView, Principal, RowRule, Selector, SelectorEntry,
};
use newswire_log::testing::CountingDisk;
use newswire_log::testing::events::{event, offsets, read_all, request, selector, wait};
use newswire_log::{EmbeddedLog, EmbeddedOptions, EventLog, NewEvents, OsDisk, RetentionOptions, SyncMode};
use newswire_protocol::FilterSpec;

const EVENTS: u64 = 1_000_000;

/// Mostly two kinds of events that differ in type and agent, so that `half` is half of everything by type and by agent,
/// yet ten times only in both; and two rarities, ten times each.
fn kinds() -> [NewEvents; 5] {
    let of = |channel: &str, kind: &str, agent: &str| {
        event(&format!(
            r#"{{"channel":"{channel}","event_type":"{kind}","payload":{{"agent":"{agent}","project":"p"}}}}"#
        ))
    };
    [
        of("tasks", "half", "common"),
        of("tasks", "other", "half"),
        of("tasks", "other", "rare"),
        of("quiet", "other", "common"),
        of("tasks", "half", "half"),
    ]
}

fn kind_of(n: u64) -> usize {
    match n % 100_000 {
        77 => 2,
        50_123 => 3,
        99_000 => 4,
        _ => (n % 2) as usize,
    }
}

fn fill(log: &EmbeddedLog) {
    let kinds = kinds();
    let mut n = 0;
    while n < EVENTS {
        let batch = (n..n + 10_000).map(|n| kinds[kind_of(n)].clone()).collect();
        wait(log.append(batch)).unwrap();
        n += 10_000;
    }
}

fn expected(kind: usize) -> Vec<u64> {
    (0..EVENTS).filter(|n| kind_of(*n) == kind).map(|n| n + 1).collect()
}

/// Everything of every channel, by somebody for whom only these events exist, on these channels only.
fn everything_for(rows: &str, channels: &[&str]) -> Arc<Selector> {
    let rule = RowRule::only(Filter::compile(&FilterSpec::parse(rows).unwrap()));
    let grants = Grants::none().with(Action::History, channels).unwrap();
    let entry = SelectorEntry::new(ChannelPattern::parse("*").unwrap(), Filter::all());
    Arc::new(Selector::one(entry, Principal::new("rita").with_row_rule(rule).with_grants(grants)))
}

#[test]
fn ten_among_a_million_touch_less_than_two_percent() {
    let dir = tempfile::tempdir().unwrap();
    let disk = CountingDisk::new(Arc::new(OsDisk));
    let mut retention = RetentionOptions::unbounded();
    retention.interval = Duration::from_secs(3600);
    let options = EmbeddedOptions {
        sync: SyncMode::Os,
        retention,
        verify_on_open: false,
        ..EmbeddedOptions::default()
    };
    let log = EmbeddedLog::open(dir.path(), options.clone(), Arc::new(disk.clone())).unwrap();
    fill(&log);
    log.close();
    drop(log);
    disk.take_read_bytes();
    let log = EmbeddedLog::open(dir.path(), options, Arc::new(disk.clone())).unwrap();
    let size = log.stats().bytes;
    let opening = disk.take_read_bytes();
    assert!(log.stats().segments > 2);
    // Only the segment written last, and the summaries of the others.
    assert!(opening < 66 << 20, "opening read {opening} of {size} bytes");

    let rare = selector(&["tasks"], &[("agent", &["rare"])]);
    let quiet = selector(&["quiet"], &[]);
    let both = selector(&["*"], &[("agent", &["half"]), ("event_type", &["hal*"])]);
    let least = |what: &str, page: &mut dyn FnMut()| {
        disk.take_read_bytes();
        page();
        let read = disk.take_read_bytes();
        let share = read as f64 / size as f64;
        assert!(share < 0.02, "{what} read {read} of {size} bytes");
    };
    let all = |selector: &Arc<Selector>, direction| read_all(&log, request(selector, direction));
    let row = everything_for(r#"{"agent":"rare"}"#, &["*"]);
    let rows = everything_for(r#"{"agent":"half","event_type":"half"}"#, &["t*", "x"]);
    let granted = everything_for("{}", &["quiet", "x*"]);
    let few = [
        ("rare", &rare, 2),
        ("quiet", &quiet, 3),
        ("both", &both, 4),
        ("a row", &row, 2),
        ("rows of two keys", &rows, 4),
        ("what was granted", &granted, 3),
    ];
    for (what, selector, kind) in few {
        let mut offsets = expected(kind);
        assert_eq!(offsets.len(), 10);
        least(what, &mut || assert_eq!(all(selector, Direction::Forward), offsets));
        offsets.reverse();
        least(what, &mut || assert_eq!(all(selector, Direction::Backward), offsets));
    }
    least("the last five", &mut || {
        let mut last = request(&quiet, Direction::Backward);
        last.max_events = 5;
        let expected = expected(3);
        assert_eq!(
            offsets(&log.read(&last).unwrap()),
            expected.iter().rev().take(5).copied().collect::<Vec<_>>()
        );
    });
    least("one event", &mut || {
        let mut one = request(&selector(&["*"], &[]), Direction::Forward);
        (one.from, one.until) = (654_320, 654_321);
        assert_eq!(offsets(&log.read(&one).unwrap()), [654_321]);
    });
    assert_eq!(log.tail(), EVENTS + 1);
}
