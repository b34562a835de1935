//! The durable log of Newswire and the small shared state beside it.
//!
//! [`EventLog`] is the one log of a deployment and states what an implementation promises; [`MemoryLog`] keeps it in
//! memory, [`EmbeddedLog`] in files of its own. [`check()`] verifies those files, [`backup()`] and [`restore()`] copy them,
//! [`Snapshot`] reads them, all beside a running server.
//!
//! [`Meta`] is the shared state, in [`MemoryMeta`] or [`EmbeddedMeta`].

mod answer;
pub mod backup;
mod buffers;
pub mod check;
mod clock;
mod dedup;
pub mod embedded;
mod event_log;
mod floors;
mod follow;
#[cfg(feature = "jetstream")]
pub mod jetstream;
mod lru;
mod memory;
mod meta;
pub mod moving;
mod page;
#[cfg(feature = "redis")]
pub mod redis;
pub mod remote;
mod retention;
mod shared;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use backup::{Copied, CopyError, backup, restore};
pub use check::{Report, check};
pub use clock::{Clock, ManualClock, SystemClock};
pub use dedup::{Dedup, DedupOptions};
pub use embedded::disk::OsDisk;
pub use embedded::snapshot::Snapshot;
pub use embedded::{EmbeddedLog, EmbeddedOptions, OpenError, SyncMode};
pub use event_log::{
    AppendError, Appended, ChannelStats, Commit, EventLog, LogHealth, LogStats, NewEvent, NewEvents,
    Observer, OnStored, Place, ReadError, Trim, TrimError,
};
pub use follow::{CommitReceiver, FOLLOW_QUEUE};
pub use memory::{MemoryLog, MemoryOptions};
pub use meta::embedded::OpenMetaError;
pub use meta::{
    Answer, Change, EmbeddedMeta, Entry, Expect, Lease, MAX_KEY_BYTES, MAX_VALUE_BYTES, MemoryMeta, Meta,
    MetaError, WATCH_QUEUE, Watch, WatchEnded,
};
pub use remote::{RemoteError, RemoteLog, RemoteOptions, SequenceError, Sequencer};
pub use retention::{RetentionOptions, RetentionPolicy};
pub use writer::BatchOptions;
