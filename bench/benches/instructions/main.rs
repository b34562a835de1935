//! What the hot paths cost in instructions, which no other load on the machine changes.
//!
//! Each has a limit about a tenth above what it takes today. Whoever makes a path dearer than that raises its limit here
//! and says why; whoever makes it cheaper lowers it. `make guard` runs them, and `make test` does.

#![allow(missing_docs, reason = "the harness makes public items")]

use std::hint::black_box;

use bytes::Bytes;
use gungraun::{
    Callgrind, EntryPoint, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group,
    main,
};
use newswire_bench::in_process::NOW;
use newswire_core::{EventHead, Output, Wakes};
use newswire_protocol::{Draft, Encoded, Limits, UnixMicros};

mod stand;
use stand::{Feed, Log, draft, text};

/// A limit on the instructions of one call.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// The same for the commits of the log, which its own thread makes.
fn writer_at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind
        .entry_point(EntryPoint::Custom("*newswire_log::writer::Writer*::commit*".to_owned()))
        .hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

// A publish of 400 bytes, from its text to the checked draft.
#[library_benchmark(config = at_most(9_700))]
#[bench::event(text())]
fn parse(text: String) -> Draft {
    black_box(Draft::parse(&text, &Limits::default()).expect("a good event"))
}

// A draft becomes the frame that everybody gets, and the head that filters read.
#[library_benchmark(config = at_most(7_000))]
#[bench::event(draft())]
fn encode(draft: Draft) -> (EventHead, Encoded) {
    let encoded = draft.encode("0197a6b0-3f5e-7c3a-9d4e-000000000001", UnixMicros(1_800_000_000_000_000));
    black_box((EventHead::of(&draft, &encoded), encoded))
}

// What is kept of a connection is compact and apart from what dispatch needs of it, which costs some instructions here and
// below, for fewer bytes a connection.
// One event for ten of many subscribers, each of whom filters for another agent: cost follows matches.
#[library_benchmark]
#[bench::of_1_000(args = [Feed::of_agents(1_000, 10)], config = at_most(6_100))]
#[bench::of_20_000(args = [Feed::of_agents(20_000, 10)], config = at_most(6_100))]
fn match_ten(mut feed: Feed) -> Feed {
    feed.publish();
    black_box(feed)
}

// One event into the outboxes of 100 subscribers who want everything.
#[library_benchmark(config = at_most(41_500))]
#[bench::for_100(Feed::of_everything(100))]
fn enqueue(mut feed: Feed) -> Feed {
    feed.publish();
    black_box(feed)
}

// What 100 sessions do to hand one waiting event to their sockets, and to find that nothing more waits.
#[library_benchmark(config = at_most(155_000))]
#[bench::from_100(Feed::with_one_waiting(100))]
fn next_output(mut feed: Feed) -> Feed {
    let mut out: Vec<Bytes> = Vec::with_capacity(4);
    for session in &mut feed.sessions {
        while let Output::Write = session.next_output(NOW, &feed.hub, &mut out, 64 << 10) {
            out.clear();
        }
    }
    black_box(feed)
}

// What it takes to write one waiting event to 100 sockets without their tasks, beside the system call.
#[library_benchmark(config = at_most(46_000))]
#[bench::to_100(Feed::with_one_to_flush(100))]
fn flush((feed, mut wakes): (Feed, Wakes)) -> Feed {
    let flushed = wakes.flush(100);
    assert_eq!(flushed.writes, 100, "all of them are written to");
    black_box(feed)
}

// 64 events from one append into one synced batch: the log's writer, from the queue to the answer. Valgrind has no AVX-512, so
// checksums take more instructions here than where they are run.
#[library_benchmark(config = writer_at_most(224_000))]
#[bench::of_64(args = [64], setup = Log::with_events_to_append)]
fn append(mut log: Log) -> Log {
    log.append();
    black_box(log)
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [parse, encode, match_ten, enqueue, next_output, flush, append]
);

main!(library_benchmark_groups = hot_paths);
