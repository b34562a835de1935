//! What a subscription yields, and why one ends.

use std::time::Duration;

use newswire_protocol::Epoch;

use crate::history::Received;

/// Something a subscriber should know. Only [`Item::Event`] carries data; the rest says how complete it is.
#[derive(Clone, Debug)]
pub enum Item {
    /// A connection stands and every set is being asked for.
    Connected {
        /// 1 for the first.
        connection: u64,
    },
    /// The server's answer for one set.
    Subscribed {
        /// The set's name.
        sub: Option<String>,
        /// The channels and patterns it now has.
        channels: Vec<String>,
        /// The last offset of the log at that moment.
        offset: u64,
        /// The log's epoch.
        epoch: Epoch,
        /// Names that were refused, with the reason (`unknown_channel`, `forbidden`).
        rejected: Vec<(String, String)>,
    },
    /// An event: each is yielded once, in offset order where one set is subscribed. Several sets have that order each
    /// while none of them replays; an event that several of them match is yielded once.
    Event(Box<Received>),
    /// The replay of a set is over; what follows is live.
    CaughtUp {
        /// The set's name.
        sub: Option<String>,
        /// How far the replay went.
        offset: u64,
    },
    /// Everything up to this offset has been yielded, also where nothing matched.
    Checkpoint {
        /// Safe to resume all sets from.
        offset: u64,
    },
    /// Matching events with `from` ≤ offset ≤ `to` may be missing.
    Gap(Gap),
    /// The connection is lost; another follows by itself.
    Disconnected {
        /// In words.
        reason: String,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
}

/// What may be missing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The set's name, where one is meant.
    pub sub: Option<String>,
    /// Of these channels; empty for all of the set.
    pub channels: Vec<String>,
    /// First offset that may be missing.
    pub from: u64,
    /// Last offset that may be missing.
    pub to: u64,
    /// Why.
    pub cause: GapCause,
}

/// Why events may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// This subscriber was too slow for the server's backlog policy.
    Backlog,
    /// Retention has trimmed them.
    Retention,
    /// The log began anew: offsets of before mean nothing now.
    Epoch(Option<Epoch>),
    /// The identity may be sent these channels, but not read their past.
    Forbidden,
    /// The connection broke during a `history` replay: the rest of it is not asked for again.
    HistoryCut,
    /// A reason of a later version of the protocol.
    Other(String),
}

/// Why a subscription is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The server refused a command; it would refuse it again.
    #[error("{error}{}", .detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused {
        /// The fixed text.
        error: String,
        /// Its snake_case twin.
        code: String,
        /// More for people.
        detail: Option<String>,
    },
    /// The server does not let this connection in, or no longer.
    #[error("the server refused the connection: {reason}")]
    NotAdmitted {
        /// In words.
        reason: String,
    },
    /// Over TLS, the first connection showed that the two sides do not trust each other.
    #[error("{reason}")]
    Distrust {
        /// In words.
        reason: String,
    },
    /// One of the two sides breaks the protocol; trying again would repeat it.
    #[error("the connection was given up: {reason}")]
    Protocol {
        /// In words.
        reason: String,
    },
}
