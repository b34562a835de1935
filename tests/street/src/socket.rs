//! A WebSocket client that waits for what it expects and says what came instead.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::PATIENCE;

/// What a connection says next.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A text frame.
    Text(String),
    /// A close frame: code (1005 when it carries none) and reason.
    Close(u16, String),
    /// The connection ended without a close frame.
    Broken(String),
}

/// A connected client. Answers pings by itself, as every WebSocket library does, as long as somebody reads.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Offsets of the checkpoints heard so far; [`Self::next`] passes over them.
    pub checkpoints: Vec<u64>,
    waiting: VecDeque<Value>,
}

impl Socket {
    /// Connects to a path and query.
    pub async fn open(addr: SocketAddr, path: &str) -> Self {
        Self::try_open(addr, path).await.unwrap_or_else(|error| panic!("no socket at {path}: {error}"))
    }

    /// Connects, or says why not.
    pub async fn try_open(addr: SocketAddr, path: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        Self::over(stream, addr, path, &[]).await
    }

    /// As [`Self::try_open`], with headers beside the usual; a refusal is its status.
    pub async fn try_open_with(
        addr: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        Self::over(stream, addr, path, headers).await
    }

    /// As [`Self::open_narrow`], with headers beside the usual.
    pub async fn open_narrow_with(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let stream = socket.connect(addr).await.expect("the server listens");
        Self::over(stream, addr, path, headers)
            .await
            .unwrap_or_else(|error| panic!("no socket at {path}: {error}"))
    }

    /// Connects with a small receive buffer in the kernel, so that a client that does not read stands out soon.
    pub async fn open_narrow(addr: SocketAddr, path: &str) -> Self {
        Self::open_narrow_with(addr, path, &[]).await
    }

    async fn over(
        stream: TcpStream,
        addr: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut request =
            format!("ws://{addr}{path}").into_client_request().map_err(|error| error.to_string())?;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).map_err(|error| error.to_string())?;
            request
                .headers_mut()
                .append(name, HeaderValue::try_from(*value).map_err(|error| error.to_string())?);
        }
        let config = WebSocketConfig::default().read_buffer_size(32 * 1024).write_buffer_size(0);
        let connected = client_async_with_config(request, stream, Some(config));
        let connected =
            tokio::time::timeout(PATIENCE, connected).await.map_err(|_| "no answer".to_owned())?;
        let (stream, _) = connected.map_err(|error| error.to_string())?;
        Ok(Self { stream, checkpoints: Vec::new(), waiting: VecDeque::new() })
    }

    /// Sends a command. Panics when the connection is gone.
    pub async fn send(&mut self, command: &Value) {
        self.send_text(&command.to_string()).await;
    }

    /// Sends a text frame. Panics when the connection is gone.
    pub async fn send_text(&mut self, text: &str) {
        self.try_send(text).await.unwrap_or_else(|error| panic!("cannot send {text:.100}: {error}"));
    }

    /// Sends a text frame, or says that the connection is gone.
    pub async fn try_send(&mut self, text: &str) -> Result<(), String> {
        self.stream.send(Message::text(text)).await.map_err(|error| error.to_string())
    }

    /// Sends a text frame to the buffer without waiting for the kernel to take it.
    pub async fn feed(&mut self, text: &str) -> Result<(), String> {
        self.stream.feed(Message::text(text)).await.map_err(|error| error.to_string())
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::binary(bytes)).await.expect("the connection is open");
    }

    /// The next text, close or end, with nothing passed over; `None` when `limit` runs out first.
    pub async fn hear_within(&mut self, limit: Duration) -> Option<Heard> {
        tokio::time::timeout(limit, self.hear_frame()).await.ok()
    }

    /// The next text, close or end, with nothing passed over.
    pub async fn hear(&mut self) -> Heard {
        self.hear_within(PATIENCE).await.expect("the server says something in time")
    }

    async fn hear_frame(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.to_string()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Heard::Close(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => return Heard::Close(1005, String::new()),
                Some(Ok(Message::Binary(_))) => panic!("the server sent a binary frame"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Heard::Broken(error.to_string()),
                None => return Heard::Broken("end of stream".to_owned()),
            }
        }
    }

    /// The next message but checkpoints, which are collected aside.
    pub async fn next(&mut self) -> Value {
        if let Some(message) = self.waiting.pop_front() {
            return message;
        }
        self.try_next().await.unwrap_or_else(|ending| panic!("the connection ended: {ending:?}"))
    }

    /// As [`Self::next`], but the end of the connection is an error to look at.
    pub async fn try_next(&mut self) -> Result<Value, Heard> {
        loop {
            match self.hear().await {
                Heard::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("the server speaks JSON");
                    assert!(message.is_object(), "not an object: {text}");
                    if message["action"] != "checkpoint" {
                        return Ok(message);
                    }
                    self.checkpoints.push(message["offset"].as_u64().expect("a checkpoint has an offset"));
                }
                ending => return Err(ending),
            }
        }
    }

    /// The next message, which must carry this action.
    pub async fn expect(&mut self, action: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["action"], action, "{message}");
        message
    }

    /// The next message, which must be an event.
    pub async fn event(&mut self) -> Value {
        let message = self.next().await;
        assert!(message.get("action").is_none() && message["offset"].is_u64(), "no event: {message}");
        message
    }

    /// The next `count` events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// Everything up to the next message with this action, and that message.
    pub async fn until(&mut self, action: &str) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message["action"] == action {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// The offsets of all events up to the next `caught_up`, without parsing payloads (whose numbers may be larger than
    /// any parser's).
    ///
    /// # Panics
    /// When an error or a gap comes first.
    pub async fn replayed_offsets(&mut self) -> Vec<u64> {
        let mut offsets = Vec::new();
        loop {
            match self.hear().await {
                Heard::Text(text) if text.starts_with("{\"event_type\"") => offsets.extend(offset_of(&text)),
                Heard::Text(text) if text.contains("\"action\":\"caught_up\"") => return offsets,
                Heard::Text(text) => {
                    let expected =
                        ["\"subscribed\"", "\"checkpoint\""].iter().any(|action| text.contains(action));
                    assert!(expected, "{text}");
                }
                ending => panic!("the connection ended: {ending:?}"),
            }
        }
    }

    /// Sends a command and gives the answer, which must be the next message.
    pub async fn ask(&mut self, command: &Value) -> Value {
        self.send(command).await;
        self.next().await
    }

    /// Sends a text and gives the `error` object that must answer it.
    pub async fn refused(&mut self, text: &str) -> Value {
        self.send_text(text).await;
        let answer = self.next().await;
        assert_eq!(answer["action"], "error", "{text:.120} was answered {answer}");
        assert!(answer["error"].is_string() && answer["code"].is_string(), "{answer}");
        answer
    }

    /// Subscribes to channels, live, and waits for the answer.
    pub async fn subscribe(&mut self, channels: &[&str]) -> Value {
        let answer = self.ask(&json!({"action": "subscribe", "channels": channels})).await;
        assert_eq!(answer["action"], "subscribed", "{answer}");
        answer
    }

    /// Proves that nothing more is on its way: a subscription's answer stands at its exact place in the stream, so
    /// whatever the old subscriptions still had would come before it.
    ///
    /// # Panics
    /// When something does.
    pub async fn nothing_more(&mut self) {
        let fence = json!({"action": "subscribe", "channels": ["system"], "sub": "fence", "filters": {"event_type": []}});
        let answer = self.ask(&fence).await;
        assert!(answer["action"] == "subscribed" && answer["sub"] == "fence", "one too many: {answer}");
        let lifted =
            self.ask(&json!({"action": "unsubscribe", "channels": ["system"], "sub": "fence"})).await;
        assert!(lifted["action"] == "unsubscribed", "one too many: {lifted}");
    }

    /// Reads on to the end of the connection and gives it.
    pub async fn ending(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Text(_) => {}
                ending => return ending,
            }
        }
    }

    /// Closes politely and waits for the server to agree.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        let _ = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = self.stream.next().await {} })
            .await;
    }
}

/// The offset of an event's text without parsing it: the server writes it after the payload.
pub fn offset_of(event: &str) -> Option<u64> {
    let digits = &event[event.rfind("\"offset\":")? + "\"offset\":".len()..];
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}
