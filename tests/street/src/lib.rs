//! Harness of the black-box tests: the real binary, over real sockets, in a temporary directory.
//!
//! [`Server`] starts and kills `newswire serve`; [`Http`], [`Socket`] and [`Raw`] speak to it; [`naive`] says what a
//! subscriber should have received, in the plainest way that can be written down. [`chaos`] breaks several nodes and what is
//! beneath them, records a [`history`], and [`check`] judges it.

#![allow(clippy::unwrap_used, reason = "every line here runs only inside tests")]

pub mod authority;
pub mod binary;
pub mod browser;
pub mod chaos;
pub mod check;
pub mod clients;
pub mod collector;
pub mod daemon;
pub mod data;
pub mod deflated;
pub mod deployment;
pub mod documents;
pub mod engines;
pub mod half_open;
pub mod haproxy;
pub mod history;
pub mod http;
pub mod naive;
pub mod nats;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod server;
pub mod sign_in;
pub mod socket;
pub mod sse;
pub mod tools;

pub use authority::Authority;
pub use browser::Browser;
pub use engines::EngineServer;
pub use http::{Answer, Http};
pub use nats::{NatsCluster, NatsOptions, NatsServer};
pub use raw::{Ending, Frame, Raw};
pub use redis::RedisServer;
pub use server::{Server, ServerOptions};
pub use socket::{Heard, Socket};
pub use sse::EventStream;

use std::time::Duration;

/// How long a test waits for something that must happen; generous, because it only costs time when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` answers something, asking every few milliseconds.
///
/// # Panics
/// When [`PATIENCE`] runs out; `what` names the condition.
pub async fn eventually<T, F, Fut>(what: &str, condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    within(PATIENCE, what, condition).await
}

/// As [`eventually`], with its own deadline: for conditions that the contract bounds in time.
///
/// # Panics
/// When `limit` runs out; `what` names the condition.
pub async fn within<T, F, Fut>(limit: Duration, what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
