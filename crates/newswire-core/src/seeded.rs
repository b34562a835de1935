//! Faults to be switched on in tests, which prove that the tests would notice them.
//!
//! Compiled only with the feature `seeded-bugs`; without it every switch is `false` at compile time.

/// A fault that can be switched on for the present thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// A replay that joins the live path takes itself to be one event further than it is.
    SeamOffByOne,
    /// Dropped events are not told.
    GapUntold,
    /// A checkpoint counts a replay that still runs as done.
    CheckpointTooFar,
    /// An event that two sets match is sent twice.
    SetsNotMerged,
    /// Under `drop_oldest` a gap moves before answers that wait.
    AnswerLosesPlace,
    /// A subscriber that caught up with the log is pushed events again from one too late.
    RejoinTooLate,
    /// A replay reads ahead of what was sent live.
    ReplayOvertakes,
    /// The changes that wait in the queue are taken to hold when a subscriber falls behind.
    OldSubscriptionsForgotten,
    /// Who writes directly passes by a gap that waits.
    DirectPastGap,
    /// After a part of a frame was written directly, the whole frame is written again.
    DirectRestRepeated,
    /// Row rules are not asked.
    RowRuleForgotten,
    /// Patterns stand for channels that were not granted.
    GrantsForgotten,
    /// What is read from the ring is not masked.
    RingUnmasked,
    /// Who sees some rows only is told nothing of trims where it asked by a pattern.
    RowTrimsUntold,
    /// Who sees some rows only does not get what stands before the end of a gap.
    RowsHeldBack,
    /// Compressed events are sent to a connection that missed some of those before them.
    WindowMissed,
}

#[cfg(feature = "seeded-bugs")]
mod switch {
    use super::SeededBug;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<SeededBug>> = const { Cell::new(None) };
    }

    /// Switches one fault on, or all off, for this thread.
    pub fn switch(bug: Option<SeededBug>) {
        ON.set(bug);
    }

    pub(crate) fn is_on(bug: SeededBug) -> bool {
        ON.get() == Some(bug)
    }
}

#[cfg(feature = "seeded-bugs")]
pub use switch::switch;

#[cfg(feature = "seeded-bugs")]
pub(crate) fn is_on(bug: SeededBug) -> bool {
    switch::is_on(bug)
}

#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn is_on(_bug: SeededBug) -> bool {
    false
}

/// Whether this fault is switched on; constant `false` without the feature.
macro_rules! seeded_bug {
    ($bug:ident) => {
        $crate::seeded::is_on($crate::seeded::SeededBug::$bug)
    };
}
pub(crate) use seeded_bug;
