//! What compressing events gains and costs: events as JSON Lines on standard input, a table on standard output.
//!
//! `newswire demo --print --events 8000 | cargo run --release -p newswire-protocol --example compression`

#![allow(clippy::print_stdout, reason = "figures are this program's output")]

use std::io::{self, BufRead};
use std::time::Instant;

use newswire_protocol::deflate::Deflater;

fn main() -> io::Result<()> {
    let events: Vec<String> = io::stdin().lock().lines().collect::<io::Result<_>>()?;
    let bytes: usize = events.iter().map(String::len).sum();
    println!("{} events, {bytes} bytes\n", events.len());
    println!("| segment | times smaller | µs an event |\n| --- | ---: | ---: |");
    for (name, segment_bytes) in [
        ("each event alone", 0),
        ("16 KiB", 16 << 10),
        ("32 KiB", 32 << 10),
        ("64 KiB", 64 << 10),
        ("128 KiB", 128 << 10),
        ("256 KiB", 256 << 10),
        ("no end", usize::MAX),
    ] {
        let (mut deflater, mut segment, mut compressed) = (Deflater::new(), 0, 0);
        let mut frames = Vec::new();
        let begun = Instant::now();
        for event in &events {
            if segment >= segment_bytes && segment > 0 {
                deflater.restart();
                segment = 0;
            }
            segment += event.len();
            frames.clear();
            deflater.push_text(&mut frames, event.as_bytes());
            compressed += frames.len();
        }
        let micros = begun.elapsed().as_secs_f64() * 1e6 / events.len().max(1) as f64;
        println!("| {name} | {:.2} | {micros:.2} |", bytes as f64 / compressed.max(1) as f64);
    }
    Ok(())
}
