//! Durable publishes a second: many publishers, each waiting for its answer, beside a bare writer on the same disk.

use std::time::{Duration, Instant};

use anyhow::ensure;
use newswire_street_tests::Server;

use crate::bare::Bare;
use crate::machine::cpu_seconds;
use crate::report::{Report, median};
use crate::wire::{self, KeepAlive};

/// Measures and reports.
///
/// # Errors
/// When the server refuses an event or a connection ends.
pub async fn measure(
    report: &mut Report,
    publishers: usize,
    time: Duration,
    rounds: usize,
    event_bytes: usize,
) -> anyhow::Result<()> {
    let share = time / rounds.max(1) as u32;
    let (mut rates, mut ratios, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let bare = bare_rate(publishers, share, event_bytes)?;
        let (rate, cpu_an_event) = http_rate(publishers, share, event_bytes).await?;
        rates.push(rate);
        ratios.push(rate / bare);
        cpu.push(cpu_an_event);
    }
    let what = format!("durable publishes over HTTP, {publishers} publishers");
    let note = format!("one event a request, keep-alive; median of {rounds}");
    report.add(what.clone(), median(rates), "events/s", note);
    report.add(format!("{what}, of a bare writer"), median(ratios), "×", format!("batches of {publishers}"));
    report.add(format!("{what}, server processor time"), median(cpu), "µs/event", "");
    Ok(())
}

async fn http_rate(publishers: usize, time: Duration, event_bytes: usize) -> anyhow::Result<(f64, f64)> {
    let server = Server::start();
    let body = wire::event("", event_bytes);
    let mut connections = Vec::new();
    for _ in 0..publishers {
        let mut connection = KeepAlive::open(server.addr).await?;
        ensure!(connection.publish(&body).await?, "a publish was refused");
        connections.push(connection);
    }
    let (cpu_before, started) = (cpu_seconds(server.pid()), Instant::now());
    let mut publishing = tokio::task::JoinSet::new();
    for mut connection in connections {
        let body = body.clone();
        publishing.spawn(async move {
            let mut count = 0u64;
            while started.elapsed() < time {
                ensure!(connection.publish(&body).await?, "a publish was refused");
                count += 1;
            }
            Ok(count)
        });
    }
    let mut count = 0;
    while let Some(published) = publishing.join_next().await {
        count += published??;
    }
    let count = count as f64;
    Ok((count / started.elapsed().as_secs_f64(), (cpu_seconds(server.pid()) - cpu_before) / count * 1e6))
}

/// Events a second that a bare writer makes durable in batches of this size.
///
/// # Errors
/// When the disk fails.
fn bare_rate(batch: usize, time: Duration, event_bytes: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let mut bare = Bare::create(dir.path())?;
    // About what an event takes once the server has added id, time and offset.
    let records = vec![vec![b'x'; event_bytes + 120]; batch];
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < time {
        bare.append(&records)?;
        count += batch;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
