//! Who came, what they subscribed and published, what they were refused and why they left: log events on a target of their own.
//!
//! The target is `newswire::audit`, the level `info`. An event names identities, addresses, channels, offsets and codes; never a
//! payload, a filter, a credential or a query string. What callers wrote (names of channels) is cut to a length and written with
//! its control characters escaped. Nothing here waits: how much may wait to be written, and what happens beyond, is the
//! subscriber's that listens to the target (in the binary, `crates/newswire-server/src/logging/audit.rs`). Where nobody listens, an
//! event costs one comparison.

use std::fmt;

use newswire_core::{ConnId, Noted, Principal, Published};
use newswire_protocol::codes::Refusal;

use crate::connections::Peer;

/// The target of all these events.
macro_rules! record {
    ($($fields:tt)*) => { tracing::info!(target: "newswire::audit", $($fields)*) };
}

fn is_heard() -> bool {
    tracing::enabled!(target: "newswire::audit", tracing::Level::INFO)
}

/// A connection was made, or a subscription in the process.
pub(crate) fn connected(connection: ConnId, principal: &Principal, peer: Peer) {
    record!(
        act = "connected",
        connection = connection.0,
        identity = %principal.id,
        role = %principal.role,
        kind = peer.kind,
        address = peer.address.map(tracing::field::display),
    );
}

/// A connection showed who it is, in a frame of its own.
pub(crate) fn authenticated(connection: ConnId, principal: &Principal) {
    record!(act = "authenticated", connection = connection.0, identity = %principal.id, role = %principal.role);
}

/// What a connection showed was not taken.
pub(crate) fn not_authenticated(connection: ConnId, reason: &str) {
    record!(act = "authentication refused", connection = connection.0, reason);
}

/// A connection changed what it is subscribed to, or was refused that.
pub(crate) fn noted(connection: ConnId, principal: &Principal, noted: Noted) {
    if !is_heard() {
        return;
    }
    let identity = &principal.id;
    match noted {
        Noted::Subscribed { channels, rejected } => {
            if !channels.is_empty() {
                record!(act = "subscribed", connection = connection.0, %identity, channels = %Names(&channels));
            }
            for (channel, reason) in rejected.iter().take(MAX_NAMES) {
                record!(
                    act = "subscribe refused", connection = connection.0, %identity,
                    channels = %Names(std::slice::from_ref(channel)), reason = reason.text(),
                );
            }
        }
        Noted::Unsubscribed { channels } => {
            record!(act = "unsubscribed", connection = connection.0, %identity, channels = %Names(&channels));
        }
        Noted::Refused { channels, code } => {
            record!(
                act = "subscribe refused", connection = connection.0, %identity, channels = %Names(&channels),
                reason = code.code(),
            );
        }
    }
}

/// A subscription was refused before there was a connection for it.
pub(crate) fn not_subscribed(principal: &Principal, peer: Peer, channels: &[String], reason: &str) {
    record!(
        act = "subscribe refused",
        identity = %principal.id,
        kind = peer.kind,
        address = peer.address.map(tracing::field::display),
        channels = %Names(channels),
        reason,
    );
}

/// A connection is over.
pub(crate) fn disconnected(connection: ConnId, identity: &str, why: &dyn fmt::Display) {
    record!(act = "disconnected", connection = connection.0, identity, why = %why);
}

/// An administrator did something.
pub(crate) fn administered(principal: &Principal, what: &'static str) {
    record!(act = "administered", identity = %principal.id, what);
}

/// A publish was answered: what of it was stored, and why the rest was not.
pub(crate) fn published(principal: &Principal, results: &[Result<Published, Refusal>]) {
    if !is_heard() {
        return;
    }
    let stored = || results.iter().filter_map(|result| result.as_ref().ok());
    if let (Some(first), Some(last)) = (stored().next(), stored().next_back()) {
        record!(
            act = "published",
            identity = %principal.id,
            events = stored().count(),
            first_offset = first.offset,
            last_offset = last.offset,
        );
    }
    let mut refused: Vec<&str> =
        results.iter().filter_map(|result| Some(result.as_ref().err()?.code.code())).collect();
    if !refused.is_empty() {
        let events = refused.len();
        refused.sort_unstable();
        refused.dedup();
        record!(act = "publish refused", identity = %principal.id, events, reason = refused.join(","));
    }
}

/// Names in one event, at most; how many more there are is told.
const MAX_NAMES: usize = 20;
/// Characters of a name, at most: what no channel has is longer.
const MAX_NAME_CHARS: usize = 128;

/// Names that callers wrote.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.iter().take(MAX_NAMES).enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let name: String = name.chars().take(MAX_NAME_CHARS).collect();
            write!(f, "{comma}{}", name.escape_debug())?;
        }
        match self.0.len().saturating_sub(MAX_NAMES) {
            0 => Ok(()),
            more => write!(f, ",… and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_short_and_on_one_line() {
        let names = ["a".to_owned(), "b\n\u{1b}[2J".to_owned(), "c".repeat(500)];
        let told = Names(&names).to_string();
        assert_eq!(told, format!("a,b\\n\\u{{1b}}[2J,{}", "c".repeat(128)));
        let many = vec!["n".to_owned(); 30];
        assert!(Names(&many).to_string().ends_with(",n,… and 10 more"));
    }
}
