//! One WebSocket connection: bytes on one side, the session on the other.

mod closing;
mod connection;
pub(crate) mod handshake;
mod outgoing;
mod transport;

use std::sync::Arc;

use bytes::Bytes;
use newswire_protocol::command::Subscribe;
use newswire_protocol::deflate::Agreed;

use crate::Feed;
use crate::auth::Comer;
use crate::connections::{Peer, Place};
use crate::http::stream::Kept;
pub(crate) use closing::retry_after_ms;
use connection::Connection;
pub(crate) use transport::Tcp;
use transport::Transport;

/// What the request asked for.
pub(crate) struct Wanted {
    /// By its address.
    pub(crate) subscribe: Option<Subscribe>,
    /// By its headers, as far as it was agreed to.
    pub(crate) compression: Option<Agreed>,
    /// Where it comes from.
    pub(crate) peer: Peer,
    /// Whose it is.
    pub(crate) comer: Comer,
    /// What lasts as long as it does.
    pub(crate) kept: Kept,
}

/// Starts to serve one upgraded stream, as a task of the feed. `early` are bytes that came with the handshake. Without a place
/// the peer is told to come back later (4029), unless many are being told so already.
pub(crate) fn start<S>(feed: Feed, stream: S, early: Bytes, wanted: Wanted, place: Option<Place>)
where
    S: Transport,
{
    let tasks = feed.inner.tasks.clone();
    match place {
        Some(place) => tasks.spawn(Connection::open(feed, stream, early, wanted, place)),
        None => {
            feed.inner.metrics.connections_refused.inc();
            let Ok(turn) = Arc::clone(&feed.inner.connections.turning_away).try_acquire_owned() else {
                return;
            };
            tasks.spawn(async move {
                closing::turn_away(&feed, stream).await;
                drop(turn);
            })
        }
    };
}
