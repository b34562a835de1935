//! What goes wrong and how it is called on the wire: error texts, close codes, reasons, and the epoch.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

/// Why a command, an event or a parameter was refused. Texts and codes are frozen: clients match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A command over its limit.
    MessageTooLarge,
    /// Not JSON.
    InvalidJson,
    /// JSON, but no object.
    ExpectedJsonObject,
    /// `action` is missing, no string, or none that the server knows.
    UnknownAction,
    /// A field is missing or has the wrong type, and has no text of its own.
    InvalidControlMessage,
    /// `channels` is missing or no list of strings.
    ChannelsNotStrings,
    /// `filters` is no object.
    FiltersNotObject,
    /// A filter has too many keys or values, or one is too long.
    FilterBoundsExceeded,
    /// The channel is not declared here.
    UnknownChannel,
    /// The identity may not do this.
    Forbidden,
    /// The event breaks a rule; the detail names the field.
    InvalidEvent,
    /// The event is over its limit.
    EventTooLarge,
    /// The publisher used this event id for another event.
    IdConflict,
    /// The disk is full; reads go on.
    StorageFull,
    /// The log takes no events: it is shutting down, or a failed write stopped it.
    Unavailable,
    /// More often than the server allows this identity or address.
    TooManyRequests,
    /// A query parameter of an HTTP call has a bad value (never sent on a WebSocket).
    InvalidParameter,
}

impl ErrorCode {
    /// Every code, in the order of the protocol page.
    pub const ALL: [Self; 17] = [
        Self::MessageTooLarge,
        Self::InvalidJson,
        Self::ExpectedJsonObject,
        Self::UnknownAction,
        Self::InvalidControlMessage,
        Self::ChannelsNotStrings,
        Self::FiltersNotObject,
        Self::FilterBoundsExceeded,
        Self::UnknownChannel,
        Self::Forbidden,
        Self::InvalidEvent,
        Self::EventTooLarge,
        Self::IdConflict,
        Self::StorageFull,
        Self::Unavailable,
        Self::TooManyRequests,
        Self::InvalidParameter,
    ];

    /// The fixed text, the field `error` on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Self::MessageTooLarge => "Message too large",
            Self::InvalidJson => "Invalid JSON",
            Self::ExpectedJsonObject => "Expected JSON object",
            Self::UnknownAction => "Unknown action",
            Self::InvalidControlMessage => "Invalid control message",
            Self::ChannelsNotStrings => "channels must be a list of strings",
            Self::FiltersNotObject => "filters must be an object",
            Self::FilterBoundsExceeded => "Filter bounds exceeded",
            Self::UnknownChannel => "Unknown channel",
            Self::Forbidden => "Forbidden",
            Self::InvalidEvent => "Invalid event",
            Self::EventTooLarge => "Event too large",
            Self::IdConflict => "Id conflict",
            Self::StorageFull => "Storage full",
            Self::Unavailable => "Storage unavailable",
            Self::TooManyRequests => "Too many requests",
            Self::InvalidParameter => "Invalid parameter",
        }
    }

    /// The machine-readable twin, the field `code` on the wire: the text in snake_case.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MessageTooLarge => "message_too_large",
            Self::InvalidJson => "invalid_json",
            Self::ExpectedJsonObject => "expected_json_object",
            Self::UnknownAction => "unknown_action",
            Self::InvalidControlMessage => "invalid_control_message",
            Self::ChannelsNotStrings => "channels_must_be_a_list_of_strings",
            Self::FiltersNotObject => "filters_must_be_an_object",
            Self::FilterBoundsExceeded => "filter_bounds_exceeded",
            Self::UnknownChannel => "unknown_channel",
            Self::Forbidden => "forbidden",
            Self::InvalidEvent => "invalid_event",
            Self::EventTooLarge => "event_too_large",
            Self::IdConflict => "id_conflict",
            Self::StorageFull => "storage_full",
            Self::Unavailable => "storage_unavailable",
            Self::TooManyRequests => "too_many_requests",
            Self::InvalidParameter => "invalid_parameter",
        }
    }

    /// The code with this snake_case name.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }
}

/// A refusal as the client is told it: the code, and what exactly was wrong where that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Which rule was broken.
    pub code: ErrorCode,
    /// More for a human: the field and what is expected. Not part of the contract's fixed texts.
    pub detail: Option<String>,
    /// How long to wait before trying again, where that is known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with a detail.
    pub fn because(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()), retry_after: None }
    }

    /// A refusal of what comes too often; the same is taken after `wait`.
    pub fn too_often(detail: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::because(ErrorCode::TooManyRequests, detail) }
    }

    /// [`Refusal::retry_after`] in whole milliseconds, at least one.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after
            .map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1))
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, detail: None, retry_after: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.text())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// Why the server closes a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The server is shutting down; the reason carries `retry_after_ms=N`.
    ShuttingDown = 1001,
    /// A bad frame.
    Protocol = 1002,
    /// A text that is not UTF-8.
    NotUtf8 = 1007,
    /// A message over the limit.
    TooBig = 1009,
    /// Authentication failed or is missing.
    AuthFailed = 4001,
    /// Not permitted, or the credentials expired or were revoked.
    NotPermitted = 4003,
    /// Too slow, or reads nothing.
    TooSlow = 4008,
    /// No answer to a ping.
    NoHeartbeat = 4009,
    /// Too many connections or commands.
    TooMany = 4029,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// Why events may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The subscriber was too slow and its policy drops.
    Backlog,
    /// Retention trimmed them.
    Retention,
    /// The log began a new epoch.
    Epoch,
    /// The identity may be sent these channels, but not read their past.
    Forbidden,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Backlog, Self::Retention, Self::Epoch, Self::Forbidden];

    /// The word on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Retention => "retention",
            Self::Epoch => "epoch",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Why a channel of a `subscribe` was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// It is not declared here, or is no channel name at all.
    UnknownChannel,
    /// The identity may not read it.
    Forbidden,
}

impl RejectReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::UnknownChannel, Self::Forbidden];

    /// The word on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Self::UnknownChannel => "unknown_channel",
            Self::Forbidden => "forbidden",
        }
    }
}

/// One incarnation of the log. Offsets compare only within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub Uuid);

impl Epoch {
    /// The epoch of these sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for Epoch {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_texts_in_snake_case() {
        for code in ErrorCode::ALL {
            assert_eq!(code.text().to_lowercase().replace(' ', "_"), code.code());
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
    }

    #[test]
    fn an_epoch_is_written_hyphenated_and_read_back() {
        let epoch = Epoch::from_bytes([7; 16]);
        assert_eq!(epoch.to_string(), "07070707-0707-0707-0707-070707070707");
        assert_eq!(epoch.to_string().parse::<Epoch>().unwrap(), epoch);
    }
}
