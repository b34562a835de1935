//! Rust client of Newswire: publishes, subscribes, reconnects and resumes by itself.
