//! Plays recorded events, one JSON object a line, plain or gzip, into a feed on disk, and shows what a filter lets through.
//!
//! `cargo run -p newswire-examples --bin recorded -- events.jsonl.gz ./events agent=programmer`

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use newswire::{Draft, Feed, Interest, Principal, Update};

/// Events of one call: they share a commit.
const AT_ONCE: usize = 512;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("name a file of events")?;
    let directory = arguments.next().context("name a directory for the feed")?;
    let feed = Feed::builder().arbitrary_channels().data_dir(directory).build()?;
    let mut interest = Interest::in_everything().after(feed.log().epoch(), feed.log().tail() - 1);
    for filter in arguments {
        let (key, value) = filter.split_once('=').context("a filter is written key=value")?;
        interest = interest.filter(key, value);
    }
    let show = feed.deliver(feed.subscribe(interest).await?, async |update| match update {
        Update::Event(event) => {
            println!("{}", String::from_utf8_lossy(event.json()));
            Ok(())
        }
        Update::Gap(gap) => Err(format!("{} to {} are missing", gap.from, gap.to)),
        _ => Ok(()),
    });
    play(&feed, Path::new(&file)).await?;
    // Whatever was published above is shown.
    show.join().await?;
    feed.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Publishes every line in order.
async fn play(feed: &Feed, file: &Path) -> anyhow::Result<()> {
    let mut drafts = Vec::with_capacity(AT_ONCE);
    for (number, line) in open(file)?.lines().enumerate() {
        let draft = Draft::parse(&line?, &feed.settings().limits);
        drafts.push(draft.with_context(|| format!("line {}", number + 1))?);
        if drafts.len() == AT_ONCE {
            publish(feed, std::mem::take(&mut drafts)).await?;
        }
    }
    publish(feed, drafts).await
}

async fn publish(feed: &Feed, drafts: Vec<Draft>) -> anyhow::Result<()> {
    for result in feed.publish_drafts(&Principal::anonymous(), drafts).await {
        result?;
    }
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let text = File::open(file).with_context(|| file.display().to_string())?;
    let packed = file.extension().is_some_and(|extension| extension == "gz");
    let text: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(text)) } else { Box::new(text) };
    Ok(Box::new(BufReader::new(text)))
}
