//! What the server says, as clients read it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Event;
use crate::json;

/// A message from the server. Lists and texts are as sent; unknown fields are ignored.
#[derive(Clone, Debug)]
pub enum ServerMessage {
    /// An event.
    Event(Box<Event>),
    /// The answer to a `subscribe`.
    Subscribed {
        /// All channels and patterns now subscribed in this set, sorted.
        channels: Vec<String>,
        /// The last offset of the log at that moment.
        offset: u64,
        /// The log's epoch.
        epoch: String,
        /// For `after` and `since`: whether nothing that was asked for is lost.
        recovered: Option<bool>,
        /// Refused names, each with its reason.
        rejected: Vec<Rejected>,
        /// The command's id and set.
        echo: Echoed,
    },
    /// The answer to an `unsubscribe`.
    Unsubscribed {
        /// What remains in this set, sorted.
        channels: Vec<String>,
        /// The command's id and set.
        echo: Echoed,
    },
    /// An event is durable.
    Published {
        /// Its offset.
        offset: u64,
        /// Its id.
        event_id: String,
        /// Whether it was stored before, under the same id.
        duplicate: bool,
        /// The command's id.
        echo: Echoed,
    },
    /// The answer to a `ping`.
    Pong {
        /// The command's id.
        echo: Echoed,
    },
    /// The answer to an `auth`.
    AuthOk {
        /// The command's id.
        echo: Echoed,
    },
    /// A command failed.
    Error {
        /// The fixed text.
        error: String,
        /// Its snake_case twin.
        code: String,
        /// More for a human.
        detail: Option<String>,
        /// How long to wait before trying again, in milliseconds.
        retry_after_ms: Option<u64>,
        /// The command's id.
        echo: Echoed,
    },
    /// A replay is over.
    CaughtUp {
        /// The channels of the command.
        channels: Vec<String>,
        /// How far it went.
        offset: u64,
        /// The command's id and set.
        echo: Echoed,
    },
    /// Everything up to this offset has been sent.
    Checkpoint {
        /// Safe to resume from.
        offset: u64,
    },
    /// Events may be missing.
    Gap {
        /// Of these channels.
        channels: Vec<String>,
        /// First offset that may be missing.
        from: u64,
        /// Last offset that may be missing.
        to: u64,
        /// `backlog`, `retention`, `epoch`, `forbidden`, or one of a later version.
        reason: String,
        /// The log's epoch.
        epoch: Option<String>,
        /// The set.
        echo: Echoed,
    },
    /// An action that this version does not know; to be ignored.
    Unknown,
}

/// What an answer repeats of its command.
#[derive(Clone, Debug, Default)]
pub struct Echoed {
    /// The id, as JSON text.
    pub id: Option<Box<RawValue>>,
    /// The set.
    pub sub: Option<String>,
}

/// A refused name of a `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rejected {
    /// The name.
    pub channel: String,
    /// `unknown_channel`, `forbidden`, or one of a later version.
    pub reason: String,
}

/// Every field that any message but an event has.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Fields {
    action: Option<String>,
    id: Option<Box<RawValue>>,
    sub: Option<String>,
    channels: Vec<String>,
    offset: u64,
    epoch: Option<String>,
    recovered: Option<bool>,
    rejected: Vec<Rejected>,
    event_id: String,
    duplicate: bool,
    error: String,
    code: String,
    detail: Option<String>,
    retry_after_ms: Option<u64>,
    from: u64,
    to: u64,
    reason: String,
}

const KNOWN: [&str; 9] =
    ["subscribed", "unsubscribed", "published", "pong", "auth_ok", "error", "caught_up", "checkpoint", "gap"];

/// Reads one text frame from the server.
///
/// # Errors
/// What is no JSON object, or a known message whose fields have other types.
pub fn parse_server_message(text: &str) -> Result<ServerMessage, serde_json::Error> {
    let mut action = None;
    // Derived readers take an array for a struct as well, so that it is an object is seen to here.
    let is_object = json::members(text, |key, value| {
        if key.is("action") {
            action = Some(value);
        }
    });
    if !is_object.map_err(serde::de::Error::custom)? {
        return Err(serde::de::Error::custom("expected an object"));
    }
    let Some(action) = action else {
        return serde_json::from_str(text).map(Box::new).map(ServerMessage::Event);
    };
    if !json::string(action).is_some_and(|action| KNOWN.contains(&&*action)) {
        return Ok(ServerMessage::Unknown);
    }
    serde_json::from_str::<Fields>(text).map(Fields::message)
}

impl Fields {
    fn message(self) -> ServerMessage {
        let echo = Echoed { id: self.id, sub: self.sub };
        let (channels, offset) = (self.channels, self.offset);
        match self.action.as_deref().unwrap_or_default() {
            "subscribed" => ServerMessage::Subscribed {
                channels,
                offset,
                epoch: self.epoch.unwrap_or_default(),
                recovered: self.recovered,
                rejected: self.rejected,
                echo,
            },
            "unsubscribed" => ServerMessage::Unsubscribed { channels, echo },
            "published" => {
                ServerMessage::Published { offset, event_id: self.event_id, duplicate: self.duplicate, echo }
            }
            "pong" => ServerMessage::Pong { echo },
            "auth_ok" => ServerMessage::AuthOk { echo },
            "error" => ServerMessage::Error {
                error: self.error,
                code: self.code,
                detail: self.detail,
                retry_after_ms: self.retry_after_ms,
                echo,
            },
            "caught_up" => ServerMessage::CaughtUp { channels, offset, echo },
            "checkpoint" => ServerMessage::Checkpoint { offset },
            "gap" => ServerMessage::Gap {
                channels,
                from: self.from,
                to: self.to,
                reason: self.reason,
                epoch: self.epoch,
                echo,
            },
            _ => ServerMessage::Unknown,
        }
    }
}
