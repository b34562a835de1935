//! What thousands of handshakes that are begun and never finished cost somebody who means it: the time from a publish to the
//! event, and the time to connect and subscribe, of a client beside them and without them.
//!
//! A server process on cores of its own, as in the scenarios; attackers and client share the other cores, so that what the
//! attack costs the client's own machine counts against us, too.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use newswire_load::machine;
use newswire_load::scenario::Site;
use newswire_street_tests::{Server, ServerOptions, Socket, half_open};
use serde_json::json;

use crate::report::{Report, add_pairs, median};

/// Handshakes that stand half-open while it is measured.
const ATTACKERS: usize = 10_000;
/// Pause between two new ones, each of which takes the place of the oldest.
const RENEW_EVERY: Duration = Duration::from_millis(2);
/// Samples of one side of a pair, of either figure; the pause between them; and those that go before.
const SAMPLES: usize = 300;
const PAUSE: Duration = Duration::from_millis(3);
const WARM_UP: usize = 30;

/// Measures and reports.
///
/// # Errors
/// When there are not enough files for the attack, or the client is not served.
pub fn measure(report: &mut Report, rounds: usize) -> anyhow::Result<()> {
    let count = half_open::as_many_as(ATTACKERS);
    let site = Site::here();
    machine::pin(&site.generator)?;
    let cores: Vec<String> = site.server.iter().map(ToString::to_string).collect();
    // Long enough for a round: what stands is what is measured, not how it is cleared away.
    let server = ServerOptions::default()
        .set("limits.header_timeout", "60s")
        .launcher(&["taskset", "-c", &cores.join(",")])
        .start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut published, mut connected, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let attacked_first = round % 2 == 1;
        let mut figures = [None, None];
        for attacked in [attacked_first, !attacked_first] {
            let before = server.rss_bytes();
            let attack = attacked.then(|| Attack::begin(server.addr, count)).transpose()?;
            runtime.block_on(standing(&server, if attacked { count } else { 0 }))?;
            if attacked {
                bytes.push(server.rss_bytes().saturating_sub(before) as f64 / count as f64);
            }
            figures[usize::from(attacked)] = Some(runtime.block_on(client(server.addr))?);
            if let Some(attack) = attack {
                attack.end()?;
            }
        }
        let [Some(calm), Some(attacked)] = figures else { anyhow::bail!("both sides are measured") };
        // The first round warms up.
        if round > 0 {
            published.push((calm.published, attacked.published));
            connected.push((calm.connected, attacked.connected));
        }
    }
    let sides = ["calm", "attacked"];
    let what = |figure: &str| format!("handshakes, {count} half-open: {figure}, p99");
    add_pairs(report, &what("publish to event"), sides, "ms", &published);
    add_pairs(report, &what("connect and subscribe"), sides, "ms", &connected);
    report.add("handshakes: memory a half-open one, the first time", bytes[0], "bytes", "");
    report.add(
        "handshakes: memory a half-open one, any time",
        median(bytes),
        "bytes",
        "of memory that is not there already",
    );
    Ok(())
}

/// Waits until the server has at least so many connections, or hardly any.
async fn standing(server: &Server, wanted: usize) -> anyhow::Result<()> {
    let http = server.http();
    let begun = Instant::now();
    loop {
        let open = http.metric("newswire_http_connections ").await as usize;
        if if wanted > 0 { open >= wanted } else { open < 20 } {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "{open} connections stand, not {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// 99 of 100 took no longer, in milliseconds.
struct Figures {
    published: f64,
    connected: f64,
}

async fn client(addr: SocketAddr) -> anyhow::Result<Figures> {
    let (mut published, mut connected) = (Vec::new(), Vec::new());
    let mut socket = subscribed(addr).await;
    for sample in 0..WARM_UP + SAMPLES {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let event =
            json!({"action": "publish", "channel": "tasks", "event_type": "t", "payload": {"n": sample}});
        socket.send(&event).await;
        let (mut answered, mut came) = (false, false);
        while !(answered && came) {
            let heard = socket.try_next().await.map_err(|ending| anyhow::anyhow!("{ending:?}"))?;
            answered |= heard["action"] == "published";
            came |= heard["payload"]["n"] == sample;
        }
        published.push(begun.elapsed());
        let begun = Instant::now();
        let other = subscribed(addr).await;
        connected.push(begun.elapsed());
        drop(other);
    }
    Ok(Figures { published: p99(&published[WARM_UP..])?, connected: p99(&connected[WARM_UP..])? })
}

async fn subscribed(addr: SocketAddr) -> Socket {
    let mut socket = Socket::open(addr, "/api/v1/ws").await;
    socket.ask(&json!({"action": "subscribe", "channels": ["tasks"]})).await;
    socket
}

fn p99(taken: &[Duration]) -> anyhow::Result<f64> {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(sorted.get(place).context("nothing was measured")?.as_secs_f64() * 1_000.0)
}

/// The half-open handshakes, and the thread that renews them.
struct Attack {
    stop: Arc<AtomicBool>,
    renewing: JoinHandle<anyhow::Result<()>>,
}

impl Attack {
    fn begin(addr: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut words = half_open::HTTP.iter().cycle();
        let mut one_more = move || -> anyhow::Result<TcpStream> {
            let mut stream = TcpStream::connect(addr)?;
            stream.write_all(words.next().copied().unwrap_or_default())?;
            Ok(stream)
        };
        let mut standing = (0..count).map(|_| one_more()).collect::<anyhow::Result<VecDeque<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let renewing = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(RENEW_EVERY);
                drop(standing.pop_front());
                standing.push_back(one_more()?);
            }
            Ok(())
        });
        Ok(Self { stop, renewing })
    }

    fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.renewing.join().map_err(|_| anyhow::anyhow!("attacking panicked"))?
    }
}
