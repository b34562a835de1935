//! Asking a server that may not be there yet.

use std::time::Duration;

use newswire_client::{Backoff, RequestError};

/// Waits between attempts, for commands at which somebody waits.
pub(crate) const fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(300), Duration::from_secs(5))
}

/// Asks until the server can be reached; `waiting` is told the reason before each further attempt. What the
/// server then answers is the result, be it a refusal.
pub(crate) async fn until_reached<T>(
    mut ask: impl AsyncFnMut() -> Result<T, RequestError>,
    mut waiting: impl FnMut(&str),
) -> Result<T, RequestError> {
    let mut backoff = backoff();
    let mut random = fastrand::Rng::new();
    loop {
        match ask().await {
            Err(RequestError::Unreachable(reason)) => {
                waiting(&reason);
                tokio::time::sleep(backoff.next(&mut random)).await;
            }
            answered => return answered,
        }
    }
}
