//! One WebSocket connection: bytes on one side, the session on the other.

mod closing;
mod connection;
pub(crate) mod handshake;
mod outgoing;

use bytes::Bytes;
use newswire_core::Principal;
use newswire_protocol::command::Subscribe;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Feed;
use crate::connections::Place;
use connection::Connection;

/// Starts to serve one upgraded stream, as a task of the feed. `early` are bytes that came with the handshake;
/// `subscribe` is what the request's address asked for. Without a place the peer is told to come back later (4029).
pub(crate) fn start<S>(
    feed: Feed,
    principal: Principal,
    stream: S,
    early: Bytes,
    subscribe: Option<Subscribe>,
    place: Option<Place>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = feed.inner.tasks.clone();
    match place {
        Some(place) => tasks.spawn(Connection::open(feed, principal, stream, early, subscribe, place)),
        None => tasks.spawn(async move {
            feed.inner.metrics.connections_refused.inc();
            closing::turn_away(&feed, stream).await;
        }),
    };
}
