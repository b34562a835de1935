//! The front door: accepts connections, bounds them, serves HTTP on them.
//!
//! Ours instead of `axum::serve` because that one has no limit on connections and waits for a slow peer's headers as
//! long as the peer likes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use newswire::{ConnectionCut, Crowd, Kept, network};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::body::PatientBody;
use super::metrics::DoorMetrics;
use super::proxy::Proxies;
use super::request::Code;
use super::tls::{self, Tls};

/// Requests of one HTTP/2 connection at once.
const STREAMS: u32 = 100;
/// How long a refused peer may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Refused peers that are being told why at once; further ones are dropped without a word.
const REFUSALS_AT_ONCE: usize = 64;
/// Bounds of the pause after the system could not give us a connection (no file descriptors, no memory).
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What the door needs to know.
#[derive(Clone, Debug)]
pub struct Door {
    /// HTTP connections at once. One that became a WebSocket is the feed's and counts there.
    ///
    /// May change at any time; those that are there stay.
    pub max_connections: Arc<AtomicUsize>,
    /// Of those, how many one address may have, upgraded ones included; of a trusted proxy as many as there may be.
    pub addresses: Crowd<IpAddr>,
    /// Who are proxies.
    pub proxies: Proxies,
    /// What one connection may take.
    pub bounds: Bounds,
    /// For connections that are encrypted, which then all are.
    pub tls: Option<Tls>,
    /// What the door counts.
    pub metrics: DoorMetrics,
}

/// What one connection may take before it is ended.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a peer may take for the headers of a request, which is also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// The most of a request's headers, and of a body that nobody reads, that is kept.
    pub header_bytes: usize,
    /// How long a peer may pause in the middle of a body.
    pub body_timeout: Duration,
}

impl Door {
    /// Accepts and serves until `stop`; then takes nobody in, lets every connection finish the request it is at, and
    /// returns. The connections go on as tasks of `tasks`, whose end the caller awaits as long as it likes.
    ///
    /// A connection that is upgraded leaves `tasks`: who upgraded it owns it.
    pub async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
        let mut pause = PAUSE.0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_peer(&error) => continue,
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                    continue;
                }
            };
            pause = PAUSE.0;
            self.metrics.accepted.inc();
            let limit = self.max_connections.load(Ordering::Relaxed);
            // Connections end elsewhere, but begin only here: there are never more.
            let refused = if self.metrics.open() >= limit {
                BUSY
            } else if let Some(kept) = self.keep(peer) {
                let open = self.metrics.count_open();
                let connection = self.serve_connection(stream, peer, kept, router.clone(), stop.clone());
                tasks.spawn(async move {
                    let _held = open;
                    connection.await;
                });
                continue;
            } else {
                BUSY_ADDRESS
            };
            self.metrics.refused.inc();
            tracing::warn!(%peer, limit = refused.limit, "connection refused: the limit is reached");
            // Whoever expects a handshake could not read why.
            if self.tls.is_none()
                && let Ok(place) = Arc::clone(&refusals).try_acquire_owned()
            {
                tasks.spawn(refuse(stream, refused, place));
            }
        }
    }

    /// What the connection holds as long as it stands; `None` where its address has enough.
    fn keep(&self, peer: SocketAddr) -> Option<Kept> {
        if self.proxies.is_proxy(peer.ip()) {
            return Some(Kept::default());
        }
        Some(Kept::of(self.addresses.take(&network(peer.ip()))?))
    }

    fn serve_connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        kept: Kept,
        router: Router,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Self { bounds, tls, metrics, .. } = self.clone();
        async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "the peer left at once");
                return;
            }
            let cut = ConnectionCut::default();
            let visit = Visit { peer, kept, cut: cut.clone(), router, bounds, metrics: metrics.clone() };
            let serving = async {
                match tls {
                    None => visit.serve_http_1(stream, stop).await,
                    Some(tls) => match timeout(bounds.handshake_timeout, shake_hands(&tls, stream)).await {
                        Ok(Err(Unshaken::Plain(stream))) => {
                            metrics.handshakes_failed.inc();
                            tracing::debug!(%peer, "plain HTTP came to a port that speaks TLS");
                            let _ = timeout(REFUSAL_TIMEOUT, tell_and_part(stream, PLAIN.response())).await;
                            Ok(())
                        }
                        Ok(Ok(stream)) if tls::speaks_http_2(&stream) => {
                            visit.serve_http_2(stream, stop).await
                        }
                        Ok(Ok(stream)) => visit.serve_http_1(stream, stop).await,
                        Ok(Err(Unshaken::Failed(error, stream))) => {
                            metrics.handshakes_failed.inc();
                            tracing::debug!(%peer, %error, "the TLS handshake failed");
                            let _ = timeout(REFUSAL_TIMEOUT, part(stream)).await;
                            Ok(())
                        }
                        Err(_) => {
                            metrics.timed_out.inc();
                            tracing::debug!(%peer, "the TLS handshake took too long");
                            Ok(())
                        }
                    },
                }
            };
            let result = tokio::select! {
                result = serving => result,
                () = cut.0.cancelled() => return,
            };
            if let Err(error) = result {
                if error.is_timeout() {
                    metrics.timed_out.inc();
                }
                if error.is_parse_too_large() {
                    metrics.problems.get_or_create(&Code::of(HEADERS_TOO_LARGE)).inc();
                }
                tracing::debug!(%peer, %error, "connection ended early");
            }
        }
    }
}

/// Why a connection did not come to speak TLS.
enum Unshaken {
    /// It speaks HTTP instead.
    Plain(TcpStream),
    Failed(io::Error, TcpStream),
}

/// Shakes hands, unless the first byte is that of a request in plain HTTP, which no handshake begins with.
async fn shake_hands(tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, Unshaken> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0].is_ascii_uppercase() => return Err(Unshaken::Plain(stream)),
        _ => {}
    }
    tls.accept(stream).await.map_err(|(error, stream)| Unshaken::Failed(error, stream))
}

/// One connection, and what its requests are given.
struct Visit {
    peer: SocketAddr,
    kept: Kept,
    cut: ConnectionCut,
    router: Router,
    bounds: Bounds,
    metrics: DoorMetrics,
}

impl Visit {
    /// HTTP/1 alone: hyper-util's automatic choice waits without a timeout for the bytes that tell it from HTTP/2.
    async fn serve_http_1<S>(self, stream: S, stop: CancellationToken) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { peer, kept, cut, router, bounds, metrics } = self;
        let given_up = metrics.bodies_timed_out;
        let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(cut.clone());
            request.extensions_mut().insert(kept.clone());
            answer(router.clone(), request, peer, bounds.body_timeout, given_up.clone())
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header_timeout)
            .max_buf_size(bounds.header_bytes)
            // Head and body of an answer leave as one piece: they are small, and gathering costs more than copying.
            .writev(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    /// Many requests beside each other; one of them cannot end the connection of the others. Pings find out whether the peer
    /// is there, but only behind its first words, for which hyper waits as long as it likes: so it gets the time of the headers
    /// for its first request.
    async fn serve_http_2<S>(self, stream: S, stop: CancellationToken) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { peer, router, bounds, kept, metrics, .. } = self;
        let (given_up, timed_out) = (metrics.bodies_timed_out, metrics.timed_out);
        let asked = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&asked);
        let service = hyper::service::service_fn(move |request| {
            asks.store(true, Ordering::Relaxed);
            answer(router.clone(), request, peer, bounds.body_timeout, given_up.clone())
        });
        let silent = async {
            tokio::time::sleep(bounds.header_timeout).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let header_bytes = u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(bounds.header_timeout)
            .keep_alive_timeout(bounds.header_timeout)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(header_bytes)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = silent => {
                timed_out.inc();
                tracing::debug!(%peer, "no request came over HTTP/2");
                Ok(())
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        drop(kept);
        result
    }
}

async fn answer(
    router: Router,
    request: http::Request<Incoming>,
    peer: SocketAddr,
    body_timeout: Duration,
    given_up: Counter,
) -> Result<axum::response::Response, Infallible> {
    let mut request = request.map(|body| Body::new(PatientBody::new(body, body_timeout, given_up)));
    request.extensions_mut().insert(ConnectInfo(peer));
    Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
}

/// Errors that say something about the peer that was about to connect, not about us.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Why a connection is not taken.
#[derive(Clone, Copy)]
struct Refused {
    /// The key of it.
    limit: &'static str,
    status: &'static str,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
}

const BUSY: Refused = Refused {
    limit: "limits.connections",
    status: "503 Service Unavailable",
    code: "too_many_connections",
    title: "Too many connections",
    detail: "the server has as many connections as it may (limits.connections); try again later",
};
const BUSY_ADDRESS: Refused = Refused {
    limit: "limits.connections_per_address",
    status: "429 Too Many Requests",
    code: "too_many_connections",
    title: "Too many connections",
    detail: "this address has as many connections as it may (limits.connections_per_address); try again later",
};
const PLAIN: Refused = Refused {
    limit: "tls.cert",
    status: "400 Bad Request",
    code: "tls_required",
    title: "TLS required",
    detail: "this port speaks TLS: ask with https:// or wss:// in place of http:// or ws://",
};
/// Hyper answers these by itself.
const HEADERS_TOO_LARGE: &str = "headers_too_large";

impl Refused {
    fn response(self) -> String {
        let Self { status, code, title, detail, .. } = self;
        let number = &status[..3];
        let body = format!(
            r#"{{"type":"urn:newswire:problem:{code}","title":"{title}","status":{number},"detail":"{detail}","code":"{code}"}}"#
        );
        let again = if number == "400" { "" } else { "retry-after: 5\r\n" };
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\n{again}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Ends a connection on which the last word was written. Closing with unread bytes makes the system reset it, and the peer would
/// never see that word.
async fn part(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut scrap = [0; 1024];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

async fn tell_and_part(mut stream: TcpStream, last_word: String) -> io::Result<()> {
    stream.write_all(last_word.as_bytes()).await?;
    part(stream).await
}

async fn refuse(stream: TcpStream, refused: Refused, _place: OwnedSemaphorePermit) {
    // The peer's trouble in being refused is its own.
    let _ = timeout(REFUSAL_TIMEOUT, tell_and_part(stream, refused.response())).await;
}
