//! Catching up over a socket: how fast a subscriber that was away gets what it missed.

use std::time::Instant;

use anyhow::ensure;
use newswire_street_tests::Server;

use crate::machine::cpu_seconds;
use crate::report::{Report, median};
use crate::wire::{self, KeepAlive, Reader};

const EVENTS: u64 = 200_000;
const BATCH: u64 = 1_000;

/// Measures and reports.
///
/// # Errors
/// When the server refuses an event or loses one.
pub async fn measure(report: &mut Report, rounds: usize, event_bytes: usize) -> anyhow::Result<()> {
    let server = Server::start();
    let mut publisher = KeepAlive::open(server.addr).await?;
    let batch: Vec<String> = (0..BATCH).map(|n| wire::event(&format!(r#""n":{n},"#), event_bytes)).collect();
    let body = format!("[{}]", batch.join(","));
    for _ in 0..EVENTS / BATCH {
        ensure!(publisher.publish(&body).await?, "a publish was refused");
    }
    let (mut rates, mut cpu, mut megabytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = cpu_seconds(server.pid());
        let started = Instant::now();
        let mut reader = Reader::open(server.addr, "/api/v1/ws/tasks?after=0", 256 * 1024).await?;
        let (mut next, mut bytes) = (1, 0);
        while next <= EVENTS {
            reader
                .read(|text| {
                    if text.starts_with(b"{\"event_type\"") {
                        ensure!(wire::offset_of(text) == Some(next), "lost or out of order at {next}");
                        bytes += text.len();
                        next += 1;
                    }
                    Ok(())
                })
                .await?;
        }
        let seconds = started.elapsed().as_secs_f64();
        rates.push(EVENTS as f64 / seconds);
        megabytes.push(bytes as f64 / 1e6 / seconds);
        cpu.push((cpu_seconds(server.pid()) - before) / EVENTS as f64 * 1e6);
    }
    let note = format!("{EVENTS} events, median of {rounds}, client included");
    report.add("catch-up over a socket", median(rates), "events/s", note);
    report.add("catch-up over a socket, bytes", median(megabytes), "MB/s", "");
    report.add("catch-up over a socket, server processor time", median(cpu), "µs/event", "");
    Ok(())
}
