//! Publishing from one core to two, in this process: 64 publishers, each waiting for its event to be synced, through
//! the feed and through its HTTP routes without a socket.
//!
//! A side of a pair is a feed of its own, over a fresh log, with all its threads on the cores that it may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use newswire::Feed;
use newswire_core::Principal;
use newswire_load::machine;
use newswire_log::{EmbeddedLog, EmbeddedOptions, OsDisk};
use newswire_protocol::{Draft, Limits};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::report::{Report, add_pairs};
use crate::wire;

/// How long each side of a pair is measured, and how long it runs before.
const SLICE: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(100);

const PUBLISHERS: usize = 64;

/// By which way events come.
#[derive(Clone, Copy)]
enum Door {
    /// Parsed, encoded, committed.
    Feed,
    /// The same behind the routes of the feed.
    Http,
}

/// Measures and reports.
///
/// # Errors
/// When the disk fails or an event is refused.
pub fn measure(report: &mut Report, rounds: usize, event_bytes: usize) -> anyhow::Result<()> {
    let cores = machine::cores();
    let (Some(one), Some(two)) = (cores.get(..1), cores.get(..2)) else {
        report.add("publishing from one core to two", 0.0, "×", "this machine has one core");
        return Ok(());
    };
    for (door, what) in
        [(Door::Feed, "publishes, committed"), (Door::Http, "HTTP publishes, without a socket")]
    {
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            pairs.push((rate(door, one, event_bytes)?, rate(door, two, event_bytes)?));
        }
        add_pairs(report, what, ["one core", "two cores"], "a second", &pairs);
    }
    Ok(())
}

/// Events synced a second on these cores.
fn rate(door: Door, cores: &[usize], event_bytes: usize) -> anyhow::Result<f64> {
    // Threads begin on the cores of the thread that starts them.
    let measured = thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            machine::pin(cores)?;
            let workers = cores.len();
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
            runtime.block_on(publish(door, event_bytes))
        });
        measuring.join()
    });
    measured.map_err(|_| anyhow::anyhow!("measuring panicked"))?
}

async fn publish(door: Door, event_bytes: usize) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let log = Arc::new(EmbeddedLog::open(dir.path(), EmbeddedOptions::default(), Arc::new(OsDisk))?);
    let feed = Feed::builder().log(log).build()?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let text: Arc<str> = wire::event("", event_bytes).into();
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (stop, count, text) = (Arc::clone(&stop), Arc::clone(&count), Arc::clone(&text));
        let (feed, router) = (feed.clone(), feed.router());
        publishers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match door {
                    Door::Feed => publish_one(&feed, &text).await?,
                    Door::Http => post_one(router.clone(), &text).await?,
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(SLICE).await;
    let (elapsed, stored) = (begun.elapsed(), count.load(Ordering::Relaxed) - before);
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = publishers.join_next().await {
        done??;
    }
    ensure!(feed.shutdown(Duration::from_secs(10)).await, "the feed did not stop");
    Ok(stored as f64 / elapsed.as_secs_f64())
}

async fn publish_one(feed: &Feed, text: &str) -> anyhow::Result<()> {
    let draft = Draft::parse(text, &Limits::default()).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let stored =
        feed.publish_drafts(&Principal::anonymous(), vec![draft]).await.pop().context("no answer")?;
    stored.map(drop).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

async fn post_one(router: Router, text: &str) -> anyhow::Result<()> {
    let request = Request::post("/events")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(text.to_owned()))?;
    let answer = router.oneshot(request).await?;
    ensure!(answer.status() == StatusCode::OK, "answered {}", answer.status());
    Ok(())
}
