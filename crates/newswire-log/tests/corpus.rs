//! Replays the inputs of the fuzz targets, among them every one that a target once failed on.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "a library of its own when it is fuzzed")]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable directory").path();
        eprintln!("{}", path.display());
        run(&fs::read(&path).expect("a readable input"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", corpus.display());
}

#[test]
fn frame() {
    replay("frame", targets::frame);
}

#[test]
fn command() {
    replay("command", targets::command);
}

#[test]
fn event() {
    replay("event", targets::event);
}

#[test]
fn cloudevent() {
    replay("cloudevent", targets::cloudevent);
}

#[test]
fn filter() {
    replay("filter", targets::filter);
}

#[test]
fn log_record() {
    replay("log_record", targets::log_record);
}

#[test]
fn log_files() {
    replay("log_files", targets::log_files);
}
