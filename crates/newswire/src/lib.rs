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
mod event_id;
mod fanout;
mod feed;
mod health;
mod http;
mod ingest;
mod metrics;
mod reader;
mod settings;
mod socket;

pub use feed::{Feed, FeedBuilder, StartError};
pub use health::{BusState, FeedState, Health, LogState};
pub use http::problem::Problem;
pub use metrics::Metrics;
pub use settings::Settings;

/// What a publisher is told of one stored event.
pub use newswire_core::Published;

/// The log under a feed.
pub use newswire_log as log;

/// Content type of [`Feed::metrics_text`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
