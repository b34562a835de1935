//! A subscription as a stream: connects, reads, reconnects and resumes by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::FusedStream;
use futures_util::{SinkExt, Stream, StreamExt};
use reqwest::header::{self, HeaderValue};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::conversation::{Conversation, Step};
use crate::ending::Ending;
use crate::interest::Interest;
use crate::item::{Item, SubscribeError};
use crate::resume::Position;
use crate::stream::{self, Stream as Bytes};

/// The queue between the socket and the consumer. Overflow: reading stops until the consumer takes an item; the server
/// then sees a slow subscriber and acts by its backlog policy. Nothing is dropped here.
const QUEUE_ITEMS: usize = 256;
/// tungstenite allocates its read buffer at once; this holds some dozens of events.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Commands are small and flushed one by one.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// The largest event a server can be configured to take, and its envelope, stay well below.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A connection that served for so long counts as a success; one that is closed at once must not reset the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// How long a subscription waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection and its upgrade.
    pub connect: Duration,
    /// In silence, before it asks whether the server is still there. Shorter than the server's heartbeat, so that a
    /// dead connection is found here first.
    pub silence: Duration,
    /// For any sign of life after asking, before the connection counts as dead.
    pub answer: Duration,
    /// The first and the longest wait between attempts to connect; each is drawn with full jitter.
    pub backoff: (Duration, Duration),
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            answer: Duration::from_secs(10),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}

/// A stream of [`Item`]s that lasts until it is dropped or ends with a [`SubscribeError`] (the last thing it yields).
///
/// Every event owed is yielded once, also over lost connections and restarts of the server; where that cannot be, an
/// [`Item::Gap`] says so. A consumer that stops taking items stops the reading after a bounded queue; after a
/// minute or so the server may close such a connection, and taking items again resumes where it stopped.
///
/// Taking the next item is cancel-safe. Dropping the stream closes the connection.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Delivery>,
    position: Option<Position>,
    task: JoinHandle<()>,
    over: bool,
}

type Delivery = (Result<Item, SubscribeError>, Option<Position>);
type Socket = WebSocketStream<Bytes>;

impl Client {
    /// Subscribes to one or several sets over one connection. Must be called within a tokio runtime.
    pub fn subscribe(&self, interests: impl IntoIterator<Item = Interest>) -> Subscription {
        self.subscribe_with(interests, Patience::default())
    }

    /// [`Client::subscribe`] with other timeouts.
    pub fn subscribe_with(
        &self,
        interests: impl IntoIterator<Item = Interest>,
        patience: Patience,
    ) -> Subscription {
        let (sender, queue) = mpsc::channel(QUEUE_ITEMS);
        let connector = Connector {
            url: self.websocket_endpoint(),
            tls: self.websocket_tls(),
            authorization: self.authorization().cloned(),
            conversation: Conversation::new(interests.into_iter().collect()),
            consumer: Consumer { queue: sender },
            patience,
            backoff: Backoff::new(patience.backoff.0, patience.backoff.1),
            begun: Instant::now(),
            connections: 0,
        };
        Subscription { queue, position: None, task: tokio::spawn(connector.run()), over: false }
    }
}

impl Subscription {
    /// From where everything can be resumed after what has been taken so far: keep it, and begin the next subscription
    /// with it. None until it is known.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }
}

impl Stream for Subscription {
    type Item = Result<Item, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.queue.poll_recv(context).map(|delivery| match delivery {
            Some((item, position)) => {
                self.position = position.or(self.position);
                self.over = item.is_err();
                Some(item)
            }
            None => {
                self.over = true;
                None
            }
        })
    }
}

impl FusedStream for Subscription {
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sending end of the queue.
struct Consumer {
    queue: mpsc::Sender<Delivery>,
}

impl Consumer {
    /// Waits while the consumer is behind.
    async fn give(
        &self,
        item: Result<Item, SubscribeError>,
        position: Option<Position>,
    ) -> Result<(), Ending> {
        self.queue.send((item, position)).await.map_err(|_| Ending::ConsumerGone)
    }
}

/// The task behind a subscription: one connection after the other.
struct Connector {
    url: Url,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
    conversation: Conversation,
    consumer: Consumer,
    patience: Patience,
    backoff: Backoff,
    begun: Instant,
    connections: u64,
}

impl Connector {
    async fn run(mut self) {
        let mut random = fastrand::Rng::new();
        loop {
            let attempted = Instant::now();
            let Err(ending) = self.connection().await;
            if self.conversation.is_established() && attempted.elapsed() >= STABLE_AFTER {
                self.backoff.reset();
            }
            let (reason, asked) = match ending {
                Ending::ConsumerGone => return,
                Ending::Over(error) => {
                    // Whether anybody still listens makes no difference at the end.
                    let _gone = self.consumer.give(Err(error), self.conversation.position()).await;
                    return;
                }
                // Nobody was there yet who could be trusted: as it is given, this will not change.
                Ending::Distrust { reason } if self.connections == 0 => {
                    let error = SubscribeError::Distrust { reason };
                    let _gone = self.consumer.give(Err(error), self.conversation.position()).await;
                    return;
                }
                // Certificates expire, and are renewed.
                Ending::Distrust { reason } => (reason, None),
                Ending::Reconnect { reason, wait } => (reason, wait),
            };
            let drawn = self.backoff.next(&mut random);
            let retry_in = asked.unwrap_or(drawn);
            tracing::debug!(reason, ?retry_in, "connection lost");
            let told = Item::Disconnected { reason, retry_in };
            if self.consumer.give(Ok(told), self.conversation.position()).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(retry_in) => {}
                () = self.consumer.queue.closed() => return,
            }
        }
    }

    /// One connection, from the upgrade to its end.
    async fn connection(&mut self) -> Result<std::convert::Infallible, Ending> {
        let mut socket = self.open().await?;
        self.connections += 1;
        let (commands, news) = self.conversation.open(self.begun.elapsed());
        self.yield_item(Item::Connected { connection: self.connections }).await?;
        for item in news {
            self.yield_item(item).await?;
        }
        for command in commands {
            self.send(&mut socket, command).await?;
        }
        let mut asked = false;
        loop {
            let patience = if asked { self.patience.answer } else { self.patience.silence };
            // A frame that was begun stays in the socket's buffer when the wait ends first.
            match timeout(patience, socket.next()).await {
                Ok(frame) => {
                    asked = false;
                    self.frame(frame).await?;
                }
                Err(_elapsed) if asked => return Err(Ending::reconnect("the server fell silent")),
                Err(_elapsed) => {
                    asked = true;
                    self.send(&mut socket, r#"{"action":"ping"}"#.to_owned()).await?;
                }
            }
        }
    }

    async fn open(&self) -> Result<Socket, Ending> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let mut request =
            self.url.as_str().into_client_request().map_err(|error| Ending::of_error(&error))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let connect = async {
            let stream = stream::open(&self.url, self.tls.as_ref()).await?;
            client_async_with_config(request, stream, Some(config)).await
        };
        match timeout(self.patience.connect, connect).await {
            Ok(Ok((socket, _response))) => Ok(socket),
            Ok(Err(error)) => Err(Ending::of_error(&error)),
            Err(_elapsed) => Err(Ending::reconnect("no answer to the attempt to connect")),
        }
    }

    /// A peer that takes no bytes is as dead as one that sends none.
    async fn send(&self, socket: &mut Socket, command: String) -> Result<(), Ending> {
        match timeout(self.patience.answer, socket.send(Message::text(command))).await {
            Ok(sent) => sent.map_err(|error| Ending::of_error(&error)),
            Err(_elapsed) => Err(Ending::reconnect("the server takes no commands")),
        }
    }

    async fn frame(
        &mut self,
        frame: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Ending> {
        let text = match frame {
            None => return Err(Ending::reconnect("the connection broke")),
            Some(Err(error)) => return Err(Ending::of_error(&error)),
            Some(Ok(Message::Close(close))) => {
                let code = close.as_ref().map(|close| u16::from(close.code));
                return Err(Ending::of_close(code, close.as_ref().map_or("", |close| close.reason.as_str())));
            }
            // A ping is answered by the next read or write of the socket.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {
                return Ok(());
            }
            Some(Ok(Message::Text(text))) => text,
        };
        match self.conversation.receive(&text) {
            Step::Quiet => {}
            Step::Yield(item) => self.yield_item(item).await?,
            Step::Reconnect(reason) => return Err(Ending::reconnect(reason)),
            Step::End(error) => return Err(Ending::Over(error)),
        }
        Ok(())
    }

    async fn yield_item(&self, item: Item) -> Result<(), Ending> {
        self.consumer.give(Ok(item), self.conversation.position()).await
    }
}
