//! Newswire as a library: a durable event feed with live WebSocket subscribers, for axum applications.
//!
//! ```no_run
//! use newswire::{Feed, NewEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let feed = Feed::builder().channels(["tasks", "agents"]).data_dir("./events").build()?;
//! feed.publish(NewEvent::new("tasks", "task.created")).await?;
//! let app: axum::Router = axum::Router::new().nest("/api/v1", feed.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Events go one way: [`Feed::publish`] (or HTTP, or a WebSocket) → the log → the hub → one cursor a subscriber →
//! its socket. Nothing is shown before it is durable.

mod audit;
mod auth;
mod channels;
mod connections;
mod crowd;
mod event;
mod event_id;
mod failures;
mod fanout;
mod feed;
mod health;
mod history;
mod http;
mod ingest;
mod interest;
mod metrics;
mod new_event;
mod rates;
mod reader;
mod reload;
mod settings;
mod socket;
mod soon;
mod subscription;
mod traces;

pub use auth::{AuthError, Authenticate, Credential, Identity, IssuedTicket, Revocation};
pub use crowd::{Crowd, Held};
pub use event::Event;
pub use failures::FailureLimit;
pub use feed::{BuildError, Feed, FeedBuilder};
pub use health::{BusState, FeedState, Health, LogState};
pub use history::{History, HistoryError, HistoryPage, MAX_HISTORY_EVENTS};
pub use http::describe::descriptions;
#[cfg(feature = "docs")]
pub use http::describe::docs::docs;
pub use http::problem::{Problem, ProblemCode};
pub use http::stream::{ConnectionCut, Kept};
pub use interest::Interest;
pub use metrics::Metrics;
pub use new_event::NewEvent;
pub use rates::{Caller, MAX_CALLERS, Rate, Rates, Standing, network};
pub use settings::Settings;
pub use soon::PublishSoonError;
pub use subscription::{Delivery, DeliveryError, Ended, Outcome, SubscribeError, Subscription, Update};

/// What a publisher is told of one stored event.
pub use newswire_core::Published;

/// What a subscriber is told of its subscriptions, and of what may be missing.
pub use newswire_core::{Answer, Missing};

/// On whose behalf events are read and published.
pub use newswire_core::{Action, BadPattern, Filter, Grants, Principal, Role, RowRule, Variant};

/// What happens to a subscriber who is slow.
pub use newswire_core::BacklogPolicy;

/// The words of the wire, as far as the library's interface speaks them.
pub use newswire_protocol::{
    Draft, Epoch, ErrorCode, GapReason, Limits, Refusal, Scalar, SinceSpec, Start, UnixMicros,
};

/// The log under a feed.
pub use newswire_log as log;

/// What a log of your own reads and answers: selectors, pages, batches.
pub use newswire_core as core;

/// Content type of [`Feed::metrics_text`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The code of the how-to is compiled with the examples of this documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;
