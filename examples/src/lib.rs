//! What the examples have that is worth taking along: a log of one's own.

pub mod mirrored_log;
