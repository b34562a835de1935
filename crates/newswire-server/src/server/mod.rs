//! The running server: the front door, the guard before the routes, the feed behind them, and how they stop.

pub mod accept;
pub mod guard;
mod metrics;
mod problem_shim;
pub mod signals;

pub use metrics::DoorMetrics;
pub(crate) use metrics::count_panic;
