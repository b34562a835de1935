//! Whether the server that sends to a follower still has what the stream has.
//!
//! A consumer lives on one server. Where the links between servers are cut, that one may go on saying that it is there, and
//! know nothing of what the others take. So whoever follows asks the server that leads the stream now and then, and
//! compares.

use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::stream::Stream;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::append::PAUSE;

/// Asks the leader of a stream, for as long as somebody follows it.
pub(super) struct Leader {
    of: Stream,
    /// When the stream was made that is followed.
    created: DateTime,
    /// Between two questions, and for each.
    pause: Duration,
    asking: Option<BoxFuture<'static, Result<Answer, String>>>,
    /// What the leader had the time before, and where the follower was.
    before: Option<(u64, u64)>,
}

struct Answer {
    /// The last message of the stream.
    last: u64,
    /// Whether the message that was the last the time before is still there.
    has_before: bool,
}

impl Leader {
    pub(super) fn of(of: Stream, created: DateTime, pause: Duration) -> Self {
        Self { of, created, pause, asking: None, before: None }
    }

    /// Resolves once the leader was asked and the follower, which is at `position`, has what it had the time before, or at
    /// least comes nearer to it. Cancel-safe: the next call goes on with the same question.
    pub(super) async fn agrees(&mut self, position: u64) -> Result<(), String> {
        let asking = self
            .asking
            .get_or_insert_with(|| Box::pin(ask(self.of.clone(), self.created, self.before, self.pause)));
        let answered = asking.await;
        self.asking = None;
        let answer = answered?;
        if let Some((last, was_at)) = self.before
            && position == was_at
            && position < last
            && answer.has_before
        {
            return Err(format!("the stream has message {last}, and nothing came after {position}"));
        }
        self.before = Some((answer.last, position));
        Ok(())
    }
}

async fn ask(
    of: Stream,
    created: DateTime,
    before: Option<(u64, u64)>,
    pause: Duration,
) -> Result<Answer, String> {
    sleep(pause).await;
    let asked = timeout(pause, async {
        // While servers choose who leads, nobody answers.
        let info = loop {
            match of.get_info().await {
                Ok(info) => break info,
                Err(_) => sleep(PAUSE).await,
            }
        };
        if info.created != created {
            return Err("the stream was made anew".to_owned());
        }
        // One that was removed never comes.
        let has_before = match before {
            Some((last, was_at)) if last > was_at => of.get_raw_message(last).await.is_ok(),
            _ => false,
        };
        Ok(Answer { last: info.state.last_sequence, has_before })
    });
    asked.await.unwrap_or_else(|_| Err("no server leads the stream".to_owned()))
}
