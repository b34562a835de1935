//! Publish → receive: one publisher at a steady rate, many subscribers that all want everything.
//!
//! The time counts from the moment when the publish was *due*, not from when it was sent, so that a stall of server or
//! publisher shows in every event it delayed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use newswire_street_tests::Server;

use crate::machine::cpu_seconds;
use crate::report::{Report, quantile};
use crate::wire::{self, Reader, head_end, text_frame, upgrade_request};

/// Events at the start that are sent but not counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures and reports.
///
/// # Errors
/// When the server loses an event, refuses one or a connection ends.
pub async fn measure(
    report: &mut Report,
    rate: u32,
    subscribers: usize,
    time: Duration,
    event_bytes: usize,
) -> anyhow::Result<()> {
    let server = Server::start();
    let (addr, pid) = (server.addr, server.pid());
    let count = u64::from(rate) * (time + WARM_UP).as_secs();
    let counted_from = u64::from(rate) * WARM_UP.as_secs();
    let origin = Instant::now();
    let mut receiving = tokio::task::JoinSet::new();
    for _ in 0..subscribers {
        let mut reader = Reader::open(addr, "/api/v1/ws/tasks", 32 * 1024).await?;
        reader.send(r#"{"action":"subscribe","channels":["tasks"]}"#).await?;
        reader.read_until("\"subscribed\"").await?;
        receiving.spawn(receive(reader, origin, count, counted_from));
    }
    let cpu_before = cpu_seconds(pid);
    let publisher = thread::spawn(move || publish(addr, origin, rate, count, event_bytes));
    let mut samples = Vec::with_capacity(subscribers * count as usize);
    while let Some(received) = receiving.join_next().await {
        samples.extend(received??);
    }
    let lateness = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    let cpu = cpu_seconds(pid) - cpu_before;
    samples.sort_unstable();
    let at = |part| f64::from(quantile(&samples, part)) / 1000.0;
    let what = format!("publish → receive, {rate} events/s, {subscribers} subscribers");
    report.add(format!("{what}: p50"), at(0.5), "ms", format!("{} deliveries", samples.len()));
    report.add(format!("{what}: p99"), at(0.99), "ms", "from the intended publish");
    report.add(format!("{what}: p99.9"), at(0.999), "ms", "");
    report.add(
        format!("{what}: longest"),
        at(1.0),
        "ms",
        format!("publisher late by at most {lateness:.1} ms"),
    );
    let deliveries = (subscribers as u64 * count) as f64;
    report.add("server processor time a delivery", cpu / deliveries * 1e6, "µs", "publishing included");
    Ok(())
}

/// Receives `count` events in order and gives the microseconds each took, but for the first `skipped`.
async fn receive(mut reader: Reader, origin: Instant, count: u64, skipped: u64) -> anyhow::Result<Vec<u32>> {
    let mut took = Vec::with_capacity((count - skipped) as usize);
    let mut next = 0;
    while next < count {
        // One reading of the clock serves all events that one read brought.
        let mut now = None;
        reader
            .read(|text| {
                let Some(due) = due_of(text) else { return Ok(()) };
                let now = *now.get_or_insert_with(|| origin.elapsed().as_micros() as u64);
                ensure!(wire::offset_of(text) == Some(next + 1), "lost or out of order at {next}");
                if next >= skipped {
                    took.push(now.saturating_sub(due) as u32);
                }
                next += 1;
                Ok(())
            })
            .await?;
    }
    Ok(took)
}

/// When this event's publish was due, in microseconds since the origin.
fn due_of(text: &[u8]) -> Option<u64> {
    let at = text.windows(5).position(|window| window == b"{\"t\":")? + 5;
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Publishes on a thread of its own, because a sleeping thread wakes more exactly than a task; gives the most
/// milliseconds by which it was late itself.
fn publish(
    addr: SocketAddr,
    origin: Instant,
    rate: u32,
    count: u64,
    event_bytes: usize,
) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.write_all(upgrade_request(addr, "/api/v1/ws").as_bytes())?;
    let mut head = Vec::new();
    while head_end(&head).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut answers = stream.try_clone()?;
    let answered = thread::spawn(move || count_answers(&mut answers, count));
    let start = origin.elapsed() + Duration::from_millis(100);
    let mut latest = Duration::ZERO;
    for n in 0..count {
        let due = start + Duration::from_secs(1) * n as u32 / rate;
        if let Some(early) = due.checked_sub(origin.elapsed()) {
            thread::sleep(early);
        }
        latest = latest.max(origin.elapsed().saturating_sub(due));
        let event = wire::event(&format!(r#""t":{},"#, due.as_micros()), event_bytes);
        stream.write_all(&text_frame(&event.replacen('{', r#"{"action":"publish","#, 1)))?;
    }
    answered.join().map_err(|_| anyhow::anyhow!("reading the answers panicked"))??;
    Ok(latest.as_secs_f64() * 1000.0)
}

/// Reads answers until `count` publishes are acknowledged.
fn count_answers(stream: &mut TcpStream, count: u64) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut acknowledged, mut unread) = (0, Vec::<u8>::new());
    let mut chunk = [0; 16 * 1024];
    const WORD: &[u8] = b"\"published\"";
    while acknowledged < count {
        let read = stream.read(&mut chunk).context("answers to the publishes")?;
        ensure!(read > 0, "the server closed the publisher's connection");
        unread.extend(&chunk[..read]);
        ensure!(!unread.windows(8).any(|window| window == b"\"error\":"), "a publish was refused");
        acknowledged += unread.windows(WORD.len()).filter(|window| *window == WORD).count() as u64;
        // A word may be cut by the end of the read; what could be its beginning is kept.
        let kept = unread.iter().rev().take(WORD.len() - 1).rev().copied().collect();
        unread = kept;
    }
    Ok(())
}
