//! Who gets in, by every way in; and who does not, by every way that was thought of. Over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit_channel;
mod cookies;
mod jwks;
mod live;
mod names;
mod nodes;
mod permissions;
mod recognized;
mod refused;
mod reload;
mod rows;
mod secrets;
mod strangers;
mod support;
mod tickets;
