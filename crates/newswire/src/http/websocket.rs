//! `GET /ws` and `GET /ws/{channel}`: the upgrade, and the raw stream behind it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use newswire_core::Access;
use newswire_protocol::FilterSpec;
use newswire_protocol::command::{FilterChange, Start, Subscribe};
use newswire_protocol::query::Query;
use tokio::net::TcpStream;

use super::problem::Problem;
use super::stream::Kept;
use super::{Segment, identify, read_query, segment};
use crate::Feed;
use crate::auth::Comer;
use crate::connections::{Peer, Place};
use crate::socket::handshake;
use crate::socket::{self, Tcp, Wanted};

/// `/ws`: subscriptions by command, or by the query's `channels`.
pub(crate) async fn all(State(feed): State<Feed>, request: Request) -> Result<Response, Problem> {
    let query = read_query(request.uri())?;
    let asks = query.after.is_some() || query.since.is_some() || query.history.is_some();
    if query.channels.is_empty() && (asks || !query.filters.clauses.is_empty()) {
        return Err(Problem::bad_request("filters and start options need `channels`, or /ws/{channel}"));
    }
    let subscribe = (!query.channels.is_empty()).then(|| subscribe(query));
    upgrade(feed, request, subscribe)
}

/// `/ws/{channel}`: subscribed to that one channel from the first byte.
pub(crate) async fn one_channel(
    State(feed): State<Feed>,
    channel: Segment,
    request: Request,
) -> Result<Response, Problem> {
    let mut query = read_query(request.uri())?;
    query.channels.insert(0, segment(channel)?);
    upgrade(feed, request, Some(subscribe(query)))
}

/// A route of the application's own: [`one_channel`] that begins with some history where the query names no beginning.
pub(crate) async fn one_channel_with_history(
    State(feed): State<Feed>,
    channel: Segment,
    history: u64,
    request: Request,
) -> Result<Response, Problem> {
    let mut query = read_query(request.uri())?;
    query.channels = vec![segment(channel)?];
    if history > 0 && query.start() == Start::Live {
        query.history = Some(history);
    }
    upgrade(feed, request, Some(subscribe(query)))
}

fn subscribe(query: Query) -> Subscribe {
    let start = query.start();
    Subscribe {
        channels: query.channels,
        filters: FilterChange::Replace(query.filters),
        start,
        sub: query.sub,
    }
}

fn upgrade(feed: Feed, mut request: Request, subscribe: Option<Subscribe>) -> Result<Response, Problem> {
    let accept = handshake::accept(request.method(), request.version(), request.headers())?;
    let comer = identify::comer(&feed, request.extensions());
    // Which channels there are is nothing for those who have yet to say who they are.
    if let Some(ask) = subscribe.as_ref().filter(|_| !matches!(comer, Comer::Unknown)) {
        let no_filters = FilterSpec::default();
        let filters = match &ask.filters {
            FilterChange::Replace(filters) => filters,
            FilterChange::Keep => &no_filters,
        };
        let access = Access::of(&ask.start);
        feed.inner.channels.permitted(&ask.channels, filters, &comer.principal(), access)?;
    }
    if feed.is_stopping() {
        return Err(Problem::unavailable("the server is shutting down; try again"));
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = Peer::websocket(address.map(|address| address.0));
    let kept = request.extensions().get::<Kept>().cloned().unwrap_or_default();
    let on_upgrade = hyper::upgrade::on(&mut request);
    let place = match &comer {
        Comer::Unknown => feed.inner.connections.enter_unknown(peer.address.map(|address| address.ip())),
        Comer::Principal(_) => feed.inner.connections.enter(None).ok(),
        Comer::Identity(identity) => feed.inner.connections.enter(Some(identity)).ok(),
    };
    let tasks = feed.inner.tasks.clone();
    let compression =
        feed.settings().websocket_compression.then(|| handshake::compression(request.headers()));
    let compression = compression.flatten();
    tasks.spawn(after_upgrade(feed, on_upgrade, Wanted { subscribe, compression, peer, comer, kept }, place));
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if let Some(agreed) = compression {
        let answer = HeaderValue::from_str(&agreed.answer()).expect("the answer is visible ASCII");
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    Ok(response)
}

/// Takes the stream out of HTTP and starts its session, a plain TCP stream without any wrapping. The session is a task
/// of its own, of its own size: this one ends and takes along what HTTP needed.
async fn after_upgrade(feed: Feed, on_upgrade: OnUpgrade, wanted: Wanted, place: Option<Place>) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    match plain_tcp(upgraded) {
        Ok((stream, early)) => {
            socket::start(feed, Tcp::new(stream), early, wanted, place);
        }
        Err(upgraded) => {
            socket::start(feed, TokioIo::new(upgraded), Bytes::new(), wanted, place);
        }
    }
}

/// The bare TCP stream under an upgrade, with the bytes that were read too far; `Err` for any other transport.
fn plain_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => Ok((parts.io.into_inner(), own(&parts.read_buf))),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
            Ok((parts.io.into_inner(), own(&parts.read_buf)))
        }
    }
}

/// The same bytes by themselves: even an empty slice of hyper's read buffer keeps its 8 KiB, as long as the connection.
fn own(early: &[u8]) -> Bytes {
    Bytes::copy_from_slice(early)
}
