//! Newswire as a library: a durable event feed with live WebSocket subscribers, for axum applications.
//!
//! ```no_run
//! use std::sync::Arc;
//! use newswire::{Feed, log::{MemoryLog, MemoryOptions}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let feed = Feed::builder().log(Arc::new(MemoryLog::new(MemoryOptions::default())?)).start()?;
//! let app: axum::Router = axum::Router::new().nest("/api/v1", feed.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Events go one way: [`Feed::publish`] (or HTTP, or a WebSocket) → the log → the hub → one cursor a subscriber →
//! its socket. Nothing is shown before it is durable.

mod channels;
mod connections;
mod event;
mod event_id;
mod fanout;
mod feed;
mod health;
mod http;
mod ingest;
mod interest;
mod metrics;
mod reader;
mod reload;
mod settings;
mod socket;
mod subscription;

pub use event::Event;
pub use feed::{Feed, FeedBuilder, StartError};
pub use health::{BusState, FeedState, Health, LogState};
pub use http::problem::Problem;
pub use interest::Interest;
pub use metrics::Metrics;
pub use settings::Settings;
pub use subscription::{Ended, SubscribeError, Subscription, Update};

/// What a publisher is told of one stored event.
pub use newswire_core::Published;

/// What a subscriber is told of its subscriptions, and of what may be missing.
pub use newswire_core::{Answer, Missing};

/// On whose behalf events are read and published.
pub use newswire_core::{Principal, RowRule, VariantId};

/// The words of the wire, as far as the library's interface speaks them.
pub use newswire_protocol::{
    Draft, Epoch, ErrorCode, GapReason, Limits, Refusal, Scalar, SinceSpec, Start, UnixMicros,
};

/// The log under a feed.
pub use newswire_log as log;

/// Content type of [`Feed::metrics_text`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
