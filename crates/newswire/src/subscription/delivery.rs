//! A subscription that is delivered to a callback, in a task of its own.

use std::any::Any;
use std::error::Error;

use tokio::select;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Ended, Subscription, Update};
use crate::Feed;

type BoxError = Box<dyn Error + Send + Sync>;

/// A delivery under way. Dropped, it is cancelled.
#[derive(Debug)]
#[must_use = "dropped, the delivery ends"]
pub struct Delivery {
    /// Taken by whoever asks it to finish.
    finish: Option<oneshot::Sender<()>>,
    /// Until its outcome was told.
    task: Option<JoinHandle<Result<(), DeliveryError>>>,
}

/// How a delivery ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The callback failed; nothing was delivered behind it.
    #[error("the callback failed: {0}")]
    Callback(#[source] BoxError),
    /// The callback panicked.
    #[error("the callback panicked: {0}")]
    Panicked(String),
    /// The subscription was over.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// What a callback may give: nothing, or a `Result` whose error ends the delivery.
pub trait Outcome {
    /// The error, if it failed.
    ///
    /// # Errors
    /// The callback's own.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

impl Feed {
    /// Delivers every update of a subscription to a callback, one after the other, in a task of the feed.
    ///
    /// The next update waits until the callback is done with this one, and the backlog policy decides what becomes of those
    /// behind it. The delivery ends when it is joined, cancelled or dropped, when the callback fails or panics, and when the
    /// feed is shut down, which waits for the callback within its grace.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # use newswire::{Feed, NewEvent, Update};
    /// # let feed = Feed::builder().build()?;
    /// let tasks = feed.subscribe("tasks").await?;
    /// let delivery = feed.deliver(tasks, async |update| {
    ///     if let Update::Event(event) = update {
    ///         println!("{}", event.payload());
    ///     }
    /// });
    /// feed.publish(NewEvent::new("tasks", "task.created")).await?;
    /// delivery.join().await?; // the event was printed
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn deliver<F, R>(&self, subscription: Subscription, callback: F) -> Delivery
    where
        F: FnMut(Update) -> R + Send + 'static,
        R: Future<Output: Outcome> + Send + 'static,
    {
        let (finish, finishing) = oneshot::channel();
        let task = self.inner.tasks.spawn(deliver(subscription, finishing, callback));
        Delivery { finish: Some(finish), task: Some(task) }
    }
}

impl Delivery {
    /// Delivers what was durable before this call, and ends: no later event, and no waiting for one. A replay under way is
    /// delivered to its end.
    ///
    /// Takes as long as the callback does. Dropping the future cancels the delivery.
    ///
    /// # Errors
    /// It had ended before, or does so now; see [`DeliveryError`]. None where [`Self::ended`] has told it already.
    pub async fn join(mut self) -> Result<(), DeliveryError> {
        // Nobody listens any more where it has ended already.
        let _ = self.finish.take().map(|finish| finish.send(()));
        self.ended().await
    }

    /// Ends it at once: the callback is dropped where it waits. Returns when that is done.
    pub async fn cancel(mut self) {
        if let Some(task) = &mut self.task {
            task.abort();
            let _ = task.await;
            self.task = None;
        }
    }

    /// Waits until it ends by itself: the callback fails, the subscription is over, the feed is shut down. Cancel-safe. How it
    /// ended is told once: whoever asks again gets `Ok` at once.
    ///
    /// # Errors
    /// See [`DeliveryError`]; the end of the feed is none.
    pub async fn ended(&mut self) -> Result<(), DeliveryError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Err(DeliveryError::Panicked(panic_text(&*panic))),
                Err(_) => Ok(()),
            },
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

async fn deliver<F, R>(
    mut subscription: Subscription,
    mut finishing: oneshot::Receiver<()>,
    mut callback: F,
) -> Result<(), DeliveryError>
where
    F: FnMut(Update) -> R,
    R: Future<Output: Outcome>,
{
    let (mut asked, mut leaving) = (false, false);
    loop {
        if asked && !leaving && !subscription.is_replaying() {
            // The answer stands behind everything that was durable.
            leaving = subscription.remove_all().await.is_ok();
        }
        let update = select! {
            biased;
            _ = &mut finishing, if !asked => {
                asked = true;
                continue;
            }
            update = subscription.next() => update,
        };
        let Some(update) = update.transpose()? else { return Ok(()) };
        if leaving && !subscription.awaits_answers() {
            return Ok(());
        }
        callback(update).await.into_result().map_err(DeliveryError::Callback)?;
    }
}
