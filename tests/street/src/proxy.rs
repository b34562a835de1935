//! A link that can be broken: TCP on loopback, forwarded until a test says otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Which way bytes go: towards the target, or back from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected, to the target.
    There,
    /// From the target, to whoever connected.
    Back,
}

/// How the link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// Nothing is forwarded there, or back; connections stay as they are.
    stalled: [bool; 2],
    /// New connections are reset at once.
    refusing: bool,
    /// How often everything was cut; a connection ends when this is no longer what it began with.
    cuts: u64,
}

/// A link to one target. Dropping it resets its connections and frees its port.
///
/// What one side has sent and the other not yet been given is bounded by the buffers of the kernel and 16 KiB each way.
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    open: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Begins to forward from a free port of 127.0.0.1 to `target`, which need not listen yet: whoever connects before it
    /// does is reset.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let state = watch::Sender::new(State::default());
        let open = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, target, state.clone(), Arc::clone(&open)));
        Self { addr, state, open, accepting: accepting.abort_handle() }
    }

    /// Where to connect to instead of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Resets every connection, on both sides. New ones are served.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets every connection, and every new one until [`Self::heal`].
    pub fn cut_and_refuse(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.refusing = true;
        });
    }

    /// Stops forwarding, on open connections and on new ones, until [`Self::heal`].
    pub fn stall(&self, ways: &[Way]) {
        self.state.send_modify(|state| {
            for way in ways {
                state.stalled[*way as usize] = true;
            }
        });
    }

    /// Forwards again whatever waits, and lets new connections in.
    pub fn heal(&self) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts, ..State::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_and_refuse();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Sender<State>,
    open: Arc<AtomicUsize>,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let state = state.subscribe();
        open.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(&open);
        tokio::spawn(async move {
            forward(near, target, state).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Forwards one connection until it has ended both ways or is cut.
async fn forward(near: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    // From here on, whatever drops a socket without ending it first resets it.
    let _ = near.set_zero_linger();
    let begun = *state.borrow_and_update();
    if begun.refusing {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true), far.set_zero_linger());
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let (mut there, mut back) = (state.clone(), state.clone());
    let forwarded = async {
        tokio::try_join!(
            copy(&mut near_in, &mut far_out, &mut there, Way::There),
            copy(&mut far_in, &mut near_out, &mut back, Way::Back)
        )
    };
    tokio::select! {
        _ = forwarded => {}
        _ = state.wait_for(|state| state.cuts != begun.cuts) => {}
    }
    // Forgotten halves would end the connection politely when they are dropped; a cut must not.
    near_out.forget();
    far_out.forget();
}

/// Copies one way until its end, which is handed on; an error ends both ways.
async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    state: &mut watch::Receiver<State>,
    way: Way,
) -> Result<(), std::io::Error> {
    let mut chunk = [0; 16 * 1024];
    loop {
        flowing(state, way).await;
        let count = from.read(&mut chunk).await?;
        // A stall that began while nothing came holds back what came since.
        flowing(state, way).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..count]).await?;
    }
}

async fn flowing(state: &mut watch::Receiver<State>, way: Way) {
    // The link is gone when nobody can change its state any more; then the cut that came with it ends the connection.
    let _ = state.wait_for(|state| !state.stalled[way as usize]).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers every byte with itself, on as many connections as come.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn answered(stream: &mut TcpStream) -> Option<u8> {
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        read.ok().map(|byte| byte.expect("the connection holds"))
    }

    async fn reset(stream: &mut TcpStream) -> bool {
        let read = tokio::time::timeout(crate::PATIENCE, stream.read_u8()).await.expect("it ends");
        read.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset
    }

    #[tokio::test]
    async fn it_forwards_both_ways_and_hands_on_the_end() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let (mut from, mut to) = stream.split();
        let mut got = Vec::new();
        let write = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, from.read_to_end(&mut got));
        read.unwrap();
        assert!(got == sent, "what came back is what was sent, {} bytes", got.len());
        crate::eventually("it is over", || async { (proxy.open() == 0).then_some(()) }).await;
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_open_and_nothing_else() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_u8(1).await.unwrap();
        assert_eq!(answered(&mut stream).await, Some(1));
        proxy.cut();
        assert!(reset(&mut stream).await);
        let mut next = TcpStream::connect(proxy.addr()).await.unwrap();
        next.write_u8(2).await.unwrap();
        assert_eq!(answered(&mut next).await, Some(2));
    }

    #[tokio::test]
    async fn a_stall_holds_back_one_way_or_both_and_loses_nothing() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        for ways in [&[Way::There][..], &[Way::Back], &[Way::There, Way::Back]] {
            stream.write_u8(1).await.unwrap();
            assert_eq!(answered(&mut stream).await, Some(1));
            proxy.stall(ways);
            stream.write_u8(2).await.unwrap();
            assert_eq!(answered(&mut stream).await, None, "{ways:?}");
            let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
            new.write_u8(3).await.unwrap();
            assert_eq!(answered(&mut new).await, None, "{ways:?}, a new one");
            proxy.heal();
            assert_eq!(answered(&mut stream).await, Some(2), "{ways:?}");
            assert_eq!(answered(&mut new).await, Some(3), "{ways:?}, a new one");
        }
    }

    #[tokio::test]
    async fn it_refuses_until_it_is_healed_and_whoever_it_leads_to_may_be_gone() {
        let proxy = Proxy::start(echo().await).await;
        proxy.cut_and_refuse();
        let mut refused = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(reset(&mut refused).await);
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_u8(1).await.unwrap();
        assert_eq!(answered(&mut stream).await, Some(1));
        drop(proxy);
        assert!(reset(&mut stream).await);

        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nowhere = Proxy::start(gone).await;
        assert!(reset(&mut TcpStream::connect(nowhere.addr()).await.unwrap()).await);
    }
}
