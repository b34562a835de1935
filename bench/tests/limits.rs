//! The limits must deliver and acknowledge as everybody does, or a comparison with them says nothing.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::time::Duration;

use newswire_bench::bare_door::BareDoor;
use newswire_load::bare::BareWriter;
use newswire_load::scenario::{Settings, durable};
use newswire_load::trial;

#[test]
fn the_bare_writer_delivers_every_event_however_many_it_gathers() {
    let limit = BareWriter::new(env!("CARGO_BIN_EXE_newswire-bench"), &["--bare-writer"]);
    // 7 does not divide the events of a trial: the last ones go out when no more come.
    for frames in [1, 7] {
        limit.set_frames_a_write(frames);
        trial::run(&limit).unwrap();
    }
}

#[test]
fn the_bare_door_acknowledges_what_is_published() {
    trial::run(&BareDoor::new(env!("CARGO_BIN_EXE_newswire-bench"), "--bare-door")).unwrap();
}

#[test]
fn who_acknowledges_nothing_has_failed_and_is_no_figure() {
    let silent = BareWriter::new(env!("CARGO_BIN_EXE_newswire-bench"), &["--bare-writer"]);
    let time = Duration::from_millis(50);
    let settings = Settings { publishers: 2, time, server_cores: Vec::new(), ..Settings::quick() };
    let error = durable(&silent, &settings).unwrap_err().to_string();
    assert!(error.starts_with("nothing was acknowledged"), "{error}");
}
