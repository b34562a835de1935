//! A feed over a log of one's own, which keeps its events in memory and writes them down for people as well.
//!
//! `cargo run -p newswire-examples --bin own_log -- copy.jsonl`

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use newswire::log::{MemoryLog, MemoryOptions};
use newswire::{Feed, NewEvent};
use newswire_examples::mirrored_log::MirroredLog;
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "copy.jsonl".to_owned());
    let log = MirroredLog::new(MemoryLog::new(MemoryOptions::default())?, Path::new(&file))?;
    let feed = Feed::builder().log(Arc::new(log)).build()?;
    for n in 1..=3 {
        feed.publish(NewEvent::new("tasks", "task.created").payload(&json!({"n": n}))).await?;
    }
    // Closes the log, which completes the copy.
    feed.shutdown(Duration::from_secs(5)).await;
    print!("{}", std::fs::read_to_string(file)?);
    Ok(())
}
