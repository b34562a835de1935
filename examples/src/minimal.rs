//! The least there is: publish an event, and see it.
//!
//! `cargo run -p newswire-examples --bin minimal`

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use newswire::{Feed, Interest, NewEvent, Update};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // In memory; `.data_dir("./events")` keeps them.
    let feed = Feed::builder().channels(["greetings"]).build()?;
    feed.publish(NewEvent::new("greetings", "said").payload(&json!({"text": "hello"}))).await?;

    // From the past into the present, without a seam.
    let mut updates = feed.subscribe(Interest::in_channels(["greetings"]).history(10)).await?;
    feed.publish(NewEvent::new("greetings", "said").payload(&json!({"text": "good bye"}))).await?;
    let mut seen = 0;
    while seen < 2
        && let Some(update) = updates.next().await
    {
        if let Update::Event(event) = update? {
            println!("{}: {}", event.offset(), event.payload());
            seen += 1;
        }
    }
    feed.shutdown(std::time::Duration::from_secs(5)).await;
    Ok(())
}
