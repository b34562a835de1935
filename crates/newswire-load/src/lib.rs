//! The load generator: thousands of connections in one thread, for Newswire and for whatever is measured beside it.
//!
//! It knows the wire and sockets, and nothing of how the server works: every system is driven by the same loop, sees the
//! same events, and is looked at from outside. [`peer`] says how a system takes part.

pub mod bare;
pub mod chart;
pub mod compare;
mod connection;
pub mod event;
pub mod http;
pub mod machine;
pub mod newswire;
pub mod peer;
pub mod process;
pub mod report;
pub mod scan;
pub mod scenario;
pub mod stats;
pub mod swarm;
mod timer;
pub mod trial;
pub mod websocket;
