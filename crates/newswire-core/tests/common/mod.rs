//! What several tests of the core need.

use std::sync::Arc;
use std::time::Duration;

use newswire_core::{LogView, Lost, Now, Selector};
use newswire_protocol::{Epoch, UnixMicros};

/// A log that was never read: the subscribers here live on what is pushed.
pub(crate) struct Unread;

impl LogView for Unread {
    fn epoch(&self) -> Epoch {
        Epoch(uuid::Uuid::nil())
    }
    fn head(&self) -> u64 {
        1
    }
    fn tail(&self) -> u64 {
        1
    }
    fn channels(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn lost(&self, _: &Selector, _: u64) -> Vec<Lost> {
        Vec::new()
    }
    fn lost_since(&self, _: &Selector, _: UnixMicros) -> Vec<Lost> {
        Vec::new()
    }
}

/// The time it always is here.
pub(crate) fn now() -> Now {
    Now { mono: Duration::from_secs(1), wall: UnixMicros(1) }
}
