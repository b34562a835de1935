//! A read of the log as an effect: the session asks, the shell performs, the page comes back.

use std::sync::Arc;

use newswire_protocol::{Epoch, UnixMicros};

use crate::event::Run;
use crate::selector::Selector;
use crate::view::Lost;

/// A bounded read. The shell performs it off the async threads and answers with a [`Page`].
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// What is wanted.
    pub selector: Arc<Selector>,
    /// Towards newer or older events.
    pub direction: Direction,
    /// Exclusive: forward reads offsets greater than this, backward smaller ones.
    pub from: u64,
    /// Only events stored at or after this time.
    pub since: Option<UnixMicros>,
    /// Inclusive bound: forward the last offset to look at (`u64::MAX` for none), backward the first (0 for none).
    pub until: u64,
    /// The page ends before the event that would exceed these bytes of frames; one event always fits.
    pub max_bytes: usize,
    /// The page ends behind so many events.
    pub max_events: usize,
    /// The page may end, even empty, once so many bytes have been looked at.
    pub max_scan_bytes: usize,
}

/// Which way a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the tail.
    Forward,
    /// Towards the head.
    Backward,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Page {
    /// The epoch that the offsets belong to.
    pub epoch: Epoch,
    /// Matching events: forward in ascending order; backward in descending order, by run and by pick.
    pub runs: Vec<Run>,
    /// Forward: every event at or below this offset has been examined, never beyond `until`; equal to `until` where
    /// the end was reached by it. Backward: every event at or above it has been.
    pub reached: u64,
    /// Nothing is left to read: `until`, the tail or the head was reached.
    pub end: bool,
    /// Forward: channels of the selector of which events beyond `from` (and their entries' `after`) are trimmed, as
    /// [`crate::LogView::lost`] tells it at the time of this read.
    pub lost: Vec<Lost>,
    /// Bytes looked at, for metrics.
    pub scanned_bytes: u64,
}
