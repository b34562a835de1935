//! The socketioxide peer: `newswire-bench-socketioxide PORT`. It speaks as the Socket.IO peer beside it does: "subscribe"
//! CHANNEL joins a room and is acknowledged; "publish" CHANNEL PAYLOAD is broadcast to that room as "event".

use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::{SocketIo, TransportType};

/// Packets that may wait for one connection; where they are more, `emit` drops. The default of 128 would lose events of a
/// flood, so it is what a flood of the benchmark can hold at most.
const PACKETS_WAITING: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: newswire-bench-socketioxide PORT | --version")?;
    if argument == "--version" {
        println!("socketioxide {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let port: u16 = argument.parse()?;
    // As many workers as the process may use cores: tokio asks for the affinity.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let (layer, io) = SocketIo::builder()
        // Straight to WebSocket: no long polling first, no upgrade.
        .transports([TransportType::Websocket])
        .ping_interval(Duration::from_secs(25))
        .max_buffer_size(PACKETS_WAITING)
        .build_layer();
    let everybody = io.clone();
    // As below: an asynchronous handler would listen only after the client was told that it is connected.
    io.ns("/", move |socket: SocketRef| {
        let everybody = everybody.clone();
        socket.on("subscribe", async |socket: SocketRef, Data(channel): Data<String>, ack: AckSender| {
            socket.join(channel);
            ack.send(&()).ok();
        });
        // All is done before the future is made: each future becomes a task of its own, and tasks overtake each other.
        socket.on("publish", move |Data((channel, payload)): Data<(String, Box<RawValue>)>, ack: AckSender| {
            // Ready at once without a remote adapter. It fails only for subscribers that have gone.
            everybody.to(channel).emit("event", &payload).now_or_never();
            ack.send(&()).ok();
            std::future::ready(())
        });
        std::future::ready(())
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().layer(layer)).await?;
    Ok(())
}
