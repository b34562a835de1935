//! Credentials of an application's own, over a stream in which every byte is counted.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use newswire::{AuthError, Authenticate, Credential, Feed, Identity, Principal, Revocation, UnixMicros};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Whoever shows anything is Sarah.
struct Anybody {
    expires_at: Option<UnixMicros>,
}

impl Authenticate for Anybody {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let identity =
            Identity { expires_at: self.expires_at, ..Identity::of(Principal::anonymous().named("sarah")) };
        Box::pin(async { Ok(identity) })
    }
}

/// As many bytes as a stream holds that nobody has read: less than a closing frame.
const ROOM: usize = 8;

/// A WebSocket of Sarah's.
async fn connect(feed: &Feed) -> DuplexStream {
    let (mut near, far) = tokio::io::duplex(ROOM);
    let service = TowerToHyperService::new(Router::new().nest("/api/v1", feed.router()));
    tokio::spawn(async move {
        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(far), service)
            .await
    });
    let request = "GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Authorization: Bearer x\r\n\r\n";
    near.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    near
}

/// Has the server close, for a frame that no client may send, and waits until it does: its closing frame is begun then and
/// has no room.
async fn begin_to_close(feed: &Feed, socket: &mut DuplexStream) {
    socket.write_all(&[0x81, 0x01, b'x']).await.unwrap();
    while !feed.metrics_text().contains("closes_total{reason=\"1002\"} 1") {
        tokio::task::yield_now().await;
    }
}

async fn rest(mut socket: DuplexStream) -> usize {
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    rest.len()
}

fn feed(expires_at: Option<UnixMicros>) -> Feed {
    Feed::builder().authenticate(Arc::new(Anybody { expires_at })).build().unwrap()
}

#[tokio::test]
async fn one_that_is_closing_is_written_nothing_more_once_its_credential_is_revoked() {
    for revoked in [false, true] {
        let feed = feed(None);
        let mut socket = connect(&feed).await;
        begin_to_close(&feed, &mut socket).await;
        if revoked {
            assert_eq!(feed.revoke(&Revocation::Identity("sarah".into())), 1);
        }
        tokio::task::yield_now().await;
        assert_eq!(rest(socket).await == ROOM, revoked, "without the revocation it would get more");
    }
}

#[tokio::test]
async fn one_that_is_closing_is_written_nothing_more_once_its_credential_expires() {
    let soon = now().saturating_add(500_000);
    let feed = feed(Some(UnixMicros(soon)));
    let mut socket = connect(&feed).await;
    begin_to_close(&feed, &mut socket).await;
    // Timers of one thread ring in their order: the connection's own rings before this one.
    tokio::time::sleep(Duration::from_micros(soon.saturating_sub(now())) + Duration::from_millis(100)).await;
    assert_eq!(rest(socket).await, ROOM);
}

fn now() -> u64 {
    use newswire::log::Clock;
    newswire::log::SystemClock.now().0
}
