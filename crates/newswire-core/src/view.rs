//! What a session may ask of the log without waiting.

use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};

use crate::selector::Selector;

/// Facts about the log that it keeps in memory: every call returns at once and never does I/O.
///
/// Each call is a snapshot of its own: between two calls events may be stored, and trimmed.
pub trait LogView {
    /// The incarnation that offsets belong to.
    fn epoch(&self) -> Epoch;

    /// The oldest retained offset; the tail if nothing is retained.
    fn head(&self) -> u64;

    /// The next offset to be written: every durable event has a smaller one. 1 for a log that never held any.
    fn tail(&self) -> u64;

    /// The channels that have retained events, sorted.
    fn channels(&self) -> Vec<Arc<str>>;

    /// The channels of the selector of which events beyond `after` (and beyond the `after` of each of their entries
    /// for it) have been trimmed. Filters do not count: nobody knows any more what the events held. Sorted by name;
    /// empty if nothing was lost.
    fn lost(&self, selector: &Selector, after: u64) -> Vec<Lost>;

    /// The channels of the selector of which events stored at or after `since` have been trimmed.
    fn lost_since(&self, selector: &Selector, since: UnixMicros) -> Vec<Lost>;
}

/// Events of a channel that were asked for and are no longer retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub channel: Arc<str>,
    /// The highest trimmed offset of the channel.
    pub to: u64,
}
