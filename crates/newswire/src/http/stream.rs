//! `GET /events/stream`: Server-Sent Events, the same session as a WebSocket's, one way.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Uri, header};
use newswire_core::{Answer, HeartbeatConfig};
use newswire_protocol::limits::MAX_OFFSET;
use newswire_protocol::reply::{self, Echo, Gap};
use newswire_protocol::{Epoch, Query, Start};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::{Caller, read_query};
use crate::auth::Identity;
use crate::connections::Peer;
use crate::metrics::Reason;
use crate::{Ended, Feed, Interest, SubscribeError, Subscription, Update};

/// Bytes gathered into one piece of the body, about.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that may wait for the connection beside the one that it writes.
const QUEUE: usize = 1;
/// The client's pause before it connects again, while all is well.
const RETRY: Duration = Duration::from_secs(2);

/// Ends the connection of a request, to be put into the request's extensions by whoever owns connections. Without it, a
/// stream that its peer does not read is given up, but its socket stays until the system gives it up too.
#[derive(Clone, Debug, Default)]
pub struct ConnectionCut(pub CancellationToken);

/// Something that lasts as long as the connection of a request, to be put into the request's extensions by whoever owns
/// connections: a WebSocket goes on where HTTP has ended, and takes it along.
#[derive(Clone, Default)]
pub struct Kept(Option<Arc<dyn Any + Send + Sync>>);

impl Kept {
    /// This, dropped with the last of the connection.
    pub fn of(something: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(something)))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.0.is_some()).finish()
    }
}

/// The handler: subscribes before it answers, so that a refusal is a problem and not a stream.
pub(super) async fn stream(
    State(feed): State<Feed>,
    caller: Caller,
    identity: Option<Extension<Identity>>,
    cut: Option<Extension<ConnectionCut>>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = read_query(&uri)?;
    if let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) {
        resume_from(&mut query, id.to_str().unwrap_or_default())?;
    }
    let is_live = query.start() == Start::Live;
    let mut interest = Interest::from(query).or_everything().principal(caller.0);
    if let Some(Extension(identity)) = identity {
        interest = interest.identity(identity);
    }
    let peer = Peer::stream(address.map(|address| address.0.0));
    let subscription = feed.subscribe_as(peer, interest).await.map_err(|error| refused(&error))?;
    let (pieces, body) = mpsc::channel(QUEUE);
    let times = feed.inner.live.session().heartbeat;
    let banned = CancellationToken::new();
    let (cut, ban) = (cut.map(|cut| cut.0), banned.clone());
    let writer = Writer { feed: feed.clone(), subscription, pieces, times, cut, ban };
    feed.inner.tasks.spawn(writer.run(is_live));
    let body = futures_util::stream::unfold((body, banned), |(mut body, banned)| async move {
        // Breaks the body off: what waits is not written.
        let piece = tokio::select! {
            biased;
            () = banned.cancelled() => Err(NotPermitted),
            piece = body.recv() => Ok(piece?),
        };
        Some((piece, (body, banned)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For proxies of the nginx family, which else collect what they are given.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// `<epoch>:<offset>`, which wins over every start option of the address.
fn resume_from(query: &mut Query, id: &str) -> Result<(), Problem> {
    let place = id
        .rsplit_once(':')
        .and_then(|(epoch, offset)| Some((epoch.parse::<Epoch>().ok()?, offset.parse::<u64>().ok()?)))
        .filter(|(_, offset)| *offset <= MAX_OFFSET);
    let Some((epoch, offset)) = place else {
        return Err(Problem::bad_request("Last-Event-ID must be an id of this stream: <epoch>:<offset>"));
    };
    (query.epoch, query.after) = (Some(epoch.to_string()), Some(offset));
    Ok(())
}

fn refused(error: &SubscribeError) -> Problem {
    match error {
        SubscribeError::Refused(refusal) => refusal.clone().into(),
        SubscribeError::TooMany { .. } => Problem::too_many_connections(error.to_string()),
        SubscribeError::TooManyOfIdentity { .. } => Problem::too_many_of_identity(error.to_string()),
        _ => Problem::unavailable(error.to_string()),
    }
}

/// Breaks a stream off whose reader may not read on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reader may not read on")]
struct NotPermitted;

/// The task of one stream. It ends with its body, with its subscription, or when the peer reads nothing.
struct Writer {
    feed: Feed,
    subscription: Subscription,
    pieces: mpsc::Sender<Bytes>,
    times: HeartbeatConfig,
    cut: Option<ConnectionCut>,
    /// Has the body let go of what waits.
    ban: CancellationToken,
}

/// Why a stream is over.
enum Over {
    /// The client left.
    Left,
    /// It took nothing for too long.
    Stalled,
    /// The subscription ended; `None` with the feed or by somebody's wish.
    Ended(Option<Ended>),
}

impl Writer {
    async fn run(mut self, is_live: bool) {
        let over = self.write_all(is_live).await;
        let reason = match &over {
            Over::Left => "client left",
            Over::Stalled => {
                tracing::debug!("an event stream was given up: its peer reads nothing");
                if let Some(cut) = &self.cut {
                    cut.0.cancel();
                }
                "stalled"
            }
            Over::Ended(Some(ended @ Ended::NotPermitted { .. })) => {
                tracing::debug!(%ended, "an event stream was broken off");
                self.ban.cancel();
                // What HTTP has already is not written either, and a peer that reads nothing keeps no connection.
                if let Some(cut) = &self.cut {
                    cut.0.cancel();
                }
                "not permitted"
            }
            Over::Ended(Some(ended)) => {
                tracing::debug!(%ended, "an event stream ended");
                "ended"
            }
            Over::Ended(None) => "closed",
        };
        self.subscription.ends_because(reason);
        self.feed.inner.metrics.streams_closed.get_or_create(&Reason::new(reason)).inc();
    }

    async fn write_all(&mut self, is_live: bool) -> Over {
        let mut text = format!("retry: {}\n", RETRY.as_millis()).into_bytes();
        if is_live {
            // So that one who is cut off before the first event comes back to this very place.
            write_id(&mut text, self.subscription.epoch(), self.subscription.answer().offset);
        }
        text.push(b'\n');
        let stopping = self.feed.inner.streams_end.clone();
        loop {
            if let Err(over) = self.send(std::mem::take(&mut text)).await {
                return over;
            }
            let update = tokio::select! {
                biased;
                () = self.pieces.closed() => return Over::Left,
                () = stopping.cancelled() => None,
                update = self.subscription.next() => update,
                () = tokio::time::sleep(self.times.interval) => {
                    text.extend_from_slice(b":\n\n");
                    continue;
                }
            };
            let over = self.gather(update, &mut text);
            if let Some(over) = over {
                // What came before the end is part of the stream.
                return self.send(text).await.err().unwrap_or(over);
            }
        }
    }

    /// Writes this update and those that are there already. What it returns ends the stream behind them.
    fn gather(&mut self, first: Option<Result<Update, Ended>>, text: &mut Vec<u8>) -> Option<Over> {
        let mut next = Some(first);
        while let Some(update) = next.take() {
            match update {
                Some(Ok(update)) => {
                    write_update(text, &update, self.subscription.epoch(), self.subscription.answer());
                }
                Some(Err(ended)) => return Some(Over::Ended(Some(ended))),
                None => {
                    if self.feed.streams_are_ending() {
                        // Not all at once: as many as there are come back within this time.
                        let pause = crate::socket::retry_after_ms(self.feed.inner.connections.open());
                        text.extend_from_slice(format!("retry: {pause}\n\n").as_bytes());
                    }
                    return Some(Over::Ended(None));
                }
            }
            if text.len() < PIECE_BYTES {
                next = self.subscription.next().now_or_never();
            }
        }
        None
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), Over> {
        let sent = tokio::select! {
            biased;
            sent = self.pieces.send_timeout(text.into(), self.times.stall_timeout) => sent,
            ended = self.subscription.not_permitted() => return Err(Over::Ended(Some(ended))),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Over::Left),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Over::Stalled),
        }
    }
}

fn write_update(text: &mut Vec<u8>, update: &Update, epoch: Epoch, answer: &Answer) {
    let mut data = Vec::new();
    match update {
        Update::Event(event) => {
            write_id(text, epoch, event.offset());
            write_data(text, event.json());
        }
        Update::Checkpoint { offset } => write_id(text, epoch, *offset),
        Update::CaughtUp { offset } => {
            reply::caught_up(&mut data, Echo::default(), &answer.channels, *offset);
            text.extend_from_slice(b"event: caught_up\n");
            write_id(text, epoch, *offset);
            write_data(text, &data);
        }
        Update::Gap(gap) => {
            let told = Gap {
                channels: &gap.channels,
                from: gap.from,
                to: gap.to,
                reason: gap.reason,
                epoch: Some(gap.epoch),
            };
            reply::gap(&mut data, Echo::default(), &told);
            text.extend_from_slice(b"event: gap\n");
            write_data(text, &data);
        }
        // A stream subscribes once, and was answered with its status.
        Update::Subscribed(_) | Update::Unsubscribed { .. } => return,
    }
    text.push(b'\n');
}

fn write_id(text: &mut Vec<u8>, epoch: Epoch, offset: u64) {
    text.extend_from_slice(format!("id: {epoch}:{offset}\n").as_bytes());
}

/// A line break may stand between the tokens of a payload, and ends a line of `data`; the client puts one there again.
fn write_data(text: &mut Vec<u8>, json: &[u8]) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
}
