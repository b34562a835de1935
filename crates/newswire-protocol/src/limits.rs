//! The bounds of the wire. What a deployment may change is in [`Limits`]; the rest is fixed.

/// The largest offset: the largest integer that every JSON reader holds exactly.
pub const MAX_OFFSET: u64 = (1 << 53) - 1;
/// Bytes of a channel name, an event type, or the name of a set (`sub`, in characters).
pub const MAX_NAME_BYTES: usize = 128;
/// Bytes of an event id.
pub const MAX_EVENT_ID_BYTES: usize = 128;
/// Levels of nesting in a payload; the payload object itself is level 1.
pub const MAX_PAYLOAD_DEPTH: usize = 64;
/// Independent sets of subscriptions (`sub`) on one connection.
pub const MAX_SETS: usize = 100;
/// Keys of one filter.
pub const MAX_FILTER_KEYS: usize = 10;
/// Values of one filter key.
pub const MAX_FILTER_VALUES: usize = 64;
/// Code points of a filter key or of a filter value.
pub const MAX_FILTER_CHARS: usize = 256;
/// Bytes of a WebSocket message from a client; more closes the connection with 1009.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Default of [`Limits::event_bytes`].
pub const DEFAULT_EVENT_BYTES: usize = 65_536;
/// Default of [`Limits::command_bytes`].
pub const DEFAULT_COMMAND_BYTES: usize = 4_096;

/// The bounds that a deployment chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an event as the publisher sends it: the whole `publish` frame, or one object of an HTTP body.
    pub event_bytes: usize,
    /// Bytes of any command but `publish`.
    pub command_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { event_bytes: DEFAULT_EVENT_BYTES, command_bytes: DEFAULT_COMMAND_BYTES }
    }
}
