//! Agents that talk to each other: each one listens to what is said to it and answers, and an onlooker keeps the minutes.
//!
//! `cargo run -p newswire-examples --bin chat`

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use std::time::Duration;

use newswire::{Delivery, Feed, Interest, NewEvent, Update};
use serde::{Deserialize, Serialize};

/// How often the word goes to and fro.
const ROUNDS: u32 = 3;

/// What agents say. The key `to` is one that the filter `agent` looks at.
#[derive(Serialize, Deserialize)]
struct Said {
    from: String,
    to: String,
    text: String,
    round: u32,
}

impl Said {
    fn event(&self) -> NewEvent {
        NewEvent::new("messages", "message.sent").source(&*self.from).payload(self)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let feed = Feed::builder().build()?;
    let minutes = feed.subscribe("messages").await?;
    let (ada, tom) = (listen(&feed, "ada", "tom").await?, listen(&feed, "tom", "ada").await?);
    let opening = Said { from: "ada".into(), to: "tom".into(), text: "shall we begin?".into(), round: 0 };
    feed.publish(opening.event()).await?;
    keep_minutes(minutes).await?;
    // Each of them hears what was said to it so far, and leaves.
    ada.join().await?;
    tom.join().await?;
    feed.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Has `name` answer everything that `other` says to it.
async fn listen(feed: &Feed, name: &'static str, other: &'static str) -> anyhow::Result<Delivery> {
    let to_me = Interest::in_channels(["messages"]).filter("to", name);
    let (subscription, answering) = (feed.subscribe(to_me).await?, feed.clone());
    Ok(feed.deliver(subscription, move |update| {
        let feed = answering.clone();
        async move {
            let Update::Event(event) = update else { return anyhow::Ok(()) };
            let heard: Said = event.payload_as()?;
            if heard.round < ROUNDS {
                let text = format!("I heard {:?}", heard.text);
                let answer = Said { from: name.into(), to: other.into(), text, round: heard.round + 1 };
                // Whose answer this is can be told from the events alone.
                feed.publish(answer.event().causation_id(event.decode()?.event_id)).await?;
            }
            Ok(())
        }
    }))
}

/// Writes down what is said, to the end of the last round.
async fn keep_minutes(mut minutes: newswire::Subscription) -> anyhow::Result<()> {
    while let Some(update) = minutes.next().await {
        let Update::Event(event) = update? else { continue };
        let said: Said = event.payload_as()?;
        println!("{} to {}: {}", said.from, said.to, said.text);
        if said.round == ROUNDS {
            break;
        }
    }
    Ok(())
}
