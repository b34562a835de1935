//! Reading along: one consumer a node, which ends at the first irregularity.
//!
//! The node asks for messages in portions (a pull consumer), so that no more is on its way than it has room for. It ends
//! where a number is left out, the connection is lost, the server is silent or speaks of messages that never came; and
//! where the server that sends no longer knows what the stream holds, which is asked of the one that leads it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::Info;
use async_nats::jetstream::stream::Stream as JetStreamStream;
use async_nats::jetstream::{self, Context, Message};
use async_nats::{HeaderMap, Subscriber};
use futures_util::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::Connection;
use super::errors::{chain, given_up};
use super::leader::Leader;
use super::micros;
use crate::event_log::Place;
use crate::remote::SequenceError;

/// Messages that are asked for at once. The next portion is asked for when as many are still to come, so up to twice as
/// many are on their way.
const PORTION: usize = 1024;
/// Bytes of a portion, where no message is larger; a few portions may be on their way.
const PORTION_BYTES: usize = 2 << 20;
/// What a message has besides what publishers may send: its subject, and where the answer goes.
const MESSAGE_HEAD: usize = 16 << 10;
/// How long the server keeps a consumer that nobody asks any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// A message of a stream.
pub(super) struct Followed {
    /// Its sequence, and when it was stored.
    pub(super) place: Place,
    pub(super) message: async_nats::Message,
}

/// Every message of a stream beyond `after`, as [`crate::Sequencer::follow`] does; silent for `limit` at most.
pub(super) async fn follow(
    connection: &Connection,
    of: &JetStreamStream,
    after: u64,
    limit: Duration,
) -> Result<impl Stream<Item = Result<Followed, SequenceError>> + Send + use<>, SequenceError> {
    let follower = timeout(limit, Follower::begin(connection.clone(), of.clone(), after, limit)).await;
    let follower = follower.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    let follower = follower.map_err(|reason| given_up(false, reason))?;
    Ok(stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        match follower.next().await {
            Ok(followed) => Some((Ok(followed), Some(follower))),
            Err(reason) => {
                follower.ended().await;
                Some((Err(given_up(false, reason)), None))
            }
        }
    }))
}

/// Where a follower is.
struct Follower {
    connection: Connection,
    context: Context,
    /// How often the connection was lost before.
    losses: u64,
    messages: Subscriber,
    inbox: String,
    /// Where portions are asked for.
    asked_at: String,
    limit: Duration,
    /// Messages that were asked for and have not come.
    to_come: usize,
    /// Of the consumer: what comes next has this number.
    next: u64,
    /// Everything in the stream up to here came, or is none of its business.
    position: u64,
    leader: Leader,
    is_silent: bool,
}

impl Follower {
    async fn begin(
        connection: Connection,
        of: JetStreamStream,
        after: u64,
        limit: Duration,
    ) -> Result<Self, String> {
        let losses = connection.losses();
        let inbox = connection.client.new_inbox();
        let messages = connection.client.subscribe(inbox.clone()).await.map_err(|error| chain(&error))?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let info = of.get_info().await.map_err(|error| chain(&error))?;
        if info.state.last_sequence < after {
            return Err(format!("the stream ends at {}, before {after}", info.state.last_sequence));
        }
        let created = info.created;
        let consumer = of.create_consumer(config).await.map_err(|error| chain(&error))?;
        let info = consumer.cached_info();
        let asked_at = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", info.stream_name, info.name);
        let leader = Leader::of(of, created, limit);
        let mut follower = Self {
            context: jetstream::new(connection.client.clone()),
            connection,
            losses,
            messages,
            inbox,
            asked_at,
            limit,
            to_come: 0,
            next: 1,
            position: after,
            leader,
            is_silent: false,
        };
        follower.ask().await?;
        Ok(follower)
    }

    async fn next(&mut self) -> Result<Followed, String> {
        // Only while somebody waits is silence counted.
        let mut heard = Instant::now();
        loop {
            if self.to_come <= PORTION {
                self.ask().await?;
            }
            tokio::select! {
                biased;
                message = self.messages.next() => {
                    let message = message.ok_or("the connection is closed")?;
                    heard = Instant::now();
                    if let Some(followed) = self.take(message)? {
                        return Ok(followed);
                    }
                }
                () = self.connection.lost(self.losses) => return Err("the connection was lost".to_owned()),
                () = sleep_until(heard + self.limit) => {
                    self.is_silent = true;
                    return Err(format!("the server said nothing for {:?}", self.limit));
                }
                agreed = self.leader.agrees(self.position) => if let Err(reason) = agreed {
                    self.is_silent = true;
                    return Err(reason);
                }
            }
        }
    }

    /// Takes what the server sent: a message, or word of how it is.
    fn take(&mut self, message: async_nats::Message) -> Result<Option<Followed>, String> {
        let Some(status) = message.status else {
            let message = Message { message, context: self.context.clone() };
            let info = message.info().map_err(|error| format!("a message without its place: {error}"))?;
            let place = self.place(&info)?;
            return Ok(Some(Followed { place, message: message.message }));
        };
        let number = |name: &str| message.headers.as_ref().and_then(|headers| number(headers, name));
        let said = message.description.as_deref().unwrap_or_default();
        match status.as_u16() {
            // It is there; and it has sent so many.
            100 => match number("Nats-Last-Consumer") {
                Some(sent) if sent + 1 != self.next => {
                    Err(format!("{sent} messages were sent, {} came", self.next - 1))
                }
                _ => {
                    self.position = self.position.max(number("Nats-Last-Stream").unwrap_or(0));
                    Ok(None)
                }
            },
            // A portion is over: by time, or because the next message is more than it has bytes left.
            404 | 408 => Ok(self.over(number("Nats-Pending-Messages"))),
            409 if said.contains("MaxBytes") || said.contains("Batch Completed") => {
                Ok(self.over(number("Nats-Pending-Messages")))
            }
            status => Err(format!("the server ended it: {status} {said}")),
        }
    }

    fn over(&mut self, left: Option<u64>) -> Option<Followed> {
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(self.to_come);
        self.to_come = self.to_come.saturating_sub(left);
        None
    }

    fn place(&mut self, info: &Info<'_>) -> Result<Place, String> {
        if info.consumer_sequence != self.next {
            return Err(format!("message {} came in place of {}", info.consumer_sequence, self.next));
        }
        if info.stream_sequence <= self.position && self.next == 1 {
            // The server knows less of the stream than this node, or it is another stream.
            return Err(format!("message {} came, behind {}", info.stream_sequence, self.position));
        }
        self.next += 1;
        self.to_come = self.to_come.saturating_sub(1);
        self.position = info.stream_sequence;
        Ok(Place { offset: info.stream_sequence, stored_at: micros(info.published) })
    }

    /// Asks for the next portion.
    async fn ask(&mut self) -> Result<(), String> {
        let most = self.connection.client.max_payload() + MESSAGE_HEAD;
        // Heartbeats are to come more than twice within the limit; the server wants them within half of the time.
        let heartbeat = self.limit / 3;
        let asked = json!({
            "batch": PORTION,
            "max_bytes": PORTION_BYTES.max(most),
            "expires": nanos(heartbeat * 10),
            "idle_heartbeat": nanos(heartbeat),
        });
        let (subject, inbox) = (self.asked_at.clone(), self.inbox.clone());
        let asking = self.connection.client.publish_with_reply(subject, inbox, asked.to_string().into());
        match timeout(self.limit, asking).await {
            Ok(Ok(())) => {
                self.to_come += PORTION;
                Ok(())
            }
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the connection takes no more".to_owned()),
        }
    }

    /// Another server may see what this one does not.
    async fn ended(&mut self) {
        if self.is_silent && self.connection.losses() == self.losses {
            self.connection.try_another(self.limit * 2).await;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
