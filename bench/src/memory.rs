//! Resident memory of an idle, subscribed connection, as the slope between two numbers of connections.

use std::time::Duration;

use newswire_street_tests::{Http, Server};

use crate::machine::open_files_limit;
use crate::report::Report;
use crate::wire::Reader;

/// Measures and reports.
///
/// # Errors
/// When a connection is refused or ends.
pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let most = (open_files_limit().saturating_sub(500)).min(5_000);
    let few = most / 5;
    let server = Server::start();
    let http = Http::new(server.addr);
    let mut connections = Vec::new();
    // The first connections pay for what the process sets up once.
    connect(&server, &mut connections, 100).await?;
    let base = settled(&server).await;
    connect(&server, &mut connections, few).await?;
    let rss_few = settled(&server).await;
    connect(&server, &mut connections, most).await?;
    let rss_most = settled(&server).await;
    anyhow::ensure!(http.subscribers("tasks").await == most as u64, "a connection was lost");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.add("RSS with 100 connections", mib(base), "MiB", "");
    report.add(format!("RSS with {few} idle subscribed connections"), mib(rss_few), "MiB", "");
    report.add(format!("RSS with {most} idle subscribed connections"), mib(rss_most), "MiB", "");
    let slope = rss_most.saturating_sub(rss_few) as f64 / (most - few) as f64 / 1024.0;
    report.add("RSS a connection", slope, "KiB", format!("slope from {few} to {most}"));
    Ok(())
}

async fn connect(server: &Server, connections: &mut Vec<Reader>, count: usize) -> anyhow::Result<()> {
    while connections.len() < count {
        let mut reader = Reader::open(server.addr, "/api/v1/ws", 1024).await?;
        reader.send(r#"{"action":"subscribe","channels":["tasks"]}"#).await?;
        reader.read_until("\"subscribed\"").await?;
        connections.push(reader);
    }
    Ok(())
}

/// Resident memory once it has stopped moving.
async fn settled(server: &Server) -> u64 {
    let mut last = server.rss_bytes();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = server.rss_bytes();
        if now.abs_diff(last) < 64 << 10 {
            return now;
        }
        last = now;
    }
}
