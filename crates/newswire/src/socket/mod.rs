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

/// Serves one upgraded stream until it ends. `early` are bytes that came with the handshake; `subscribe` is what the
/// request's address asked for. Without a place the peer is told to come back later (4029).
pub(crate) async fn serve<S>(
    feed: Feed,
    principal: Principal,
    stream: S,
    early: Bytes,
    subscribe: Option<Subscribe>,
    place: Option<Place>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Some(place) = place else {
        feed.inner.metrics.connections_refused.inc();
        closing::turn_away(&feed, stream).await;
        return;
    };
    let metrics = feed.inner.metrics.clone();
    metrics.connections_opened.inc();
    metrics.connections.inc();
    let ending = Connection::open(feed, principal, stream, early, place).run(subscribe).await;
    metrics.connections.dec();
    tracing::debug!(%ending, "connection ended");
}
