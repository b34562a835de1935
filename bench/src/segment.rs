//! The limit of durable publishing: a bare segment writer that is given the batches ready.

use std::time::{Duration, Instant};

use newswire_load::scenario::{Better, Figure, Sample, Settings};

use crate::bare::Bare;

/// As tables show it.
pub const NAME: &str = "bare segment writer";

/// Batches of one event of each publisher, written and synced one after the other.
///
/// # Errors
/// When the disk fails.
pub fn durable(settings: &Settings) -> anyhow::Result<Sample> {
    let dir = tempfile::tempdir()?;
    let mut bare = Bare::create(dir.path())?;
    // About what an event takes once the server has added id, time and offset.
    let record = vec![b'x'; settings.event_bytes + 120];
    let mut rate = 0.0;
    // The first part warms up the disk, as the servers' does.
    for time in [Duration::from_millis(400), settings.time] {
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < time {
            bare.append(std::iter::repeat_n(&record[..], settings.publishers))?;
            count += settings.publishers;
        }
        rate = count as f64 / started.elapsed().as_secs_f64();
    }
    let figure = Figure { name: "acknowledged", unit: "/s", better: Better::Higher, value: rate };
    Ok(Sample { figures: vec![figure], ..Sample::default() })
}
