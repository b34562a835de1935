//! Rust client of Newswire: publishes, subscribes, reconnects and resumes by itself.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::StreamExt;
//! use newswire_client::{Client, Interest, Item, Start};
//!
//! let client = Client::new("http://127.0.0.1:8080")?;
//! client.publish_batch(&[r#"{"channel":"tasks","event_type":"task.created","payload":{"id":"task-1"}}"#]).await?;
//!
//! let mut feed = client.subscribe([Interest::in_channels(["tasks"]).filter("agent", "ada").start(Start::History(20))]);
//! while let Some(item) = feed.next().await {
//!     if let Item::Event(received) = item? {
//!         println!("{} {}", received.event.offset, received.event.event_type);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
mod conversation;
mod ending;
mod history;
mod interest;
mod item;
mod problem;
mod publish;
mod resume;
mod stream;
mod subscription;
mod tls;

pub use backoff::Backoff;
pub use client::{Client, ClientError};
pub use history::{Health, HistoryPage, HistoryQuery, Received, RequestError};
pub use interest::Interest;
pub use item::{Gap, GapCause, Item, SubscribeError};
pub use problem::Problem;
pub use publish::{Outcome, PublishError};
pub use resume::{Position, Start};
pub use subscription::{Patience, Subscription};
pub use tls::{Tls, TlsError};
